"""VE SDE with deep NCSN++ on CIFAR-10, as in Song et al. 2021: FID 2.20 there."""

from ml_collections import ConfigDict

from experiments.configs import cifar10_ddpmpp_deep_vp, cifar10_ncsnpp_ve


def get_config() -> ConfigDict:
    """Return the configuration."""
    return cifar10_ddpmpp_deep_vp.deepened(cifar10_ncsnpp_ve.get_config())
