"""What tests of training need of its states: the one player of a diffusion model, and its loss."""

import jax.numpy as jnp

from jaxdiff.recipes.diffusion import PLAYER
from jaxdiff.train import BatchSlice, View


def player_of(state):
    return state.players[PLAYER]


def with_player(state, **changes):
    return state.replace(players={PLAYER: player_of(state).replace(**changes)})


def loss_of(model, *, stored=False):
    """``(params, key, batch, part) -> [rows]``; without a part the batch is whole."""
    objective = model.objective
    loss_fn = objective.stored_loss_fn if stored else objective.loss_fn

    def loss(params, key, batch, part=None):
        size = len(batch["x"])
        view = View({PLAYER: params}, {PLAYER: ()}, objective.carry)
        return loss_fn(params, view, key, batch, part or BatchSlice(jnp.arange(size), size))[0]

    return loss
