"""Sub-VP SDE on the embedded digits; all else as in ``digits_vp``."""

from ml_collections import ConfigDict

from experiments.configs import digits_vp


def get_config() -> ConfigDict:
    """Return the configuration."""
    config = digits_vp.get_config()
    config.process.name = "subvp"
    return config
