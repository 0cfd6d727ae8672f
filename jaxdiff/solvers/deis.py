"""DEIS: Adams–Bashforth for the noise, with the time-dependent part integrated exactly.

With x̄ = x/α and σ̄ = σ/α the probability-flow ODE is dx̄ = ε̂ dσ̄. Replacing ε̂ by the polynomial in t
through the present and earlier estimates gives

    x̄_s = x̄_t + Σ_j ε̂_j ∫_t^s ℓ_j(τ) dσ̄(τ),

whose integrals depend only on the times. By parts they are ∫_s^t (σ̄(τ) − σ̄_s) ℓ_j'(τ) dτ, as ℓ_j
is 0 at t except for the present estimate; this form avoids the derivative of σ̄, which does not
exist at the nodes of a chain. The integration is over √τ, in which σ̄ is smooth at the data.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process
from jaxdiff.solvers.base import Solver
from jaxdiff.solvers.multistep import multistep
from jaxdiff.solvers.quadrature import POINTS, WEIGHTS, lagrange
from jaxdiff.typing import Array, InputError


def deis(denoise_fn: DenoiseFn, process: Process, *, order: int = 4) -> Solver:
    """DEIS-tAB of any order up to 4; tAB0 of the paper, of order 1, is DDIM.

    x_s = α_s x̂_0 + σ_s ε̂ + α_s Σ_j (ε̂_j − ε̂) ∫_t^s ℓ_j(τ) d(σ/α)(τ)

    Args:
        denoise_fn: the model.
        process: the forward process.
        order: number of estimates that the polynomial passes through, 1 to 4; tAB-k is order k + 1.

    Returns:
        A deterministic solver of that order, one evaluation per step, in both directions of time.

    Raises:
        InputError: if ``order`` is not 1, 2, 3 or 4.

    Reference: Zhang & Chen 2023, eq. 15 and proposition 2.
    """
    if order not in (1, 2, 3, 4):
        raise InputError(f"order of DEIS must be 1, 2, 3 or 4, got {order}")

    def ratio(root: Array) -> Array:
        return jnp.exp(-0.5 * process.log_snr(root**2))

    def weights_fn(t: Array, earlier: Sequence[Array], s: Array) -> list[Array]:
        begin, end = jnp.sqrt(s), jnp.sqrt(t)
        roots = begin + (end - begin) * jnp.asarray(POINTS, begin.dtype)
        kernel = (end - begin) * jnp.asarray(WEIGHTS, begin.dtype) * (ratio(roots) - ratio(begin))

        def basis(roots: Array) -> list[Array]:
            return lagrange([t, *earlier], roots**2)[1:]

        _, slopes = jax.jvp(basis, (roots,), (jnp.ones_like(roots),))
        return [jnp.sum(kernel * slope) for slope in slopes]

    return multistep(denoise_fn, process, weights_fn, length=order - 1, view=lambda e: e.eps)
