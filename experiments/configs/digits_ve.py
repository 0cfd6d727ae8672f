"""VE SDE on the embedded digits: the noise grows to σ = 15; no two digits are 10 apart."""

from ml_collections import ConfigDict

from experiments.configs import digits_vp


def get_config() -> ConfigDict:
    """Return the configuration."""
    config = digits_vp.get_config()
    config.process = ConfigDict({"name": "ve", "sigma_min": 0.01, "sigma_max": 15.0})
    config.model.noise_cond = "log_sigma"
    return config
