"""What a forward process is: two functions of time, from which all else is derived.

A process says how far the data has faded and how much noise has come in,

    x_t = α(t) x_0 + σ(t) ε,    ε ~ N(0, I),    t = 0 is data, t = 1 is noise.

A subclass gives log α(t) and σ²(t), both smooth on the whole of [0, 1]; the logarithm because α
underflows long before log α does, the variance because σ has an infinite slope where it leaves
zero. Its parameters are pytree leaves: changing one recompiles nothing, and all can be vmapped
over and differentiated. Everything else lives in :mod:`jaxdiff.processes.algebra`, once, for all.
"""

from abc import abstractmethod

import jax.numpy as jnp
from flax import struct

from jaxdiff.arrays import VARIANCE_FLOOR, std_of
from jaxdiff.typing import Array, ArrayLike


class Process(struct.PyTreeNode):
    """A Gaussian forward process; subclasses give :meth:`log_alpha` and :meth:`variance`."""

    @abstractmethod
    def log_alpha(self, t: ArrayLike) -> Array:
        """Log of the signal scale, log α(t) ≤ 0, non-increasing. ``t [...] -> [...]``."""

    @abstractmethod
    def variance(self, t: ArrayLike) -> Array:
        """Variance of the noise, σ²(t) ≥ 0, in data units squared. ``t [...] -> [...]``."""

    def alpha(self, t: ArrayLike) -> Array:
        """Signal scale α(t) (DDPM's √ᾱ). ``t [...] -> [...]``."""
        return jnp.exp(self.log_alpha(t))

    def sigma(self, t: ArrayLike) -> Array:
        """Noise scale σ(t) = √σ², at least 1e-15 so that 1/σ is finite. ``t [...] -> [...]``."""
        return std_of(self.variance(t))

    def log_snr(self, t: ArrayLike) -> Array:
        """Log signal-to-noise ratio, log(α²/σ²), strictly decreasing. ``t [...] -> [...]``."""
        return 2 * self.log_alpha(t) - jnp.log(self.variance(t) + VARIANCE_FLOOR)
