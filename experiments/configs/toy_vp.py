"""VP SDE on points of the plane: a minute on two CPU cores."""

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
            data=DataConfig(name="toy:checkerboard"),
            process=choice("vp", beta_min=0.1, beta_max=20.0),
            network=choice("mlp", width=128, depth=3),
            model=ModelConfig(kind="edm", noise_cond="log_snr", data_std=1.0),
            loss=LossConfig(target="x0", weight=choice("edm"), t_min=1e-3),
            optimizer=OptimizerConfig(
                learning_rate=2e-3, schedule="cosine", warmup_steps=100, b2=0.99
            ),
            training=TrainingConfig(
                num_steps=12_000,
                batch_size=512,
                ema_decay=0.999,
                log_every=100,
                sample_every=3000,
                checkpoint_every=3000,
            ),
            sampling=SamplingConfig(
                solver=choice("deis", order=0), times=choice("logistic", rho=2.0),
                num_steps=25, t_min=1e-3,
                num_images=2000,
            ),
        )
    )  # fmt: skip
