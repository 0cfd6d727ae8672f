"""Checks of a U-Net's options and inputs, before anything is computed."""

from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Literal

from jaxdiff.checks import check_one_of
from jaxdiff.nets.blocks import Modulation, Padding
from jaxdiff.nets.embeddings import OptionalEmbedding
from jaxdiff.nets.layers import (
    Activation,
    DType,
    check_count_list,
    check_counts,
    check_optional_counts,
)
from jaxdiff.nets.resampling import BOX, check_weights
from jaxdiff.typing import Array, InputError

if TYPE_CHECKING:
    from jaxdiff.nets.unet import UNet

AttentionUp = Literal["each", "last"]
Resampling = Literal["conv", "block"]
ProgressiveInput = Literal["none", "residual", "sum", "cat"]
ProgressiveOutput = Literal["none", "skip", "residual"]


def check_options(net: "UNet") -> None:
    """Refuse fields that are out of range, or inconsistent with each other.

    Raises:
        InputError: naming the field, what it must be and what it got.
    """
    check_count_list(multipliers=net.multipliers)
    levels = range(len(net.multipliers))
    check_counts(
        channels=net.channels,
        blocks_per_level=net.blocks_per_level,
        num_outputs=net.num_outputs,
    )
    check_optional_counts(head_dim=net.head_dim, groups=net.groups, num_classes=net.num_classes)
    check_one_of(
        attention_up=(net.attention_up, AttentionUp),
        modulation=(net.modulation, Modulation),
        resampling=(net.resampling, Resampling),
        padding=(net.padding, Padding),
        progressive_input=(net.progressive_input, ProgressiveInput),
        progressive_output=(net.progressive_output, ProgressiveOutput),
        embedding=(net.embedding, OptionalEmbedding),
        activation=(net.activation, Activation),
        dtype=(net.dtype, DType),
    )
    check_weights(net.filter)
    if net.resampling == "conv" and net.project:
        raise InputError('project must be False where resampling is "conv", got True')
    if net.padding == "both" and (net.resampling != "conv" or tuple(net.filter) != BOX):
        raise InputError(
            'padding must be "end" unless resampling is "conv" without a filter, got "both" with '
            f"resampling={net.resampling!r}, filter={tuple(net.filter)}"
        )
    if net.groups is not None and net.channels % net.groups:
        raise InputError(
            f"groups must be a divisor of channels, got {net.groups} for {net.channels}"
        )
    for name, number in (("epsilon", net.epsilon), ("skip_scale", net.skip_scale)):
        if not (isinstance(number, Real) and number > 0):
            raise InputError(f"{name} must be a positive number, got {number!r}")
    depths = net.attention_levels
    if not isinstance(depths, Sequence) or not all(depth in levels for depth in depths):
        raise InputError(
            f"attention_levels must be levels from 0 to {len(levels) - 1}, got {depths!r}"
        )
    if not (isinstance(net.dropout, Real) and 0 <= net.dropout < 1):
        raise InputError(f"dropout must be a number in [0, 1), got {net.dropout!r}")


def check_image(x: Array, num_levels: int) -> None:
    """Refuse what has no axes to convolve over, or too many, or cannot be halved at every level.

    Raises:
        InputError: naming the shape and the constraint.
    """
    if not 3 <= x.ndim <= 5:
        raise InputError(
            "the input of a U-Net must be [batch, ..., channels] with one, two or three axes "
            f"between, got shape {x.shape}"
        )
    check_divides(x.shape[1:-1], num_levels)


def check_divides(size: tuple[int, ...], num_levels: int) -> None:
    """Refuse an image that cannot be halved at every level but the first.

    Raises:
        InputError: naming the size and the constraint.
    """
    factor = 2 ** (num_levels - 1)
    if any(side % factor for side in size):
        raise InputError(
            f"a U-Net of {num_levels} levels requires images whose sides are multiples of "
            f"{factor}, got {' x '.join(map(str, size))}"
        )
