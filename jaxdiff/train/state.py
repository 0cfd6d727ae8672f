"""L8: the state of training as one pytree, and what a loss sees of it.

What is trained is one player or several, each with an optimizer of its own: a model is one, a
generator and its critic are two.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
from flax import struct

from jaxdiff.typing import Array, Key, Params, PyTree


class Player(struct.PyTreeNode):
    """What one optimizer trains.

    Args:
        params: its parameters.
        opt_state: of its optax chain.
        averages: moving averages of the parameters, the first of which samples.
    """

    params: Params
    opt_state: PyTree
    averages: tuple[Params, ...] = ()


class TrainState(struct.PyTreeNode):
    """All that training depends on, besides the data; saved whole, so that a resume is exact.

    Args:
        step: number of updates tried, ``[]``.
        key: root of all randomness; step k uses ``fold_in(key, k)``.
        skipped: updates in a row, up to now, that were not made since they were not finite, ``[]``.
        players: by name.
        carry: what a step hands to the next beside parameters, such as a history of losses, the
            statistics of a codebook, or a buffer of replayed samples.
    """

    step: Array
    key: Key
    skipped: Array
    players: dict[str, Player]
    carry: PyTree = ()


class View(NamedTuple):
    """What a loss may read and does not train: no gradient flows into it.

    Args:
        params: of all players, by name, as they are now.
        averages: of all players, by name; ``view.averages[player][0]`` is a consistency target.
        carry: of the state.
        frozen: parameters that no step changes, such as those of a teacher. They are an argument
            of the step, neither donated nor saved.
    """

    params: Mapping[str, Params]
    averages: Mapping[str, tuple[Params, ...]]
    carry: PyTree = ()
    frozen: PyTree = ()


class BatchSlice(NamedTuple):
    """Which rows of a batch are at hand, where it is cut up: noise belongs to the row.

    Args:
        rows: their indices in the whole batch, ``[rows]``.
        total: rows of the whole batch.
    """

    rows: Array
    total: int


class LossFn(Protocol):
    """What a player minimises."""

    def __call__(
        self, params: Params, view: View, key: Key, batch: PyTree, part: BatchSlice, /
    ) -> tuple[Array, PyTree]:
        """Loss of each example at hand, ``[rows]``, and what ``update_carry`` reads of each.

        Args:
            params: of the player whose turn it is; the gradient is taken in them.
            view: of everything else.
            key: of the turn; what is drawn from it belongs to rows, not to their place at hand.
            batch: arrays ``[rows, ...]``.
            part: which rows of the whole batch they are.
        """


def view_of(state: TrainState, frozen: PyTree = ()) -> View:
    """What a loss sees of a state."""
    params = {name: player.params for name, player in state.players.items()}
    averages = {name: player.averages for name, player in state.players.items()}
    return View(params, averages, state.carry, frozen)


def num_parameters(state: Any) -> int:
    """How many numbers are trained, those of flax's ``constants`` not counted."""
    return sum(
        leaf.size
        for player in state.players.values()
        for path, leaf in jax.tree_util.tree_leaves_with_path(player.params)
        if "constants" not in jax.tree_util.keystr(path[:1])
    )
