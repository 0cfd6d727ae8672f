"""VP SDE on the embedded 8×8 digits: four minutes on two CPU cores."""

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
            data=DataConfig(name="digits"),
            process=choice("vp", beta_min=0.1, beta_max=20.0),
            network=choice("unet", channels=32, multipliers=(1, 2), blocks_per_level=1,
                           attention_levels=(), dropout=0.0, head_dim=64),
            model=ModelConfig(kind="edm", noise_cond="time", data_std=0.75),
            loss=LossConfig(target="x0", weight=choice("edm"), t_min=1e-3),
            optimizer=OptimizerConfig(
                learning_rate=2e-3, schedule="cosine", warmup_steps=100, b2=0.99
            ),
            training=TrainingConfig(
                num_steps=2000, batch_size=128, ema_decay=0.995,
                log_every=25, sample_every=500, checkpoint_every=500,
            ),
            sampling=SamplingConfig(
                solver=choice("deis", order=0), times=choice("logistic", rho=2.0),
                num_steps=20, t_min=1e-3,
            ),
        )
    )  # fmt: skip
