"""Averages that a run keeps and stores, and the one that was not kept, against following it."""

import dataclasses

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from tiny import tiny_config

from jaxdiff import train
from jaxdiff.typing import InputError

STDS, OTHER = (0.05, 0.1), 0.08


def run_with(workdir, **changes):
    settings = dataclasses.replace(tiny_config(num_steps=60).training, log_every=60, **changes)
    config = dataclasses.replace(tiny_config(num_steps=60), training=settings)
    train.train(config, workdir, say=lambda line: None)
    return workdir


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return run_with(
        tmp_path_factory.mktemp("posthoc") / "run",
        ema_stds=STDS, other_ema_decays=(0.5,), checkpoint_every=5,
    )  # fmt: skip


def flat(run):
    return np.asarray(ravel_pytree(jax.device_get(run.params))[0])


def test_the_average_that_was_not_kept_is_that_of_a_run_that_keeps_it(workdir, tmp_path):
    kept = run_with(tmp_path / "run", ema_stds=(OTHER,), checkpoint_every=60)
    followed, near = (flat(train.load(kept, ema_std=OTHER)), flat(train.load(workdir, ema_std=0.1)))
    found = flat(train.load(workdir, ema_std=OTHER))
    assert np.linalg.norm(found - followed) < 0.05 * np.linalg.norm(near - followed)


@pytest.mark.parametrize("std", STDS)
def test_what_was_stored_is_found_again(workdir, tmp_path, std):
    from safetensors.numpy import load_file

    stored = load_file(workdir / "averages" / "000000060.safetensors")
    expected = {n.removeprefix(f"{std}:"): v for n, v in stored.items() if n.startswith(f"{std}:")}
    from flax import traverse_util

    found = traverse_util.flatten_dict(train.load(workdir, ema_std=std).params, sep=".")
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6)


def test_each_kept_decay_can_be_had(workdir):
    runs = [train.load(workdir), train.load(workdir, ema_decay=0.9999)]
    np.testing.assert_array_equal(*map(flat, runs))
    assert not np.array_equal(flat(train.load(workdir, ema_decay=0.5)), flat(runs[0]))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"ema_decay": 0.9}, r"one that the run keeps, 0\.9999, 0\.5, got 0\.9"),
        ({"ema_std": 0.4}, r"share of the run in \(0, 0\.2886\)"),
        ({"ema_std": 0.1, "ema_decay": 0.5}, "ema_decay or ema_std, got 0.5 and 0.1"),
    ],
)
def test_an_average_that_cannot_be_had_is_refused(workdir, options, sentence):
    with pytest.raises(InputError, match=sentence):
        train.load(workdir, **options)


def test_a_run_that_stored_none_says_so(tmp_path):
    workdir = run_with(tmp_path / "run", checkpoint_every=60)
    with pytest.raises(InputError, match=r"holds no averages of step 60.*got \(\)"):
        train.load(workdir, ema_std=0.1)
