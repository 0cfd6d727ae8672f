"""L7: the loop around the pure step. The side effects of training live here and in ``progress``.

The batch of step k is a pure function of (seed, k), its noise of (key, k), and a checkpoint holds
the whole state: a run that was stopped and goes on ends bit for bit where it would have ended.
"""

import functools
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import data
from jaxdiff.compiling import compiler_options
from jaxdiff.files import read_lines_json
from jaxdiff.train import build, pictures
from jaxdiff.train.checkpoints import Checkpoints
from jaxdiff.train.config import Config
from jaxdiff.train.progress import Progress
from jaxdiff.train.run import Run, assemble, fresh_state
from jaxdiff.train.state import TrainState, train_step
from jaxdiff.train.workdir import (
    CHECKPOINTS,
    CONFIG_FILE,
    LOSS_FILE,
    METRICS_FILE,
    SAMPLES_FILE,
    claim,
)
from jaxdiff.typing import Array


def train(config: Config, workdir: str | Path, *, say: Callable[[str], None] = print) -> Run:
    """Train, or go on training, and leave everything in ``workdir``.

    Args:
        config: of the run; on a resume it must equal the one in the workdir.
        workdir: gets ``config.json``, ``metrics.jsonl``, ``loss.png``, ``samples.png``,
            ``samples/`` and ``checkpoints/``.
        say: called with each line of report.

    Returns:
        The trained run.

    Raises:
        InputError: if the configuration cannot be built, or the workdir holds another run.
    """
    workdir, settings = Path(workdir), config.training
    dataset = data.load(config.data.name, data_dir=config.data.data_dir or None)
    run = assemble(config, dataset.shape, dataset.num_classes)
    reference = None if dataset.is_image else data.stack(dataset.test, limit=2000)[0]
    batches = functools.partial(
        data.batches,
        dataset.train,
        batch_size=settings.batch_size,
        seed=config.seed,
        value_range=run.value_range,
        flip=config.data.flip,
        dequantize=config.data.dequantize,
    )
    batches()  # refuses options that the data do not take
    state = fresh_state(run)
    claim(workdir, config, run.shape, run.num_classes)  # last: what was refused owns no folder

    with Checkpoints(workdir, keep=settings.keep_checkpoints) as checkpoints:
        if checkpoints.latest_step is not None:
            state = checkpoints.restore(state)
            say(f"going on from step {int(state.step)} of {settings.num_steps}")
        start = int(state.step)
        steps = range(start + 1, settings.num_steps + 1)
        if steps:
            step_fn = compile_step(run, state, say)
            with Progress(workdir / METRICS_FILE, settings, start) as progress:
                for step, batch in zip(steps, batches(start_step=start), strict=False):
                    state, metrics = step_fn(state, batch)
                    progress.update(step, metrics)
                    if step % settings.checkpoint_every == 0 or step == settings.num_steps:
                        progress.flush()
                        checkpoints.save(state)
                    if step % settings.sample_every == 0:
                        name = f"step_{step:07d}.png"
                        draw_samples(run.at(state), workdir / "samples" / name, reference)
                seconds = progress.seconds
            say(
                f"{len(steps)} steps in {seconds:.1f} s, pictures and checkpoints included: "
                f"{len(steps) / seconds:.2f} steps/s"
            )

    run = run.at(state)
    picture = draw_samples(run, workdir / SAMPLES_FILE, reference)
    pictures.curve(workdir / LOSS_FILE, read_lines_json(workdir / METRICS_FILE))
    files = [workdir / name for name in (CONFIG_FILE, METRICS_FILE, LOSS_FILE, CHECKPOINTS)]
    for path in (*files, picture):
        if path is not None:
            say(f"wrote {path}")
    return run


def compile_step(
    run: Run, state: TrainState, say: Callable[[str], None]
) -> Callable[[TrainState, dict[str, np.ndarray]], tuple[TrainState, dict[str, Array]]]:
    """Compile the donated step before the clock of training starts."""
    batch_size = run.config.training.batch_size
    batch = {
        "x": jax.ShapeDtypeStruct((batch_size, *run.shape), jnp.float32),
        "label": jax.ShapeDtypeStruct((batch_size,), jnp.int32),
    }
    step_fn = functools.partial(
        train_step,
        loss_fn=build.loss_fn(run.config, run.network, run.process),
        optimizer=build.optimizer(run.config),
        ema_decay=run.config.training.ema_decay,
    )
    began = time.perf_counter()
    compiled = jax.jit(step_fn, donate_argnums=0).lower(state, batch).compile(compiler_options())
    size = sum(leaf.size for leaf in jax.tree.leaves(state.params["params"]))
    say(f"{size:,} parameters; compiled in {time.perf_counter() - began:.1f} s")
    return compiled


def draw_samples(run: Run, path: Path, reference: np.ndarray | None) -> Path | None:
    """Picture samples of a run, always from the same noise."""
    key = jax.random.fold_in(jax.random.key(run.config.seed), 1)
    x = np.asarray(run.sample(key, run.config.sampling.num_images))
    return draw(path, x, run, reference=reference)


def draw(
    path: Path, x: np.ndarray, run: Run, *, reference: np.ndarray | None = None
) -> Path | None:
    """Picture examples: images as a grid, points of the plane beside the data.

    Returns:
        The path, or None where there is nothing to see: other shapes, and numbers that are not
        finite, which are no reason for training to end.
    """
    if not np.all(np.isfinite(x)):
        return None
    if len(run.shape) == 3 and run.shape[-1] in (1, 3):
        pictures.image_grid(path, x, value_range=run.value_range)
    elif run.shape == (2,):
        pictures.scatter(path, x, reference=reference)
    else:
        return None
    return path
