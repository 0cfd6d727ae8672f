"""Sliced score matching of noisy points of the plane: the loss does not use the noise."""

from ml_collections import ConfigDict

from experiments.configs import toy_vp


def get_config() -> ConfigDict:
    """Return the configuration."""
    config = toy_vp.get_config()
    config.data.name = "toy:mixture"
    config.process = ConfigDict({"name": "ve", "sigma_min": 0.02, "sigma_max": 10.0})
    config.model.noise_cond = "log_sigma"
    config.loss.name = "ssm_vr"
    config.loss.target = "eps"
    config.loss.weight = ConfigDict({"name": "eps"})
    config.loss.t_min = 0.0
    config.sampling.t_min = 0.0
    return config
