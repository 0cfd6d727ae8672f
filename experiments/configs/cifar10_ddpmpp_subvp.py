"""Sub-VP SDE with DDPM++ on CIFAR-10, as in Song et al. 2021: FID 2.61, 3.02 bits/dim there."""

from ml_collections import ConfigDict

from experiments.configs import cifar10_ddpmpp_vp


def get_config() -> ConfigDict:
    """Return the configuration."""
    config = cifar10_ddpmpp_vp.get_config()
    config.process = ConfigDict({"name": "subvp", "beta_min": 0.1, "beta_max": 20.0})
    return config
