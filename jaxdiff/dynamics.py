"""L5: the reverse-time dynamics, in terms of the model.

The forward SDE dx = f x dt + g dw reversed in time (Anderson 1982), with ∇log p_t = −ε̂/σ, is

    dx = [f x + g² ε̂/σ] dt + g dw̄,

and the ODE with the same marginals halves the score term (Song et al. 2021, eq. 13). Both belong
to a family with the same marginals,

    dx = [f x + ½(1 + η²) g² ε̂/σ] dt + η g dw̄,    η = 0 the ODE, η = 1 the SDE.
"""

from typing import NamedTuple

import jax.numpy as jnp

from jaxdiff.arrays import std_of
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process, drift_diffusion
from jaxdiff.typing import Array, Float, Scalar


class ReverseSde(NamedTuple):
    """Drift and diffusion; time decreases, so dt is negative."""

    drift: Float[Array, "batch *event"]
    diffusion: Float[Array, ""]


def reverse_sde(
    denoise_fn: DenoiseFn,
    process: Process,
    x: Float[Array, "batch *event"],
    t: Scalar,
    *,
    eta: Scalar = 1.0,
) -> ReverseSde:
    """Coefficients of the reverse-time SDE.

    drift = f x + ½(1 + η²) g² ε̂/σ,    diffusion = η g

    Args:
        denoise_fn: the model.
        process: the forward process.
        x: noisy data at t.
        t: time, with σ(t) > 0.
        eta: amplitude η of the noise, relative to that of Anderson's reversal.

    Returns:
        ``ReverseSde(drift, diffusion)``.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxdiff import oracles, processes
        >>> process = processes.VE(sigma_min=1.0, sigma_max=1.0 * jnp.e)  # σ² = e^{2t}, g² = 2σ²
        >>> exact = oracles.gaussian(process, jnp.zeros(1), jnp.zeros((1, 1)))
        >>> drift, diffusion = reverse_sde(exact, process, jnp.ones((1, 1)), jnp.array(0.0))
        >>> round(float(drift[0, 0]), 4), round(float(diffusion) ** 2, 4)  # g²·x/σ² and g²
        (2.0, 2.0)

    Reference: Song et al. 2021, eq. 6; Anderson 1982; Zhang & Chen 2023, eq. 4.
    """
    f, g2 = drift_diffusion(process, t)
    eps = denoise_fn(x, t).eps
    factor = 0.5 * (1 + eta**2)
    return ReverseSde(f * x + (factor * g2 / process.sigma(t)) * eps, jnp.asarray(eta) * std_of(g2))
