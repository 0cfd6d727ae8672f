"""L8: loss and gradient of a batch, in microbatches and over devices.

Each device differentiates the mean loss of its own rows, one microbatch after the other, and the
devices' means are averaged once, at the end:

    ∇L = 1/n Σ_device 1/m Σ_microbatch ∇L_own

Nothing else is exchanged, whatever the loss computes: a network never sees the rows of others.
"""

import functools
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from jaxdiff.train import exchange, sharding
from jaxdiff.train.state import BatchSlice, LossFn, View
from jaxdiff.typing import Array, InputError, Key, Params, PyTree

Gradient = tuple[tuple[Array, PyTree], Params]
"""Mean loss over the batch, the auxiliary output of its rows in order, and the gradient."""


def gradient_fn(
    loss_fn: LossFn,
    *,
    microbatches: int = 1,
    axis_name: str | None = None,
    mesh: Mesh | None = None,
) -> Callable[[Params, View, Key, PyTree], Gradient]:
    """Build ``(params, view, key, batch) -> ((loss, aux), gradient)``.

    Args:
        loss_fn: whose mean is differentiated.
        microbatches: number of parts in which a device processes its rows.
        axis_name: of the mapped axis under ``jax.pmap``, where the batch is a device's.
        mesh: devices over which the whole batch is sharded, and the parameters by
            :func:`jaxdiff.train.sharding.state_shardings`; the gradient is sharded as they are.

    Raises:
        InputError: from the function, if the rows are not a multiple of ``microbatches``.

    Example:
        >>> def loss_fn(params, view, key, batch, part):
        ...     return (params - batch) ** 2, ()
        >>> view, key = View({}, {}), jax.random.key(0)
        >>> found = gradient_fn(loss_fn)(jnp.zeros(()), view, key, jnp.array([1.0, 3.0]))
        >>> float(found[0][0]), float(found[1])
        (5.0, -4.0)
    """
    of_rows = functools.partial(_of_rows, loss_fn, microbatches)
    if axis_name is not None:
        return functools.partial(_mapped, of_rows, axis_name)
    if mesh is not None and mesh.size > 1:
        return functools.partial(_on_mesh, of_rows, mesh)
    return of_rows


def _mapped(
    of_rows: Callable[..., Gradient],
    axis_name: str,
    params: Params,
    view: View,
    key: Key,
    batch: PyTree,
) -> Gradient:
    index, devices = jax.lax.axis_index(axis_name), jax.lax.axis_size(axis_name)
    (loss, aux), grads = of_rows(params, view, key, batch, device=index, devices=devices)
    loss, grads = jax.lax.pmean((loss, grads), axis_name)
    return (loss, jax.lax.all_gather(aux, axis_name, tiled=True)), grads


def _on_mesh(
    of_rows: Callable[..., Gradient],
    mesh: Mesh,
    params: Params,
    view: View,
    key: Key,
    batch: PyTree,
) -> Gradient:
    how, treedef = exchange.plan(mesh, params), cast(Any, jax.tree.structure(params))
    layout = jax.tree.map(lambda leaf: leaf.spec, sharding.state_shardings(mesh, params))
    whole, rows = PartitionSpec(), PartitionSpec(sharding.AXES)

    def of_device(params: Params, view: View, key: Key, batch: PyTree) -> Gradient:
        gathered = treedef.unflatten(exchange.gather(how, jax.tree.leaves(params)))
        index = jax.lax.axis_index(sharding.AXES)
        (loss, aux), grads = of_rows(gathered, view, key, batch, device=index, devices=mesh.size)
        loss = jax.lax.pmean(loss, sharding.AXES)
        return (loss, aux), treedef.unflatten(exchange.average(how, jax.tree.leaves(grads)))

    # which values vary over devices is not tracked: losses would have to say so in their loops
    gradient: Gradient = jax.shard_map(
        of_device,
        mesh=mesh,
        in_specs=(layout, whole, whole, rows),
        out_specs=((whole, rows), layout),
        check_vma=False,
    )(params, view, key, batch)
    return gradient


def _of_rows(
    loss_fn: LossFn,
    microbatches: int,
    params: Params,
    view: View,
    key: Key,
    batch: PyTree,
    *,
    device: Array | int = 0,
    devices: int = 1,
) -> Gradient:
    """Loss and gradient of a device's own rows."""
    size = jax.tree.leaves(batch)[0].shape[0]
    if size % microbatches:
        raise InputError(
            f"microbatches must divide the batch size of a device, {size}, got {microbatches}"
        )
    view = jax.lax.stop_gradient(view)

    def one(rows: Array, some: PyTree) -> Gradient:
        def mean_loss(params: Params) -> tuple[Array, PyTree]:
            losses, aux = loss_fn(params, view, key, some, BatchSlice(rows, devices * size))
            return jnp.mean(losses), jax.lax.stop_gradient(aux)

        return jax.value_and_grad(mean_loss, has_aux=True)(params)

    rows = device * size + jnp.arange(size)
    if microbatches == 1:
        return one(rows, batch)
    # microbatch j has every m-th row, as it would if the batch were not divided over devices
    parts = jax.tree.map(
        lambda leaf: leaf.reshape(-1, microbatches, *leaf.shape[1:]).swapaxes(0, 1), (rows, batch)
    )

    def add(total: Any, part: Any) -> tuple[Any, PyTree]:
        (loss, aux), grads = one(*part)
        return jax.tree.map(jnp.add, total, (loss, grads)), aux

    zeros = jax.tree.map(jnp.zeros_like, (jnp.zeros(()), params))
    total, aux = jax.lax.scan(add, zeros, parts)
    aux = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1).reshape(size, *leaf.shape[2:]), aux)
    loss, grads = jax.tree.map(lambda leaf: leaf / microbatches, total)
    return (loss, aux), grads
