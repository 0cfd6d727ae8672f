"""VE SDE on points of the plane; all else as in ``toy_vp``."""

from ml_collections import ConfigDict

from experiments.configs import toy_vp


def get_config() -> ConfigDict:
    """Return the configuration."""
    config = toy_vp.get_config()
    config.process = ConfigDict({"name": "ve", "sigma_min": 0.005, "sigma_max": 10.0})
    return config
