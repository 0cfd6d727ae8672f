"""Hugging Face's UNet2DModel: the network that its configuration describes, and its tensors."""

import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdiff.nets.architectures import DDPM
from jaxdiff.nets.convert.gather import Layers, gather, shapes_of
from jaxdiff.nets.convert.tensors import finite_float32
from jaxdiff.nets.unet import UNet
from jaxdiff.nets.unet_checks import Resampling
from jaxdiff.typing import InputError, Params

DEFAULTS: Mapping[str, Any] = {
    "act_fn": "silu",
    "add_attention": True,
    "attention_head_dim": 8,
    "attn_norm_num_groups": None,
    "center_input_sample": False,
    "class_embed_type": None,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "dropout": 0.0,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2D",
    "norm_eps": 1e-5,
    "norm_num_groups": 32,
    "num_class_embeds": None,
    "resnet_time_scale_shift": "default",
    "time_embedding_dim": None,
    "time_embedding_type": "positional",
    "upsample_type": "conv",
}
"""Values of the settings that a configuration omits."""

NEEDED = ("block_out_channels", "down_block_types", "up_block_types", "layers_per_block",
          "in_channels", "out_channels")  # fmt: skip
"""Settings without which there is no network."""

DOWN = {"DownBlock2D": "conv", "ResnetDownsampleBlock2D": "resnet"}
UP = {"UpBlock2D": "conv", "ResnetUpsampleBlock2D": "resnet"}
"""Blocks without attention, and how each of them resamples."""

FOURIER_SCALE = 16.0

LAYERS = {
    "norm_0": [["norm1"]],
    "norm_1": [["norm2"]],
    "conv_0": [["conv1"]],
    "conv_1": [["conv2"]],
    "modulation": [["time_emb_proj"]],
    "skip": [["conv_shortcut"]],
    "conv": [["conv"]],
    "norm": [["group_norm"]],
    "qkv": [["to_q", "to_k", "to_v"], ["query", "key", "value"]],  # the latter until 2022
    "out": [["to_out.0"], ["proj_attn"]],
    "dense_0": [["linear_1"]],
    "dense_1": [["linear_2"]],
}
"""Layers within a part of jaxdiff's U-Net, and their possible names in diffusers."""


def diffusers_network(config: Mapping[str, Any]) -> UNet:
    """The network that the ``config.json`` of a UNet2DModel describes.

    Args:
        config: its contents.

    Returns:
        The network. Its ``noise_cond`` is the index of the step, 0 to 999, or log σ under Fourier
        features; it then returns what diffusers' does before a division by σ.

    Raises:
        InputError: if it describes an unsupported network.
    """
    missing = [name for name in NEEDED if name not in config]
    if missing:
        raise InputError(f"the config of the UNet2DModel lacks {', '.join(missing)}")
    settings = {**DEFAULTS, **config}
    widths, count = settings["block_out_channels"], settings["layers_per_block"]
    for name, *known in (
        ("act_fn", "silu", "swish"),
        ("attn_norm_num_groups", None, settings["norm_num_groups"]),
        ("class_embed_type", None),
        ("downsample_padding", 0, 1),
        ("downsample_type", "conv", "resnet"),
        ("freq_shift", 0, 1),
        ("mid_block_scale_factor", 1),
        ("mid_block_type", "UNetMidBlock2D"),
        ("resnet_time_scale_shift", "default", "scale_shift"),
        ("time_embedding_dim", None, 4 * widths[0]),
        ("time_embedding_type", "positional", "fourier"),
        ("upsample_type", "conv", "resnet"),
    ):
        _check(name, settings[name], known)
    attends, resampling = _blocks(settings)
    if settings["out_channels"] not in (settings["in_channels"], 2 * settings["in_channels"]):
        raise InputError(
            f"out_channels must be in_channels or twice that, got {settings['out_channels']} for "
            f"in_channels {settings['in_channels']}"
        )
    if any(width % widths[0] for width in widths):
        raise InputError(f"block_out_channels must be multiples of the first, got {widths}")
    levels = tuple(depth for depth, attend in enumerate(attends) if attend)
    head = settings["attention_head_dim"]
    if head is not None and any(widths[depth] % head for depth in levels):
        raise InputError(f"attention_head_dim must be a divisor of the widths {widths}, got {head}")
    shifts, fourier = settings["resnet_time_scale_shift"] == "default", _fourier(settings)
    return DDPM(
        channels=widths[0],
        multipliers=tuple(width // widths[0] for width in widths),
        blocks_per_level=count,
        attention_levels=levels,
        middle_attention=None
        if settings["add_attention"] == bool(levels)
        else settings["add_attention"],
        # a quirk of diffusers: with scale_shift the middle has a norm only where this is set
        middle_norm=shifts or settings["attn_norm_num_groups"] is not None,
        head_dim=head,
        modulation="shift" if shifts else "scale_shift",
        resampling=resampling,
        padding="both" if resampling == "conv" and settings["downsample_padding"] else "end",
        embedding="fourier" if fourier else "sinusoidal",
        frequency_endpoint=fourier or settings["freq_shift"] == 1,
        num_classes=settings["num_class_embeds"],
        num_outputs=settings["out_channels"] // settings["in_channels"],
        recenter=settings["center_input_sample"],
        groups=settings["norm_num_groups"],
        epsilon=settings["norm_eps"],
        dropout=settings["dropout"],
        noise_cond_scale=FOURIER_SCALE if fourier else 1.0,
    )


def _fourier(settings: Mapping[str, Any]) -> bool:
    return bool(settings["time_embedding_type"] == "fourier")


def _blocks(settings: Mapping[str, Any]) -> tuple[list[bool], Resampling]:
    """Which levels attend, and how all blocks resample, "conv" or "block"."""
    down, up = list(settings["down_block_types"]), list(settings["up_block_types"])
    attends = [kind == "AttnDownBlock2D" for kind in down]
    same = [kind == "AttnUpBlock2D" for kind in up] == attends[::-1]
    known = all(kind in (*DOWN, "AttnDownBlock2D") for kind in down) and all(
        kind in (*UP, "AttnUpBlock2D") for kind in up
    )
    if not known or not same or len(down) != len(settings["block_out_channels"]):
        raise InputError(
            f"down_block_types must be {', '.join(DOWN)} or AttnDownBlock2D, one for each of "
            f"block_out_channels, and up_block_types their mirror images, got {down}, {up} and "
            f"block_out_channels {settings['block_out_channels']}"
        )
    # the deepest level has no downsampler, the last level on the way up no upsampler
    ways = [DOWN.get(kind, settings["downsample_type"]) for kind in down[:-1]]
    ways += [UP.get(kind, settings["upsample_type"]) for kind in up[:-1]]
    if len(set(ways)) > 1:
        raise InputError(
            "all blocks of a UNet2DModel must resample in the same way, got "
            f"{down} with {settings['downsample_type']} and {up} with {settings['upsample_type']}"
        )
    return attends, "block" if "resnet" in ways else "conv"


def from_diffusers(
    state: Mapping[str, np.ndarray], net: UNet, *, cosines_first: bool = False
) -> Params:
    """Variables of a network from the tensors of a UNet2DModel.

    Args:
        state: its state dict, as numpy arrays.
        net: the network it belongs to, as :func:`diffusers_network` builds it.
        cosines_first: whether its embedding of the step begins with cosines
            (``flip_sin_to_cos``); jaxdiff's begins with sines, and the rows of its first layer are
            reordered.

    Returns:
        Variables for ``net.apply``.

    Raises:
        InputError: if a tensor is missing, left over or of another shape.
    """
    last = len(net.multipliers) - 1
    fourier = net.embedding == "fourier"

    def layers_of(part: str, layer: str) -> Layers:
        if (part, layer) == ("embedding", "label"):
            return [["class_embedding"]]
        module = part_name(part, last)
        if not layer:
            return [[module]]
        return [[f"{module}.{name}" for name in names] for names in LAYERS[layer]]

    if "conv_in.weight" not in state:
        raise InputError(f"a UNet2DModel must hold conv_in.weight, got {sorted(state)[:5]}")
    colours = np.shape(state["conv_in.weight"])[1]
    params = gather(
        shapes_of(net, colours),
        state,
        layers_of,
        ignored=lambda name: fourier and name in ("time_proj.weight", "time_proj.W"),
    )
    if fourier:
        name = "time_proj.weight"
        if name not in state or np.shape(state[name]) != (net.channels,):
            raise InputError(
                f"a UNet2DModel with Fourier features must hold {net.channels} of them in {name}, "
                f"got {'shape ' + str(np.shape(state[name])) if name in state else 'none'}"
            )
        frequencies = jnp.asarray(finite_float32(name, state[name]))
        constants = {"embedding": {"fourier": {"frequencies": frequencies}}}
        return {"params": params, "constants": constants}
    if cosines_first:
        first = params["embedding"]["dense_0"]
        first["kernel"] = jnp.roll(first["kernel"], net.channels // 2, axis=0)
    return {"params": params}


def part_name(part: str, last: int) -> str:
    """Name of one of our parts in diffusers, which counts upward levels from the deepest.

    Raises:
        InputError: if a UNet2DModel has no such part.
    """
    whole = {
        "embedding": "time_embedding",
        "conv_in": "conv_in",
        "middle_attention": "mid_block.attentions.0",
        "out_0_norm": "conv_norm_out",
        "out_0_conv": "conv_out",
    }
    if part in whole:
        return whole[part]
    if match := re.fullmatch(r"middle_block_(\d)", part):
        return f"mid_block.resnets.{match[1]}"
    match = re.fullmatch(r"(down|up)_(\d+)_(block|attention|resample)_?(\d*)", part)
    if match is None:
        raise InputError(f"a UNet2DModel has no {part}")
    way, depth, kind, index = match.groups()
    level = int(depth) if way == "down" else last - int(depth)
    names = {"block": "resnets", "attention": "attentions", "resample": f"{way}samplers"}
    return f"{way}_blocks.{level}.{names[kind]}.{index or 0}"


def _check(name: str, value: Any, known: list[Any]) -> None:
    if value not in known:
        raise InputError(
            f"{name} of the UNet2DModel must be {' or '.join(map(repr, known))}, got {value!r}"
        )
