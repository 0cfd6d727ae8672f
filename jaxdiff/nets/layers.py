"""Convolutions and dense layers with the initialisation of all networks: Glorot uniform, or zero.

Parameters are float32 whatever dtype a layer computes in.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import flax.linen as nn

from jaxdiff.typing import Array, InputError

glorot = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")
"""U(−√(6/(n_in + n_out)), +√(6/(n_in + n_out))), as in Ho et al. 2020; score_sde and EDM use it
too, except for the projections of attention, which they initialise a few times smaller."""
zeros = nn.initializers.zeros
"""For the last layer of a block, which is then the identity at initialisation."""

Dense = functools.partial(nn.Dense, kernel_init=glorot)

DType = Literal["float32", "bfloat16"]
"""Types that a network computes in; its parameters, norms and output are float32."""

Activation = Literal["silu", "elu", "relu", "leaky_relu"]
ACTIVATIONS: Mapping[Activation, Callable[[Array], Array]] = {
    "silu": nn.silu,
    "elu": nn.elu,
    "relu": nn.relu,
    "leaky_relu": functools.partial(nn.leaky_relu, negative_slope=0.2),
}
"""Nonlinearities of a U-Net, by name; the slope is score_sde's."""


def projections(features: int, *, dtype: DType, name: str) -> nn.Dense:
    """Queries, keys and values by one dense layer, each initialised like a layer of its own."""
    init = nn.initializers.variance_scaling(2.0, "fan_avg", "uniform")  # outputs are 3, not 1
    return nn.Dense(3 * features, kernel_init=init, dtype=dtype, name=name)


def convolution(
    features: int,
    ndim: int,
    *,
    strides: int = 1,
    padding: str | int = "SAME",
    zero: bool = False,
    dtype: DType,
    name: str,
) -> nn.Conv:
    """A convolution three pixels wide, over one, two or three axes; half the size at stride 2.

    Args:
        features: channels of the output.
        ndim: axes of the image, not counting batch and channels.
        strides: 1 or 2.
        padding: "SAME" (at stride 2, one pixel at the end, as in TensorFlow), "VALID", or a number
            of pixels at both ends.
        zero: whether the kernel is initialised to zero.
        dtype: of the computation.
        name: of its parameters.
    """
    return nn.Conv(
        features,
        (3,) * ndim,
        strides=strides,
        padding=padding,
        kernel_init=zeros if zero else glorot,
        dtype=dtype,
        name=name,
    )


def check_counts(**counts: int) -> None:
    """Refuse sizes of a network that are not positive integers.

    Raises:
        InputError: naming the size and what it got.
    """
    for name, count in counts.items():
        if not _is_count(count):
            raise InputError(f"{name} must be a positive integer, got {count!r}")


def check_optional_counts(**counts: int | None) -> None:
    """Refuse what is neither None nor a positive integer.

    Raises:
        InputError: naming the size and what it got.
    """
    for name, count in counts.items():
        if count is not None and not _is_count(count):
            raise InputError(f"{name} must be a positive integer, or None, got {count!r}")


def check_count_list(**lists: Sequence[int]) -> None:
    """Refuse what is not a list of positive integers, or is empty.

    Raises:
        InputError: naming the list and what it got.
    """
    for name, counts in lists.items():
        if not isinstance(counts, Sequence) or not counts or not all(map(_is_count, counts)):
            raise InputError(f"{name} must be a list of positive integers, got {counts!r}")


def _is_count(count: Any) -> bool:
    return isinstance(count, int) and not isinstance(count, bool) and count > 0
