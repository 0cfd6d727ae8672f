"""What the wrappers share: how a change of one view of an estimate changes the other.

A change of x̂_0 to x̂_0' is attributed to the noise, so that still α x̂_0' + σ ε̂' = x_t:

    ε̂' = ε̂ + (α/σ)(x̂_0 − x̂_0').

A score g that is added to that of the model, such as ∇ log p(y | x_t), changes both views,

    ε̂' = ε̂ − σ g,    x̂_0' = x̂_0 + (σ²/α) g,

the latter by Tweedie's formula, α x̂_0 = x_t + σ² ∇ log p. Where α is 0 there is no signal, and
x̂_0 is unchanged; where σ is 0 there is no noise, and ε̂ is unchanged.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.arrays import ALPHA_FLOOR, SIGMA_FLOOR, expand_to
from jaxdiff.predictions import DenoiseFn, Estimate
from jaxdiff.processes import Process
from jaxdiff.typing import Array, ArrayLike, Float, InputError, PerExample


def with_data(
    estimate: Estimate, x0: Float[Array, "batch *event"], process: Process, t: PerExample
) -> Estimate:
    """Replace the estimate of the data, and attribute the difference to the noise.

    ε̂' = ε̂ + (α/σ)(x̂_0 − x̂_0')

    Args:
        estimate: of the model; its other fields are kept.
        x0: the new x̂_0'.
        process: the forward process.
        t: time.
    """
    sigma = process.sigma(t)
    ratio = jnp.where(sigma > SIGMA_FLOOR, process.alpha(t) / sigma, 0.0)
    eps = estimate.eps + expand_to(ratio, x0) * (estimate.x0 - x0)
    return estimate._replace(x0=x0, eps=eps)


def with_score(
    estimate: Estimate, score: Float[Array, "batch *event"], process: Process, t: PerExample
) -> Estimate:
    """Add a score to that of the model.

    ε̂' = ε̂ − σ g,    x̂_0' = x̂_0 + (σ²/α) g

    Args:
        estimate: of the model; its other fields are kept.
        score: g, in units of 1/x_t.
        process: the forward process.
        t: time.
    """
    sigma = process.sigma(t)
    sigma = jnp.where(sigma > SIGMA_FLOOR, sigma, 0.0)
    x0 = estimate.x0 + expand_to(data_gain(process, t), score) * score
    return estimate._replace(x0=x0, eps=estimate.eps - expand_to(sigma, score) * score)


def data_gain(process: Process, t: PerExample) -> Float[Array, "*#times"]:
    """How much of a score enters the estimate of the data: σ²/α, and 0 where α is 0.

    Args:
        process: the forward process.
        t: time.

    Reference: Efron 2011, eq. 2.8 (Tweedie's formula).
    """
    alpha = process.alpha(t)
    has_signal = alpha > ALPHA_FLOOR
    return jnp.where(has_signal, process.sigma(t) ** 2 / jnp.where(has_signal, alpha, 1.0), 0.0)


def checked_model(name: str, denoise_fn: DenoiseFn) -> DenoiseFn:
    """A model that must return estimates of the shape of its input.

    Args:
        name: of the model, for the error.
        denoise_fn: the model.

    Returns:
        The same model; it raises an ``InputError``, when it is traced, if it does not.
    """

    def denoise(x_t: Array, t: ArrayLike) -> Estimate:
        estimate = denoise_fn(x_t, t)
        if estimate.x0.shape != x_t.shape:
            raise InputError(
                f"{name} must return estimates of the shape of its input, {x_t.shape}, got shape "
                f"{estimate.x0.shape}"
            )
        return estimate

    return denoise


def check_same_process(process: Process, guide_process: Process | None) -> None:
    """Check that a guide was made for the process of the model, if its process is given.

    Parameters that a transformation hides are not compared; the kinds of the processes are.

    Raises:
        InputError: naming both kinds, and the first of eleven times at which they differ.
    """
    if guide_process is None:
        return
    both = f"got {type(guide_process).__name__} beside {type(process).__name__}"
    requirement = "guide_process must have the alpha and sigma of the model's process"
    if any(isinstance(p, jax.core.Tracer) for p in jax.tree.leaves((process, guide_process))):
        if type(process) is not type(guide_process):
            raise InputError(f"{requirement}, {both}")
        return
    t = np.linspace(0.0, 1.0, 11)
    with jax.ensure_compile_time_eval():
        one, other = ((p.alpha(t), p.sigma(t)) for p in (process, guide_process))
        differ = ~np.isclose(one, other, rtol=1e-4, atol=1e-6).all(axis=0)
    if differ.any():
        raise InputError(f"{requirement}, {both}, which differ at t = {t[differ][0]:.1f}")
