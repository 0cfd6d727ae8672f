"""L0: compiler options that differ from the defaults."""

import functools
from collections.abc import Mapping

import jax

YNN: Mapping[str, str | bool] = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"
}
"""Use only the reductions of the library that XLA's CPU backend calls: its convolutions take up to
twice as long as XLA's own, and with it jaxlib 0.10 computes some sums of products wrongly."""


def compiler_options() -> dict[str, str | bool] | None:
    """Options for ``jax.jit`` and ``compile`` on the default backend, or None.

    Example:
        >>> double = jax.jit(lambda x: 2 * x, compiler_options=compiler_options())
        >>> int(double(2))
        4
    """
    return dict(YNN) if _known(jax.default_backend()) else None


@functools.cache
def _known(backend: str) -> bool:
    """Whether a backend accepts the options."""
    if backend != "cpu":
        return False
    try:
        jax.jit(lambda: 0, compiler_options=dict(YNN)).lower().compile()
    except jax.errors.JaxRuntimeError:  # an XLA without this option
        return False
    return True
