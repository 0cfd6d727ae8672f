"""VP SDE on MNIST at 28×28, read from a prepared TFDS dataset; meant for a GPU."""

from ml_collections import ConfigDict

from experiments.configs import digits_vp


def get_config() -> ConfigDict:
    """Return the configuration."""
    config = digits_vp.get_config()
    config.data.name = "tfds:mnist"
    config.network = ConfigDict(
        {
            "name": "unet",
            "channels": 64,
            "multipliers": (1, 2, 2),
            "blocks_per_level": 2,
            "attention_levels": (1, 2),
            "dropout": 0.1,
            "head_dim": 64,
        }
    )
    config.model.data_std = 0.6
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 500
    config.training.num_steps = 50_000
    config.training.ema_decay = 0.999
    config.training.log_every = 100
    config.training.sample_every = 5000
    config.training.checkpoint_every = 5000
    return config
