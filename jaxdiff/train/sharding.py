"""L8: a mesh of devices, and the sharding of the state and of batches over it.

One compiled step serves every layout. ``data`` and ``fsdp`` both shard the batch; ``fsdp`` also
shards the parameters, their averages and the optimizer's moments, each along its largest axis.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdiff.typing import InputError, PyTree

AXES = ("data", "fsdp")
WORTH_DIVIDING = 1024
"""Smaller leaves are replicated: gathering them would cost more than it saves."""


def mesh(*, fsdp: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """Arrange devices in a grid of ``data × fsdp``.

    Args:
        fsdp: number of devices over which the parameters are sharded.
        devices: by default all devices of all processes.

    Returns:
        The mesh, with the axes ``data`` and ``fsdp``.

    Raises:
        InputError: if the number of devices is not a multiple of ``fsdp``.

    Example:
        >>> dict(mesh(devices=jax.devices()[:1]).shape)
        {'data': 1, 'fsdp': 1}
    """
    devices = jax.devices() if devices is None else devices
    if fsdp < 1 or len(devices) % fsdp:
        raise InputError(
            f"fsdp must be a divisor of the number of devices, {len(devices)}, got {fsdp}"
        )
    return Mesh(np.asarray(devices).reshape(-1, fsdp), AXES)


def platform(of: Mesh) -> str:
    """Name of the platform of a mesh's devices, which need not be the one in use."""
    return str(of.devices.flat[0].platform)


def batch_sharding(of: Mesh) -> NamedSharding:
    """Rows of a batch, sharded over all devices."""
    return NamedSharding(of, PartitionSpec(AXES))


def replicated(of: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(of, PartitionSpec())


def state_shardings(of: Mesh, state: PyTree) -> PyTree:
    """Sharding of each leaf of a training state: large ones are sharded along ``fsdp``.

    Args:
        of: the mesh.
        state: arrays, or their shapes.

    Returns:
        A pytree of shardings, in the structure of ``state``.
    """
    parts = of.shape["fsdp"]

    def layout(leaf: Any) -> NamedSharding:
        fitting = [axis for axis, n in enumerate(leaf.shape) if n % parts == 0]
        if parts == 1 or leaf.size < WORTH_DIVIDING or not fitting:
            return replicated(of)
        largest = max(fitting, key=lambda axis: leaf.shape[axis])
        return NamedSharding(of, PartitionSpec(*[None] * largest, "fsdp"))

    return jax.tree.map(layout, state)


def laid_out(of: Mesh, state: PyTree) -> PyTree:
    """Shapes and shardings of a state, into which a checkpoint can be read."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        state,
        state_shardings(of, state),
    )


def put_batch(batch: PyTree, of: Mesh) -> PyTree:
    """Shard a batch over the mesh, from the rows that this process has read.

    Args:
        batch: arrays of this process's rows; all rows if there is only one process.
        of: the mesh.

    Returns:
        Arrays of the whole batch, of which this process holds its shards.
    """
    sharding = batch_sharding(of)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


def fetch(x: jax.Array) -> np.ndarray:
    """Fetch an array to the host, from whichever devices and processes hold its shards."""
    if not x.is_fully_addressable and not x.is_fully_replicated:
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(x, tiled=True))
    return np.asarray(x)


def agreed(answer: bool) -> bool:
    """The first process's answer, for all: others may see a new file only later."""
    if jax.process_count() == 1:
        return answer
    from jax.experimental import multihost_utils

    return bool(multihost_utils.broadcast_one_to_all(np.asarray(answer)))


def check_batch(batch_size: int, microbatches: int, of: Mesh) -> None:
    """Refuse a batch that cannot be divided evenly.

    Raises:
        InputError: naming all three numbers.
    """
    parts = microbatches * math.prod(of.shape.values())
    if microbatches < 1 or batch_size % parts:
        raise InputError(
            f"config.training.batch_size must be a multiple of devices × microbatches, {of.size} × "
            f"{microbatches}, got {batch_size}"
        )
