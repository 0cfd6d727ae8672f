"""The commands about networks: weights out of a run and into another, and the benchmarks."""

import re

import numpy as np
import pytest
from running import forked
from tiny import DIGITS

TINY = [
    *DIGITS,
    "--config.training.num_steps=1",
    "--config.training.batch_size=4",
    "--config.optimizer.warmup_steps=0",
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A run, its weights as files, and a run made of these."""
    root = tmp_path_factory.mktemp("weights")
    run, files, copy = root / "run", root / "files", root / "copy"
    for arguments in (
        ["experiments.train", f"--workdir={run}", *TINY],
        ["experiments.weights", f"--workdir={run}", f"--write={files}"],
        ["experiments.weights", f"--workdir={copy}", f"--read={files}", *TINY],
    ):
        done = forked(*arguments)
        assert done.returncode == 0, done.stderr
        assert "wrote" in done.stdout
    return run, files, copy


def test_a_run_made_of_weights_draws_what_the_run_they_came_from_draws(folders, tmp_path):
    run, _, copy = folders
    samples = []
    for workdir in (run, copy):
        out = tmp_path / workdir.name
        done = forked("experiments.sample", f"--workdir={workdir}", f"--out={out}", "--n=3")
        assert done.returncode == 0, done.stderr
        samples.append(np.load(out / "samples.npz")["x"])
    np.testing.assert_array_equal(*samples)
    assert samples[0].std() > 0


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--read={files}", "--write={files}"], "--read=PATH or --write=DIR"),
        (["--read={files}"], "--read takes --config=FILE"),
        (["--read={files}", DIGITS[0]], "its channels 4, not 32"),
        (["--read={files}", *TINY, "--workdir={run}"], "holds a run already"),
        (["--read={run}", *TINY], "holds no network of ours"),
    ],
    ids=["both", "no config", "another network", "not over a run", "no weights"],
)
def test_a_mistake_is_one_sentence(folders, tmp_path, flags, sentence):
    run, files, _ = folders
    filled = [flag.format(run=run, files=files) for flag in flags]
    done = forked("experiments.weights", f"--workdir={tmp_path / 'new'}", *filled)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_the_benchmark_prints_a_line_for_each_job_and_contender():
    done = forked(
        "experiments.benchmarks.network",
        "--config=experiments/configs/cifar10_small.py",
        "--config.network.channels=8",
        "--config.network.multipliers=(1,)",
        "--config.network.attention_levels=(0,)",
        "--config.network.blocks_per_level=1",
        "--config.network.groups=2",
        "--size=8",
        "--batch=2",
        "--rounds=1",
        "--peer=flax",
        "--profile",
    )
    assert done.returncode == 0, done.stderr
    for job in ("forward", "step", "sample"):
        own = re.search(rf"^{job}, jaxdiff +([\d.]+) +([\d.]+)", done.stdout, re.MULTILINE)
        peer = re.search(rf"^{job}, usual flax .* ([\d.]+)$", done.stdout, re.MULTILINE)
        assert float(own[1]) > 0
        assert float(own[2]) > 0
        assert float(peer[1]) > 0
    assert re.search(r"^a step: operations .* the largest:\n  \S+ +[\d.]+ ms", done.stdout, re.M)


def test_the_benchmark_of_the_loop_prints_each_of_its_figures():
    done = forked("experiments.benchmarks.loop", *TINY, "--steps=4", "--rounds=1")
    assert done.returncode == 0, done.stderr
    for figure in (
        r"bare step (\d+\.\d+) ms",
        r"in the loop (\d+\.\d+) ms",
        r"input alone (\d+) batches/s",
    ):
        assert float(re.search(figure, done.stdout)[1]) > 0
    for figure in ("waiting for", "handed to orbax in"):
        least, most = re.search(rf"{figure} (\S+) to (\S+) ms", done.stdout).groups()
        assert 0 < float(least) <= float(most)
