"""A small DDPM on CIFAR-10, with 6.5 million parameters: two CPU cores can train it overnight."""

from ml_collections import ConfigDict

from experiments.configs import cifar10_ddpm


def get_config() -> ConfigDict:
    """Return the configuration."""
    config = cifar10_ddpm.get_config()
    config.network.channels = 64
    config.network.multipliers = (1, 2, 2)
    config.network.dropout = 0.0
    config.network.head_dim = 8
    config.network.groups = 16
    config.training.num_steps = 20_000
    config.training.batch_size = 16
    config.training.ema_decay = 0.999
    return config
