"""VE SDE with NCSN++ on CIFAR-10, as in Song et al. 2021: FID 2.38 there."""

from ml_collections import ConfigDict

from experiments.configs import cifar10_ddpmpp_vp


def get_config() -> ConfigDict:
    """Return the configuration."""
    config = cifar10_ddpmpp_vp.get_config()
    config.data.low = 0.0
    config.process = ConfigDict({"name": "ve", "sigma_min": 0.01, "sigma_max": 50.0})
    config.network.name = "ncsnpp"
    config.network.recenter = True
    config.model.kind = "sigma_score"
    config.model.noise_cond = "fourier"
    config.loss.reduction = "sum"
    config.training.ema_decay = 0.999
    config.sampling.solver = ConfigDict(
        {
            "name": "predictor_corrector",
            "predictor": "reverse_diffusion",
            "order": "corrector_first",
            "snr": 0.16,
            "num_corrections": 1,
            "norms": "example",
            "correct_last": True,  # 1000 corrections, 999 predictions and the final denoising
        }
    )
    config.sampling.t_min = 1e-5
    return config
