"""Diffusion posterior sampling: descend the norm of the residual, by a fixed length per step.

The published sampler takes a step of DDPM's chain, and then

    x_s ← x_s − ζ ∇ ‖y − A(x̂_0(x_t))‖,    the gradient in x_t, through the network.

The paper writes it as ζ' ∇‖·‖² with ζ' inversely proportional to ‖·‖, so ζ is twice the paper's
constant; the published code is the form above. This normalised step is not the gradient of any log
likelihood: with the likelihood's own, −∇‖·‖²/(2s²), the sampler diverges for small noise s.

Here it is a change of the estimate, for any solver. A step t → s of ancestral sampling multiplies
x̂_0 by α_s(1 − SNR_t/SNR_s), so the published step is

    x̂_0' = x̂_0 − ζ/(α_s (1 − SNR_t/SNR_s)) ∇ ‖y − A x̂_0‖,    s = t − 1/N,

with ε̂' by x_t = α x̂_0' + σ ε̂'. N is the number of steps of the published sampler: over one of its
steps any solver then moves x by about as much, and ancestral sampling on the chain by the same.
"""

import jax
import jax.numpy as jnp

from jaxdiff.arrays import expand_to, std_of, sum_events
from jaxdiff.checks import check_count, known_scalar
from jaxdiff.guidance.base import checked_model, with_data
from jaxdiff.guidance.inverse.measurement import check_measured, measure
from jaxdiff.guidance.inverse.operators import OperatorFn
from jaxdiff.predictions import DenoiseFn, Estimate
from jaxdiff.processes import Process, one_minus_snr_ratio
from jaxdiff.typing import Array, ArrayLike, Real, Scalar

NUM_STEPS = 1000
"""Steps of the published sampler, and of DDPM's chain."""


def dps(
    denoise_fn: DenoiseFn,
    process: Process,
    *,
    operator: OperatorFn,
    y: Real[ArrayLike, "..."],
    scale: Scalar = 1.0,
    num_steps: int | None = None,
) -> DenoiseFn:
    """Diffusion posterior sampling (DPS), with the published length of its steps.

    x_s ← x_s − ζ ∇ ‖y − A(x̂_0)‖    per step of length 1/N

    The norm is that of each example, so that a sample does not depend on its batch mates.

    Args:
        denoise_fn: the model.
        process: the forward process.
        operator: A, ``x -> A(x)``, row by row, linear or not.
        y: the measurement, one for all examples or one for each; its noise is not used.
        scale: ζ, non-negative; the published settings are between 0.3 and 1.
        num_steps: N, by default the length of the chain, or 1000 in continuous time. Set it to the
            number of steps of your sampler for the published length at each of these.

    Returns:
        ``denoise_fn(x_t, t)`` of one forward and one backward pass of the network.

    Raises:
        InputError: if scale is negative or not finite, num_steps < 1, y is not finite, or the
            operator's output does not fit y.

    Example:
        >>> from jaxdiff import oracles, processes
        >>> process = processes.VP()
        >>> exact = oracles.gaussian(process, jnp.zeros(1), jnp.zeros((1, 1)))  # x̂_0 = 0
        >>> model = dps(exact, process, operator=lambda x: x, y=jnp.ones(1))
        >>> float(model(jnp.ones((1, 1)), 0.5).x0[0, 0])  # no gradient: nothing to move
        0.0

    Reference: Chung et al. 2023, algorithm 1 and 2.
    """
    known_scalar("scale must be non-negative and finite", scale, 0)
    steps = num_steps if num_steps is not None else process.num_steps or NUM_STEPS
    check_count("num_steps must be a positive integer", steps)
    y = check_measured(y, 0.0)
    model = checked_model("denoise_fn", denoise_fn)

    def guided(x_t: Array, t: ArrayLike) -> Estimate:
        def distance(x: Array) -> tuple[Array, Estimate]:
            estimate = model(x, t)
            residual = measure(operator, estimate.x0, y).residual
            return jnp.sum(std_of(sum_events(residual**2))), estimate

        slope, estimate = jax.grad(distance, has_aux=True)(x_t)
        s = jnp.maximum(jnp.asarray(t) - 1 / steps, 0.0)
        share = process.alpha(s) * one_minus_snr_ratio(process, s=s, t=t)
        length = jnp.where(share > 0, scale / jnp.where(share > 0, share, 1.0), 0.0)
        x0 = estimate.x0 - expand_to(length, x_t).astype(x_t.dtype) * slope
        return with_data(estimate, x0, process, t)

    return guided
