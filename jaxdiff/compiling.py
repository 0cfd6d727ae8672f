"""L0: compiler options that differ from the defaults."""

import functools
from collections.abc import Mapping

import jax

YNN: Mapping[str, str | bool] = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"
}
"""Use only the reductions of the library that XLA's CPU backend calls: its convolutions take up to
twice as long as XLA's own, and with it jaxlib 0.10 computes some sums of products wrongly."""


def compiler_options(platform: str | None = None) -> dict[str, str | bool] | None:
    """Options for ``jax.jit`` and ``compile``, or None.

    Args:
        platform: of the devices that are compiled for; by default that of the default backend.

    Example:
        >>> double = jax.jit(lambda x: 2 * x, compiler_options=compiler_options())
        >>> int(double(2))
        4
        >>> compiler_options("tpu") is None
        True
    """
    return dict(YNN) if _known(platform or jax.default_backend()) else None


@functools.cache
def _known(platform: str) -> bool:
    """Whether the compiler of a platform accepts the options."""
    if platform != "cpu":
        return False
    try:
        with jax.default_device(jax.local_devices(backend=platform)[0]):
            jax.jit(lambda: 0, compiler_options=dict(YNN)).lower().compile()
    except jax.errors.JaxRuntimeError:  # an XLA without this option
        return False
    return True
