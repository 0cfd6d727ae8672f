"""L8: the state of training as one pytree, and the view of it that a loss gets.

Training involves one player or several, each with its own optimizer: a single model is one player,
a generator and its critic are two.
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
        averages: moving averages of the parameters, of which the first is used for sampling.
    """

    params: Params
    opt_state: PyTree
    averages: tuple[Params, ...] = ()


class TrainState(struct.PyTreeNode):
    """Everything that training depends on besides the data; saved whole, so that resuming is exact.

    Args:
        step: number of attempted updates, ``[]``.
        key: root of all randomness; step k uses ``fold_in(key, k)``.
        skipped: latest consecutive updates that were skipped because they were not finite, ``[]``.
        players: by name.
        carry: what a step passes to the next besides parameters, such as a history of losses, the
            statistics of a codebook, or a replay buffer.
    """

    step: Array
    key: Key
    skipped: Array
    players: dict[str, Player]
    carry: PyTree = ()


class View(NamedTuple):
    """What a loss may read but does not train: no gradient flows into it.

    Args:
        params: current parameters of all players, by name.
        averages: of all players, by name; ``view.averages[player][0]`` is a consistency target.
        carry: of the state.
        frozen: parameters that no step changes, such as a teacher's. They are an argument of the
            step, neither donated nor saved.
    """

    params: Mapping[str, Params]
    averages: Mapping[str, tuple[Params, ...]]
    carry: PyTree = ()
    frozen: PyTree = ()


class BatchSlice(NamedTuple):
    """Which rows of a batch a loss is given, if it is divided: noise belongs to the row.

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
        """Loss of each given example, ``[rows]``, and what ``update_carry`` reads of each.

        Args:
            params: of the player whose turn it is, with respect to which the gradient is taken.
            view: of everything else.
            key: of the turn; draws from it belong to rows of the whole batch, not to positions.
            batch: arrays ``[rows, ...]``.
            part: which rows of the whole batch they are.
        """


def view_of(state: TrainState, frozen: PyTree = ()) -> View:
    """The view of a state that a loss gets."""
    params = {name: player.params for name, player in state.players.items()}
    averages = {name: player.averages for name, player in state.players.items()}
    return View(params, averages, state.carry, frozen)


def num_parameters(state: Any) -> int:
    """Number of trained parameters, not counting flax's ``constants``."""
    return sum(
        leaf.size
        for player in state.players.values()
        for path, leaf in jax.tree_util.tree_leaves_with_path(player.params)
        if "constants" not in jax.tree_util.keystr(path[:1])
    )
