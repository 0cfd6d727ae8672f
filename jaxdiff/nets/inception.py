"""L6: Inception-v3 as the FID uses it: TensorFlow's network of 2015-12-05, for inference.

A convolution, its batch normalisation and a ReLU are one layer,

    y = max(0, W∗x + b),    W = w γ/√(s² + ε),    b = β − μ γ/√(s² + ε),    ε = 0.001,

since at inference the normalisation is affine; ``nets.convert.load_inception`` computes W and b.
Names of blocks and layers are torchvision's. From its Inception-v3 this network differs in three
ways, all of which move the FID: an average is over the pixels that exist, not over the padding;
``Mixed_7c`` pools by the maximum; and there are 1008 classes.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff.typing import Array, InputError

EPSILON = 1e-3
"""ε of every batch normalisation."""
NUM_CLASSES = 1008
MIN_SIDE = 75
"""Smallest image, in pixels a side, of which a pixel is left at the end."""
SPATIAL_CHANNELS = 7
"""Channels of ``Mixed_6d`` that the sFID compares: 7 · 17 · 17 = 2023 features, about as many as
the pool has."""


class Layer(NamedTuple):
    """A convolution and a ReLU: name, channels of the output, size of the kernel, stride."""

    name: str
    features: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: Literal["SAME", "VALID"] = "SAME"


Pool = Literal["average", "max", "halve"]
POOLS: Mapping[Pool, Callable[[Array], Array]] = {
    "average": lambda x: nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False),
    "max": lambda x: nn.max_pool(x, (3, 3), padding="SAME"),
    "halve": lambda x: nn.max_pool(x, (3, 3), strides=(2, 2)),
}
"""Pooling over 3 × 3 pixels: of the same size, or the maximum at every second pixel."""


class Branch(NamedTuple):
    """Perhaps a pool, then layers one after another, the last of which may be two side by side."""

    layers: tuple[Layer, ...] = ()
    fork: tuple[Layer, ...] = ()
    pool: Pool | None = None


Branches = tuple[Branch, ...]
LONG, TALL = (1, 7), (7, 1)


def _mixed_5(pooled: int) -> Branches:
    wide = Layer("branch5x5_1", 48), Layer("branch5x5_2", 64, (5, 5))
    double = (
        Layer("branch3x3dbl_1", 64),
        Layer("branch3x3dbl_2", 96, (3, 3)),
        Layer("branch3x3dbl_3", 96, (3, 3)),
    )
    pool = Branch((Layer("branch_pool", pooled),), pool="average")
    return Branch((Layer("branch1x1", 64),)), Branch(wide), Branch(double), pool


def _mixed_6a() -> Branches:
    double = (
        Layer("branch3x3dbl_1", 64),
        Layer("branch3x3dbl_2", 96, (3, 3)),
        Layer("branch3x3dbl_3", 96, (3, 3), 2, "VALID"),
    )
    halved = Layer("branch3x3", 384, (3, 3), 2, "VALID")
    return Branch((halved,)), Branch(double), Branch(pool="halve")


def _mixed_6(c: int) -> Branches:
    single = (
        Layer("branch7x7_1", c),
        Layer("branch7x7_2", c, LONG),
        Layer("branch7x7_3", 192, TALL),
    )
    double = (
        Layer("branch7x7dbl_1", c),
        Layer("branch7x7dbl_2", c, TALL),
        Layer("branch7x7dbl_3", c, LONG),
        Layer("branch7x7dbl_4", c, TALL),
        Layer("branch7x7dbl_5", 192, LONG),
    )
    pool = Branch((Layer("branch_pool", 192),), pool="average")
    return Branch((Layer("branch1x1", 192),)), Branch(single), Branch(double), pool


def _mixed_7a() -> Branches:
    small = Layer("branch3x3_1", 192), Layer("branch3x3_2", 320, (3, 3), 2, "VALID")
    large = (
        Layer("branch7x7x3_1", 192),
        Layer("branch7x7x3_2", 192, LONG),
        Layer("branch7x7x3_3", 192, TALL),
        Layer("branch7x7x3_4", 192, (3, 3), 2, "VALID"),
    )
    return Branch(small), Branch(large), Branch(pool="halve")


def _mixed_7(pool: Pool) -> Branches:
    def fork(name: str) -> tuple[Layer, ...]:
        return Layer(f"{name}a", 384, (1, 3)), Layer(f"{name}b", 384, (3, 1))

    double = Layer("branch3x3dbl_1", 448), Layer("branch3x3dbl_2", 384, (3, 3))
    return (
        Branch((Layer("branch1x1", 320),)),
        Branch((Layer("branch3x3_1", 384),), fork("branch3x3_2")),
        Branch(double, fork("branch3x3dbl_3")),
        Branch((Layer("branch_pool", 192),), pool=pool),
    )


STEM: Branches = (
    Branch(
        (
            Layer("Conv2d_1a_3x3", 32, (3, 3), 2, "VALID"),
            Layer("Conv2d_2a_3x3", 32, (3, 3), 1, "VALID"),
            Layer("Conv2d_2b_3x3", 64, (3, 3)),
        )
    ),
    Branch(
        (Layer("Conv2d_3b_1x1", 80), Layer("Conv2d_4a_3x3", 192, (3, 3), 1, "VALID")), pool="halve"
    ),
    Branch(pool="halve"),
)
"""What comes before the blocks, one after another."""
MIXED: Mapping[str, Branches] = {
    "Mixed_5b": _mixed_5(32),
    "Mixed_5c": _mixed_5(64),
    "Mixed_5d": _mixed_5(64),
    "Mixed_6a": _mixed_6a(),
    "Mixed_6b": _mixed_6(128),
    "Mixed_6c": _mixed_6(160),
    "Mixed_6d": _mixed_6(160),
    "Mixed_6e": _mixed_6(192),
    "Mixed_7a": _mixed_7a(),
    "Mixed_7b": _mixed_7("average"),
    "Mixed_7c": _mixed_7("max"),
}
"""The blocks, in order, as branches whose outputs are concatenated."""


class Activations(NamedTuple):
    """What is compared of a batch of images."""

    pool: Array
    """``[n, 2048]``, the mean over the last pixels: FID, KID, precision and recall."""
    spatial: Array
    """``[n, 17, 17, 7]`` for images of 299 pixels a side: sFID (Nash et al. 2021)."""
    logits: Array
    """``[n, 1008]``, without the bias of the last layer: Inception Score, as published."""


class Mixed(nn.Module):
    """A block: its branches side by side, concatenated along the channels."""

    branches: Branches

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map ``[n, h, w, c]`` to ``[n, h', w', c']``."""
        return jnp.concatenate([y for branch in self.branches for y in _outputs(branch, x)], -1)


class Inception(nn.Module):
    """Inception-v3 of the FID, of images scaled to about [−1, 1].

    Products are of full float32: the bfloat16 of a TPU, or the TF32 of a GPU, would move the FID.

    Example:
        >>> from jaxdiff.nets.variables import init_shapes
        >>> shapes = init_shapes(Inception(), jnp.zeros((1, 75, 75, 3)))["params"]
        >>> shapes["Mixed_7c"]["branch_pool"]["kernel"].shape
        (1, 1, 2048, 192)

    Reference: Szegedy et al. 2016, Rethinking the Inception architecture; Heusel et al. 2017.
    """

    @nn.compact
    def __call__(self, x: Array) -> Activations:
        """Map ``[n, h, w, 3]``, at least 75 pixels a side, to :class:`Activations`."""
        if x.ndim != 4 or x.shape[-1] != 3 or min(x.shape[1:3]) < MIN_SIDE:
            raise InputError(
                f"x must be images [n, h, w, 3], at least {MIN_SIDE} pixels a side, "
                f"got shape {x.shape}"
            )
        for branch in STEM:
            (x,) = _outputs(branch, x)
        for name, branches in MIXED.items():
            x = Mixed(branches, name=name)(x)
            if name == "Mixed_6d":
                spatial = x[..., :SPATIAL_CHANNELS]
        pool = x.mean(axis=(1, 2))
        highest = jax.lax.Precision.HIGHEST
        last = nn.Dense(NUM_CLASSES, use_bias=False, precision=highest, name="fc")
        return Activations(pool, spatial, last(pool))


def _layer(layer: Layer, x: Array) -> Array:
    convolve = nn.Conv(
        layer.features,
        layer.kernel,
        strides=layer.stride,
        padding=layer.padding,
        precision=jax.lax.Precision.HIGHEST,
        name=layer.name,
    )
    return nn.relu(convolve(x))


def _outputs(branch: Branch, x: Array) -> tuple[Array, ...]:
    """The output of a branch, or both of one that forks."""
    if branch.pool is not None:
        x = POOLS[branch.pool](x)
    for layer in branch.layers:
        x = _layer(layer, x)
    return tuple(_layer(layer, x) for layer in branch.fork) or (x,)
