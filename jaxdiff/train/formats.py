"""L8: formats of a checkpoint: the one that is written, and older ones that can still be read.

The format's number is stored with a checkpoint; the first format stored none.
"""

from typing import Any

from flax import struct

from jaxdiff.train.state import Player, TrainState
from jaxdiff.typing import Array, InputError, Key, Params, PyTree

FORMAT = 2


class StateOfFormat1(struct.PyTreeNode):
    """The state as saved when there was only one player, without a name, and no carry."""

    step: Array
    params: Params
    averages: tuple[Params, ...]
    opt_state: PyTree
    key: Key
    skipped: Array


def as_stored(like: TrainState, number: int) -> Any:
    """A state, given by arrays or their shapes, as a checkpoint of this format stores it.

    Raises:
        InputError: if the format is newer, or cannot hold such a state.
    """
    if number == FORMAT:
        return like
    if number != 1:
        raise InputError(
            f"format must be at most {FORMAT}, got {number}, written by a newer version of jaxdiff"
        )
    if len(like.players) != 1:
        raise InputError(f"format 1 must hold one player, got {', '.join(like.players)}")
    (player,) = like.players.values()
    return StateOfFormat1(
        step=like.step,
        params=player.params,
        averages=player.averages,
        opt_state=player.opt_state,
        key=like.key,
        skipped=like.skipped,
    )


def from_stored(stored: Any, like: TrainState) -> TrainState:
    """The inverse of :func:`as_stored`; the player's name and the carry are those of ``like``."""
    if isinstance(stored, TrainState):
        return stored
    (name,) = like.players
    player = Player(stored.params, stored.opt_state, stored.averages)
    return TrainState(stored.step, stored.key, stored.skipped, {name: player}, like.carry)
