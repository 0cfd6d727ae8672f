"""Conversion of U-Nets to Hugging Face's UNet2DModel: its configuration and its tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from flax import traverse_util

from jaxdiff.nets.convert.diffusers import DOWN, LAYERS, UP, part_name
from jaxdiff.nets.convert.gather import shapes_of
from jaxdiff.nets.norm import num_groups
from jaxdiff.nets.resampling import BOX
from jaxdiff.nets.unet import UNet
from jaxdiff.typing import InputError, Params

EXPRESSED: dict[str, tuple[Any, ...]] = {
    "attention_up": ("each",),
    "filter": (BOX,),
    "project": (False,),
    "skip_scale": (1.0,),
    "progressive_input": ("none",),
    "progressive_output": ("none",),
    "embedding": ("sinusoidal",),
    "activation": ("silu",),
}
"""Values of our fields that a UNet2DModel supports."""


def diffusers_config(net: Any, shape: Sequence[int]) -> dict[str, Any]:
    """Settings of the UNet2DModel that computes what one of our networks does.

    Args:
        net: our network; its ``noise_cond_scale`` is not represented, diffusers' is 1.
        shape: of an image, ``(height, width, colours)``.

    Returns:
        The contents of its ``config.json``.

    Raises:
        InputError: naming what no UNet2DModel supports.
    """
    if not isinstance(net, UNet) or len(shape) != 3:
        raise InputError(
            "a UNet2DModel must be written from a UNet of images, got "
            f"{type(net).__name__} for shape {tuple(shape)}"
        )
    for name, known in EXPRESSED.items():
        if getattr(net, name) not in known:
            raise InputError(
                f"{name} of a UNet2DModel must be {' or '.join(map(repr, known))}, got "
                f"{getattr(net, name)!r}"
            )
    widths = [net.channels * multiplier for multiplier in net.multipliers]
    attends = [depth in net.attention_levels for depth in range(len(widths))]
    groups, plain = _groups(net, shape[-1]), net.modulation == "shift"
    if plain and not net.middle_norm:
        raise InputError(
            "modulation of a UNet2DModel without middle_norm must be 'scale_shift', got 'shift'"
        )
    block = net.resampling == "block"
    kinds = zip(DOWN, UP, strict=True)  # those that resample by convolutions come first
    down, up = list(kinds)[block]
    return {
        "_class_name": "UNet2DModel",
        "sample_size": shape[0] if shape[0] == shape[1] else list(shape[:2]),
        "in_channels": shape[-1],
        "out_channels": net.num_outputs * shape[-1],
        "center_input_sample": net.recenter,
        "time_embedding_type": "positional",
        "freq_shift": int(net.frequency_endpoint),
        "flip_sin_to_cos": False,
        "block_out_channels": widths,
        "down_block_types": ["AttnDownBlock2D" if attend else down for attend in attends],
        "up_block_types": ["AttnUpBlock2D" if attend else up for attend in reversed(attends)],
        "mid_block_type": "UNetMidBlock2D",
        "mid_block_scale_factor": 1,
        "layers_per_block": net.blocks_per_level,
        "downsample_padding": 1 if net.padding == "both" else 0,
        "downsample_type": "resnet" if block else "conv",
        "upsample_type": "resnet" if block else "conv",
        "dropout": net.dropout,
        "act_fn": "silu",
        "attention_head_dim": _head_dim(net, widths, attends),
        "norm_num_groups": groups,
        "attn_norm_num_groups": None if plain or not net.middle_norm else groups,
        "norm_eps": net.epsilon,
        "resnet_time_scale_shift": "default" if plain else "scale_shift",
        "add_attention": net.middle_attends,
        "num_class_embeds": net.num_classes,
    }


def to_diffusers(net: Any, variables: Params) -> dict[str, np.ndarray]:
    """The tensors of the UNet2DModel, by name; what ``from_diffusers`` reads.

    Args:
        net: a network that :func:`diffusers_config` accepts.
        variables: as for ``net.apply``.

    Returns:
        Its state dict, as numpy arrays.
    """
    last, state = len(net.multipliers) - 1, {}
    for path, leaf in traverse_util.flatten_dict(variables["params"]).items():
        part, *layers, kind = path
        layer = "/".join(layers)
        if (part, layer) == ("embedding", "label"):
            modules = ["class_embedding"]
        else:
            module = part_name(part, last)
            modules = [f"{module}.{name}" for name in LAYERS[layer][0]] if layer else [module]
        pieces = np.split(np.asarray(leaf, np.float32), len(modules), axis=-1)
        for name, piece in zip(modules, pieces, strict=True):
            if kind == "kernel":
                piece = np.moveaxis(piece, (-1, -2), (0, 1))
            if layer == "skip":  # a dense layer here, a convolution of one pixel there
                piece = piece[:, :, None, None] if kind == "kernel" else piece
            state[f"{name}.{'bias' if kind == 'bias' else 'weight'}"] = np.ascontiguousarray(piece)
    return state


def _groups(net: UNet, colours: int) -> int:
    """The number of groups, the same in all norms."""
    shapes = traverse_util.flatten_dict(shapes_of(net, colours)["params"])
    sizes = {leaf.shape[-1] for path, leaf in shapes.items() if path[-1] == "scale"}
    groups = {net.groups or num_groups(size) for size in sizes}
    if len(groups) > 1:
        raise InputError(
            f"all norms of a UNet2DModel must have the same number of groups, got "
            f"{sorted(groups)}; set groups of the network"
        )
    return groups.pop()


def _head_dim(net: UNet, widths: list[int], attends: list[bool]) -> int | None:
    """Channels of a head, the same at every level, or None for one head."""
    attending = {width for width, attend in zip(widths, attends, strict=True) if attend}
    attending |= {widths[-1]} if net.middle_attends else set()
    head = net.head_dim
    if head is None or all(width <= head for width in attending):
        return None
    if any(width % head for width in attending):
        raise InputError(
            f"head_dim of a UNet2DModel must divide the widths {sorted(attending)}, got {head}"
        )
    return head
