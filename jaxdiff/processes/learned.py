"""A variance-preserving process whose noise schedule is learned (VDM).

log SNR(t) = log SNR(0) − (log SNR(0) − log SNR(1)) · w(t),  α² = sigmoid(log SNR),  σ² = 1 − α²

The two ends affect the bound on the likelihood and are trained on it. The inner shape w, which
rises from 0 to 1, does not affect the bound from t = 0 to 1, only the variance of its estimate, and
is trained to minimise that: the ends receive the gradient of the bound, the shape that of its
square,

    objective = mean(bound(with_fixed_shape(process))) + mean(bound(with_fixed_ends(process))²)

where the second term also holds the model fixed.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from jaxdiff.checks import is_count
from jaxdiff.processes.base import Process
from jaxdiff.typing import Array, ArrayLike, Float, InputError, Real


class LearnedVP(Process):
    """A learned, strictly monotone schedule: a line plus soft steps of positive height.

    w(t) ∝ e^h t + Σ_j e^{h_j} [sigmoid(e^{k_j} (t − c_j)) − sigmoid(−e^{k_j} c_j)], with w(1) = 1

    Args:
        log_snr_max: log SNR at t = 0.
        log_range: logarithm of the range of log SNR, so that the range stays positive.
        log_slope: h, log of the slope of the line.
        log_heights: h_j.
        log_steepness: k_j.
        centres: c_j.

    Reference: Kingma et al. 2021, section 4 and appendix H.
    """

    log_snr_max: Float[Array, ""]
    log_range: Float[Array, ""]
    log_slope: Float[Array, ""]
    log_heights: Float[Array, "steps"]
    log_steepness: Float[Array, "steps"]
    centres: Float[Array, "steps"]

    @classmethod
    def create(
        cls, *, log_snr_max: float = 13.3, log_snr_min: float = -5.0, num_steps: int = 16
    ) -> "LearnedVP":
        """Initialise near the straight line between two ends (by default VDM's for CIFAR-10).

        Args:
            log_snr_max: log SNR at t = 0.
            log_snr_min: log SNR at t = 1.
            num_steps: number of soft steps of the inner shape.

        Raises:
            InputError: if the ends do not decrease or are not finite, or num_steps is below 1.

        Example:
            >>> process = LearnedVP.create(log_snr_max=10.0, log_snr_min=-4.0)
            >>> process.log_snr(jnp.array([0.0, 1.0])).round(3)
            Array([10., -4.], dtype=float32)
        """
        if not -math.inf < log_snr_min < log_snr_max < math.inf or not is_count(num_steps):
            raise InputError(
                "LearnedVP requires finite log_snr_min < log_snr_max and an integer num_steps >= "
                f"1, got log_snr_min={log_snr_min}, log_snr_max={log_snr_max}, "
                f"num_steps={num_steps}"
            )
        each = jnp.zeros(num_steps)
        return cls(
            log_snr_max=jnp.asarray(float(log_snr_max)),
            log_range=jnp.log(jnp.asarray(float(log_snr_max - log_snr_min))),
            log_slope=jnp.zeros(()),
            log_heights=each - jnp.log(1.0 * num_steps),
            log_steepness=each + jnp.log(4.0 * num_steps),
            centres=(jnp.arange(num_steps) + 0.5) / num_steps,
        )

    @property
    def starts_without_noise(self) -> bool:
        """False: log SNR(0) is finite."""
        return False

    def log_alpha(self, t: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """See :meth:`Process.log_alpha`."""
        return 0.5 * jax.nn.log_sigmoid(self._log_snr(t))

    def variance(self, t: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """See :meth:`Process.variance`."""
        return jax.nn.sigmoid(-self._log_snr(t))

    def _log_snr(self, t: ArrayLike) -> Array:
        """The schedule itself; the base class derives the same number from α and σ."""
        t = jnp.asarray(t)
        return self.log_snr_max - jnp.exp(self.log_range) * (self._risen(t) / self._risen(1.0))

    def _risen(self, t: ArrayLike) -> Array:
        """The inner shape, 0 at t = 0, before it is scaled to end at 1."""
        t = jnp.asarray(t)[..., None] * 1.0
        lead = (1,) * (t.ndim - 1) + (-1,)
        steepness, centres, heights = (
            part.reshape(lead)
            for part in (jnp.exp(self.log_steepness), self.centres, jnp.exp(self.log_heights))
        )
        start = jax.nn.sigmoid(-steepness * centres)
        steps = heights * (jax.nn.sigmoid(steepness * (t - centres)) - start)
        return jnp.exp(self.log_slope) * t[..., 0] + jnp.sum(steps, axis=-1)


ENDS = ("log_snr_max", "log_range")
SHAPE = ("log_slope", "log_heights", "log_steepness", "centres")


def with_fixed_ends(process: LearnedVP) -> LearnedVP:
    """The same process, with no gradient to the two ends."""
    return _held(process, ENDS)


def with_fixed_shape(process: LearnedVP) -> LearnedVP:
    """The same process, with no gradient to the inner shape."""
    return _held(process, SHAPE)


def _held(process: LearnedVP, names: tuple[str, ...]) -> LearnedVP:
    held = {name: jax.lax.stop_gradient(getattr(process, name)) for name in names}
    return dataclasses.replace(process, **held)
