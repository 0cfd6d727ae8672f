"""Networks stored in a folder: parameters as safetensors, and the network's fields as JSON."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jaxdiff.extras import require
from jaxdiff.files import atomic_write
from jaxdiff.nets.convert.gather import variables_of
from jaxdiff.nets.convert.tensors import check_names, finite_float32
from jaxdiff.nets.dit import DiT
from jaxdiff.nets.mlp import MLP
from jaxdiff.nets.unet import UNet
from jaxdiff.tensors import read_tensors
from jaxdiff.typing import InputError, Params

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
NETWORKS: Mapping[str, type[nn.Module]] = {"UNet": UNet, "DiT": DiT, "MLP": MLP}


def save(folder: str | os.PathLike[str], net: nn.Module, variables: Params) -> None:
    """Write a network to ``model.safetensors`` and ``config.json``, each atomically.

    A tensor is named by its path, such as ``params.conv_in.kernel``.

    Args:
        folder: where to; made if missing.
        net: one of ``NETWORKS``.
        variables: as for ``net.apply``.

    Raises:
        InputError: if the network is none of these.
    """
    require("safetensors", purpose="saving a network")
    from safetensors.numpy import save as to_bytes

    name = type(net).__name__
    if name not in NETWORKS:
        raise InputError(f"a network to save must be one of {', '.join(NETWORKS)}, got {name}")
    flat = traverse_util.flatten_dict(variables, sep=".")
    fields = {f.name: getattr(net, f.name) for f in dataclasses.fields(net) if f.name not in LINEN}
    try:
        config = json.dumps({"network": name, **fields}, indent=2)
    except TypeError as error:
        raise InputError(f"a network to save must have plain fields, got {net}: {error}") from error
    # safetensors writes memory as it is laid out, ignoring strides
    arrays = {path: np.ascontiguousarray(leaf) for path, leaf in flat.items()}
    atomic_write(Path(folder) / WEIGHTS_FILE, to_bytes(arrays))
    atomic_write(Path(folder) / CONFIG_FILE, config + "\n")


def load(folder: str | os.PathLike[str]) -> tuple[nn.Module, Params]:
    """Read what :func:`save` wrote.

    Args:
        folder: the one given to it.

    Returns:
        ``(network, variables)``.

    Raises:
        InputError: if a file is missing or damaged: a tensor is missing, left over, of another
            shape, or not finite floats. Floats of other types become float32.
    """
    folder = Path(folder)
    try:
        fields = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        net = NETWORKS[fields.pop("network")](**{k: _frozen(v) for k, v in fields.items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder} holds no network of jaxdiff: {error}") from error
    path = folder / WEIGHTS_FILE
    tensors = read_tensors(path)
    expected = variables_of(net, _shape_of_data(net, tensors, path))
    check_names(path, tensors, traverse_util.flatten_dict(expected, sep="."))
    arrays = {name: jnp.asarray(finite_float32(name, v)) for name, v in tensors.items()}
    return net, traverse_util.unflatten_dict(arrays, ".")


def _shape_of_data(
    net: nn.Module, tensors: Mapping[str, np.ndarray], path: Path
) -> tuple[int, ...]:
    """A shape of data for which the network has as many parameters as the file holds.

    Raises:
        InputError: if the input layer is missing.
    """
    stem = {UNet: "conv_in", DiT: "patches_in", MLP: "Dense_0"}[type(net)]
    kernel = tensors.get(f"params.{stem}.kernel")
    if kernel is None or kernel.ndim < 2:
        raise InputError(f"{path} holds no params.{stem}.kernel, which its network needs")
    if isinstance(net, UNet):
        side = 2 ** (len(net.multipliers) - 1)
        return (*(side,) * (kernel.ndim - 2), kernel.shape[-2])
    if isinstance(net, DiT):  # patches of one axis hold as many numbers as those of two
        return (net.patch, kernel.shape[0] // net.patch)
    return kernel.shape[:1]


LINEN = ("parent", "name")
"""Fields that every Flax module has."""


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
