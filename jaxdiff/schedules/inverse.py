"""The inverse of log SNR: the time at which a process has a given noise level."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff.typing import Array, ArrayLike, Float, Real


@jax.jit
def time_at_log_snr(process: Any, log_snr: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """Times at which log SNR, which decreases with t, has given values: its inverse function.

    Found by bisection to the last bits, for every process, in closed form or not. Its gradients, in
    the values and in the process, are those of the implicit function.

    Args:
        process: the forward process, a pytree.
        log_snr: values of log SNR, clipped to the range of the process.

    Returns:
        Times in [0, 1].

    Example:
        >>> from jaxdiff.processes import VE
        >>> round(float(time_at_log_snr(VE(sigma_min=1.0, sigma_max=100.0), -2 * jnp.log(10.0))), 4)
        0.5

    Reference: the t_λ of Lu et al. 2022 (DPM-Solver), section 3.1.
    """
    ends = process.log_snr(jnp.asarray([1.0, 0.0]))
    targets = jnp.clip(jnp.asarray(log_snr, jnp.result_type(float)), ends[0], ends[1])

    def excess(t: Array) -> Array:
        return process.log_snr(t) - targets

    def bisect(excess: Callable[[Array], Array], start: Array) -> Array:
        def halve(_: int, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = bracket
            middle = 0.5 * (low + high)
            before = excess(middle) > 0
            return jnp.where(before, middle, low), jnp.where(before, high, middle)

        bracket = jnp.zeros_like(start), jnp.ones_like(start)
        low, high = jax.lax.fori_loop(0, 60, halve, bracket)
        return 0.5 * (low + high)

    times: Array = jax.lax.custom_root(excess, 0.5 * jnp.ones_like(targets), bisect, divide)
    return times


def divide(
    linear: Callable[[Array], Array], value: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Solve an elementwise linear equation, as the gradient of an elementwise root requires."""
    return value / linear(jnp.ones_like(value))
