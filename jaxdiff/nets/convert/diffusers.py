"""Folders of Hugging Face's UNet2DModel, such as google/ddpm-cifar10-32."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff.nets.architectures import DDPM
from jaxdiff.nets.convert.gather import Layers, gather, shapes_of
from jaxdiff.nets.convert.tensors import read_tensors
from jaxdiff.nets.unet import UNet
from jaxdiff.typing import InputError, Params

CONFIG_FILE, WEIGHTS_FILE = "config.json", "diffusion_pytorch_model.safetensors"

FIXED = {
    "act_fn": "silu",
    "add_attention": True,
    "attn_norm_num_groups": None,
    "class_embed_type": None,
    "downsample_padding": 0,
    "downsample_type": "conv",
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2D",
    "num_class_embeds": None,
    "resnet_time_scale_shift": "default",
    "time_embedding_type": "positional",
    "upsample_type": "conv",
}
"""Settings that have one value here."""

OTHERWISE = {"downsample_padding": 1, "flip_sin_to_cos": True, "freq_shift": 0}
"""What diffusers takes a silent folder to say, where that is not the value here."""

NEEDED = ("block_out_channels", "down_block_types", "up_block_types", "layers_per_block",
          "in_channels", "out_channels")  # fmt: skip
"""Settings without which there is no network."""

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
"""Our layers within a part, and what each may be called there."""


def diffusers_network(config: Mapping[str, Any]) -> UNet:
    """The network that the ``config.json`` of a UNet2DModel describes.

    Args:
        config: its contents.

    Returns:
        The network, whose level is the index of the step, 0 to 999.

    Raises:
        InputError: if it describes what we have not.
    """
    missing = [name for name in NEEDED if name not in config]
    if missing:
        raise InputError(f"the config of a UNet2DModel says {', '.join(missing)}, this one not")
    for name, value in FIXED.items():
        said = config.get(name, OTHERWISE.get(name, value))
        if said != value:
            raise InputError(
                f"of diffusers' UNet2DModels ours are those whose {name} is {value!r}, got {said!r}"
            )
    widths, kinds = config["block_out_channels"], list(config["down_block_types"])
    attends = [kind == "AttnDownBlock2D" for kind in kinds]
    mirrored = ["AttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attends)]
    plain = all(kind in ("DownBlock2D", "AttnDownBlock2D") for kind in kinds)
    if not plain or list(config["up_block_types"]) != mirrored:
        raise InputError(
            "of diffusers' UNet2DModels ours are those of DownBlock2D, AttnDownBlock2D and their "
            f"mirror images, got {kinds} and {list(config['up_block_types'])}"
        )
    if not any(attends):
        raise InputError(f"of diffusers' UNet2DModels ours are those with attention, got {kinds}")
    if config["out_channels"] not in (config["in_channels"], 2 * config["in_channels"]):
        raise InputError(
            f"out_channels are once or twice the in_channels, got {config['out_channels']} and "
            f"{config['in_channels']}"
        )
    if any(width % widths[0] for width in widths):
        raise InputError(f"block_out_channels are multiples of the first, got {widths}")
    return DDPM(
        channels=widths[0],
        multipliers=tuple(width // widths[0] for width in widths),
        blocks_per_level=config["layers_per_block"],
        attention_levels=tuple(depth for depth, attend in enumerate(attends) if attend),
        head_dim=config.get("attention_head_dim", 8),
        predictions=config["out_channels"] // config["in_channels"],
        recenter=config.get("center_input_sample", False),
        groups=config.get("norm_num_groups", 32),
        epsilon=config.get("norm_eps", 1e-5),
        dropout=config.get("dropout", 0.0),
        level_scale=1.0,
    )


def from_diffusers(state: Mapping[str, np.ndarray], net: UNet) -> Params:
    """Variables of a network from the tensors of a UNet2DModel.

    Args:
        state: its state dict, as numpy arrays.
        net: the network it belongs to, as :func:`diffusers_network` builds it.

    Returns:
        Variables for ``net.apply``.

    Raises:
        InputError: if a tensor is missing, left over or of another shape.
    """
    last = len(net.multipliers) - 1

    def layers_of(part: str, layer: str) -> Layers:
        module = _module(part, last)
        if not layer:
            return [[module]]
        return [[f"{module}.{name}" for name in names] for names in LAYERS[layer]]

    if "conv_in.weight" not in state:
        raise InputError(f"a UNet2DModel holds conv_in.weight, got {sorted(state)[:5]}")
    colours = state["conv_in.weight"].shape[1]
    return {"params": gather(shapes_of(net, colours), state, layers_of, ignored=lambda name: False)}


def load_diffusers(folder: str | os.PathLike) -> tuple[UNet, Params]:
    """Read a folder with ``config.json`` and ``diffusion_pytorch_model.safetensors``.

    Args:
        folder: of the UNet2DModel, the ``unet`` folder of a pipeline.

    Returns:
        ``(network, variables)``.

    Raises:
        InputError: if a file is missing, or describes what we have not.
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} takes a {CONFIG_FILE} of a UNet2DModel: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{folder} takes a {CONFIG_FILE} of a UNet2DModel, got {config!r}")
    net = diffusers_network(config)
    return net, from_diffusers(read_tensors(folder / WEIGHTS_FILE), net)


def _module(part: str, last: int) -> str:
    """Name over there of one of our parts; levels on the way up are counted from the deepest."""
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
