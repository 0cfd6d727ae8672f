"""The benchmarks print the figures that they document."""

import re

import pytest
from running import run
from tiny import FEW_STEPS, POINTS


@pytest.mark.slow
def test_the_benchmark_prints_a_line_for_each_job_and_contender():
    done = run(
        "experiments.benchmarks.network",
        "--config=experiments/configs/cifar10_small.py",
        "--config.network.channels=4",
        "--config.network.multipliers=(1,)",
        "--config.network.attention_levels=()",
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
    assert re.search(r"^a step: operations, .* the largest:\n  \S+ +[\d.]+ ms", done.stdout, re.M)


@pytest.mark.slow
def test_the_benchmark_of_the_loop_prints_each_of_its_figures():
    done = run("experiments.benchmarks.loop", *POINTS, *FEW_STEPS, "--steps=4", "--rounds=1")
    assert done.returncode == 0, done.stderr
    for figure in (
        r"bare step (\d+\.\d+) ms",
        r"in the loop (\d+\.\d+) ms",
        r"input alone (\d+) batches/s",
    ):
        assert float(re.search(figure, done.stdout)[1]) > 0
    for figure in ("stalls the devices for", "passed to orbax in"):
        least, most = re.search(rf"{figure} (\S+) to (\S+) ms", done.stdout).groups()
        assert 0 < float(least) <= float(most)
