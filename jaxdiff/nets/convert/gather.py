"""Parameters of a U-Net, filled one by one from the tensors of another system.

Both systems compute the same parts in the same order; what differs is what a part and its layers
are called, and how a kernel lies. A format is a function that tells, for a part and a layer of
ours, what they are called over there.
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
"""Names of a layer over there, in order of preference; each of one tensor or of several, which are
joined along the outputs: "a/weight" is a tensor, and ".weight" is put after what lacks one."""

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
    """Variables of a network for data of one shape, as shapes, by tracing alone."""
    label = None if net.num_classes is None else jnp.zeros(1, int)
    return init_shapes(net, jnp.zeros((1, *shape)), jnp.zeros(1), label)


def shapes_of(net: UNet, colours: int) -> Params:
    """Variables of a U-Net for images of so many colours, as shapes."""
    side = 2 ** (len(net.multipliers) - 1)
    return variables_of(net, (side, side, colours))


def gather(
    shapes: Params,
    state: Mapping[str, np.ndarray],
    layers_of: Callable[[str, str], Layers],
    *,
    ignored: Callable[[str], bool],
) -> Params:
    """Fill variables from tensors, so that each tensor is used, and fits.

    Args:
        shapes: variables of the network.
        state: tensors by name.
        layers_of: from a part and a layer of ours, the layer "" where the part is one, to its names
            over there.
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
            wanted = layers_of(part, "/".join(layer))
            either = " or ".join("+".join(names) for names in wanted)
            raise InputError(f"the weights hold no {kind} of {either}")
        arrays = [
            _as_ours(finite_float32(name, state[name]), name, kind, leaf.ndim) for name in names
        ]
        value = np.concatenate(arrays, axis=-1)
        if value.shape != leaf.shape:
            raise InputError(
                f"{'/'.join(path)} has shape {leaf.shape}, got {value.shape} of "
                f"{', '.join(names)}: the weights are those of another network"
            )
        filled[path] = jnp.asarray(value)
        left -= set(names)
    left = {name for name in left if not ignored(name)}
    if left:
        raise InputError(
            f"the weights hold {len(left)} tensors that the network has not, such as {min(left)}: "
            "they are those of another network"
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
    """Outputs last: a convolution is OIHW over there, a dense layer OI, but a "W" is IO."""
    if kind != "kernel" or name.endswith(".W"):
        return tensor
    if ndim == 2 and tensor.ndim > 2 and set(tensor.shape[2:]) == {1}:  # convolves one pixel
        tensor = tensor.reshape(tensor.shape[:2])
    return np.moveaxis(tensor, (0, 1), (-1, -2))
