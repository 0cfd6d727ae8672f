"""Every objective fitted to one mixture: ``python -m experiments.studies.objectives``.

Each trains the same small network. A table (error of the score at the data and over a box, time,
variance of the gradient) and a picture of every learned field beside the exact one.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from jax.flatten_util import ravel_pytree
from tqdm import tqdm

from experiments.common import cli
from experiments.common.text import text_table
from experiments.studies.objectives.fields import draw_fields
from experiments.studies.objectives.rows import OBJECTIVES, Objective, draw_data, true_score
from jaxdiff.files import atomic_write, check_writable
from jaxdiff.plots import check_backend
from jaxdiff.train.memory import check_fits
from jaxdiff.typing import Array, InputError, Key, Params, PyTree, out_of

WORKDIR = flags.DEFINE_string("workdir", "runs/objectives", "Folder of the table and the picture.")
STEPS = flags.DEFINE_integer("steps", 4000, "Updates per objective.", lower_bound=2)
BATCH = flags.DEFINE_integer("batch", 512, "Examples per update.", lower_bound=2)
RATE = flags.DEFINE_float("learning_rate", 2e-3, "Of Adam, before it decays.", lower_bound=0.0)
SEED = flags.DEFINE_integer("seed", 0, "Seed of everything.", 0, cli.MAX_SEED)
ONLY = flags.DEFINE_list("only", [], "Names of the objectives to fit; all if empty.")

BOX = 2.5
"""Half the side of the box."""
CHUNKS = 10
FLOAT = 4
NUM_GRADIENTS = 64

_draw_data = jax.jit(draw_data, static_argnums=1)


class Row(NamedTuple):
    """What one objective reached; errors are mean squares, relative to that of the exact score."""

    objective: str
    error_at_data: float
    error_over_box: float
    seconds_per_1000_steps: float
    gradient_variance: float


def main() -> None:
    """Fit, measure, print the table, write it and the picture."""
    names = _chosen(ONLY.value)
    check_backend()
    check_fits("--batch", BATCH.value, BATCH.value * 2 * FLOAT)
    check_fits("--steps", STEPS.value, STEPS.value // CHUNKS * 2 * FLOAT)  # the keys of a chunk
    workdir = Path(WORKDIR.value)
    check_writable(workdir / "objectives.json", workdir / "objectives.png")
    rows, fields = [], {"exact": np.asarray(jax.jit(true_score)(_grid(13)))}
    with tqdm(total=len(names) * STEPS.value, unit="step", dynamic_ncols=True) as bar:
        for name in names:
            bar.set_description(name)
            row, params = fit(name, OBJECTIVES[name], jax.random.key(SEED.value), bar)
            rows.append(row)
            fields[name] = np.asarray(jax.jit(OBJECTIVES[name].score)(params, _grid(13)))
    record = {
        "steps": STEPS.value,
        "batch": BATCH.value,
        "learning_rate": RATE.value,
        "seed": SEED.value,
        "objectives": [row._asdict() for row in rows],
    }
    atomic_write(workdir / "objectives.json", json.dumps(record, indent=2) + "\n")
    density = np.asarray(_draw_data(jax.random.key(SEED.value), 1500))
    draw_fields(workdir / "objectives.png", _grid(13), fields, points=density)
    print(as_table(rows))
    print(f"wrote {workdir / 'objectives.json'}\nwrote {workdir / 'objectives.png'}")


def fit(name: str, objective: Objective, key: Key, bar: tqdm) -> tuple[Row, Params]:
    """Train by Adam with a cosine decay, the data fresh at every step, and measure."""
    steps, batch = STEPS.value, BATCH.value
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE.value, steps))

    def mean_loss(params: Params, state: PyTree, key: Key) -> tuple[Array, PyTree]:
        data_key, loss_key = jax.random.split(key)
        values, state = objective.loss(params, state, loss_key, draw_data(data_key, batch))
        return jnp.mean(values), state

    def update(carry: tuple, key: Key) -> tuple[tuple, None]:
        params, opt_state, state = carry
        gradient, state = jax.grad(mean_loss, has_aux=True)(params, state, key)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state, state), None

    @jax.jit
    def run(carry: tuple, keys: Array) -> tuple:
        return jax.lax.scan(update, carry, keys)[0]

    @jax.jit
    def gradients(params: Params, state: PyTree, keys: Array) -> Array:
        def one(key: Key) -> Array:
            return ravel_pytree(jax.grad(mean_loss, has_aux=True)(params, state, key)[0])[0]

        return jax.lax.map(one, keys)

    @jax.jit
    def start(key: Key) -> tuple[tuple, Array, Array]:
        init_key, train_key, variance_key = jax.random.split(key, 3)
        params = objective.init(init_key)
        carry = params, optimizer.init(params), objective.state
        keys = jax.random.split(train_key, steps)
        return carry, keys, jax.random.split(variance_key, NUM_GRADIENTS)

    carry, keys, variance_keys = start(key)
    chunk = max(1, steps // CHUNKS)
    seconds, done, spread = 0.0, 0, float("nan")
    while done < steps:
        part = keys[done : done + chunk]
        compiled = run.lower(carry, part).compile() if done == 0 else run
        started = time.perf_counter()
        carry = jax.block_until_ready(compiled(carry, part))
        seconds += time.perf_counter() - started
        done += len(part)
        bar.update(len(part))
        if done == len(part):
            spread = _relative_variance(np.asarray(gradients(carry[0], carry[2], variance_keys)))
    at_data, over_box = _errors(objective, carry[0], jax.random.key(SEED.value))
    return Row(name, at_data, over_box, 1000 * seconds / steps, spread), carry[0]


def _relative_variance(gradients: np.ndarray) -> float:
    """Tr Cov g / ‖E g‖² over batches, with the square of the mean freed of its own variance."""
    mean = np.mean(gradients, axis=0)
    variance = np.sum(np.var(gradients, axis=0, ddof=1))
    return float(variance / (np.sum(mean**2) - variance / len(gradients)))


def _errors(objective: Objective, params: Params, key: Key) -> tuple[float, float]:
    """Relative mean squared error of the score at the data, and over the box."""

    @jax.jit
    def error(params: Params, x: Array) -> Array:
        exact = true_score(x)
        return jnp.sum((objective.score(params, x) - exact) ** 2) / jnp.sum(exact**2)

    return float(error(params, _draw_data(key, 20_000))), float(error(params, _grid(101)))


def _grid(side: int) -> np.ndarray:
    """Points of the box, ``[side², 2]``."""
    axis = np.linspace(-BOX, BOX, side, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)


def _chosen(names: Sequence[str]) -> list[str]:
    for name in names:
        if name not in OBJECTIVES:
            raise InputError(f"--only must be some of {out_of(name, OBJECTIVES)}")
    return list(names or OBJECTIVES)


def as_table(rows: Sequence[Row]) -> str:
    """Lay the rows out for a person."""
    cells = [("objective", "error at data", "over the box", "s / 1000 steps", "gradient variance")]
    cells += [
        (
            row.objective,
            f"{row.error_at_data:.4f}",
            f"{row.error_over_box:.4f}",
            f"{row.seconds_per_1000_steps:.2f}",
            f"{row.gradient_variance:.2g}",
        )
        for row in rows
    ]
    return text_table(cells)


if __name__ == "__main__":
    cli.run(main)
