"""A residual multilayer perceptron, for vectors."""

import math

import flax.linen as nn
import jax.numpy as jnp

from jaxdiff.checks import check_one_of
from jaxdiff.nets.embeddings import TIME_SCALE, Conditioning, Embedding
from jaxdiff.nets.layers import check_counts, check_optional_counts
from jaxdiff.typing import Array


class MLP(nn.Module):
    """Residual blocks whose hidden layer is modulated by the noise level.

    Args:
        width: of every hidden layer.
        depth: number of residual blocks.
        num_classes: number of classes, or None.
        noise_cond_scale: what the embedding multiplies the noise level by.
        num_outputs: per entry of the last axis; 2 where the reverse variance is learned too.
        embedding: of the noise level, "sinusoidal" or "fourier".

    Example:
        >>> import jax
        >>> net = MLP(width=16, depth=1)
        >>> x, noise_cond = jnp.ones((3, 2)), jnp.ones(3)
        >>> params = jax.jit(net.init)(jax.random.key(0), x, noise_cond)
        >>> jax.jit(net.apply)(params, x, noise_cond).shape
        (3, 2)
    """

    width: int = 128
    depth: int = 3
    num_classes: int | None = None
    noise_cond_scale: float = TIME_SCALE
    num_outputs: int = 1
    embedding: Embedding = "sinusoidal"

    def __post_init__(self) -> None:
        check_counts(width=self.width, depth=self.depth, num_outputs=self.num_outputs)
        check_optional_counts(num_classes=self.num_classes)
        check_one_of(embedding=(self.embedding, Embedding))
        super().__post_init__()

    @nn.compact
    def __call__(
        self, x: Array, noise_cond: Array, label: Array | None = None, *, train: bool = False
    ) -> Array:
        """Map ``x [batch, ..., c]``, ``noise_cond [batch]`` to ``[batch, ..., outputs · c]``."""
        embedding = Conditioning(
            self.width,
            self.noise_cond_scale,
            self.num_classes,
            self.embedding,
            waves=self.width // 2,
            name="embedding",
        )(noise_cond, label)
        flat = x.reshape(x.shape[0], math.prod(x.shape[1:]))
        h = nn.Dense(self.width)(flat)
        for _ in range(self.depth):
            scale, shift = jnp.split(nn.Dense(2 * self.width)(embedding), 2, axis=-1)
            r = nn.silu(nn.LayerNorm()(h) * (1 + scale) + shift)
            r = nn.silu(nn.Dense(self.width)(r))
            h += nn.Dense(self.width, kernel_init=nn.initializers.zeros)(r)
        size = self.num_outputs * flat.shape[-1]
        out = nn.Dense(size, kernel_init=nn.initializers.zeros)(nn.silu(h))
        shape = (*x.shape[:-1], self.num_outputs * x.shape[-1])
        return out.reshape(shape).astype(jnp.float32)
