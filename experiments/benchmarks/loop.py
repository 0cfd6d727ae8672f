"""What surrounds the step: ``python -m experiments.benchmarks.loop --config=FILE``.

Times, in turns: the bare compiled step on one batch that is there already, and the whole training
loop with its input, log and bar. Then how long a checkpoint holds the loop up, and how many batches
a second the input gives by itself.
"""

import dataclasses
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import config_flags

from experiments import cli
from jaxdiff import data, train
from jaxdiff.train import Config, build, devices
from jaxdiff.train.checkpoints import Checkpoints
from jaxdiff.train.compiled import compile_step
from jaxdiff.train.run import assemble, fresh_state
from jaxdiff.typing import InputError

CONFIG = config_flags.DEFINE_config_file("config", None, "Config file; see experiments/configs.")
STEPS = flags.DEFINE_integer("steps", 200, "Steps of each turn.", lower_bound=10)
ROUNDS = flags.DEFINE_integer("rounds", 3, "Turns of each, the best of which counts.", 1)


def main() -> None:
    """Measure, and print a line for each figure."""
    if CONFIG.value is None:
        raise InputError("a benchmark takes --config=FILE, got none")
    config = train.from_dict(CONFIG.value.to_dict())
    config = dataclasses.replace(config, training=quiet(config, STEPS.value))
    dataset = data.load(config.data.name, data_dir=config.data.data_dir or None)
    run = assemble(config, dataset.shape, dataset.num_classes)
    mesh = devices.mesh()
    batches = build.batches(config, dataset.train)
    state = fresh_state(run)
    state = jax.device_put(state, devices.state_shardings(mesh, state))
    step_fn = compile_step(run, state, mesh)
    batch = devices.put_batch(next(batches), mesh)

    bare, looped = [], []
    for _ in range(ROUNDS.value):
        began = time.perf_counter()
        for _ in range(STEPS.value):
            state, metrics = step_fn(state, batch)
        jax.block_until_ready(metrics)
        bare.append((time.perf_counter() - began) / STEPS.value)
        seconds, waiting = in_the_loop(config)
        looped.append((seconds / STEPS.value, waiting))
    step, (loop, waiting) = min(bare), min(looped)
    print(f"bare step {1e3 * step:.2f} ms")
    print(
        f"in the loop {1e3 * loop:.2f} ms, {loop / step - 1:+.1%}; waiting for batches "
        f"{waiting:.1%} of the time"
    )

    stalls = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Checkpoints(Path(folder), keep=config.training) as checkpoints,
    ):
        for index in range(1, 6):
            for _ in range(20):
                state, metrics = step_fn(state, batch)
            jax.block_until_ready(metrics)
            began = time.perf_counter()
            checkpoints.save(index, state)
            stalls.append(time.perf_counter() - began)
    steady = stalls[1:]  # the first compiles the fingerprint
    print(
        f"a checkpoint holds the loop up for {1e3 * min(steady):.1f} to {1e3 * max(steady):.1f} ms"
    )

    began = time.perf_counter()
    for _ in range(STEPS.value):
        next(batches)
    rate = STEPS.value / (time.perf_counter() - began)
    print(f"input alone {rate:.0f} batches/s, {rate * step:.1f} times what the step takes")


def quiet(config: Config, num_steps: int) -> Any:
    """The training of a configuration without pictures, and with one checkpoint, at the end."""
    return dataclasses.replace(
        config.training, num_steps=num_steps, sample_every=10**9, checkpoint_every=10**9
    )


def in_the_loop(config: Config) -> tuple[float, float]:
    """Seconds of training in a workdir of its own, compilation left out, and the share waited."""
    with tempfile.TemporaryDirectory() as folder:
        train.train(config, folder, say=lambda line: None)
        last = json.loads((Path(folder) / "metrics.jsonl").read_text().splitlines()[-1])
        return last["seconds"], last["waiting"]


if __name__ == "__main__":
    cli.run(main)
