"""Overhead of the training loop: ``python -m experiments.benchmarks.loop --config=FILE``.

Times, alternating: the bare compiled step on one batch that is already loaded; the same step in the
training loop, with its input, log and bar; and that loop with a checkpoint halfway. Then how many
batches per second the input pipeline yields by itself.
"""

import functools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from absl import flags
from jax.sharding import Mesh
from ml_collections import config_flags

from experiments.common import cli
from experiments.common.timing import best_times, timed
from jaxdiff import recipes
from jaxdiff.files import read_lines_json
from jaxdiff.recipes import Run, build
from jaxdiff.recipes.diffusion import algorithm, assemble, batch_spec, batches, fresh_state
from jaxdiff.train import sharding
from jaxdiff.train.checkpoints import Checkpoints
from jaxdiff.train.compiled import CompiledStep, compile_step, on_mesh
from jaxdiff.train.progress import Progress
from jaxdiff.train.state import TrainState
from jaxdiff.train.updates import updates
from jaxdiff.train.workdir import METRICS_FILE
from jaxdiff.typing import InputError

CONFIG = config_flags.DEFINE_config_file("config", None, "Config file; see experiments/configs.")
STEPS = flags.DEFINE_integer("steps", 30, "Steps of each timing.", lower_bound=2)
ROUNDS = flags.DEFINE_integer("rounds", 8, "Timings of each, the best of which counts.", 1)


class Trainer:
    """A state that every timing trains further, since steps donate it.

    Attributes:
        copying: seconds for which each checkpoint kept the devices waiting.
        handing: seconds in which the host passed it to orbax, while the devices were busy.
    """

    def __init__(self, run: Run, mesh: Mesh, batches: Iterator[Any]) -> None:
        self.run, self.mesh, self.batches = run, mesh, batches
        state = jax.jit(functools.partial(fresh_state, run.model))()
        self.state: TrainState = jax.device_put(state, sharding.state_shardings(mesh, state))
        on_devices = on_mesh(functools.partial(algorithm, run.model), mesh)
        self.step_fn: CompiledStep = compile_step(
            on_devices, self.state, batch_spec(run.model), mesh
        )
        self.batch = sharding.put_batch(next(batches), mesh)
        self.copying: list[float] = []
        self.handing: list[float] = []

    def bare(self, steps: int) -> Any:
        """Make steps on one batch."""
        for _ in range(steps):
            self.state, metrics = self.step_fn(self.state, self.batch, ())
        return metrics

    def looped(self, steps: int, workdir: Path, checkpoints: Checkpoints | None = None) -> Any:
        """Make steps as training does, with a checkpoint halfway if ``checkpoints`` are given."""
        settings, first = self.run.config.training, int(self.state.step)
        halfway = first + steps // 2
        with Progress(workdir, settings, first, newest=lambda: None) as progress:
            for update in updates(
                self.state,
                self.step_fn,
                self.batches,
                self.mesh,
                until=first + steps,
                should_stop=lambda: None,
                trace=lambda step: None,
            ):
                if checkpoints is not None and update.step == halfway + 1:
                    self.handing.append(timed(checkpoints.flush)[1])
                self.state, metrics = update.state, update.metrics
                progress.update(update.step, metrics, data_wait=update.data_wait)
                if checkpoints is not None and update.step == halfway:
                    progress.flush()
                    save = functools.partial(checkpoints.save, update.step, update.state)
                    self.copying.append(timed(save)[1])
            progress.flush()
        if checkpoints is not None:
            checkpoints.wait()
        return metrics


def main() -> None:
    """Measure, and print a line for each figure."""
    if CONFIG.value is None:
        raise InputError("--config must be the path of a config file, got none")
    config = recipes.from_dict(CONFIG.value.to_dict())
    dataset = build.dataset(config)
    run, mesh = Run(assemble(config, dataset.shape, dataset.num_classes)), sharding.mesh()
    feed = batches(run.model, dataset.train)
    trainer, steps = Trainer(run, mesh, feed), STEPS.value

    with (
        tempfile.TemporaryDirectory() as folder,
        Checkpoints(Path(folder), keep=config.training) as checkpoints,
    ):
        runs = {
            "bare": lambda index: trainer.bare(steps),
            "loop": lambda index: trainer.looped(steps, Path(folder)),
            "saving": lambda index: trainer.looped(steps, Path(folder, "saving"), checkpoints),
        }
        Path(folder, "saving").mkdir()
        for timing in runs.values():
            timing(0)
        trainer.copying.clear()  # those of the first round, which compiles
        trainer.handing.clear()
        best = best_times(runs, rounds=ROUNDS.value)
        waiting = waiting_fraction(Path(folder))
    bare, loop = best["bare"] / steps, best["loop"] / steps
    saving = best["saving"] - best["loop"]
    print(f"bare step {1e3 * bare:.2f} ms")
    print(
        f"in the loop {1e3 * loop:.2f} ms, {loop / bare - 1:+.1%}; waiting for batches "
        f"{waiting:.1%} of the time"
    )
    print(
        f"a checkpoint stalls the devices for {1e3 * min(trainer.copying):.2f} to "
        f"{1e3 * max(trainer.copying):.2f} ms; it is passed to orbax in "
        f"{1e3 * min(trainer.handing):.1f} to {1e3 * max(trainer.handing):.1f} ms during the next "
        f"step; {steps} steps with one, until it is written, take {1e3 * saving:.0f} ms more"
    )
    began = time.perf_counter()
    for _ in range(steps):
        next(feed)
    rate = steps / (time.perf_counter() - began)
    print(f"input alone {rate:.0f} batches/s, {rate * bare:.1f} times what the step needs")


def waiting_fraction(workdir: Path) -> float:
    """Fraction of the time that the last timing waited for batches."""
    data_wait: float = read_lines_json(workdir / METRICS_FILE)[-1]["waiting"]
    return data_wait


if __name__ == "__main__":
    cli.run(main)
