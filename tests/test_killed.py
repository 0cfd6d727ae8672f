"""A run that is killed outright goes on, by the same command, to the bits of an unbroken one."""

import signal
import time

import pytest
from running import command, start

from jaxdiff import train

FLAGS = [
    "experiments.train",
    "--config=experiments/configs/toy_vp.py",
    "--config.network.width=8",
    "--config.training.num_steps=60",
    "--config.training.batch_size=16",
    "--config.training.checkpoint_every=1",
    "--config.training.log_every=1",
    "--config.optimizer.warmup_steps=1",
    "--config.sampling.num_images=4",
    "--config.sampling.num_steps=2",
]


def parameters(workdir):
    """Bytes of every averaged parameter at the end of a run."""
    import jax

    run = train.load(workdir)
    assert run.step == 60
    return [leaf.tobytes() for leaf in map(jax.device_get, jax.tree.leaves(run.params))]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("unbroken") / "run"
    done = command(*FLAGS, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return parameters(workdir)


@pytest.mark.parametrize("after", [4, 25])
def test_a_run_killed_while_it_saves_at_every_step_ends_in_the_same_bits(unbroken, tmp_path, after):
    workdir = tmp_path / "run"
    running, log = start(*FLAGS, f"--workdir={workdir}"), workdir / "metrics.jsonl"
    while running.poll() is None and not (log.exists() and log.read_text().count("\n") >= after):
        time.sleep(0.002)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL  # it was in the middle of its work
    done = command(*FLAGS, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert "going on from step" in done.stdout
    assert parameters(workdir) == unbroken
