"""A process evaluated once, at all times that a program needs, so that programs stay small."""

import jax
import jax.numpy as jnp

from jaxdiff.processes import Process
from jaxdiff.typing import Array

SAME = 1e-6  # times closer than this are equal up to rounding


class AtTimes(Process):
    """log α and σ² at known times, with their slopes there; NaN at any other time."""

    times: Array
    log_alphas: tuple[Array, Array]  # values and slopes
    variances: tuple[Array, Array]

    def log_alpha(self, t):
        return self._at(t, *self.log_alphas)

    def variance(self, t):
        return self._at(t, *self.variances)

    def _at(self, t, values, slopes):
        away = jnp.expand_dims(jnp.asarray(t), -1) - jnp.broadcast_to(
            self.times, (*jnp.shape(t), len(self.times))
        )
        known = jnp.abs(away) < SAME
        values, slopes = (jnp.broadcast_to(part, away.shape) for part in (values, slopes))
        total = jnp.sum(jnp.where(known, values + slopes * away, 0), axis=-1)
        return total / jnp.sum(known, axis=-1)


def at_times(process, *times):
    """The process at these times only, each of any shape."""
    every = jnp.concatenate([jnp.ravel(jnp.asarray(t, jnp.result_type(float))) for t in times])

    def with_slope(function):
        return jax.jvp(function, (every,), (jnp.ones_like(every),))

    return AtTimes(every, with_slope(process.log_alpha), with_slope(process.variance))
