"""The smallest complete runs, shared by the tests of training and of the commands."""

import dataclasses

from experiments.configs import overridable
from jaxdiff import recipes
from jaxdiff.recipes import Config, choice

FEW_SAMPLES = [
    "--config.optimizer.warmup_steps=1",
    "--config.sampling.num_images=4",
    "--config.sampling.num_steps=2",
]
FEW_STEPS = [
    "--config.training.num_steps=3",
    "--config.training.batch_size=4",
    "--config.training.log_every=1",
]
SMALLEST_UNET = ["--config.network.channels=4", "--config.network.multipliers=(1,)"]
SMALLEST_MLP = ["--config.network.width=8", "--config.network.depth=1"]
DIGITS = ["--config=experiments/configs/digits_vp.py", *SMALLEST_UNET, *FEW_SAMPLES]
"""Flags of a command: the smallest U-Net on digits."""
POINTS = ["--config=experiments/configs/toy_vp.py", *SMALLEST_MLP, *FEW_SAMPLES]
"""Flags of a command: the smallest MLP on points in the plane."""


def tiny_config(num_steps: int = 6, **changes) -> Config:
    """Points in the plane with a small MLP; a checkpoint every 2 steps."""
    config = Config(
        data=recipes.DataConfig(name="toy:moons"),
        network=choice("mlp", width=8, depth=1),
        model=recipes.ModelConfig(data_std=1.0),
        optimizer=recipes.OptimizerConfig(
            name="adamw", learning_rate=1e-3, schedule="cosine", warmup_steps=2, weight_decay=0.01
        ),
        training=recipes.TrainingConfig(
            num_steps=num_steps, batch_size=16, log_every=1, sample_every=100, checkpoint_every=2
        ),
        sampling=recipes.SamplingConfig(num_steps=2, num_images=4),
    )
    return dataclasses.replace(config, **changes)


def digits_config(**changes) -> Config:
    """Digits with the same MLP."""
    return tiny_config(data=recipes.DataConfig(name="digits"), **changes)


def get_config():
    """The config of ``--config=tests/tiny.py``."""
    return overridable(digits_config())
