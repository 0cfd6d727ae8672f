"""Runs that are stopped and resumed, and their outputs for a notebook to load."""

import dataclasses
import functools
import json
import shutil

import jax
import pytest
from players import bits, player_of, quiet
from tiny import tiny_config

from jaxdiff import recipes, train
from jaxdiff.files import atomic_write
from jaxdiff.recipes import Run
from jaxdiff.recipes.diffusion import assemble, fresh_state
from jaxdiff.recipes.resuming import identity_of, read_config
from jaxdiff.train.checkpoints import Checkpoints
from jaxdiff.train.workdir import write_content
from jaxdiff.typing import InputError


def write(workdir, config):
    """The ``config.json`` of a run on points in the plane, with two classes."""
    write_content(workdir, identity_of(assemble(config, (2,), 2)).content)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "straight"
    lines = []
    return recipes.train(tiny_config(), workdir, say=lines.append), workdir, lines


@pytest.fixture(scope="module")
def final_state():
    """The final state of the run in a workdir."""

    def read(workdir):
        run = Run(assemble(*read_config(workdir)))
        with Checkpoints(workdir) as checkpoints:
            return checkpoints.restore(jax.eval_shape(functools.partial(fresh_state, run.model)))

    return read


TIMED = ("seconds", "steps_per_second", "examples_per_second", "waiting")


def rows(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMED} for line in lines]


def test_a_run_writes_the_files_that_it_reports(trained):
    run, workdir, lines = trained
    assert run.step == 6
    written = [line.removeprefix("wrote ") for line in lines if line.startswith("wrote ")]
    assert written == [
        str(workdir / name)
        for name in (
            "config.json",
            "metrics.jsonl",
            "loss.png",
            "tensorboard",
            "checkpoints",
            "samples.png",
        )
    ]
    assert all((workdir / name).exists() for name in written)
    assert [row["step"] for row in rows(workdir)] == [1, 2, 3, 4, 5, 6]


def train_until(step, workdir, monkeypatch, **changes):
    """A run that dies after a step."""
    config = dataclasses.replace(tiny_config(), **changes)
    update = train.loop.Progress.update

    def dying(self, done, metrics, **more):
        update(self, done, metrics, **more)
        if done == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train.loop.Progress, "update", dying)
        with pytest.raises(KeyboardInterrupt):
            recipes.train(config, workdir, say=quiet)


def interrupted(*_, **__):
    raise KeyboardInterrupt


def test_a_run_that_died_resumes_to_the_same_bits(trained, final_state, tmp_path, monkeypatch):
    """It dies before its first checkpoint, when its first is due, and between two.

    The last time as in a power cut, in the middle of an image and of a row of the log.
    """
    _, straight, _ = trained
    for step in (1, 2, 5):
        train_until(step, tmp_path, monkeypatch)
    with open(tmp_path / "metrics.jsonl", "ab") as log:
        log.write(b"\0" * 4096)
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", interrupted)
        patch.setattr("pathlib.Path.unlink", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            atomic_write(tmp_path / "samples" / "step_5.png", b"half of it")
    assert len(list(tmp_path.rglob("*.partial"))) == 1
    with pytest.warns(UserWarning, match=r"metrics\.jsonl: skipped lines that are not rows"):
        recipes.train(tiny_config(), tmp_path, say=quiet)
    assert not list(tmp_path.rglob("*.partial"))
    assert bits(final_state(tmp_path)) == bits(final_state(straight))
    assert rows(tmp_path) == rows(straight)
    assert (tmp_path / "samples.png").read_bytes() == (straight / "samples.png").read_bytes()


@pytest.mark.slow
def test_another_seed_gives_another_run(trained, tmp_path, monkeypatch):
    _, straight, _ = trained
    train_until(1, tmp_path, monkeypatch, seed=1)
    assert rows(tmp_path)[0]["loss"] != rows(straight)[0]["loss"]


def test_a_finished_run_is_left_unchanged(trained, final_state):
    _, workdir, _ = trained
    before = rows(workdir)
    state = final_state(workdir)
    assert recipes.train(tiny_config(), workdir, say=quiet).step == 6
    assert rows(workdir) == before
    assert bits(final_state(workdir)) == bits(state)


def with_(config, part, **changes):
    """A configuration with some fields of one of its parts changed."""
    return dataclasses.replace(
        config, **{part: dataclasses.replace(getattr(config, part), **changes)}
    )


CONSTANT = with_(tiny_config(), "optimizer", schedule="constant")


def contents(workdir):
    return {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run whose learning rates do not depend on its length, and its configuration."""
    config = with_(CONSTANT, "training", ema_stds=(0.1,), sample_every=4)
    workdir = tmp_path_factory.mktemp("constant") / "run"
    recipes.train(config, workdir, say=quiet)
    return config, workdir


@pytest.mark.slow
def test_an_extended_run_equals_one_of_that_length(straight, final_state, tmp_path):
    """Extended together with fields that no step depends on; config.json has the new values."""
    config, workdir = straight
    shorter = with_(config, "training", num_steps=4, keep_checkpoints=1, checkpoint_every=4)
    shorter = with_(with_(shorter, "sampling", t_min=1e-2), "data", data_dir=str(tmp_path))
    recipes.train(shorter, tmp_path, say=quiet)
    assert not (tmp_path / "samples").exists()
    longer = with_(config, "training", keep_every=4, log_every=2, eval_every=2, keep_best=1)
    lines = []
    assert recipes.train(longer, tmp_path, say=lines.append).step == 6
    assert bits(final_state(tmp_path)) == bits(final_state(workdir))
    assert recipes.load(tmp_path).config == longer
    changed = f"changed in {tmp_path / 'config.json'}: config."
    assert f"{changed}training.num_steps: 4 -> 6" in lines
    assert f"{changed}sampling.t_min: 0.01 -> 0.001" in lines
    name = "samples/step_0000004.png"
    assert (tmp_path / name).read_bytes() == (workdir / name).read_bytes()


@pytest.mark.parametrize(
    ("base", "changes", "message"),
    [
        (tiny_config(), {"seed": 3}, r"another config.*config\.seed: 0 -> 3\)"),
        (
            tiny_config(),
            {"training": {"num_steps": 8}},
            r"num_steps: 6 -> 8, on which the learning rate of every step of a cosine schedule",
        ),
        (
            CONSTANT,
            {"training": {"num_steps": 8, "batch_size": 8}, "optimizer": {"warmup_steps": 3}},
            r"config\.optimizer\.warmup_steps: 2 -> 3; config\.training\.batch_size: 16 -> 8\)",
        ),
        (
            CONSTANT,
            {"training": {"num_steps": 4, "log_every": 3}},
            r"num_steps must be at least 6, the step of the newest checkpoint in .*, got 4",
        ),
    ],
)
def test_a_change_to_past_steps_is_refused_and_nothing_overwritten(
    trained, tmp_path, base, changes, message
):
    workdir = shutil.copytree(trained[1], tmp_path / "run")
    write(workdir, base)
    before, other = contents(workdir), base
    for part, fields in changes.items():
        simple = not isinstance(fields, dict)
        other = dataclasses.replace(other, seed=fields) if simple else with_(other, part, **fields)
    with pytest.raises(InputError, match=message):
        recipes.train(other, workdir, say=quiet)
    assert contents(workdir) == before


def test_a_start_that_is_refused_late_leaves_the_config_unchanged(trained, tmp_path):
    """Although the changes are allowed: no checkpoint can be read."""
    workdir = shutil.copytree(trained[1], tmp_path / "run")
    for path in (workdir / "checkpoints").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    before, other = contents(workdir), with_(tiny_config(), "training", log_every=3)
    with pytest.raises(InputError, match=r"no checkpoint .* can be read"):
        recipes.train(other, workdir, say=quiet)
    with pytest.raises(InputError, match="profile_steps must be FIRST:LAST"):
        recipes.train(other, workdir, profile_steps=(2, 1), say=quiet)
    assert contents(workdir) == before


@pytest.mark.parametrize("content", ["{", "[1]", "{}", '{"config": {}, "example": [2]}'])
def test_an_invalid_config_file_is_refused_on_loading_and_on_resuming(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    message = r"config\.json is not the configuration of a run: (?!.*is not the)"
    with pytest.raises(InputError, match=message):
        recipes.load(tmp_path)
    with pytest.raises(InputError, match=message):
        recipes.train(tiny_config(), tmp_path, say=quiet)
    assert (tmp_path / "config.json").read_text() == content


@pytest.mark.slow
def test_outputs_of_a_saved_step_lost_in_a_kill_are_made_on_resuming(
    straight, tmp_path, monkeypatch
):
    """Its image and its stored averages; both equal those of an uninterrupted run."""
    config, workdir = straight
    with monkeypatch.context() as patch:
        patch.setattr("jaxdiff.recipes.training.draw", interrupted)
        with pytest.raises(KeyboardInterrupt):
            recipes.train(config, tmp_path, say=quiet)
    (tmp_path / "averages" / "000000004.safetensors").write_bytes(b"damaged")
    recipes.train(config, tmp_path, say=quiet)
    for name in ("samples/step_0000004.png", "averages/000000004.safetensors", "samples.png"):
        assert (tmp_path / name).read_bytes() == (workdir / name).read_bytes()


def test_only_the_newest_checkpoints_are_kept(trained):
    _, workdir, _ = trained
    steps = {path.name for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()}
    assert steps == {"4", "6"}


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_the_run_before_it_is_saved(tmp_path):
    config = tiny_config(optimizer=recipes.OptimizerConfig(learning_rate=1e30, clip_norm=1e30))
    settings = dataclasses.replace(config.training, max_skipped=3)
    config = dataclasses.replace(config, training=settings)
    message = "not finite for 3 consecutive steps from step 2, which reads batch 1; .* step None"
    with pytest.raises(InputError, match=message):
        recipes.train(config, tmp_path, say=quiet)
    assert not [p for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()]


def test_load_returns_the_averaged_parameters(trained, final_state):
    run, workdir, _ = trained
    loaded = recipes.load(workdir)
    assert loaded.step == 6
    assert loaded.config == run.config
    assert bits(loaded.params) == bits(player_of(final_state(workdir)).averages[0])


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda workdir: None, "holds no run: there is no config.json"),
        (lambda workdir: (workdir / "config.json").write_text("{"), "is not the configuration of"),
        (
            lambda workdir: write(workdir, tiny_config()),
            "holds no checkpoint to load",
        ),
    ],
)
def test_a_workdir_without_a_model_is_refused(tmp_path, prepare, message):
    prepare(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        recipes.load(tmp_path)
    assert "\n" not in str(caught.value)
