"""How training draws its times, with the weights that keep an average over [t_min, 1] unbiased.

A sampler returns ``TimeSample(t, weight)`` with E[weight · h(t)] = E_{t ~ U(t_min, t_max)} h(t) for
every h. On a discrete chain, ``num_steps=T`` snaps each draw up to the grid i/T, i = 1 … T, and the
average is that over the grid (exactly so where t_min and t_max lie on it).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.typing import Array, Key


class TimeSample(NamedTuple):
    """Times and their importance weights, both ``[n]``."""

    t: Array
    weight: Array


def uniform(
    key: Key, n: int, *, t_min: float = 0.0, t_max: float = 1.0, num_steps: int | None = None
) -> TimeSample:
    """Draw n independent times from U(t_min, t_max].

    Args:
        key: randomness.
        n: how many.
        t_min: lower end.
        t_max: upper end.
        num_steps: length T of a discrete chain, to draw from i/T instead.

    Returns:
        ``TimeSample(t, weight)`` with weight 1.

    Example:
        >>> t, weight = uniform(jax.random.key(0), 1000, num_steps=2)
        >>> sorted(set(t.tolist()))
        [0.5, 1.0]
    """
    return _between(1 - jax.random.uniform(key, (n,)), t_min, t_max, num_steps)


def stratified(
    key: Key, n: int, *, t_min: float = 0.0, t_max: float = 1.0, num_steps: int | None = None
) -> TimeSample:
    """Draw n evenly spaced times with one common random offset.

    Each is uniform by itself, and together they cover the range: the variance of a batch's loss
    over t falls from O(1/n) to O(1/n²) for smooth losses.

    Args:
        key: randomness.
        n: how many.
        t_min: lower end.
        t_max: upper end.
        num_steps: length T of a discrete chain, to draw from i/T instead.

    Returns:
        ``TimeSample(t, weight)`` with weight 1; t increases.

    Example:
        >>> t, _ = stratified(jax.random.key(0), 4)
        >>> jnp.ceil(4 * t).tolist()  # one in each quarter
        [1.0, 2.0, 3.0, 4.0]

    Reference: Kingma et al. 2021, appendix I.1.
    """
    offset = 1 - jax.random.uniform(key)
    return _between((jnp.arange(n) + offset) / n, t_min, t_max, num_steps)


def _between(unit: Array, t_min: float, t_max: float, num_steps: int | None) -> TimeSample:
    """Map (0, 1] onto (t_min, t_max], and up to the nodes of a chain where there is one."""
    t = t_min + unit * (t_max - t_min)
    if num_steps is not None:
        t = jnp.clip(jnp.ceil(t * num_steps), 1, num_steps) / num_steps
    return TimeSample(t, jnp.ones_like(t))
