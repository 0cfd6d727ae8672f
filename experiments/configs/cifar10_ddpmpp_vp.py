"""VP SDE with DDPM++ on CIFAR-10, as in Song et al. 2021: FID 2.55, 3.16 bits/dim there.

The data are read from a prepared TFDS dataset (``--config.data.data_dir``); meant for several
accelerators. The deep variant and sub-VP differ from this one in a field or two.
"""

from ml_collections import ConfigDict

from experiments.configs import overridable
from jaxdiff.recipes import (
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    SamplingConfig,
    TrainingConfig,
    choice,
)


def get_config() -> ConfigDict:
    """Return the configuration."""
    return overridable(
        Config(
            data=DataConfig(name="tfds:cifar10", low=-1.0, high=1.0, flip=True),
            process=choice("vp", beta_min=0.1, beta_max=20.0),
            network=choice("ddpmpp", channels=128, multipliers=(1, 2, 2, 2), blocks_per_level=4,
                           attention_levels=(1,), dropout=0.1, dtype="float32", remat=False),
            model=ModelConfig(kind="eps", noise_cond="time", scale_input=False),
            loss=LossConfig(
                target="eps", weight=choice("eps"), times=choice("uniform"), t_min=1e-5
            ),
            optimizer=OptimizerConfig(learning_rate=2e-4, warmup_steps=5000),
            training=TrainingConfig(
                num_steps=1_300_001, batch_size=128, ema_decay=0.9999,
                log_every=50, sample_every=10_000, checkpoint_every=10_000,
            ),
            sampling=SamplingConfig(
                solver=choice("euler_maruyama", eta=1.0), times=choice("uniform"),
                num_steps=999, t_min=1e-3,  # and the final denoising: 1000 evaluations
            ),
        )
    )  # fmt: skip
