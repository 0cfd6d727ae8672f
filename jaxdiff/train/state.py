"""L7: the state of training as one pytree, and the pure step that moves it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxdiff.train.averages import EmaSchedule, update
from jaxdiff.typing import Array, InputError, Key, Params, PyTree


class BatchSlice(NamedTuple):
    """Which rows of a batch are at hand, where it is cut up: noise belongs to the row.

    Args:
        rows: their indices in the whole batch, ``[rows]``.
        total: rows of the whole batch.
    """

    rows: Array
    total: int


class LossFn(Protocol):
    """What is minimised; see :func:`jaxdiff.train.objective.loss_fn`."""

    def __call__(
        self,
        params: Params,
        key: Key,
        batch: Mapping[str, Array],
        part: BatchSlice | None = None,
        /,
    ) -> Array:
        """Loss of each example, ``[rows]``; without a part the batch is whole."""


class TrainState(struct.PyTreeNode):
    """All that training depends on, besides the data; saved whole, so that a resume is exact.

    Args:
        step: number of updates tried, ``[]``.
        params: parameters that are trained.
        averages: their moving averages, the first of which samples.
        opt_state: of the optax chain.
        key: root of all randomness; step k uses ``fold_in(key, k)``.
        skipped: updates in a row, up to now, that were not made since they were not finite, ``[]``.
    """

    step: Array
    params: Params
    averages: tuple[Params, ...]
    opt_state: PyTree
    key: Key
    skipped: Array


def init_state(
    key: Key, params: Params, optimizer: optax.GradientTransformation, *, num_averages: int = 1
) -> TrainState:
    """State before the first step; every average starts at the parameters themselves.

    Args:
        key: root of all randomness of training.
        params: to be trained.
        optimizer: the optax chain.
        num_averages: how many averages of them to keep.

    Returns:
        The state at step 0.
    """
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        # buffers of their own, since steps donate them
        averages=tuple(jax.tree.map(jnp.copy, params) for _ in range(num_averages)),
        opt_state=optimizer.init(params),
        key=key,
        skipped=jnp.zeros((), jnp.int32),
    )


def train_step(
    state: TrainState,
    batch: Mapping[str, Array],
    *,
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    rules: Sequence[EmaSchedule],
    microbatches: int = 1,
    axis_name: str | None = None,
) -> tuple[TrainState, dict[str, Array]]:
    """One update: a pure function, to be jitted with the state donated.

    Under ``jax.jit`` the batch is the whole one, sharded or not; under ``jax.pmap`` it is a
    device's share of it. Cut into microbatches or spread over devices, a batch gives the same
    update up to rounding, since the noise belongs to the example (dropout alone does not). An
    update that is not finite is not made: everything but the step is left as it was.

    Args:
        state: before.
        batch: ``{"x": [batch, ...], "label": [batch]}``.
        loss_fn: ``(params, key, batch, part) -> [batch]``.
        optimizer: the optax chain.
        rules: of the averages of the state, in their order.
        microbatches: in how many turns the gradient is added up, which saves memory.
        axis_name: of the mapped axis under ``jax.pmap``.

    Returns:
        The state after, and the device scalars ``{"loss", "grad_norm", "skipped"}``, the last of
        which counts the updates in a row, up to this one, that were not made.

    Raises:
        InputError: if the batch does not divide by ``microbatches``.
    """
    key = jax.random.fold_in(state.key, state.step)
    loss, grads = _gradient(state.params, key, batch, loss_fn, microbatches, axis_name)
    if axis_name is not None:
        loss, grads = jax.lax.pmean((loss, grads), axis_name)
    norm = optax.tree.norm(grads)
    good = jnp.isfinite(loss) & jnp.isfinite(norm)

    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    averages = tuple(
        update(average, params, rule(state.step))
        for average, rule in zip(state.averages, rules, strict=True)
    )
    moved = (params, averages, opt_state)
    kept = (state.params, state.averages, state.opt_state)
    params, averages, opt_state = jax.tree.map(lambda a, b: jnp.where(good, a, b), moved, kept)
    skipped = jnp.where(good, 0, state.skipped + 1)
    after = state.replace(
        step=state.step + 1,
        params=params,
        averages=averages,
        opt_state=opt_state,
        skipped=skipped,
    )
    return after, {"loss": loss, "grad_norm": norm, "skipped": skipped}


def _gradient(
    params: Params,
    key: Key,
    batch: Mapping[str, Array],
    loss_fn: LossFn,
    microbatches: int,
    axis_name: str | None,
) -> tuple[Array, Params]:
    """Mean loss over a device's share of the batch, and its gradient."""
    size = jax.tree.leaves(batch)[0].shape[0]
    if size % microbatches:
        raise InputError(
            f"microbatches must be a divisor of the batch, {size} on a device, got {microbatches}"
        )
    devices, first = 1, 0
    if axis_name is not None:
        devices, first = jax.lax.axis_size(axis_name), size * jax.lax.axis_index(axis_name)

    def one(rows: Array, some: Mapping[str, Array]) -> tuple[Array, Params]:
        def mean_loss(params: Params) -> Array:
            return jnp.mean(loss_fn(params, key, some, BatchSlice(rows, devices * size)))

        return jax.value_and_grad(mean_loss)(params)

    rows = first + jnp.arange(size)
    if microbatches == 1:
        return one(rows, batch)

    # every m-th row, so that each device keeps to its own
    turns = jax.tree.map(
        lambda leaf: leaf.reshape(-1, microbatches, *leaf.shape[1:]).swapaxes(0, 1), (rows, batch)
    )

    def add(total: Any, turn: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, one(*turn)), None

    zeros = jax.tree.map(jnp.zeros_like, (jnp.zeros(()), params))
    total, _ = jax.lax.scan(add, zeros, turns)
    loss, grads = jax.tree.map(lambda leaf: leaf / microbatches, total)
    return loss, grads
