"""DDPM on CIFAR-10, as in Ho et al. 2020: FID 3.17 there."""

from ml_collections import ConfigDict

from experiments.configs import cifar10_ddpmpp_vp


def get_config() -> ConfigDict:
    """Return the configuration."""
    config = cifar10_ddpmpp_vp.get_config()
    config.process = ConfigDict(
        {
            "name": "ddpm",
            "num_steps": 1000,
            "betas": "linear",
            "beta_start": 1e-4,
            "beta_end": 0.02,
        }
    )
    config.network.name = "ddpm"
    config.network.blocks_per_level = 2
    config.network.groups = 32
    config.model.noise_cond = "index"
    config.loss.t_min = 0.0
    config.sampling.solver = ConfigDict({"name": "ancestral", "variance": "transition"})
    config.sampling.num_steps = 1000
    config.sampling.t_min = 0.0
    config.sampling.denoise = False  # the chain's last step already ends at the estimate of x_0
    return config
