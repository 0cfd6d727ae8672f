"""Sub-VP SDE, deep DDPM++ on CIFAR-10, as in Song et al. 2021: FID 2.41, 2.99 bits/dim there."""

from ml_collections import ConfigDict

from experiments.configs import cifar10_ddpmpp_deep_vp, cifar10_ddpmpp_subvp


def get_config() -> ConfigDict:
    """Return the configuration."""
    return cifar10_ddpmpp_deep_vp.deepened(cifar10_ddpmpp_subvp.get_config())
