"""EDM on CIFAR-10, unconditional, with the DDPM++ of Karras et al. 2022 ("VP"): FID 1.97 there.

Unlike theirs, this does not augment the images beyond flipping them. The noise is EDM's, σ from
0.002 to 80; "VP" is their name for the network.
"""

from ml_collections import ConfigDict

from experiments.configs import cifar10_ddpmpp_vp


def get_config() -> ConfigDict:
    """Return the configuration."""
    config = cifar10_ddpmpp_vp.get_config()
    config.process = ConfigDict({"name": "ve", "sigma_min": 0.002, "sigma_max": 80.0})
    config.network.multipliers = (2, 2, 2)
    config.network.dropout = 0.13
    config.model.kind = "edm"
    config.model.noise_cond = "edm"
    config.model.data_std = 0.5
    config.model.scale_input = True
    config.loss.target = "x0"
    config.loss.weight = ConfigDict({"name": "edm"})
    config.loss.times = ConfigDict({"name": "log_normal", "mean": -1.2, "std": 1.2})
    config.loss.importance_weights = False
    config.loss.t_min = 1e-5
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 19_531  # 10 million images
    config.optimizer.clip_norm = 1e6  # EDM does not clip
    config.training.num_steps = 390_625  # 200 million images
    config.training.batch_size = 512
    config.training.ema_decay = 0.9993  # a half-life of half a million images
    config.sampling.solver = ConfigDict({"name": "heun"})
    config.sampling.times = ConfigDict({"name": "karras", "rho": 7.0})
    config.sampling.num_steps = 17  # 35 evaluations with the final one: 18 steps as EDM counts them
    config.sampling.t_min = 1e-5
    return config
