"""Score matching on data without added noise: fit s(x) to ∇log p(x), known or unknown.

The explicit objective (Hyvärinen 2005, eq. 2) needs the true score,

    J_ESM = ½ E‖s − ∇log p‖².

Partial integration replaces the cross term E s·∇log p by −E tr ∇s, which gives the implicit one
(Hyvärinen 2005, eq. 3), equal to it up to a constant without parameters:

    J_ISM = E[½‖s‖² + tr ∇s] = J_ESM − ½ E‖∇log p‖².

Slicing estimates the trace along random directions with E vvᵀ = I (Song et al. 2019, eq. 7 and 8),

    J_SSM    = E[½(vᵀs)² + vᵀ∇s v] = J_ISM,
    J_SSM-VR = E[½‖s‖² + vᵀ∇s v]   = J_ISM, with less variance.

The second is the implicit objective with Hutchinson's trace estimate; with v a random axis √D e_i,
the first projects score and trace onto one coordinate. Finite differences along v (Pang et al.
2020) need no derivative of the score at all:

    vᵀ∇s v ≈ vᵀ(s(x + hv) − s(x − hv))/(2h).

A score is any function of a batch that treats each row independently; that of an energy model is
``lambda x: -jax.vmap(jax.grad(energy))(x)``, which every loss accepts.
"""

import jax
import jax.numpy as jnp

from jaxdiff import divergence
from jaxdiff.arrays import sum_events
from jaxdiff.divergence import DivergenceFn, Probe, draw_probes, mean_over
from jaxdiff.divergence import Field as ScoreFn
from jaxdiff.typing import Array, Float, Key, Keys, Scalar


def esm(
    score_fn: ScoreFn, true_score_fn: ScoreFn, x: Float[Array, "batch *event"]
) -> Float[Array, "batch"]:
    """Explicit score matching, where the true score is known.

    ½‖s(x) − ∇log p(x)‖²

    Args:
        score_fn: the model.
        true_score_fn: ∇log p.
        x: data.

    Returns:
        In inverse squared units of the data.

    Example:
        >>> esm(lambda x: -2 * x, lambda x: -x, jnp.array([[3.0, 4.0]]))
        Array([12.5], dtype=float32)

    Reference: Hyvärinen 2005, eq. 2.
    """
    return 0.5 * sum_events(jnp.square(score_fn(x) - true_score_fn(x)))


def ism(
    score_fn: ScoreFn,
    x: Float[Array, "batch *event"],
    *,
    divergence_fn: DivergenceFn = divergence.exact,
) -> Float[Array, "batch"]:
    """Implicit score matching, by default with the exact trace: D forward derivatives.

    ½‖s(x)‖² + tr ∇s(x)

    Args:
        score_fn: the model.
        x: data, D numbers each.
        divergence_fn: computes the trace; ``partial(divergence.hutchinson, key)`` estimates it with
            one derivative for any D.

    Returns:
        Its mean differs from that of :func:`esm` by −½E‖∇log p‖².

    Example:
        >>> ism(lambda x: -x, jnp.array([[3.0, 4.0]]))  # ½·25 − 2
        Array([10.5], dtype=float32)

    Reference: Hyvärinen 2005, eq. 3.
    """
    score, trace = divergence_fn(score_fn, x)
    return 0.5 * sum_events(jnp.square(score)) + trace


def ssm(
    key: Key | Keys,
    score_fn: ScoreFn,
    x: Float[Array, "batch *event"],
    *,
    num_probes: int = 1,
    variance_reduction: bool = False,
    probe: Probe = "rademacher",
) -> Float[Array, "batch"]:
    """Sliced score matching: the trace along random directions, one derivative each.

    ½(vᵀs)² + vᵀ∇s v, or with variance reduction ½‖s‖² + vᵀ∇s v, averaged over directions

    Args:
        key: randomness of the directions; or one key per example.
        score_fn: the model.
        x: data.
        num_probes: directions per example.
        variance_reduction: whether E(vᵀs)² is replaced by the ‖s‖² that it equals.
        probe: "rademacher", "gaussian", "sphere" or "coordinate", all with E vvᵀ = I.

    Returns:
        Unbiased for :func:`ism`. With Rademacher directions and variance reduction the
        trace of a diagonal Jacobian is exact.

    Raises:
        InputError: if ``probe`` does not exist or ``num_probes`` is below 1.

    Example:
        >>> key = jax.random.key(0)
        >>> ssm(key, lambda x: -x, jnp.array([[3.0, 4.0]]), variance_reduction=True)
        Array([10.5], dtype=float32)

    Reference: Song et al. 2019 (sliced score matching), eq. 7 and 8.
    """
    score, push = jax.linearize(score_fn, x)

    def sliced(v: Array) -> Array:
        return _sliced(score, v, sum_events(v * push(v)), variance_reduction)

    return mean_over(sliced, draw_probes(key, x, num_probes=num_probes, probe=probe))


def fd_ssm(
    key: Key | Keys,
    score_fn: ScoreFn,
    x: Float[Array, "batch *event"],
    *,
    step: Scalar = 1e-2,
    num_probes: int = 1,
    variance_reduction: bool = False,
    probe: Probe = "rademacher",
) -> Float[Array, "batch"]:
    """Sliced score matching by finite differences: two evaluations of the score, no derivative.

    vᵀ∇s v ≈ vᵀ(s(x + hv) − s(x − hv))/(2h), and s ≈ ½(s(x + hv) + s(x − hv)), both to O(h²)

    Args:
        key: randomness of the directions; or one key per example.
        score_fn: the model.
        x: data.
        step: h, in units of the data; below 1e-3 the differences cancel in float32.
        num_probes: directions per example.
        variance_reduction: as in :func:`ssm`.
        probe: as in :func:`ssm`.

    Returns:
        Equal to :func:`ssm` for the same key up to O(h²).

    Raises:
        InputError: if ``probe`` does not exist or ``num_probes`` is below 1.

    Example:
        >>> key, x = jax.random.key(0), jnp.array([[3.0, 4.0]])
        >>> bool(jnp.allclose(fd_ssm(key, lambda x: -x, x), ssm(key, lambda x: -x, x), rtol=1e-3))
        True

    Reference: Pang et al. 2020, section 3.
    """

    def sliced(v: Array) -> Array:
        above, below = score_fn(x + step * v), score_fn(x - step * v)
        slope = sum_events(v * (above - below)) / (2 * step)
        return _sliced(0.5 * (above + below), v, slope, variance_reduction)

    return mean_over(sliced, draw_probes(key, x, num_probes=num_probes, probe=probe))


def _sliced(score: Array, v: Array, slope: Array, variance_reduction: bool) -> Array:
    """Half the squared score, along v or in all directions, plus the slope of the score along v."""
    square = sum_events(score**2) if variance_reduction else sum_events(v * score) ** 2
    return 0.5 * square + slope
