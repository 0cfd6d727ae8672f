"""A U-Net for images: residual blocks, attention where asked, one skip per block."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff.nets.embeddings import TIME_SCALE, Conditioning
from jaxdiff.nets.norm import GroupNorm
from jaxdiff.typing import Array, InputError


class ResBlock(nn.Module):
    """Two normalised convolutions beside the identity; the noise level modulates the second norm.

    Args:
        channels: of the output.
        dropout: share of activations dropped before the second convolution.
    """

    channels: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: Array, embedding: Array, *, train: bool) -> Array:
        """Map ``x [batch, h, w, c]``, ``embedding [batch, e]`` to ``[batch, h, w, channels]``."""
        h = nn.Conv(self.channels, (3, 3))(GroupNorm()(x))
        scale, shift = jnp.split(nn.Dense(2 * self.channels)(embedding), 2, axis=-1)
        h = GroupNorm()(h, (scale, shift))
        h = nn.Dropout(self.dropout, deterministic=not train)(h)
        h = nn.Conv(self.channels, (3, 3), kernel_init=nn.initializers.zeros)(h)
        if x.shape[-1] != self.channels:
            x = nn.Dense(self.channels)(x)
        return x + h


class SelfAttention(nn.Module):
    """Attention of every pixel to every other, beside the identity.

    Args:
        head_dim: least channels of one head; fewer than that in all make one head.
    """

    head_dim: int = 64

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map ``x [batch, h, w, c]`` to the same shape."""
        batch, height, width, channels = x.shape
        most = max(1, channels // self.head_dim)
        heads = next(n for n in range(most, 0, -1) if channels % n == 0)
        h = GroupNorm(silu=False)(x).reshape(batch, height * width, channels)
        qkv = nn.Dense(3 * channels)(h).reshape(batch, height * width, 3, heads, channels // heads)
        h = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
        h = nn.Dense(channels, kernel_init=nn.initializers.zeros)(h.reshape(batch, -1, channels))
        return x + h.reshape(x.shape)


class UNet(nn.Module):
    """The U-Net of DDPM and its heirs, for images ``[batch, height, width, channels]``.

    Args:
        channels: at the first level; a multiple of 4 serves the norms best.
        multipliers: of the channels, one per level; each level after the first halves the image.
        blocks_per_level: residual blocks of a level on the way down; one more on the way up.
        attention_levels: levels, counted from 0, whose blocks are followed by attention; with any,
            the middle of the network attends too.
        dropout: share of activations dropped in each residual block.
        num_classes: number of classes, or None.
        head_dim: channels of one attention head.
        level_scale: what the embedding multiplies the noise level by.
        predictions: per channel of the image; 2 where the reverse variance is learned too.

    Raises:
        InputError: if an option is out of range; at call, if the image does not halve at every
            level.

    Example:
        >>> net = UNet(channels=8)
        >>> x, level = jnp.ones((2, 8, 8, 1)), jnp.ones(2)
        >>> params = net.init(jax.random.key(0), x, level)
        >>> net.apply(params, x, level).shape
        (2, 8, 8, 1)

    Reference: Ho et al. 2020, appendix B; Dhariwal & Nichol 2021, section 3.
    """

    channels: int = 64
    multipliers: Sequence[int] = (1, 2)
    blocks_per_level: int = 2
    attention_levels: Sequence[int] = (1,)
    dropout: float = 0.0
    num_classes: int | None = None
    head_dim: int = 64
    level_scale: float = TIME_SCALE
    predictions: int = 1

    def __post_init__(self) -> None:
        levels = range(len(self.multipliers))
        check_counts(
            channels=self.channels,
            multipliers=tuple(self.multipliers),
            blocks_per_level=self.blocks_per_level,
            head_dim=self.head_dim,
            predictions=self.predictions,
        )
        if not all(depth in levels for depth in self.attention_levels):
            raise InputError(
                f"attention_levels takes levels from 0 to {len(levels) - 1}, got "
                f"{tuple(self.attention_levels)}"
            )
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout takes a number in [0, 1), got {self.dropout}")
        super().__post_init__()

    @nn.compact
    def __call__(
        self, x: Array, level: Array, label: Array | None = None, *, train: bool = False
    ) -> Array:
        """Predict from ``x [batch, h, w, c]``, the noise ``level [batch]`` and ``label [batch]``.

        Returns ``[batch, h, w, predictions · c]``.
        """
        check_divides(x.shape[1:3], len(self.multipliers))
        embedding = Conditioning(4 * self.channels, self.level_scale, self.num_classes)(
            level, label
        )

        def block(h: Array, depth: int) -> Array:
            width = self.channels * self.multipliers[depth]
            h = ResBlock(width, self.dropout)(h, embedding, train=train)
            return SelfAttention(self.head_dim)(h) if depth in self.attention_levels else h

        deepest = len(self.multipliers) - 1
        h = nn.Conv(self.channels, (3, 3))(x)
        skips = [h]
        for depth in range(deepest + 1):
            for _ in range(self.blocks_per_level):
                h = block(h, depth)
                skips.append(h)
            if depth < deepest:
                h = nn.Conv(h.shape[-1], (3, 3), strides=2)(h)
                skips.append(h)

        width = h.shape[-1]
        h = ResBlock(width, self.dropout)(h, embedding, train=train)
        if self.attention_levels:
            h = SelfAttention(self.head_dim)(h)
        h = ResBlock(width, self.dropout)(h, embedding, train=train)

        for depth in reversed(range(deepest + 1)):
            for _ in range(self.blocks_per_level + 1):
                h = block(jnp.concatenate([h, skips.pop()], axis=-1), depth)
            if depth > 0:
                h = nn.Conv(h.shape[-1], (3, 3))(_double(h))

        width = self.predictions * x.shape[-1]
        out = nn.Conv(width, (3, 3), kernel_init=nn.initializers.zeros)(GroupNorm()(h))
        return out.astype(jnp.float32)


def check_counts(**counts: int | tuple[int, ...]) -> None:
    """Refuse sizes of a network that are not whole numbers above 0, or lists of none.

    Raises:
        InputError: naming the size and what it got.
    """
    for name, count in counts.items():
        numbers = count if isinstance(count, tuple) else (count,)
        if not numbers or not all(isinstance(n, int) and n > 0 for n in numbers):
            raise InputError(f"{name} takes whole numbers above 0, got {count!r}")


def check_divides(size: tuple[int, ...], num_levels: int) -> None:
    """Refuse an image that cannot be halved at every level but the first.

    Raises:
        InputError: naming the size and what would do.
    """
    factor = 2 ** (num_levels - 1)
    if any(side % factor for side in size):
        raise InputError(
            f"a U-Net of {num_levels} levels takes images whose sides divide by {factor}, "
            f"got {' x '.join(map(str, size))}"
        )


def _double(x: Array) -> Array:
    """Double height and width by nearest neighbour."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
