"""NCSN on the embedded digits: a sequence of noise levels, sampled by annealed Langevin dynamics.

The largest noise level exceeds the largest distance between two digits, and successive levels have
a ratio of 1.2, so that their noise overlaps (Song & Ermon 2020, techniques 1 and 2). At that ratio
the step size 0.13 leaves the least excess of noise after 10 steps at each level (technique 4).
"""

from ml_collections import ConfigDict

from experiments.configs import digits_vp


def get_config() -> ConfigDict:
    """Return the configuration."""
    config = digits_vp.get_config()
    config.process = ConfigDict(
        {"name": "ncsn", "num_steps": 40, "sigma_min": 0.01, "sigma_max": 15.0}
    )
    config.model.kind = "eps"
    config.model.noise_cond = "index"
    config.loss.name = "dsm"
    config.loss.target = "eps"
    config.loss.weight = ConfigDict({"name": "eps"})  # λ = σ² on the score
    config.loss.t_min = 0.0
    config.sampling.solver = ConfigDict(
        {"name": "annealed_langevin", "num_steps": 10, "step_size": 0.13}
    )
    config.sampling.times = ConfigDict({"name": "uniform"})
    config.sampling.num_steps = 40
    config.sampling.t_min = 0.0
    config.sampling.denoise = False  # the last step ends at the estimate of x_0 already
    return config
