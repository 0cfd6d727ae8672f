"""The parts of a U-Net: residual blocks, attention, down- and upsampling convolutions."""

import functools
import math
from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp

from jaxdiff.checks import check_one_of
from jaxdiff.nets import resampling
from jaxdiff.nets.attention import attention
from jaxdiff.nets.layers import (
    Activation,
    Dense,
    DType,
    convolution,
    projections,
    zeros,
)
from jaxdiff.nets.norm import GroupNorm
from jaxdiff.typing import Array

Modulation = Literal["shift", "scale_shift"]
Resample = Literal["", "down", "up"]
Padding = Literal["end", "both"]
RESAMPLERS = {"down": resampling.downsample, "up": resampling.upsample}


class ResBlock(nn.Module):
    """Two normalised convolutions and a skip connection; the noise level modulates the second norm.

    y = (skip(x) + conv(act(norm(conv(act(norm(x))); level)))) · skip_scale

    Args:
        channels: of the output.
        modulation: "shift" adds the noise level before the second norm, as in DDPM; "scale_shift"
            scales and shifts by it after the norm, as in ADM.
        resample: "down" or "up": the image is resampled between the first norm and its convolution,
            and on the skip connection, as in BigGAN; "" for neither.
        weights: of the resampling filter.
        skip_scale: of the sum.
        dropout: fraction of activations dropped before the second convolution.
        groups: of the norms; None for :func:`jaxdiff.nets.norm.num_groups`.
        epsilon: of the norms.
        project: whether the skip is projected even if the number of channels does not change.
        activation: act, one of ``layers.ACTIVATIONS``.
        dtype: of the computation.

    Raises:
        InputError: if a modulation, a resampling or an activation is unknown.

    Reference: Ho et al. 2020, appendix B; Song et al. 2021, appendix H; Dhariwal & Nichol 2021.
    """

    channels: int
    modulation: Modulation = "scale_shift"
    resample: Resample = ""
    weights: Sequence[int] = resampling.BOX
    skip_scale: float = 1.0
    dropout: float = 0.0
    groups: int | None = None
    epsilon: float = 1e-6
    project: bool = False
    activation: Activation = "silu"
    dtype: DType = "float32"

    def __post_init__(self) -> None:
        check_one_of(
            modulation=(self.modulation, Modulation),
            resample=(self.resample, Resample),
            activation=(self.activation, Activation),
        )
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, embedding: Array | None, train: bool = False) -> Array:
        """Map ``x [batch, ..., c]``, ``embedding [batch, e]`` to ``[batch, ..., channels]``."""
        ndim = x.ndim - 2
        norm = functools.partial(
            GroupNorm, activation=self.activation, groups=self.groups, epsilon=self.epsilon
        )
        conv = functools.partial(convolution, self.channels, ndim, dtype=self.dtype)

        h = norm(name="norm_0")(x)
        if self.resample:
            change = RESAMPLERS[self.resample]
            h, x = change(h, self.weights), change(x, self.weights)
        h = conv(name="conv_0")(h)
        if embedding is None:
            h = norm(name="norm_1")(h)
        elif self.modulation == "shift":
            shift = Dense(self.channels, name="modulation")(embedding)
            h = norm(name="norm_1")(h + _wide(shift, h).astype(h.dtype))
        else:
            both = Dense(2 * self.channels, name="modulation")(embedding)
            scale, shift = jnp.split(both, 2, axis=-1)
            h = norm(name="norm_1")(h, (scale, shift))
        h = nn.Dropout(self.dropout, deterministic=not train)(h)
        h = conv(zero=True, name="conv_1")(h)
        if x.shape[-1] != self.channels or self.project:
            x = Dense(self.channels, dtype=self.dtype, name="skip")(x)
        return _scaled(x + h, self.skip_scale)


class SelfAttention(nn.Module):
    """Attention of every pixel to every other, with a skip connection; softmax in float32.

    Args:
        head_dim: minimum channels per head, fewer in total make one head; None for one head.
        skip_scale: of the sum.
        normalise: whether a group norm comes first.
        groups: of the norm.
        epsilon: of the norm.
        dtype: of the computation.

    Reference: Vaswani et al. 2017, eq. 1; Ho et al. 2020, appendix B.
    """

    head_dim: int | None = None
    skip_scale: float = 1.0
    normalise: bool = True
    groups: int | None = None
    epsilon: float = 1e-6
    dtype: DType = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map ``x [batch, ..., c]`` to the same shape."""
        batch, channels, pixels = x.shape[0], x.shape[-1], math.prod(x.shape[1:-1])
        most = max(1, channels // (self.head_dim or channels))
        heads = next(n for n in range(most, 0, -1) if channels % n == 0)
        norm = GroupNorm(activation="", groups=self.groups, epsilon=self.epsilon, name="norm")
        h = norm(x) if self.normalise else x
        qkv = projections(channels, dtype=self.dtype, name="qkv")(
            h.reshape(batch, pixels, channels)
        )
        qkv = qkv.reshape(batch, pixels, 3, heads, channels // heads)
        h = attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
        out = nn.Dense(channels, kernel_init=zeros, dtype=self.dtype, name="out")
        return _scaled(
            x + out(h.reshape(batch, pixels, channels)).reshape(x.shape), self.skip_scale
        )


class Downsample(nn.Module):
    """A convolution of stride 2, after the filter unless that is the plain (1, 1).

    Args:
        channels: of the output.
        weights: of the filter.
        padding: without a filter, one pixel is padded at the "end" of every axis, as in TensorFlow,
            or at "both" ends, as in PyTorch.
        dtype: of the computation.
    """

    channels: int
    weights: Sequence[int] = resampling.BOX
    padding: Padding = "end"
    dtype: DType = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map ``x [batch, ..., c]`` to ``[batch, .../2, channels]``."""
        padding: str | int = "SAME" if self.padding == "end" else 1
        if tuple(self.weights) != resampling.BOX:
            x, padding = resampling.fir_filter(x, self.weights), "VALID"
        conv = functools.partial(convolution, self.channels, x.ndim - 2, strides=2)
        return conv(padding=padding, dtype=self.dtype, name="conv")(x)


class Upsample(nn.Module):
    """Doubling by repeating pixels, or by a filter, then a convolution.

    Args:
        channels: of the output.
        weights: of the filter.
        dtype: of the computation.
    """

    channels: int
    weights: Sequence[int] = resampling.BOX
    dtype: DType = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map ``x [batch, ..., c]`` to ``[batch, 2 · ..., channels]``."""
        conv = functools.partial(convolution, self.channels, x.ndim - 2)
        if tuple(self.weights) == resampling.BOX:
            return conv(dtype=self.dtype, name="conv")(resampling.upsample(x))
        # the convolution sees what the filter spreads beyond the edges, as in StyleGAN2
        spread = resampling.upsample(x, self.weights, beyond=1)
        return conv(padding="VALID", dtype=self.dtype, name="conv")(spread)


def _wide(vector: Array, image: Array) -> Array:
    """Reshape ``[batch, c]`` to broadcast against ``[batch, ..., c]``."""
    return vector.reshape(vector.shape[0], *(1,) * (image.ndim - 2), vector.shape[-1])


def _scaled(x: Array, scale: float) -> Array:
    return x if scale == 1 else x * scale
