"""Objects built from a configuration are built once per run and passed on."""

from collections import Counter

import pytest
from tiny import tiny_config

from jaxdiff import recipes
from jaxdiff.recipes import build, diffusion, objective

MAKERS = {
    "process": build,
    "network": build,
    "optimizer": build,
    "ema_schedules": build,
    "dataset": build,
    "weight": objective,
    "time_sampler": objective,
}


@pytest.fixture
def calls(monkeypatch):
    """Counts of the calls of each maker from now on."""
    counted = Counter()

    def counting(name, make):
        def call(*args, **kwargs):
            counted[name] += 1
            return make(*args, **kwargs)

        return call

    for name, module in MAKERS.items():
        monkeypatch.setattr(module, name, counting(name, getattr(module, name)))
    made = counting("objective", diffusion.objective)
    monkeypatch.setattr(diffusion, "objective", made)
    return counted


@pytest.mark.slow
def test_a_configuration_is_built_once(calls, tmp_path):
    recipes.train(tiny_config(num_steps=4), tmp_path, say=lambda line: None)
    counted = {name: calls[name] for name in calls if name != "weight"}
    once = ("process", "network", "optimizer", "ema_schedules", "dataset", "objective")
    assert counted == dict.fromkeys((*once, "time_sampler"), 1)
    calls.clear()
    recipes.load(tmp_path)
    assert calls["process"] == calls["network"] == calls["objective"] == 1
    assert calls["dataset"] == 0
