"""L7: what of a configuration may change when a run goes on: all that no step so far depends on."""

import dataclasses

from jaxdiff.train.config import Config, DataConfig, SamplingConfig, TrainingConfig, choice
from jaxdiff.train.parsing import differences

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


def refused_changes(stored: Config, given: Config) -> list[str]:
    """Name the changes under which the steps made so far would have been others.

    Free are all of ``config.sampling``, ``config.data.data_dir``, ``remat`` of the network, and
    :data:`FREE_IN_TRAINING`; but ``num_steps`` only where the learning rate of a step does not
    depend on it, as it does not on the constant schedule.

    Args:
        stored: the configuration that the run was started or last gone on with.
        given: the one that it is to go on with.

    Returns:
        One ``config.a.b: old -> new`` for each, none where the run can go on.

    Example:
        >>> old = Config(training=TrainingConfig(num_steps=20))
        >>> refused_changes(old, dataclasses.replace(old, training=TrainingConfig(num_steps=40)))
        []
        >>> refused_changes(old, dataclasses.replace(old, seed=1))
        ['config.seed: 0 -> 1']
    """
    constant = {stored.optimizer.schedule, given.optimizer.schedule} == {"constant"}
    found = differences(_bound(stored, free_steps=constant), _bound(given, free_steps=constant))
    why = ", on which the learning rate of every step of a cosine schedule depends"
    return [line + why if line.startswith("config.training.num_steps:") else line for line in found]


def _bound(config: Config, *, free_steps: bool) -> Config:
    """The configuration with all that is free at its default."""
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
