"""L9: the identity of a run: its configuration, part of which may change when it is resumed.

A field may change if no step made so far depends on it.
"""

import dataclasses
from pathlib import Path
from typing import Any

from jaxdiff.data import Dataset
from jaxdiff.recipes.config import Config, DataConfig, SamplingConfig, choice
from jaxdiff.recipes.diffusion import Diffusion
from jaxdiff.recipes.parsing import from_dict
from jaxdiff.train.identity import Content, Identity, differences
from jaxdiff.train.settings import TrainingConfig
from jaxdiff.train.workdir import as_config, read_content

FREE_IN_TRAINING = (
    "num_steps",
    "log_every",
    "sample_every",
    "checkpoint_every",
    "keep_checkpoints",
    "keep_every",
    "keep_best",
    "eval_every",
    "max_skipped",
)
"""Of ``config.training``: how long, how often, and what is kept."""


def identity_of(model: Diffusion, dataset: Dataset | None = None) -> Identity:
    """The identity of a run: its configuration, and the shape and classes of its examples.

    Args:
        model: that is trained.
        dataset: that it is trained on; None for imported weights.
    """
    config, shape, num_classes = model.config, model.shape, model.num_classes

    def refused(stored: Content) -> list[str]:
        old, old_shape, old_classes = _parsed(stored)
        if (old_shape, old_classes) != (shape, num_classes):
            return [
                f"{config.data.name} has changed: examples of shape {old_shape} with {old_classes} "
                f"classes -> shape {shape} with {num_classes}"
            ]
        return refused_changes(old, config)

    def changed(stored: Content) -> list[str]:
        return differences(_parsed(stored)[0].as_dict(), config.as_dict(), path="config.")

    content = {
        "config": config.as_dict(),
        "example": {"shape": list(shape), "num_classes": num_classes},
    }
    return Identity(content, refused, changed, dataset)


def read_config(workdir: Path) -> tuple[Config, tuple[int, ...], int | None]:
    """Read the configuration of a run, the shape of an example, and the number of classes.

    Raises:
        InputError: if it is missing or is not the configuration of a run.
    """
    stored = read_content(workdir)
    with as_config(workdir):
        return _parsed(stored)


def _parsed(stored: Content) -> tuple[Config, tuple[int, ...], int | None]:
    example: Any = stored["example"]
    return from_dict(_named(stored["config"])), tuple(example["shape"]), example["num_classes"]


def _named(config: Any) -> Any:
    """Add the name of the loss to a configuration from before losses had names."""
    loss = config.get("loss", {})
    if "name" in loss or not loss.get("vlb_weight"):
        return config
    return {**config, "loss": {**loss, "name": "hybrid"}}


def refused_changes(stored: Config, given: Config) -> list[str]:
    """Name the changes that would have affected the steps made so far.

    All of ``config.sampling``, ``config.data.data_dir``, ``remat`` of the network and
    :data:`FREE_IN_TRAINING` may change; but ``num_steps`` only if the learning rate does not depend
    on it, as with the constant schedule.

    Args:
        stored: the configuration with which the run was started or last resumed.
        given: the one with which it is to be resumed.

    Returns:
        One ``config.a.b: old -> new`` for each; empty if the run can be resumed.

    Example:
        >>> old = Config(training=TrainingConfig(num_steps=20))
        >>> refused_changes(old, dataclasses.replace(old, training=TrainingConfig(num_steps=40)))
        []
        >>> refused_changes(old, dataclasses.replace(old, seed=1))
        ['config.seed: 0 -> 1']
    """
    constant = {stored.optimizer.schedule, given.optimizer.schedule} == {"constant"}
    bound = (_bound(config, free_steps=constant).as_dict() for config in (stored, given))
    found = differences(*bound, path="config.")
    why = ", on which the learning rate of every step of a cosine schedule depends"
    return [line + why if line.startswith("config.training.num_steps:") else line for line in found]


def _bound(config: Config, *, free_steps: bool) -> Config:
    """The configuration with all fields that may change at their defaults."""
    defaults = TrainingConfig()
    free = {name: getattr(defaults, name) for name in FREE_IN_TRAINING}
    if not free_steps:
        del free["num_steps"]
    options = {k: v for k, v in config.network.options if k != "remat"}
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, data_dir=DataConfig().data_dir),
        network=choice(config.network.name, **options),
        training=dataclasses.replace(config.training, **free),
        sampling=SamplingConfig(),
    )
