"""Group normalisation, modulation and nonlinearity, as one multiply-add.

GroupNorm, its learned scale and shift, and a scale and shift that depend on the noise level are all
affine in x with one pair of numbers per example and channel. Two sums over the image give that
pair, so the image itself is read twice and written once, instead of once per operation.
"""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff.nets.layers import ACTIVATIONS, Activation
from jaxdiff.typing import Array


def num_groups(channels: int) -> int:
    """Groups of at least 4 channels, at most 32 of them, dividing ``channels``.

    Example:
        >>> num_groups(64), num_groups(256), num_groups(3)
        (16, 32, 1)
    """
    return next(g for g in range(min(32, max(1, channels // 4)), 0, -1) if channels % g == 0)


class GroupNorm(nn.Module):
    """Group normalisation, optional modulation by the noise level, then a nonlinearity.

    y = activation(a x + b),  a = γ(1 + scale)/std,  b = β(1 + scale) + shift − mean·a

    Everything is computed in float32, and rounded once to the dtype of x. The variance is
    E[x²] − E[x]², clipped at zero.

    Args:
        activation: the nonlinearity, one of ``layers.ACTIVATIONS``, or "" for none.
        epsilon: added to the variance.
        groups: their number, dividing the channels; None for :func:`num_groups`.

    Reference: Wu & He 2018; scale and shift as in Dhariwal & Nichol 2021, eq. 1.
    """

    activation: Literal[Activation, ""] = "silu"
    epsilon: float = 1e-6
    groups: int | None = None

    @nn.compact
    def __call__(self, x: Array, modulation: tuple[Array, Array] | None = None) -> Array:
        """Normalise ``x [batch, ..., channels]``; ``modulation`` is two ``[batch, channels]``."""
        batch, channels = x.shape[0], x.shape[-1]
        groups = self.groups or num_groups(channels)
        gamma = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)[None]
        beta = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)[None]

        pixels = x.reshape(batch, -1, channels).astype(jnp.float32)
        moments = jnp.stack([jnp.mean(pixels, axis=1), jnp.mean(pixels**2, axis=1)])
        grouped = moments.reshape(2, batch, groups, channels // groups).mean(axis=-1, keepdims=True)
        mean, square = jnp.broadcast_to(grouped, (2, batch, groups, channels // groups)).reshape(
            2, batch, channels
        )
        inverse_std = 1 / jnp.sqrt(jnp.maximum(square - mean**2, 0.0) + self.epsilon)

        if modulation is not None:
            scale, shift = modulation
            gamma, beta = gamma * (1 + scale), beta * (1 + scale) + shift
        a = gamma * inverse_std
        b = beta - mean * a
        wide = (batch,) + (1,) * (x.ndim - 2) + (channels,)

        # x is stored anyway; backpropagation recomputes what the nonlinearity needs from it
        @jax.checkpoint
        def multiply_add(x: Array, a: Array, b: Array) -> Array:
            y = x.astype(jnp.float32) * a.reshape(wide) + b.reshape(wide)
            return (ACTIVATIONS[self.activation](y) if self.activation else y).astype(x.dtype)

        return multiply_add(x, a, b)
