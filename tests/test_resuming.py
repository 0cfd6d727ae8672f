"""Which fields of a configuration may change when a run resumes, and which may not."""

import dataclasses

import pytest

from jaxdiff import recipes
from jaxdiff.recipes import choice
from jaxdiff.recipes.resuming import refused_changes
from jaxdiff.train.identity import differences


def test_differences_name_both_values_and_missing_fields():
    old = recipes.Config(seed=1, process=choice("vp", beta_max=20.0))
    new = recipes.Config(seed=2, process=choice("ve", sigma_max=50.0))
    old, new = old.as_dict(), new.as_dict()
    assert differences(old, new, path="config.") == [
        "config.seed: 1 -> 2",
        "config.process.name: vp -> ve",
        "config.process.beta_max: 20.0 -> absent",
        "config.process.sigma_max: absent -> 50.0",
    ]
    assert differences(old, old) == []


def test_a_run_resumes_after_changes_that_no_step_depends_on():
    old = recipes.Config(network=choice("unet", channels=8))
    new = dataclasses.replace(
        old,
        data=recipes.DataConfig(data_dir="elsewhere"),
        network=choice("unet", channels=8, remat=True),
        training=recipes.TrainingConfig(
            num_steps=9, log_every=9, sample_every=9, checkpoint_every=9, keep_checkpoints=9,
            keep_every=9, keep_best=9, eval_every=9, max_skipped=9,
        ),
        sampling=recipes.SamplingConfig(
            choice("ddim"), choice("karras"), num_steps=9, t_min=0.1, denoise=False, num_images=9
        ),
    )  # fmt: skip
    assert refused_changes(old, new) == refused_changes(new, old) == []


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("data", "flip", True),
        ("model", "kind", "eps"),
        ("loss", "t_min", 0.1),
        ("optimizer", "warmup_steps", 9),
        ("training", "batch_size", 9),
        ("training", "ema_decay", 0.9),
        ("training", "ema_stds", (0.1,)),
    ],
)
def test_a_run_does_not_resume_after_changes_that_its_steps_depend_on(part, field, value):
    old = recipes.Config()
    before = getattr(getattr(old, part), field)
    changed = dataclasses.replace(getattr(old, part), **{field: value})
    new = dataclasses.replace(old, **{part: changed})
    assert refused_changes(old, new) == [f"config.{part}.{field}: {before} -> {value}"]


def test_a_longer_run_on_the_cosine_schedule_is_a_different_run():
    constant, cosine = (recipes.OptimizerConfig(schedule=name) for name in ("constant", "cosine"))
    old, new = recipes.Config(), recipes.Config(training=recipes.TrainingConfig(num_steps=9))
    assert refused_changes(old, new) == []
    old, new = (dataclasses.replace(config, optimizer=cosine) for config in (old, new))
    (line,) = refused_changes(old, new)
    assert line.startswith("config.training.num_steps: 10000 -> 9, on which the learning rate of")
    assert refused_changes(dataclasses.replace(old, optimizer=constant), old) == [
        "config.optimizer.schedule: constant -> cosine"
    ]
