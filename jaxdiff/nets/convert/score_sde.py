"""Networks of score_sde_pytorch, its models ``ddpm`` and ``ncsnpp``: configuration and tensors."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdiff.nets.architectures import DDPMPP, NCSNPP
from jaxdiff.nets.convert.gather import Layers, gather, parts, shapes_of
from jaxdiff.nets.convert.tensors import finite_float32
from jaxdiff.nets.unet import UNet
from jaxdiff.typing import InputError, Params

LAYERS = {
    "norm_0": ["GroupNorm_0"],
    "norm_1": ["GroupNorm_1"],
    "conv_0": ["Conv_0"],
    "conv_1": ["Conv_1"],
    "modulation": ["Dense_0"],
    "skip": ["Conv_2", "NIN_0"],
    "norm": ["GroupNorm_0"],
    "out": ["NIN_3"],
    "conv": ["Conv_0", "Conv2d_0"],
}
"""Layers within a part of jaxdiff's U-Net, and their possible names in score_sde."""


NONLINEARITIES = {"swish": "silu", "elu": "elu", "relu": "relu", "lrelu": "leaky_relu"}
PROGRESSIVE = {"none": "none", "output_skip": "skip", "residual": "residual"}
"""From score_sde's names to jaxdiff's."""

NEEDED = ("name", "nf", "ch_mult", "num_res_blocks", "attn_resolutions", "dropout", "image_size",
          "centered")  # fmt: skip
"""Settings without which there is no network."""


def score_sde_network(config: Mapping[str, Any]) -> UNet:
    """The network that a score_sde configuration describes.

    Args:
        config: its ``model`` section as one flat dict, with ``image_size`` and ``centered`` of its
            ``data`` section.

    Returns:
        The network; it returns what theirs does before a division by σ (``scale_by_sigma``).

    Raises:
        InputError: if it describes an unsupported network.
    """
    if str(config.get("name")).startswith("ncsn") and config["name"] != "ncsnpp":
        raise InputError(
            f"name of the score_sde network must be 'ddpm' or 'ncsnpp', got {config['name']!r}, "
            "a RefineNet"
        )
    missing = [name for name in NEEDED if name not in config]
    if missing:
        raise InputError(f"the score_sde config lacks {', '.join(missing)}")
    _check(config, "name", "ddpm", "ncsnpp")
    _check(config, "nonlinearity", *NONLINEARITIES)
    _check(config, "normalization", "GroupNorm")
    _check(config, "resamp_with_conv", True)
    multipliers, size = tuple(config["ch_mult"]), config["image_size"]
    sizes = [size // 2**depth for depth in range(len(multipliers))]
    options: dict[str, Any] = {
        "channels": config["nf"],
        "multipliers": multipliers,
        "blocks_per_level": config["num_res_blocks"],
        "attention_levels": tuple(
            depth for depth, side in enumerate(sizes) if side in config["attn_resolutions"]
        ),
        "dropout": config["dropout"],
        "recenter": not config["centered"],
        "activation": NONLINEARITIES[config.get("nonlinearity", "swish")],
    }
    if not options["attention_levels"]:
        options["middle_attention"] = True  # score_sde's always attends there
    conditional = config.get("conditional", True)
    if config["name"] == "ddpm":
        return DDPMPP(
            **options,
            resampling="conv",
            project=False,
            skip_scale=1.0,
            embedding="sinusoidal" if conditional else "none",
            noise_cond_scale=1.0,
            groups=32,
        )
    for name, *known in (
        ("resblock_type", "biggan", "ddpm"),
        ("progressive", *PROGRESSIVE),
        ("progressive_input", "none", "input_skip", "residual"),
        ("progressive_combine", "sum", "cat"),
        ("embedding_type", "fourier", "positional"),
    ):
        _check(config, name, *known)
    fourier, blocks = config["embedding_type"] == "fourier", config["resblock_type"] == "biggan"
    pyramid = config["progressive_input"]
    return NCSNPP(
        **options,
        resampling="block" if blocks else "conv",
        project=blocks,
        filter=tuple(config["fir_kernel"]) if config["fir"] else (1, 1),
        skip_scale=NCSNPP.keywords["skip_scale"] if config["skip_rescale"] else 1.0,
        progressive_input=config["progressive_combine"] if pyramid == "input_skip" else pyramid,
        progressive_output=PROGRESSIVE[config["progressive"]],
        embedding=("fourier" if fourier else "sinusoidal") if conditional else "none",
        noise_cond_scale=float(config["fourier_scale"]) if fourier else 1.0,
    )


def from_score_sde(state: Mapping[str, np.ndarray], net: UNet) -> Params:
    """Variables of a network from the tensors of a score_sde_pytorch model.

    Args:
        state: its state dict, as numpy arrays; a leading ``module.`` is dropped.
        net: the network it belongs to, as :func:`score_sde_network` builds it.

    Returns:
        Variables for ``net.apply``. They were trained with score_sde's label, times the factor in
        the configuration of ``net``, as the noise level: log σ under "fourier".

    Raises:
        InputError: if a tensor is missing, left over or of another shape.
    """
    state = {name.removeprefix("module."): np.asarray(value) for name, value in state.items()}
    fourier, conditional = net.embedding == "fourier", net.embedding != "none"
    # frequencies are stored even where the network ignores the noise level
    first = int(fourier or (not conditional and "all_modules.0.W" in state))
    numbers, number = {}, first
    for part in parts(net):
        numbers[part] = number
        number += 2 if part == "embedding" else 1

    def layers_of(part: str, layer: str) -> Layers:
        if part == "embedding":
            return [[f"all_modules.{first + int(layer.removeprefix('dense_'))}"]]
        module = f"all_modules.{numbers[part]}"
        if not layer:
            projected = part.startswith("down_") and part.endswith("_pyramid")
            return [[f"{module}.Conv_0" if projected else module]]
        if layer == "qkv":
            return [[f"{module}.NIN_{i}" for i in range(3)]]
        return [[f"{module}.{name}"] for name in LAYERS[layer]]

    stem = f"all_modules.{numbers['conv_in']}.weight"
    if stem not in state:
        raise InputError(f"a score_sde state dict must hold {stem}, got {sorted(state)[:5]}")
    params = gather(
        shapes_of(net, state[stem].shape[1]),
        state,
        layers_of,
        ignored=lambda name: (
            name == "sigmas"
            or (first and name == "all_modules.0.W")
            or (not conditional and ".Dense_0." in name)
        ),
    )
    if not fourier:
        return {"params": params}
    if "all_modules.0.W" not in state:
        raise InputError("the weights hold no all_modules.0.W, the embedding's frequencies")
    frequencies = finite_float32("all_modules.0.W", state["all_modules.0.W"])
    if frequencies.shape != (net.channels,):
        raise InputError(
            f"all_modules.0.W must hold {net.channels} frequencies, got shape {frequencies.shape}"
        )
    return {
        "params": params,
        "constants": {"embedding": {"fourier": {"frequencies": jnp.asarray(frequencies)}}},
    }


def _check(config: Mapping[str, Any], name: str, *known: Any) -> None:
    if config.get(name, known[0]) not in known:
        raise InputError(
            f"{name} of the score_sde network must be {' or '.join(map(repr, known))}, got "
            f"{config[name]!r}"
        )
