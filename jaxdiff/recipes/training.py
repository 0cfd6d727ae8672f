"""L9: a diffusion model as a task for the training loop, from a configuration to a run."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxdiff import data, plots
from jaxdiff.extras import EXTRAS, require
from jaxdiff.recipes import build
from jaxdiff.recipes.config import Config
from jaxdiff.recipes.diffusion import (
    PLAYER,
    Diffusion,
    algorithm,
    assemble,
    batch_spec,
    batches,
)
from jaxdiff.recipes.held_out import held_out_loss
from jaxdiff.recipes.resuming import identity_of
from jaxdiff.recipes.run import Run
from jaxdiff.train import memory, sharding
from jaxdiff.train.checkpoints import METRIC
from jaxdiff.train.loop import Task, fit
from jaxdiff.train.state import TrainState
from jaxdiff.typing import InputError

SAMPLES = 2**31
"""Folded into the seed's key for sample pictures: far from the numbers that training uses."""


def train(config: Config, workdir: str | Path, *, workers: int = 0, **options: Any) -> Run:
    """Train what a configuration specifies, or resume training, by :func:`jaxdiff.train.fit`.

    Args:
        config: of the run; when resuming, it may differ from the one in the workdir where
            :func:`jaxdiff.recipes.resuming.refused_changes` allows it, and is then written there.
        workdir: where everything is written.
        workers: extra processes that read and decode; 0 for threads of this one.
        **options: of ``fit``: ``fsdp``, ``microbatches``, ``profile_steps`` and ``say``.

    Returns:
        The run, trained up to ``run.step``.

    Raises:
        InputError: if the configuration cannot be built, or as raised by ``fit``.
    """
    require(*EXTRAS["train"], purpose="training")
    dataset = build.dataset(config)
    model = assemble(config, dataset.shape, dataset.num_classes)
    check_memory(model, workers)
    state = fit(
        diffusion_task(model, dataset), workdir, config.training, workers=workers, **options
    )
    return Run(model).at(state)


def diffusion_task(model: Diffusion, dataset: data.Dataset) -> Task:
    """Make a task for the loop from a model and its data.

    Raises:
        InputError: if a held-out loss is requested, but there are no held-out data.
    """
    config = model.config
    if config.training.eval_every and not len(dataset.test):
        raise InputError(
            "config.training.eval_every must be 0 for data without a test split, got "
            f"{config.training.eval_every}"
        )
    return Task(
        algorithm=functools.partial(algorithm, model),
        key=jax.random.key(config.seed),
        batch_spec=batch_spec(model),
        batches=functools.partial(batches, model, dataset.train),
        identity=identity_of(model, dataset),
        evaluate=_evaluation(model, dataset) if config.training.eval_every else None,
        draw=_drawing(model, dataset),
    )


def _evaluation(
    model: Diffusion, dataset: data.Dataset
) -> Callable[[TrainState], Mapping[str, float]]:
    """Build the held-out loss of a state's first EMA."""
    loss = held_out_loss(model, dataset.test)
    return lambda state: {METRIC: loss(state.players[PLAYER].averages[0])}


def _drawing(
    model: Diffusion, dataset: data.Dataset
) -> Callable[[TrainState, Path, Mesh], Path | None]:
    """Build a function that draws samples of a state, always from the same noise."""
    run, config = Run(model), model.config
    reference = None
    if not dataset.is_image and len(dataset.test):
        reference = data.stack(dataset.test, limit=2000)[0]

    def picture(state: TrainState, path: Path, mesh: Mesh) -> Path | None:
        key = jax.random.fold_in(jax.random.key(config.seed), SAMPLES)
        x = sharding.fetch(run.at(state).sample(key, config.sampling.num_images, mesh=mesh))
        return draw(path, x, run, reference=reference) if jax.process_index() == 0 else None

    return picture


def check_memory(model: Diffusion, workers: int) -> None:
    """Refuse numbers of the configuration whose data would not fit into memory."""
    config = model.config
    stored = 1 if model.is_image else 4
    memory.check_examples(
        "config.training.batch_size", config.training.batch_size, model.shape, itemsize=stored
    )
    memory.check_examples("config.sampling.num_images", config.sampling.num_images, model.shape)
    memory.check_fits("workers", workers, workers * memory.PROCESS)


def draw(
    path: Path, x: np.ndarray, run: Run, *, reference: np.ndarray | None = None
) -> Path | None:
    """Draw examples: images as a grid, points of the plane next to the data.

    Returns:
        The path, or None if nothing can be drawn: other shapes, and numbers that are not finite,
        which should not stop training.
    """
    if not np.all(np.isfinite(x)):
        return None
    if run.is_image and run.shape[-1] in (1, 3):
        plots.image_grid(path, x, value_range=run.value_range)
    elif run.shape == (2,):
        plots.scatter(path, x, reference=reference)
    else:
        return None
    return path
