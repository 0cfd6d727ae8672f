"""Every objective fitted to one mixture: ``python -m experiments.studies.objectives``.

Each trains the same small network. The results are a table (error of the score at the data and over
a box, time, variance of the gradient) and a picture of every learned field and the exact one.
"""

import functools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.flatten_util import ravel_pytree
from tqdm import tqdm

from experiments.common import cli
from experiments.common.text import text_table
from experiments.studies.objectives.fields import draw_fields
from experiments.studies.objectives.rows import OBJECTIVES, draw_data, model_of, score, true_score
from jaxdiff.files import atomic_write, check_writable
from jaxdiff.plots import check_backend
from jaxdiff.recipes import diffusion
from jaxdiff.recipes.diffusion import PLAYER
from jaxdiff.train import BatchSlice, TrainState, view_of
from jaxdiff.train.memory import check_fits
from jaxdiff.typing import Array, ArrayLike, InputError, Key, Params, PyTree, out_of

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

Field = Callable[[ArrayLike], Array]

_draw_data = jax.jit(draw_data, static_argnums=1)


class Row(NamedTuple):
    """Results of one objective; errors are mean squares, relative to that of the exact score."""

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
            row, field = fit(name, jax.random.key(SEED.value), bar)
            rows.append(row)
            fields[name] = np.asarray(field(_grid(13)))
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


def fit(name: str, key: Key, bar: tqdm) -> tuple[Row, Field]:
    """Train by the recipe's own step, with fresh data at every step, and measure."""
    steps, batch = STEPS.value, BATCH.value
    model = model_of(name, steps=steps, batch=batch, learning_rate=RATE.value)
    algorithm = diffusion.algorithm(model)

    def examples(key: Key) -> PyTree:
        return {"x": draw_data(key, batch), "label": jnp.zeros(batch, int)}

    @jax.jit
    def run(state: TrainState, keys: Array) -> TrainState:
        def update(state: TrainState, key: Key) -> tuple[TrainState, None]:
            return algorithm.step(state, examples(key), ())[0], None

        return jax.lax.scan(update, state, keys)[0]

    @jax.jit
    def gradients(state: TrainState, keys: Array) -> Array:
        view, part = view_of(state, ()), BatchSlice(jnp.arange(batch), batch)

        def one(key: Key) -> Array:
            data_key, loss_key = jax.random.split(key)

            def mean_loss(params: Params) -> Array:
                loss_fn = model.objective.loss_fn
                return jnp.mean(loss_fn(params, view, loss_key, examples(data_key), part)[0])

            return ravel_pytree(jax.grad(mean_loss)(view.params[PLAYER]))[0]

        return jax.lax.map(one, keys)

    @jax.jit
    def start(key: Key) -> tuple[TrainState, Array, Array]:
        init_key, data_key, variance_key = jax.random.split(key, 3)
        keys = jax.random.split(data_key, steps)
        return algorithm.init(init_key), keys, jax.random.split(variance_key, NUM_GRADIENTS)

    state, keys, variance_keys = start(key)
    chunk = max(1, steps // CHUNKS)
    seconds, done, spread = 0.0, 0, float("nan")
    while done < steps:
        part = keys[done : done + chunk]
        compiled = run.lower(state, part).compile() if done == 0 else run
        started = time.perf_counter()
        state = jax.block_until_ready(compiled(state, part))
        seconds += time.perf_counter() - started
        done += len(part)
        bar.update(len(part))
        if done == len(part):
            spread = _relative_variance(np.asarray(gradients(state, variance_keys)))
    field = jax.jit(functools.partial(score, model, state.players[PLAYER].params))
    at_data, over_box = _errors(field, jax.random.key(SEED.value))
    return Row(name, at_data, over_box, 1000 * seconds / steps, spread), field


def _relative_variance(gradients: np.ndarray) -> float:
    """Tr Cov g / ‖E g‖² over batches, with an unbiased estimate of the squared mean."""
    mean = np.mean(gradients, axis=0)
    variance = np.sum(np.var(gradients, axis=0, ddof=1))
    return float(variance / (np.sum(mean**2) - variance / len(gradients)))


def _errors(field: Field, key: Key) -> tuple[float, float]:
    """Relative mean squared error of the score at the data, and over the box."""

    @jax.jit
    def error(x: Array) -> Array:
        exact = true_score(x)
        return jnp.sum((field(x) - exact) ** 2) / jnp.sum(exact**2)

    return float(error(_draw_data(key, 20_000))), float(error(_grid(101)))


def _grid(side: int) -> np.ndarray:
    """Points of the box, ``[side², 2]``."""
    axis = np.linspace(-BOX, BOX, side, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)


def _chosen(names: Sequence[str]) -> list[str]:
    for name in names:
        if name not in OBJECTIVES:
            raise InputError(f"--only must be names from {out_of(name, OBJECTIVES)}")
    return list(names or OBJECTIVES)


def as_table(rows: Sequence[Row]) -> str:
    """Format the rows as a text table."""
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
