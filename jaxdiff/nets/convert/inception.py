"""Weights of the FID's Inception-v3, from the published file or the same tensors as safetensors.

The file is ``pt_inception-2015-12-05-6726825d.pth`` of pytorch-fid, which torch-fidelity publishes
too, as ``weights-inception-2015-12-05-6726825d.pth``. Its tensors have torchvision's names:
of a layer ``conv.weight`` w ``[out, in, h, w]``, and of its normalisation ``bn.weight`` γ,
``bn.bias`` β, ``bn.running_mean`` μ and ``bn.running_var`` s².
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jaxdiff.nets.convert.tensors import as_numpy, check_names, finite_float32, read_pickle
from jaxdiff.nets.inception import EPSILON, MIN_SIDE, Inception
from jaxdiff.nets.variables import init_shapes
from jaxdiff.tensors import read_tensors
from jaxdiff.typing import InputError, Params

INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""SHA-256 of the published file; its first digits are part of the name of the file."""

NORM = ("weight", "bias", "running_mean", "running_var")
UNUSED = ("fc.bias", ".num_batches_tracked")
"""Endings of tensors that no feature depends on."""


def load_inception(path: str | os.PathLike[str]) -> Params:
    """Read the weights of :class:`~jaxdiff.nets.inception.Inception`.

    Args:
        path: of a ``.safetensors`` file, or of a pickle of torch, which needs torch.

    Returns:
        Variables for ``Inception().apply``, float32.

    Raises:
        InputError: if the file cannot be read, or holds the weights of another network: a tensor is
            missing, left over, of another shape, or not finite floats.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return from_inception(read_tensors(path), source=path)
    what = "the weights of Inception-v3"
    stored = read_pickle(path, what)
    try:
        state = {name: as_numpy(tensor) for name, tensor in stored.items()}
    except AttributeError as error:
        raise InputError(f"{path} must be {what}, got no tensors by name: {error}") from error
    return from_inception(state, source=path)


def from_inception(state: Mapping[str, np.ndarray], *, source: Any = "the state") -> Params:
    """Convert tensors with torchvision's names, folding each normalisation into its convolution.

    Args:
        state: tensors by name, floats of any type.
        source: where they are from, for the errors.

    Returns:
        Variables for ``Inception().apply``, float32.

    Raises:
        InputError: if a tensor is missing, left over, of another shape, or not finite floats, or a
            variance is negative.
    """
    shapes = init_shapes(Inception(), jnp.zeros((1, MIN_SIDE, MIN_SIDE, 3)))["params"]
    flat = traverse_util.flatten_dict(shapes, sep=".")
    kernels = {name.removesuffix(".kernel"): leaf.shape for name, leaf in flat.items()}
    kernels = {name: shape for name, shape in kernels.items() if not name.endswith(".bias")}
    needed = {name: tensor for name, tensor in state.items() if not name.endswith(UNUSED)}
    check_names(source, needed, _expected(kernels))
    params = {
        f"{layer}.{leaf}": jnp.asarray(value)
        for layer in kernels
        for leaf, value in _converted(needed, layer).items()
    }
    return {"params": traverse_util.unflatten_dict(params, sep=".")}


def _expected(kernels: Mapping[str, tuple[int, ...]]) -> dict[str, jax.ShapeDtypeStruct]:
    """Names and shapes of the tensors that belong to kernels of ours."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (*window, inputs, outputs) in kernels.items():
        if not window:
            shapes[f"{layer}.weight"] = (outputs, inputs)
            continue
        shapes[f"{layer}.conv.weight"] = (outputs, inputs, *window)
        shapes |= {f"{layer}.bn.{name}": (outputs,) for name in NORM}
    return {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}


def _converted(state: Mapping[str, np.ndarray], layer: str) -> dict[str, np.ndarray]:
    if f"{layer}.weight" in state:
        return {"kernel": finite_float32(f"{layer}.weight", state[f"{layer}.weight"]).T}
    return folded(state, layer)


def folded(state: Mapping[str, np.ndarray], layer: str) -> dict[str, np.ndarray]:
    """Kernel W and bias b of one layer: a convolution and its normalisation.

    W = w γ/√(s² + ε),    b = β − μ γ/√(s² + ε)

    Args:
        state: tensors by name.
        layer: the part of their names before ``.conv`` and ``.bn``.

    Returns:
        ``{"kernel": [h, w, in, out], "bias": [out]}``, float32.

    Raises:
        InputError: if a tensor holds anything but finite floats, or a variance is negative.

    Example:
        >>> bn = {f"a.bn.{name}": np.array([2.0]) for name in NORM}
        >>> out = folded({"a.conv.weight": np.ones((1, 1, 1, 1)), **bn}, "a")
        >>> f"{out['kernel'].item():.4f}, {out['bias'].item():.4f}"
        '1.4139, -0.8277'
    """
    names = [f"{layer}.conv.weight", *(f"{layer}.bn.{name}" for name in NORM)]
    w, *norm = (finite_float32(name, state[name]) for name in names)
    gamma, beta, mean, variance = (tensor.astype(np.float64) for tensor in norm)
    if variance.min() < 0:
        raise InputError(f"{names[-1]} must be nonnegative, got {variance.min():.3g}")
    scale = gamma / np.sqrt(variance + EPSILON)
    return {
        "kernel": np.moveaxis(w, (0, 1), (-1, -2)) * scale.astype(np.float32),
        "bias": (beta - mean * scale).astype(np.float32),
    }
