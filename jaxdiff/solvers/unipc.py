"""UniPC: each evaluation predicts the next sample, and corrects the one at which it was made.

The predictor is DPM-Solver++'s. Once the model has been evaluated at the predicted x_s, the
integral over that step is repeated with the polynomial that also passes through the new estimate:
the corrected x_s is one order more accurate, without a further evaluation. The next step starts
from it, with the estimate that was made at the predicted one.
"""

from collections.abc import Sequence

import jax.numpy as jnp

from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process
from jaxdiff.solvers.base import Solver, half_log_snr
from jaxdiff.solvers.dpmpp import data_weights, exact_weights
from jaxdiff.solvers.multistep import (
    PredictedHistory,
    as_time,
    correction,
    remember,
    start,
    usable_history,
    weights_of,
)
from jaxdiff.typing import Array, InputError, Key


def unipc(denoise_fn: DenoiseFn, process: Process, *, order: int = 2) -> Solver:
    """UniPC-p with B(h) = e^h − 1, the unified predictor–corrector, in the estimate of the data.

    Args:
        denoise_fn: the model.
        process: the forward process.
        order: p, the number of estimates that the predictor uses: 1, 2 or 3.

    Returns:
        A deterministic solver of order p + 1 (p is the predictor's order), one evaluation per step,
        in both directions of time between times at which σ > 0, and down to σ = 0.

    Raises:
        InputError: if ``order`` is not 1, 2 or 3.

    Example:
        >>> import jax, jaxdiff
        >>> from jaxdiff import oracles, processes, schedules
        >>> process = processes.VP()
        >>> exact = oracles.gaussian(process, jnp.full(1, 3.0), jnp.zeros((1, 1)))  # all data are 3
        >>> x = processes.sample_prior(jax.random.key(0), process, (4, 1))
        >>> times = schedules.log_snr_times(process, 10)
        >>> x = jaxdiff.sample(jax.random.key(1), unipc(exact, process), x, times)
        >>> bool(jnp.allclose(x, 3.0, atol=0.1))
        True

    Reference: Zhao et al. 2023, algorithms 5 to 8 and theorem 3.1.
    """
    if order not in (1, 2, 3):
        raise InputError(f"order of UniPC must be 1, 2 or 3, got {order}")
    predict = data_weights(process)

    def correct(t: Array, earlier: Sequence[Array], s: Array) -> list[Array]:
        """Weights for the step from t to s: of the estimate made at s, then of earlier ones."""
        now, end, *before = (half_log_snr(process, time) for time in (t, s, *earlier))
        if not earlier:
            return [-0.5 * jnp.expm1(now - end)]
        return exact_weights([now, end, *before], end - now, end - now)

    def corrected(state: PredictedHistory, x0: Array, t: Array, s: Array) -> Array:
        """The present sample, recomputed with the estimate ``x0`` made at t."""
        (base, *values), (begin, *times) = state.values, state.times
        begin = jnp.where(state.made > 0, begin, 0.5 * (t + s))  # not t: the step would be empty
        weights = weights_of(correct, begin, times, t, state.made - 1)
        shift = correction(weights, [x0, *values], base)
        x = process.alpha(t) * (base + shift) + process.sigma(t) * state.eps
        x = x + (state.x - state.predicted)
        return jnp.where(state.made > 0, x, state.x)

    def init(x: Array, t: Array) -> PredictedHistory:
        return PredictedHistory(*start(x, t, order), eps=jnp.zeros_like(x), predicted=x)

    def step(key: Key, state: PredictedHistory, t: Array, s: Array) -> PredictedHistory:
        t, s = as_time(t), as_time(s)
        estimate = denoise_fn(state.x, t)
        eps = estimate.eps + (corrected(state, estimate.x0, t, s) - state.x) / process.sigma(t)
        alpha, sigma = process.alpha(s), process.sigma(s)
        end, count = usable_history(state, sigma, t, s)
        weights = weights_of(predict, t, state.times[: order - 1], end, count)
        shift = correction(weights, state.values[: order - 1], estimate.x0)
        x = alpha * (estimate.x0 + shift) + sigma * eps
        state = state._replace(eps=eps.astype(state.x.dtype), predicted=x.astype(state.x.dtype))
        return remember(state, x, estimate.x0, t)

    return Solver(init, step)
