"""L8: sharded parameters gathered, and their gradients averaged, in a few large pieces.

A device holds 1/n of each large leaf, cut along one axis. Before use, the shards of several leaves
are concatenated and gathered at once; afterwards the gradients are summed and scattered in the same
pieces (reduce-scatter), so that no device receives more of them than it updates. One exchange for
each leaf would be hundreds of small ones.

The functions of arrays are used inside ``jax.shard_map`` over a mesh of
:mod:`jaxdiff.train.sharding`.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxdiff.train import sharding
from jaxdiff.typing import Array, Params

PIECE = 2**26
"""Bytes of a piece, at most, unless a single leaf is larger: 64 MiB."""


class Plan(NamedTuple):
    """How the leaves of a tree are exchanged.

    Args:
        pieces: sharded leaves that are exchanged together: the number of each, and its axis.
        whole: numbers of the leaves that every device has whole.
        fsdp: number of devices over which a leaf is sharded.
        devices: number of all devices.
    """

    pieces: tuple[tuple[tuple[int, int], ...], ...]
    whole: tuple[int, ...]
    fsdp: int
    devices: int


def plan(mesh: Mesh, params: Params, *, piece: int = PIECE) -> Plan:
    """Divide the leaves of parameters that are sharded over a mesh into pieces of one dtype.

    Args:
        mesh: the devices.
        params: arrays, or their shapes.
        piece: bytes of a piece, at most.

    Example:
        >>> mesh = sharding.mesh(devices=jax.devices()[:1])
        >>> plan(mesh, [jnp.ones((64, 32)), jnp.ones(3)])  # nothing is sharded over one device
        Plan(pieces=(), whole=(0, 1), fsdp=1, devices=1)
    """
    leaves = jax.tree.leaves(params)
    layouts = jax.tree.leaves(sharding.state_shardings(mesh, params))
    axes = [_axis(layout.spec) for layout in layouts]
    sharded = [(number, axis) for number, axis in enumerate(axes) if axis is not None]
    pieces: list[list[tuple[int, int]]] = []
    name_of = [leaf.dtype.name for leaf in leaves]
    sharded.sort(key=lambda one: name_of[one[0]])
    for _, alike in itertools.groupby(sharded, key=lambda one: name_of[one[0]]):
        room = 0
        for number, axis in alike:
            size = math.prod(leaves[number].shape) * leaves[number].dtype.itemsize
            if size > room:
                pieces.append([])
                room = piece
            pieces[-1].append((number, axis))
            room -= size
    whole = tuple(number for number, axis in enumerate(axes) if axis is None)
    return Plan(tuple(map(tuple, pieces)), whole, mesh.shape["fsdp"], mesh.size)


def _axis(spec: PartitionSpec) -> int | None:
    """The axis along which a leaf is sharded, if it is."""
    return next((axis for axis, name in enumerate(spec) if name is not None), None)


def gather(how: Plan, shards: Sequence[Array]) -> list[Array]:
    """Gather the shards of leaves.

    Args:
        how: the plan of the whole leaves.
        shards: a device's own shard of each leaf.

    Returns:
        Every leaf as a whole.
    """
    whole = list(shards)
    for piece in how.pieces:
        moved = [jnp.moveaxis(shards[number], axis, 0) for number, axis in piece]
        flat = jnp.concatenate([leaf.reshape(-1) for leaf in moved])
        parts = _split(jax.lax.all_gather(flat, "fsdp"), moved)
        for (number, axis), leaf, part in zip(piece, moved, parts, strict=True):
            whole[number] = jnp.moveaxis(part.reshape(-1, *leaf.shape[1:]), 0, axis)
    return whole


def average(how: Plan, gradients: Sequence[Array]) -> list[Array]:
    """Average the gradients of all devices.

    Args:
        how: the plan of the whole leaves.
        gradients: a device's own gradient of each leaf, as a whole.

    Returns:
        The mean over devices: of a sharded leaf, the device's shard of it.
    """
    mean = list(gradients)
    for piece in how.pieces:
        moved = [jnp.moveaxis(gradients[number], axis, 0) for number, axis in piece]
        flat = jnp.concatenate([leaf.reshape(how.fsdp, -1) for leaf in moved], axis=1)
        own = jax.lax.psum_scatter(flat, "fsdp")
        if how.devices > how.fsdp:
            own = jax.lax.psum(own, "data")
        shards = [leaf[: len(leaf) // how.fsdp] for leaf in moved]
        parts = _split(own / how.devices, shards)
        for (number, axis), shard, part in zip(piece, shards, parts, strict=True):
            mean[number] = jnp.moveaxis(part.reshape(shard.shape), 0, axis)
    together = jax.lax.pmean([gradients[number] for number in how.whole], sharding.AXES)
    for number, leaf in zip(how.whole, together, strict=True):
        mean[number] = leaf
    return mean


def _split(flat: Array, leaves: Sequence[Array]) -> list[Array]:
    """Split the last axis into parts of the sizes of the leaves."""
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    return jnp.split(flat, ends.tolist(), axis=-1)
