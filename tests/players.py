"""Training states for tests: their bits, and the single player of a diffusion model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.recipes.diffusion import PLAYER, fresh_state
from jaxdiff.train import BatchSlice, View


def made(model):
    """The state of a model at step 0, from one compiled program."""
    return jax.jit(functools.partial(fresh_state, model))()


def shapes(model):
    """Shapes and dtypes of that state."""
    return jax.eval_shape(functools.partial(fresh_state, model))


def player_of(state):
    return state.players[PLAYER]


def with_player(state, **changes):
    return state.replace(players={PLAYER: player_of(state).replace(**changes)})


def loss_of(model, *, stored=False):
    """``(params, key, batch, part) -> [rows]``; without a part it is the whole batch."""
    objective = model.objective
    loss_fn = objective.stored_loss_fn if stored else objective.loss_fn

    def loss(params, key, batch, part=None):
        size = len(batch["x"])
        view = View({PLAYER: params}, {PLAYER: ()}, objective.carry)
        return loss_fn(params, view, key, batch, part or BatchSlice(jnp.arange(size), size))[0]

    return loss


def bits(tree):
    """Every leaf as raw bytes, keys included."""
    leaves = jax.tree.leaves(tree)
    return [
        np.asarray(
            jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        ).tobytes()
        for leaf in leaves
    ]


def quiet(line):
    """Discard a line of progress."""
