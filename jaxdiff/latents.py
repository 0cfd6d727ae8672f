"""L5: the latent code of an example, the end of its probability-flow ODE, and interpolation.

The ODE is a bijection between data and noise that depends only on the model (Song et al. 2021,
section 4.3), so an example has one code, x_1, whose distribution is about N(0, σ(1)² I). Codes are
interpolated along great circles: in high dimension their norm hardly varies, and a straight line
would leave that sphere.
"""

import math
from typing import Unpack

import jax.numpy as jnp

from jaxdiff import flow
from jaxdiff.arrays import VARIANCE_FLOOR, expand_to, sum_events
from jaxdiff.flow import OdeOptions
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process
from jaxdiff.typing import Array, Float, InputError, Scalar


def encode(
    denoise_fn: DenoiseFn,
    process: Process,
    x0: Float[Array, "batch *event"],
    *,
    t_min: Scalar = 1e-5,
    **options: Unpack[OdeOptions],
) -> Float[Array, "batch *event"]:
    """Latent code of data: the ODE from t_min to t = 1.

    Args:
        denoise_fn: the model.
        process: the forward process.
        x0: data, used unchanged as x at t_min.
        t_min: start time.
        **options: rtol, atol, method and max_steps, as in :func:`jaxdiff.flow.integrate`.

    Returns:
        x at t = 1, in units of σ(1).

    Raises:
        InputError: as :func:`jaxdiff.flow.integrate`.

    Example:
        >>> import jax
        >>> from jaxdiff import oracles, processes
        >>> exact = oracles.gaussian(processes.VP(), jnp.full(1, 3.0), jnp.eye(1))
        >>> to_code = jax.jit(lambda x0: encode(exact, processes.VP(), x0))
        >>> to_data = jax.jit(lambda code: decode(exact, processes.VP(), code))
        >>> code = to_code(jnp.full((1, 1), 4.0))  # mean + 1 std
        >>> round(float(code[0, 0]), 2)  # α(1) · mean + 1 std
        1.02
        >>> round(float(to_data(code)[0, 0]), 3)
        4.0

    Reference: Song et al. 2021, section 4.3 and appendix D.5.
    """
    return flow.solve_ode(denoise_fn, process, x0, t_min, 1.0, **options)


def decode(
    denoise_fn: DenoiseFn,
    process: Process,
    latent: Float[Array, "batch *event"],
    *,
    t_min: Scalar = 1e-5,
    **options: Unpack[OdeOptions],
) -> Float[Array, "batch *event"]:
    """Data of a latent code: the ODE from t = 1 to t_min, the inverse of :func:`encode`.

    Args:
        denoise_fn: the model.
        process: the forward process.
        latent: x at t = 1.
        t_min: end time.
        **options: rtol, atol, method and max_steps, as in :func:`jaxdiff.flow.integrate`.

    Returns:
        x at t_min.

    Raises:
        InputError: as :func:`jaxdiff.flow.integrate`.
    """
    return flow.solve_ode(denoise_fn, process, latent, 1.0, t_min, **options)


def interpolate(
    z0: Float[Array, "batch *event"],
    z1: Float[Array, "batch *event"],
    weights: Float[Array, "weights"],
) -> Float[Array, "weights batch *event"]:
    """Spherical interpolation between codes, example by example.

    z(w) = [sin((1 − w)θ) z_0 + sin(wθ) z_1] / sin θ,    θ the angle between z_0 and z_1

    Args:
        z0: codes at w = 0.
        z1: codes at w = 1.
        weights: w, any real numbers.

    Returns:
        The codes at each weight. Parallel codes are interpolated linearly, the limit as θ → 0, and
        so are opposite ones, through which there is no unique great circle.

    Raises:
        InputError: if the codes differ in shape, or the weights are not a vector.

    Example:
        >>> interpolate(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 1.0]]), jnp.array([0.5])).round(3)
        Array([[[0.707, 0.707]]], dtype=float32)

    Reference: Shoemake 1985; Song, Meng & Ermon 2021, appendix D.5.
    """
    weights = jnp.asarray(weights)
    if z0.shape != z1.shape or weights.ndim != 1:
        raise InputError(
            "z0 and z1 must be batches of the same shape and weights must be a vector, got "
            f"shapes {z0.shape}, {z1.shape} and {weights.shape}"
        )
    u0, u1 = _direction(z0), _direction(z1)
    # Twice the half-angle, accurate for small and for large angles, where an arccosine is not.
    theta = 2 * jnp.arctan2(_norm(u0 - u1), _norm(u0 + u1))

    def coefficient(w: Array) -> Array:
        """sin(wθ)/sin θ without division by zero at θ = 0: ``[n, batch]``."""
        w = w[:, None]
        whole = jnp.sinc(theta / math.pi)[None]
        opposite = whole < OPPOSITE
        curved = w * jnp.sinc(w * theta[None] / math.pi) / jnp.where(opposite, 1.0, whole)
        return jnp.where(opposite, w, curved)

    def scaled(factors: Array, z: Array) -> Array:
        return factors.reshape(factors.shape + (1,) * (z.ndim - 1)) * z[None]

    return scaled(coefficient(1 - weights), z0) + scaled(coefficient(weights), z1)


OPPOSITE = 1e-6
"""Codes count as opposite below this sin θ/θ, the rounding of a float32."""


def _norm(z: Array) -> Array:
    return jnp.sqrt(sum_events(z**2) + VARIANCE_FLOOR)


def _direction(z: Array) -> Array:
    return z / expand_to(_norm(z), z)
