"""Tasks for the loop beyond the configurations: several players, frozen parameters, a carry."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdiff import train
from jaxdiff.train import Turn, alternate
from jaxdiff.train.averages import exponential, power

BATCH = 16
SETTINGS = train.TrainingConfig(
    num_steps=6, batch_size=BATCH, log_every=1, checkpoint_every=2, sample_every=100
)


def gan():
    """Two players in the plane: a generator that moves noise, and a critic of quadratic forms."""

    def made(params, key, part):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, part.rows)
        noise = jax.vmap(lambda key: jax.random.normal(key, (2,)))(keys)
        return params["shift"][None] + noise * params["scale"][None]

    def judged(params, x):
        return x @ params["w"] + x**2 @ params["q"]

    def critic_loss(params, view, key, batch, part):
        fake = made(view.params["generator"], key, part)
        wrong = jax.nn.softplus(judged(params, fake)) + jax.nn.softplus(-judged(params, batch))
        return wrong, ()

    def generator_loss(params, view, key, batch, part):
        return jax.nn.softplus(-judged(view.params["critic"], made(params, key, part))), ()

    def init(key):
        return {
            "generator": {"shift": jnp.zeros(2), "scale": jnp.ones(2)},
            "critic": {"w": 0.1 * jax.random.normal(key, (2,)), "q": jnp.zeros(2)},
        }

    turns = [
        Turn("critic", critic_loss, optax.adam(1e-2), repeats=2),
        Turn("generator", generator_loss, optax.adam(1e-2), (exponential(0.9), power(0.1))),
    ]
    return functools.partial(alternate, init, turns), ()


def vae():
    """One player with two modules: a linear encoder and decoder, with noise in between."""

    def loss(params, view, key, batch, part):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, part.rows)
        z = batch @ params["encoder"] + 0.1 * jax.vmap(lambda k: jax.random.normal(k, (1,)))(keys)
        error = jnp.sum((z @ params["decoder"] - batch) ** 2, axis=-1)
        return error + 0.01 * jnp.sum(z**2, axis=-1), ()

    def init(key):
        down, up = jax.random.split(key)
        modules = {
            "encoder": jax.random.normal(down, (2, 1)),
            "decoder": jax.random.normal(up, (1, 2)),
        }
        return {"vae": modules}

    return functools.partial(alternate, init, [Turn("vae", loss, optax.adam(1e-2))]), ()


def student():
    """One player that learns the output of a frozen teacher."""

    def loss(params, view, key, batch, part):
        return jnp.sum((batch @ params - batch @ view.frozen["teacher"]) ** 2, axis=-1), ()

    teacher = {"teacher": jnp.array([[1.0, 2.0], [-1.0, 0.5]])}
    turn = Turn("student", loss, optax.sgd(0.05), (exponential(0.9),))
    return functools.partial(alternate, lambda key: {"student": jnp.zeros((2, 2))}, [turn]), teacher


def history():
    """One player whose loss is divided by a running mean of its past losses, kept in the carry."""

    def loss(params, view, key, batch, part):
        error = jnp.sum((batch - params[None]) ** 2, axis=-1)
        return error / view.carry, error

    def update_carry(carry, aux):
        return 0.9 * carry + 0.1 * jnp.mean(aux["mean"])

    turn = Turn("mean", loss, optax.sgd(0.1))
    make = functools.partial(
        alternate,
        lambda key: {"mean": jnp.zeros(2)},
        [turn],
        carry=jnp.ones(()),
        update_carry=update_carry,
    )
    return make, ()


TASKS = {"gan": gan, "vae": vae, "student": student, "history": history}


def batch_of(step):
    """Sixteen points in the plane, a function of the step only."""
    return np.random.default_rng(step).normal((1.0, -0.5), 0.5, (BATCH, 2)).astype(np.float32)


def batches(*, start_step=0, shard_index=0, shard_count=1, workers=0):
    step = start_step
    while True:
        yield batch_of(step)
        step += 1


def task(name):
    make, frozen = TASKS[name]()
    return train.Task(
        algorithm=make,
        key=jax.random.key(3),
        batch_spec=jax.ShapeDtypeStruct((BATCH, 2), jnp.float32),
        batches=batches,
        identity=train.plain_identity({"task": name}),
        frozen=frozen,
    )
