"""The diffusion transformer: patches as tokens, modulated by noise level and class."""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.checks import check_one_of
from jaxdiff.nets.attention import attention
from jaxdiff.nets.embeddings import TIME_SCALE, Conditioning, Embedding, sinusoidal
from jaxdiff.nets.layers import (
    Dense,
    DType,
    check_counts,
    check_optional_counts,
    projections,
    zeros,
)
from jaxdiff.typing import Array, InputError


class DiTBlock(nn.Module):
    """Attention, then an MLP, each normalised, modulated, gated and added to its input.

    x ← x + g · f(LN(x)(1 + scale) + shift),    g, scale, shift from the embedding, initially 0

    Args:
        heads: of the attention, dividing the features.
        expansion: width of the MLP's hidden layer as a multiple of the features.
        dtype: of the computation.

    Reference: Peebles & Xie 2023, section 3.2 (adaLN-Zero).
    """

    heads: int
    expansion: int = 4
    dtype: DType = "float32"

    @nn.compact
    def __call__(self, x: Array, embedding: Array) -> Array:
        """Map ``x [batch, tokens, features]``, ``embedding [batch, e]`` to the shape of ``x``."""
        batch, tokens, features = x.shape
        dense = functools.partial(Dense, dtype=self.dtype)

        def modulated(x: Array, scale: Array, shift: Array) -> Array:
            return (layer_norm(x) * (1 + scale) + shift).astype(x.dtype)

        modulation = nn.Dense(6 * features, kernel_init=zeros, name="modulation")(embedding)
        shift_a, scale_a, gate_a, shift_b, scale_b, gate_b = jnp.split(
            modulation[:, None], 6, axis=-1
        )
        h = modulated(x, scale_a, shift_a)
        qkv = projections(features, dtype=self.dtype, name="qkv")(h).reshape(
            batch, tokens, 3, self.heads, -1
        )
        h = attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
        x += (gate_a * dense(features, name="out")(h.reshape(x.shape))).astype(x.dtype)
        h = modulated(x, scale_b, shift_b)
        h = nn.gelu(dense(self.expansion * features, name="mlp_0")(h), approximate=True)
        return x + (gate_b * dense(features, name="mlp_1")(h)).astype(x.dtype)


class DiT(nn.Module):
    """A transformer on patches of ``[batch, ..., channels]`` with one, two or three axes between.

    Args:
        features: width of a token; a multiple of ``heads``, and of twice the axes of the data.
        depth: number of blocks.
        heads: of the attention.
        patch: side of a patch; it divides the sides of the data.
        num_classes: number of classes, or None.
        embedding: of the noise level, "sinusoidal" or "fourier".
        noise_cond_scale: what the embedding multiplies the noise level by.
        num_outputs: per channel of the data; 2 where the reverse variance is learned too.
        dtype: of the computation, "float32" or "bfloat16"; parameters, norms, softmax and output
            are float32 in any case.
        remat: whether backpropagation recomputes each block instead of storing its activations.

    Raises:
        InputError: if an option is out of range; at call, if the patches do not cover the data.

    Example:
        >>> net = DiT(features=16, depth=2, heads=2)
        >>> x, noise_cond = jnp.ones((2, 8, 8, 1)), jnp.ones(2)
        >>> params = jax.jit(net.init)(jax.random.key(0), x, noise_cond)
        >>> jax.jit(net.apply)(params, x, noise_cond).shape
        (2, 8, 8, 1)

    Reference: Peebles & Xie 2023.
    """

    features: int = 384
    depth: int = 12
    heads: int = 6
    patch: int = 2
    num_classes: int | None = None
    embedding: Embedding = "sinusoidal"
    noise_cond_scale: float = TIME_SCALE
    num_outputs: int = 1
    dtype: DType = "float32"
    remat: bool = False

    def __post_init__(self) -> None:
        check_counts(
            features=self.features,
            depth=self.depth,
            heads=self.heads,
            patch=self.patch,
            num_outputs=self.num_outputs,
        )
        check_optional_counts(num_classes=self.num_classes)
        check_one_of(embedding=(self.embedding, Embedding), dtype=(self.dtype, DType))
        if self.features % self.heads:
            raise InputError(
                f"features must be a multiple of heads, got {self.features} for {self.heads} heads"
            )
        super().__post_init__()

    @nn.compact
    def __call__(
        self, x: Array, noise_cond: Array, label: Array | None = None, *, train: bool = False
    ) -> Array:
        """Predict from ``x [batch, ..., c]``, the ``noise_cond [batch]`` and ``label [batch]``.

        Returns ``[batch, ..., num_outputs · c]``, float32.
        """
        sides, colours = x.shape[1:-1], self.num_outputs * x.shape[-1]
        check_patches(sides, self.patch)
        embedding = Conditioning(
            self.features,
            self.noise_cond_scale,
            self.num_classes,
            self.embedding,
            waves=min(256, self.features),
            name="embedding",
        )(noise_cond, label)
        tokens = to_tokens(x.astype(self.dtype), self.patch)
        h = Dense(self.features, dtype=self.dtype, name="patches_in")(tokens)
        h += positions(tuple(side // self.patch for side in sides), self.features).astype(h.dtype)

        # All blocks share one compiled block; their parameters are stacked.
        block: Any = nn.remat(DiTBlock, prevent_cse=False) if self.remat else DiTBlock
        blocks = nn.scan(
            lambda module, carry, _: (module(carry, embedding), None),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=self.depth,
        )
        h, _ = blocks(block(self.heads, dtype=self.dtype, name="blocks"), h, None)

        shift, scale = jnp.split(
            nn.Dense(2 * self.features, kernel_init=zeros, name="modulation_out")(embedding)[
                :, None
            ],
            2,
            axis=-1,
        )
        h = layer_norm(h) * (1 + scale) + shift
        out = nn.Dense(colours * self.patch ** len(sides), kernel_init=zeros, name="patches_out")(h)
        return from_tokens(out, self.patch, sides)


def to_tokens(x: Array, patch: int) -> Array:
    """Cut into patches: ``[batch, ..., c] -> [batch, tokens, patch^n · c]``, axes in row order.

    Example:
        >>> to_tokens(jnp.arange(16.0).reshape(1, 4, 4, 1), 2)[0, 1]
        Array([2., 3., 6., 7.], dtype=float32)
    """
    sides, n = x.shape[1:-1], x.ndim - 2
    split = [part for side in sides for part in (side // patch, patch)]
    order = [0, *range(1, 2 * n + 1, 2), *range(2, 2 * n + 1, 2), 2 * n + 1]
    cut = x.reshape(x.shape[0], *split, x.shape[-1]).transpose(order)
    return cut.reshape(x.shape[0], math.prod(sides) // patch**n, patch**n * x.shape[-1])


def from_tokens(tokens: Array, patch: int, sides: tuple[int, ...]) -> Array:
    """Reassemble patches, the inverse of :func:`to_tokens` for data of these sides."""
    n = len(sides)
    grid = [side // patch for side in sides]
    cut = tokens.reshape(tokens.shape[0], *grid, *(patch,) * n, tokens.shape[-1] // patch**n)
    order = [0, *(axis for i in range(n) for axis in (1 + i, 1 + n + i)), 2 * n + 1]
    return cut.transpose(order).reshape(tokens.shape[0], *sides, tokens.shape[-1] // patch**n)


def positions(grid: tuple[int, ...], features: int) -> Array:
    """Fixed sines and cosines of each patch's position, an equal number of features per axis.

    Args:
        grid: patches along each axis.
        features: a multiple of twice the axes.

    Returns:
        ``[1, tokens, features]``.

    Raises:
        InputError: if the features cannot be divided equally among the axes.
    """
    share = features // len(grid)
    if features % (2 * len(grid)):
        raise InputError(
            f"features must be a multiple of {2 * len(grid)} for {len(grid)} axes, got {features}"
        )
    places = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), axis=-1)
    flat = jnp.asarray(places.reshape(-1, len(grid)), jnp.float32)
    waves = [sinusoidal(flat[:, axis], share, scale=1.0) for axis in range(len(grid))]
    return jnp.concatenate(waves, axis=-1)[None]


def check_patches(sides: tuple[int, ...], patch: int) -> None:
    """Refuse data that patches do not cover.

    Raises:
        InputError: naming the sides and the patch.
    """
    if not 1 <= len(sides) <= 3 or any(side % patch for side in sides):
        raise InputError(
            f"a DiT with patches of {patch} requires data of one to three axes whose sides are "
            f"multiples of {patch}, got {' x '.join(map(str, sides)) or 'vectors'}"
        )


def layer_norm(x: Array) -> Array:
    """Normalise to mean 0 and variance 1 over the features; computed and returned in float32."""
    wide = x.astype(jnp.float32)
    mean = jnp.mean(wide, axis=-1, keepdims=True)
    variance = jnp.mean((wide - mean) ** 2, axis=-1, keepdims=True)
    return (wide - mean) * jax.lax.rsqrt(variance + 1e-6)
