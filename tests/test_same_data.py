"""A run resumes only with its original data; the error names what has changed."""

import json

import numpy as np
import pytest
from tiny import tiny_config

from jaxdiff import data, recipes
from jaxdiff.train.same_data import check_same_data, data_changes
from jaxdiff.typing import InputError

X = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
LABEL = np.arange(50) % 3


def points(folder, x=X, label=LABEL):
    np.savez(folder / "points.npz", x=x, label=label)
    return data.load("npz:points.npz", data_dir=folder)


def test_changes_are_named(tmp_path):
    check_same_data(tmp_path, points(tmp_path))
    stored = (tmp_path / "data.json").read_bytes()
    check_same_data(tmp_path, points(tmp_path))
    check_same_data(tmp_path, points(tmp_path, x=X.astype(np.float64)))  # stored as float32 anyway
    for change, difference in (
        ({"x": np.tile(X, (10, 1)), "label": np.tile(LABEL, 10)}, "450 examples in train instead "
         "of 45; 50 examples in test instead of 5"),
        ({"x": X + 100}, "different examples in train; different examples in test"),
        ({"label": (LABEL + 1) % 3}, "different labels in train; different labels in test"),
        ({"x": X[::-1]}, "different examples in train; different examples in test"),
    ):  # fmt: skip
        with pytest.raises(
            InputError, match=f"unchanged since .* was started, got {difference}; restore the data"
        ):
            check_same_data(tmp_path, points(tmp_path, **change))
    assert (tmp_path / "data.json").read_bytes() == stored
    split = json.loads(stored)["train"]
    assert (split["size"], len(split["examples"]), len(split["labels"])) == (45, 64, 64)


def test_a_missing_fingerprint_is_accepted_and_a_broken_one_is_refused(tmp_path):
    dataset = points(tmp_path, x=X[:1], label=LABEL[:1])  # with an empty test split
    assert data_changes(tmp_path, dataset) == []
    for text in ("{", "[]", '{"train": 3}'):
        (tmp_path / "data.json").write_text(text)
        with pytest.raises(InputError, match=r"data\.json must be the fingerprint of a dataset"):
            data_changes(tmp_path, dataset)


@pytest.mark.slow
def test_training_resumes_only_with_its_own_data(tmp_path):
    points(tmp_path)
    source = recipes.DataConfig(name="npz:points.npz", data_dir=str(tmp_path))
    config, workdir = tiny_config(num_steps=3, data=source), tmp_path / "run"
    recipes.train(config, workdir, say=lambda line: None)
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    points(tmp_path, x=np.tile(X + 100, (10, 1)), label=np.tile(LABEL, 10))
    with pytest.raises(
        InputError, match=r"points\.npz must be unchanged since .* 450 examples in train"
    ):
        recipes.train(config, workdir, say=lambda line: None)
    assert before == {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    points(tmp_path)
    assert recipes.train(config, workdir, say=lambda line: None).step == 3
