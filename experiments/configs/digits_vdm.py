"""VDM on the embedded digits: trained on the ELBO, with a learned noise schedule."""

from ml_collections import ConfigDict

from experiments.configs import digits_vp


def get_config() -> ConfigDict:
    """Return the configuration."""
    config = digits_vp.get_config()
    config.process = ConfigDict(
        {"name": "learned_vp", "log_snr_max": 13.3, "log_snr_min": -5.0, "num_steps": 16}
    )
    config.model.noise_cond = "log_snr"
    config.loss.name = "elbo"
    config.loss.target = "eps"
    config.loss.weight = ConfigDict({"name": "eps"})
    config.loss.t_min = 0.0
    config.sampling.t_min = 0.0
    return config
