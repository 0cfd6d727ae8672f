"""VDM on points of the plane: trained on the ELBO, with a learned noise schedule."""

from ml_collections import ConfigDict

from experiments.configs import toy_vp


def get_config() -> ConfigDict:
    """Return the configuration."""
    config = toy_vp.get_config()
    config.data.name = "toy:moons"
    config.process = ConfigDict(
        {"name": "learned_vp", "log_snr_max": 8.0, "log_snr_min": -8.0, "num_steps": 16}
    )
    config.loss.name = "elbo"
    config.loss.target = "eps"
    config.loss.weight = ConfigDict({"name": "eps"})
    config.loss.t_min = 0.0
    config.optimizer.process_learning_rate = 2e-3
    config.sampling.t_min = 0.0
    return config
