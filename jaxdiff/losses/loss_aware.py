"""Loss-aware importance sampling of the steps of a chain.

The variance of Σ_i L_i estimated from one random i is least if i is drawn with probability
proportional to √E[L_i²] (Nichol & Dhariwal 2021, eq. 18). These moments are unknown and change as
the model learns, so the last few losses of every step are kept, in a pytree that is part of the
training state:

    history = loss_aware.start(num_steps)
    t, weight = loss_aware.sample(key, n, history)
    history = loss_aware.record(history, t, losses)         # unweighted, [n]

Until each step has been drawn often enough the times are uniform.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.checks import is_count
from jaxdiff.losses.times import TimeSample, stratified_units
from jaxdiff.typing import Array, Float, InputError, Int, Key


class LossHistory(NamedTuple):
    """The last losses of every step, and how many have been recorded."""

    losses: Float[Array, "steps length"]
    counts: Int[Array, "steps"]


def start(num_steps: int, *, length: int = 10) -> LossHistory:
    """An empty history of a chain of T steps.

    Args:
        num_steps: T.
        length: number of losses of each step that are kept, and required before they are used.

    Returns:
        ``LossHistory`` of zeros.

    Raises:
        InputError: if either is below 1.

    Reference: Nichol & Dhariwal 2021, section 3.3.
    """
    if not is_count(num_steps) or not is_count(length):
        raise InputError(
            "num_steps and length must be positive integers, got "
            f"num_steps={num_steps}, length={length}"
        )
    return LossHistory(jnp.zeros((num_steps, length)), jnp.zeros(num_steps, int))


def record(
    history: LossHistory, t: Float[Array, "batch"], losses: Float[Array, "batch"]
) -> LossHistory:
    """Add the losses of a batch, replacing the oldest of each step.

    Args:
        history: the losses so far.
        t: nodes i/T of the chain, which may repeat.
        losses: the loss at each, not weighted by importance.

    Returns:
        The new history.
    """
    num_steps, length = history.losses.shape
    step = _step(t, num_steps)
    same = step[:, None] == step[None, :]
    rank = jnp.sum(jnp.tril(same, -1), axis=1)  # among the losses of one step in the batch
    later = jnp.sum(same, axis=1) - 1 - rank
    place = (history.counts[step] + rank) % length
    # If a batch holds more losses of one step than are kept, only its last ones are stored.
    place = jnp.where(later < length, place, length)
    values = jax.lax.stop_gradient(losses).astype(history.losses.dtype)
    return LossHistory(
        history.losses.at[step, place].set(values, mode="drop"), history.counts.at[step].add(1)
    )


def sample(key: Key, n: int, history: LossHistory, *, uniform_share: float = 1e-3) -> TimeSample:
    """Draw times of the chain with probability ∝ √(mean square of the last losses).

    Args:
        key: randomness.
        n: number of draws.
        history: the last losses.
        uniform_share: fraction of the draws that are uniform, so that no step is neglected.

    Returns:
        ``TimeSample(t, weight)``: nodes i/T, and weights that keep the average over all of them
        unbiased.

    Example:
        >>> history = start(2, length=1)
        >>> history = record(history, jnp.array([0.5, 1.0]), jnp.array([1.0, 3.0]))
        >>> t, weight = sample(jax.random.key(0), 4, history, uniform_share=0.0)
        >>> sorted(t.tolist()), sorted(weight.tolist())  # 1/4 of draws at the first, weight 1/(2·¼)
        ([0.5, 1.0, 1.0, 1.0], [0.666..., 0.666..., 0.666..., 2.0])

    Reference: Nichol & Dhariwal 2021, eq. 18.
    """
    num_steps, length = history.losses.shape
    size = jnp.sqrt(jnp.mean(jnp.square(history.losses), axis=1))
    known = jnp.all(history.counts >= length) & (jnp.sum(size) > 0)
    size = jnp.where(known, size, 1.0)
    p = (1 - uniform_share) * size / jnp.sum(size) + uniform_share / num_steps
    step = jnp.searchsorted(jnp.cumsum(p) / jnp.sum(p), stratified_units(key, n))
    step = jnp.minimum(step, num_steps - 1)
    return TimeSample((step + 1) / num_steps, 1 / (num_steps * p[step]))


def _step(t: Array, num_steps: int) -> Array:
    """Index i − 1 of the node t = i/T."""
    return jnp.clip(jnp.rint(t * num_steps).astype(int) - 1, 0, num_steps - 1)
