"""L8: the pure step of training, for one player or several that alternate."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from jaxdiff.train.averages import EmaSchedule, update
from jaxdiff.train.gradient import Gradient, gradient_fn
from jaxdiff.train.state import LossFn, Player, TrainState, View, view_of
from jaxdiff.typing import Array, InputError, Key, Params, PyTree

Metrics = dict[str, Array]


class Turn(NamedTuple):
    """One player's part of a step.

    Args:
        player: whose parameters are updated.
        loss_fn: whose mean they minimise.
        optimizer: its optax chain.
        ema: EMA schedules of the player's averages, in their order.
        repeats: consecutive updates, on the same batch with different noise, as for a critic.
    """

    player: str
    loss_fn: LossFn
    optimizer: optax.GradientTransformation
    ema: tuple[EmaSchedule, ...] = ()
    repeats: int = 1


class Algorithm(NamedTuple):
    """How training starts, and how it proceeds.

    Args:
        init: ``key -> TrainState`` at step 0.
        step: ``(state, batch, frozen) -> (TrainState, metrics)``, a pure function, to be jitted
            with the state donated. Under ``jax.jit`` the batch is the whole one, sharded or not;
            under ``jax.pmap`` it is a device's shard of it.
    """

    init: Callable[[Key], TrainState]
    step: Callable[[TrainState, PyTree, PyTree], tuple[TrainState, Metrics]]


def _kept(carry: PyTree, aux: Mapping[str, PyTree]) -> PyTree:
    return carry


def alternate(
    init_params: Callable[[Key], Mapping[str, Params]],
    turns: Sequence[Turn],
    *,
    carry: PyTree = (),
    update_carry: Callable[[PyTree, Mapping[str, PyTree]], PyTree] = _kept,
    microbatches: int = 1,
    axis_name: str | None = None,
    mesh: Mesh | None = None,
) -> Algorithm:
    """Train players alternately: each sees the updates of those before it in the same step.

    Divided into microbatches or over devices, a batch gives the same update up to rounding, since
    the noise belongs to the example (except for dropout). If any loss or gradient of a step is not
    finite, the whole step is skipped: only the step count changes.

    Args:
        init_params: ``key -> {player: params}``.
        turns: one for each player, in the order of their updates.
        carry: at step 0.
        update_carry: ``(carry, {player: aux}) -> carry``, once a step, from what the players'
            losses returned besides the loss, ``[batch, ...]``, in the last of their repeats.
        microbatches: number of parts over which the gradient is accumulated, which saves memory.
        axis_name: of the mapped axis under ``jax.pmap``.
        mesh: devices over which :mod:`jaxdiff.train.sharding` shards the batch and the state.

    Returns:
        The algorithm. The metrics of a step are the device scalars ``loss``, ``grad_norm`` and
        ``skipped``; with several players the first two begin with ``<player>/``.

    Raises:
        InputError: if a player has no turn or two, or, from the step, if the batch size is not a
            multiple of ``microbatches``.

    Example:
        >>> def loss_fn(params, view, key, batch, part):
        ...     return (params - batch) ** 2, ()
        >>> turn = Turn("mean", loss_fn, optax.sgd(0.25))
        >>> init, step = alternate(lambda key: {"mean": jnp.zeros(())}, [turn])
        >>> state, metrics = step(init(jax.random.key(0)), jnp.array([1.0, 3.0]), ())
        >>> float(state.players["mean"].params), float(metrics["loss"])
        (1.0, 5.0)
    """
    names = [turn.player for turn in turns]
    if len(set(names)) < len(names) or not names:
        raise InputError(f"turns must be one for each player, got turns of {names}")

    def init(key: Key) -> TrainState:
        init_key, train_key = jax.random.split(key)
        params = init_params(init_key)
        if params.keys() != set(names):
            raise InputError(f"turns must be of the players {sorted(params)}, got {names}")
        players = {turn.player: _new_player(params[turn.player], turn) for turn in turns}
        start = jax.tree.map(jnp.array, carry)  # new buffers, since steps donate them
        zero = jnp.zeros((), jnp.int32)
        return TrainState(zero, train_key, zero, players, start)

    def step(state: TrainState, batch: PyTree, frozen: PyTree = ()) -> tuple[TrainState, Metrics]:
        root = jax.random.fold_in(state.key, state.step)
        view = view_of(state, frozen)
        players, aux, good = dict(state.players), {}, jnp.array(True)
        metrics: Metrics = {}
        for index, turn in enumerate(turns):
            key = root if len(turns) == 1 else jax.random.fold_in(root, index)
            differentiate = gradient_fn(
                turn.loss_fn, microbatches=microbatches, axis_name=axis_name, mesh=mesh
            )
            player, (loss, norm, aux[turn.player]) = _taken(
                turn, players[turn.player], view, key, batch, state.step, differentiate
            )
            players[turn.player] = player
            view = _with_player(view, turn.player, player)
            good &= jnp.all(jnp.isfinite(loss) & jnp.isfinite(norm))
            prefix = "" if len(turns) == 1 else f"{turn.player}/"
            metrics |= {f"{prefix}loss": jnp.mean(loss), f"{prefix}grad_norm": jnp.mean(norm)}

        moved = (players, update_carry(state.carry, aux))
        kept = (state.players, state.carry)
        players, after = jax.tree.map(lambda a, b: jnp.where(good, a, b), moved, kept)
        skipped = jnp.where(good, 0, state.skipped + 1)
        state = state.replace(step=state.step + 1, skipped=skipped, players=players, carry=after)
        return state, {**metrics, "skipped": skipped}

    return Algorithm(init, step)


def _new_player(params: Params, turn: Turn) -> Player:
    """A player before its first update; every average is initialised to the parameters."""
    averages = tuple(jax.tree.map(jnp.copy, params) for _ in turn.ema)
    return Player(params, turn.optimizer.init(params), averages)


def _with_player(view: View, name: str, player: Player) -> View:
    return view._replace(
        params={**view.params, name: player.params},
        averages={**view.averages, name: player.averages},
    )


def _taken(
    turn: Turn,
    player: Player,
    view: View,
    key: Key,
    batch: PyTree,
    step: Array,
    differentiate: Callable[..., Gradient],
) -> tuple[Player, tuple[Array, Array, PyTree]]:
    """A player after its turn, loss and gradient norm of each of its updates, and the last aux."""

    def once(player: Player, key: Key) -> tuple[Player, tuple[Array, Array, PyTree]]:
        seen = _with_player(view, turn.player, player)
        (loss, aux), grads = differentiate(player.params, seen, key, batch)
        return _moved(player, grads, turn, step), (loss, optax.tree.norm(grads), aux)

    if turn.repeats == 1:
        return once(player, key)
    player, (loss, norm, aux) = jax.lax.scan(once, player, jax.random.split(key, turn.repeats))
    return player, (loss, norm, jax.tree.map(lambda leaf: leaf[-1], aux))


def _moved(player: Player, grads: Params, turn: Turn, step: Array) -> Player:
    updates, opt_state = turn.optimizer.update(grads, player.opt_state, player.params)
    params = optax.apply_updates(player.params, updates)
    averages = tuple(
        update(average, params, schedule(step))
        for average, schedule in zip(player.averages, turn.ema, strict=True)
    )
    return Player(params, opt_state, averages)
