"""Parameters of a U-Net, filled one by one from the tensors of another system.

Both systems compute the same parts in the same order; they differ in the names of parts and layers
and in the layout of kernels. A format is a function from a part and a layer of ours to their names
in the other system.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from jaxdiff.nets.convert.tensors import finite_float32
from jaxdiff.nets.unet import UNet
from jaxdiff.nets.variables import init_shapes
from jaxdiff.typing import InputError, Params

Layers = Sequence[Sequence[str]]
"""Names of a layer in the other system, in order of preference; each is a list of one module or of
several, whose tensors are concatenated along the outputs."""

LEAVES = {
    "kernel": ("weight", "W"),
    "scale": ("weight",),
    "bias": ("bias", "b"),
    "embedding": ("weight",),
}


def parts(net: UNet) -> Iterator[str]:
    """Names of the parts of a U-Net in the order in which it computes them."""
    if net.embedding != "none":
        yield "embedding"
    yield "conv_in"
    last = len(net.multipliers) - 1
    for depth in range(last + 1):
        for i in range(net.blocks_per_level):
            yield f"down_{depth}_block_{i}"
            if depth in net.attention_levels:
                yield f"down_{depth}_attention_{i}"
        if depth < last:
            yield f"down_{depth}_resample"
            if net.progressive_input != "none":
                yield f"down_{depth}_pyramid"
    yield "middle_block_0"
    if net.middle_attends:
        yield "middle_attention"
    yield "middle_block_1"
    for depth in reversed(range(last + 1)):
        for i in range(net.blocks_per_level + 1):
            yield f"up_{depth}_block_{i}"
            ends = i == net.blocks_per_level
            if depth in net.attention_levels and (ends or net.attention_up == "each"):
                yield f"up_{depth}_attention_{i}"
        if net.progressive_output == "residual":
            if depth == last:
                yield f"up_{depth}_pyramid_norm"
            yield f"up_{depth}_pyramid"
        if net.progressive_output == "skip" or depth == 0:
            yield f"out_{depth}_norm"
            yield f"out_{depth}_conv"
        if depth > 0:
            yield f"up_{depth}_resample"


def variables_of(net: Any, shape: Sequence[int]) -> Params:
    """Shapes of a network's variables for data of one shape, by tracing alone."""
    label = None if net.num_classes is None else jnp.zeros(1, int)
    return init_shapes(net, jnp.zeros((1, *shape)), jnp.zeros(1), label)


def shapes_of(net: UNet, colours: int) -> Params:
    """Shapes of a U-Net's variables for images with this many colours."""
    side = 2 ** (len(net.multipliers) - 1)
    return variables_of(net, (side, side, colours))


def gather(
    shapes: Params,
    state: Mapping[str, np.ndarray],
    layers_of: Callable[[str, str], Layers],
    *,
    ignored: Callable[[str], bool],
) -> Params:
    """Fill variables from tensors, each of which must be used and must fit.

    Args:
        shapes: variables of the network.
        state: tensors by name.
        layers_of: from a part and a layer of ours ("" if the part is a layer itself) to its names
            in the other system.
        ignored: whether a tensor may be left over.

    Returns:
        The parameters, float32.

    Raises:
        InputError: if a tensor is missing, has another shape, holds anything but finite floats, or
            is left over.
    """
    left, filled = set(state), {}
    for path, leaf in traverse_util.flatten_dict(shapes["params"]).items():
        part, *layer, kind = path
        names = _found(state, layers_of(part, "/".join(layer)), kind)
        if names is None:
            expected = layers_of(part, "/".join(layer))
            either = " or ".join("+".join(names) for names in expected)
            raise InputError(f"the weights hold no {kind} of {either}")
        arrays = [
            _as_ours(finite_float32(name, state[name]), name, kind, leaf.ndim) for name in names
        ]
        value = np.concatenate(arrays, axis=-1)
        if value.shape != leaf.shape:
            raise InputError(
                f"{'/'.join(path)} must have shape {leaf.shape}, got {value.shape} from "
                f"{', '.join(names)}: the weights belong to another network"
            )
        filled[path] = jnp.asarray(value)
        left -= set(names)
    left = {name for name in left if not ignored(name)}
    if left:
        raise InputError(
            f"the weights hold {len(left)} tensors that the network lacks, such as {min(left)}: "
            "they belong to another network"
        )
    return traverse_util.unflatten_dict(filled)


def _found(state: Mapping[str, np.ndarray], layers: Layers, kind: str) -> list[str] | None:
    for layer in layers:
        for leaf in LEAVES[kind]:
            names = [f"{name}.{leaf}" for name in layer]
            if all(name in state for name in names):
                return names
    return None


def _as_ours(tensor: np.ndarray, name: str, kind: str, ndim: int) -> np.ndarray:
    """Put outputs last: PyTorch's convolutions are OIHW, its dense layers OI, but a "W" is IO."""
    if kind != "kernel" or name.endswith(".W"):
        return tensor
    if ndim == 2 and tensor.ndim > 2 and set(tensor.shape[2:]) == {1}:  # convolves one pixel
        tensor = tensor.reshape(tensor.shape[:2])
    return np.moveaxis(tensor, (0, 1), (-1, -2))
