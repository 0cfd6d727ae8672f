"""A class-conditional diffusion transformer on CIFAR-10: DiT-S with patches of 2 × 2 pixels.

Chain, loss and optimizer are those of Peebles & Xie 2023, who train on latents of ImageNet; a tenth
of the labels is dropped, for classifier-free guidance.
"""

from ml_collections import ConfigDict

from experiments.configs import cifar10_ddpm


def get_config() -> ConfigDict:
    """Return the configuration."""
    config = cifar10_ddpm.get_config()
    config.network = ConfigDict(
        {
            "name": "dit",
            "features": 384,
            "depth": 12,
            "heads": 6,
            "patch": 2,
            "dtype": "float32",
            "remat": False,
        }
    )
    config.model.learned_variance = True
    config.model.class_conditional = True
    config.model.label_dropout = 0.1
    config.loss.name = "hybrid"
    config.loss.vlb_weight = 1e-3
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 1e-4
    config.optimizer.warmup_steps = 0
    config.optimizer.clip_norm = 1e6  # DiT does not clip
    config.training.num_steps = 400_000
    config.training.batch_size = 256
    config.sampling.solver = ConfigDict({"name": "ancestral", "variance": "own"})
    config.sampling.num_steps = 250
    return config
