"""DDPM on the embedded digits: a chain of 1000 steps, L_simple on ε, ancestral sampling."""

from ml_collections import ConfigDict

from experiments.configs import digits_vp


def get_config() -> ConfigDict:
    """Return the configuration."""
    config = digits_vp.get_config()
    config.process = ConfigDict(
        {
            "name": "ddpm",
            "num_steps": 1000,
            "betas": "linear",
            "beta_start": 1e-4,
            "beta_end": 0.02,
        }
    )
    config.model.kind = "eps"
    config.loss.target = "eps"
    config.loss.weight = ConfigDict({"name": "eps"})
    config.loss.t_min = 0.0
    config.sampling.solver = ConfigDict({"name": "ancestral"})
    config.sampling.times = ConfigDict({"name": "uniform"})
    config.sampling.num_steps = 250
    config.sampling.t_min = 0.0
    config.sampling.denoise = False  # the chain's last step already ends at the estimate of x_0
    return config
