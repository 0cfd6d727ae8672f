"""L8: layouts of a checkpoint: the one that is written, and the former ones that are still read.

The number of the layout is kept beside a checkpoint, which has none in the first.
"""

from typing import Any

from flax import struct

from jaxdiff.train.state import Player, TrainState
from jaxdiff.typing import Array, InputError, Key, Params, PyTree

FORMAT = 2


class StateOfFormat1(struct.PyTreeNode):
    """The state as it was saved when there was one player, without a name, and no carry."""

    step: Array
    params: Params
    averages: tuple[Params, ...]
    opt_state: PyTree
    key: Key
    skipped: Array


def as_stored(like: TrainState, number: int) -> Any:
    """What a checkpoint of this format holds of a state, given by arrays or their shapes.

    Raises:
        InputError: if the format is of a later version, or cannot hold such a state.
    """
    if number == FORMAT:
        return like
    if number != 1:
        raise InputError(
            f"format must be at most {FORMAT}, got {number}: a later version of jaxdiff wrote it"
        )
    if len(like.players) != 1:
        raise InputError(f"format 1 is that of one player, got {', '.join(like.players)}")
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
    """The state that :func:`as_stored` was read for, its name and carry those of ``like``."""
    if isinstance(stored, TrainState):
        return stored
    (name,) = like.players
    player = Player(stored.params, stored.opt_state, stored.averages)
    return TrainState(stored.step, stored.key, stored.skipped, {name: player}, like.carry)
