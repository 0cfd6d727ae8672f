"""Folders of diffusers: a UNet2DModel, or a pipeline with one, in any format that it writes."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff.nets.convert.diffusers import DEFAULTS, diffusers_network, from_diffusers
from jaxdiff.nets.convert.tensors import read_pickle
from jaxdiff.nets.unet import UNet
from jaxdiff.tensors import read_tensors
from jaxdiff.typing import InputError, Params

PIPELINE_FILE, CONFIG_FILE = "model_index.json", "config.json"
STEM = "diffusion_pytorch_model"
FORMS = (
    f"{STEM}.safetensors",
    f"{STEM}.safetensors.index.json",
    f"{STEM}.fp16.safetensors",
    f"{STEM}.fp16.safetensors.index.json",
    f"{STEM}.bin",
    f"{STEM}.fp16.bin",
)
"""Files that hold the tensors or list those that do; the first that exists is read."""


def load_diffusers(folder: str | os.PathLike[str]) -> tuple[UNet, Params]:
    """Read a UNet2DModel: ``config.json``, and its tensors in one file or several.

    Args:
        folder: of the model, or of a pipeline whose ``unet`` it is.

    Returns:
        ``(network, variables)``, float32.

    Raises:
        InputError: if a file is missing or the network is not supported; a ``.bin`` requires torch.
    """
    folder = unet_folder(folder)
    config = read_json(folder / CONFIG_FILE)
    net = diffusers_network(config)
    cosines_first = config.get("flip_sin_to_cos", DEFAULTS["flip_sin_to_cos"])
    return net, from_diffusers(_tensors(folder), net, cosines_first=cosines_first)


def is_diffusers(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder was written by diffusers rather than by jaxdiff."""
    folder = Path(folder)
    return (folder / PIPELINE_FILE).exists() or any((folder / name).exists() for name in FORMS)


def unet_folder(folder: str | os.PathLike[str]) -> Path:
    """The folder of a pipeline's UNet2DModel, or the given one if it is no pipeline.

    Raises:
        InputError: if the pipeline has another network.
    """
    folder = Path(folder)
    if not (folder / PIPELINE_FILE).exists():
        return folder
    unet = read_json(folder / PIPELINE_FILE).get("unet")
    if not isinstance(unet, list) or unet[-1:] != ["UNet2DModel"]:
        raise InputError(f"{folder} must be a pipeline whose unet is a UNet2DModel, got {unet!r}")
    return folder / "unet"


def read_json(path: Path) -> dict[str, Any]:
    """Read a file of settings.

    Raises:
        InputError: if it is missing, or not a JSON mapping.
    """
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} must be a JSON file of diffusers: {error}") from error
    if not isinstance(settings, dict):
        raise InputError(f"{path} must hold a mapping, got {settings!r}")
    return settings


def _tensors(folder: Path) -> Mapping[str, np.ndarray]:
    found = next((folder / name for name in FORMS if (folder / name).exists()), None)
    if found is None:
        raise InputError(f"{folder} must hold one of {', '.join(FORMS)}, got none of them")
    if found.suffix == ".json":
        return _sharded(found)
    if found.suffix == ".bin":
        stored = read_pickle(found, "the tensors of a UNet2DModel")
        try:
            return {name: tensor.float().numpy() for name, tensor in stored.items()}
        except AttributeError as error:
            raise InputError(f"{found} must hold tensors by name: {error}") from error
    return read_tensors(found)


def _sharded(index: Path) -> Mapping[str, np.ndarray]:
    """The tensors of all files that an index lists, each from the file it is listed in."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(f, str) for f in places.values()):
        raise InputError(f"{index} must hold a weight_map from tensors to files, got {places!r}")
    outside = [file for file in places.values() if Path(file).name != file]
    if outside:
        raise InputError(f"{index} must list files beside it, got {outside[0]!r}")
    files = {file: read_tensors(index.parent / file) for file in sorted(set(places.values()))}
    missing = [name for name, file in places.items() if name not in files[file]]
    if missing:
        raise InputError(f"{index} lists {missing[0]} in {places[missing[0]]}, which lacks it")
    return {name: files[file][name] for name, file in places.items()}
