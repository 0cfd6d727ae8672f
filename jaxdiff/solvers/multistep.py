"""Multistep solvers: one evaluation per step, and the estimates of previous steps.

Each step is that of DDIM with a correction that is linear in the differences between the earlier
estimates v_j (of the data, or of the noise) and the present one:

    x_s = α_s x̂_0 + e^{−η²h} σ_s ε̂ + α_s Σ_j w_j (v_j − v_0) + σ_s √(1 − e^{−2η²h}) z

Solvers differ only in the weights w_j, which are functions of the times. In this form nothing is
divided by α or σ, and where no earlier estimate is usable (on the first step, and on a last one to
σ = 0) the step is DDIM's.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from jaxdiff.arrays import SIGMA_FLOOR, std_of
from jaxdiff.checks import known_scalar
from jaxdiff.predictions import DenoiseFn, Estimate
from jaxdiff.processes import Process
from jaxdiff.solvers.base import Solver, half_log_snr
from jaxdiff.typing import Array, Float, Int, Key, Scalar


class History(NamedTuple):
    """The sample, and the estimates of previous steps, newest first."""

    x: Float[Array, "batch *event"]
    values: tuple[Float[Array, "batch *event"], ...]  # earlier estimates
    times: tuple[Float[Array, ""], ...]  # at which they were made
    made: Int[Array, ""]  # how many of them exist so far


class PredictedHistory(NamedTuple):
    """A history whose sample will be corrected.

    It also holds the noise in the previous corrected sample, and the sample as predicted: the
    correction keeps changes made to it since, for example by Langevin steps.
    """

    x: Float[Array, "batch *event"]
    values: tuple[Float[Array, "batch *event"], ...]
    times: tuple[Float[Array, ""], ...]
    made: Int[Array, ""]
    eps: Float[Array, "batch *event"]
    predicted: Float[Array, "batch *event"]


Memory = TypeVar("Memory", History, PredictedHistory)

WeightsFn = Callable[
    [Float[Array, ""], Sequence[Float[Array, ""]], Float[Array, ""]], list[Float[Array, ""]]
]
"""``(t, earlier times, s) -> weights``, one for each of the given earlier times."""


def start(x: Float[Array, "batch *event"], t: Scalar, length: int) -> History:
    """An empty history with room for ``length`` estimates."""
    nothing = (jnp.zeros_like(x),) * length
    return History(x, nothing, (as_time(t),) * length, jnp.zeros((), int))


def as_time(t: Scalar) -> Float[Array, ""]:
    """A time in the default precision, so that a state keeps its type from step to step."""
    return jnp.asarray(t, jnp.result_type(float))


def remember(
    state: Memory,
    x: Float[Array, "batch *event"],
    value: Float[Array, "batch *event"],
    t: Float[Array, ""],
) -> Memory:
    """Move on to ``x``, and store the estimate made at ``t``; the oldest is dropped."""
    length = len(state.values)
    return state._replace(
        x=x.astype(state.x.dtype),
        values=(value.astype(state.x.dtype), *state.values)[:length],
        times=(t, *state.times)[:length],
        made=jnp.minimum(state.made + 1, length),
    )


def usable_history(
    state: Memory, sigma: Float[Array, ""], t: Float[Array, ""], s: Float[Array, ""]
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """The end of the step for which weights are computed, and the number of usable estimates.

    None is usable if the step ends where σ = 0; the weights, which are then 0, are computed for a
    shorter step, so that their gradient is finite.
    """
    noisy = sigma > SIGMA_FLOOR
    return jnp.where(noisy, s, 0.5 * (t + s)), jnp.where(noisy, state.made, 0)


def weights_of(
    weights_fn: WeightsFn,
    t: Float[Array, ""],
    times: Sequence[Float[Array, ""]],
    s: Float[Array, ""],
    count: Int[Array, ""],
) -> list[Float[Array, ""]]:
    """The weights that use the ``count`` newest of the earlier times, with 0 for the others.

    A weights_fn may return weights besides those of the earlier times; they come first. A weight
    that two equal times make infinite is dropped with the rest of its order. Times beyond the
    count, which are equal until they are filled, are replaced by distinct ones: dropped weights
    need a finite gradient, too.
    """
    fractions = [(j + 1) / (len(times) + 1) for j in range(len(times))]
    spare = [t + (s - t) * fraction for fraction in fractions]
    nodes = [jnp.where(count > j, time, spare[j]) for j, time in enumerate(times)]
    rows = [weights_fn(t, nodes[:used], s) for used in range(len(times) + 1)]
    chosen = _padded(rows[0], rows[-1], s)
    for used, row in enumerate(rows[1:], start=1):
        usable = (count >= used) & jnp.all(jnp.isfinite(jnp.stack(row)))
        pairs = zip(_padded(row, rows[-1], s), chosen, strict=True)
        chosen = [jnp.where(usable, new, old) for new, old in pairs]
    return chosen


def _padded(row: list[Array], widest: list[Array], s: Array) -> list[Array]:
    return row + [jnp.zeros_like(s)] * (len(widest) - len(row))


def correction(
    weights: Sequence[Float[Array, ""]],
    values: Sequence[Float[Array, "batch *event"]],
    value: Float[Array, "batch *event"],
) -> Float[Array, "batch *event"] | float:
    """Σ_j w_j (v_j − v_0)."""
    return sum((w * (v - value) for w, v in zip(weights, values, strict=True)), start=0.0)


def multistep(
    denoise_fn: DenoiseFn,
    process: Process,
    weights_fn: WeightsFn,
    *,
    length: int,
    view: Callable[[Estimate], Float[Array, "batch *event"]],
    eta: Scalar = 0.0,
) -> Solver:
    """Make a solver from a function for its weights.

    Args:
        denoise_fn: the model.
        process: the forward process.
        weights_fn: ``(t, earlier times, s) -> weights`` for any number of earlier times up to
            ``length``; on the first steps there are fewer.
        length: number of earlier estimates that are kept.
        view: selects the view of an estimate that is interpolated.
        eta: amplitude of the noise, 0 for the ODE, 1 for the reverse SDE.

    Returns:
        A solver with one evaluation per step.

    Raises:
        InputError: if eta is negative.
    """
    number = known_scalar("eta must be finite and at least 0", eta, 0)
    deterministic = number == 0
    spread = jnp.square(jnp.asarray(eta))

    def step(key: Key, state: History, t: Array, s: Array) -> History:
        t, s = as_time(t), as_time(s)
        estimate = denoise_fn(state.x, t)
        value = view(estimate)
        alpha, sigma = process.alpha(s), process.sigma(s)
        end, count = usable_history(state, sigma, t, s)
        weights = weights_of(weights_fn, t, state.times, end, count)
        x = alpha * (estimate.x0 + correction(weights, state.values, value))
        if deterministic:
            x = x + sigma * estimate.eps
        else:
            lost = spread * (half_log_snr(process, s) - half_log_snr(process, t))
            noise = jax.random.normal(key, state.x.shape, state.x.dtype)
            drawn = std_of(-jnp.expm1(-2 * lost))
            x = x + sigma * (jnp.exp(-lost) * estimate.eps + drawn * noise)
        return remember(state, x, value, t)

    return Solver(lambda x, t: start(x, t, length), step, draws_noise=bool(number))
