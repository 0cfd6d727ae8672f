"""Importing jaxdiff is light, and all names that users rely on exist."""

import functools
import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import jaxdiff

HEAVY = (
    "tensorflow",
    "tensorflow_datasets",
    "torch",
    "matplotlib",
    "sklearn",
    "tqdm",
    "tensorboardX",
    "safetensors",
    "ml_collections",
    "grain",
    "orbax",
    "tensorstore",
    "PIL",
    "scipy",
)

NAMES = {
    "jaxdiff": "schedules processes predictions oracles losses solvers nets train data metrics "
    "recipes sample trajectory load flow guidance latents likelihood log_likelihood",
    "jaxdiff.schedules": "linear_betas cosine_betas quadratic_betas constant_betas sigmoid_betas "
    "geometric_sigmas uniform_times quadratic_times karras_times log_snr_times "
    "logistic_times leading_times trailing_times linspace_times time_at_log_snr",
    "jaxdiff.divergence": "exact hutchinson",
    "jaxdiff.processes": "VP SubVP VE CosineVP LearnedVP DiscreteVP DiscreteVE drift_diffusion "
    "perturb transition posterior sample_prior prior_log_prob",
    "jaxdiff.predictions": "Denoised to_denoised from_denoised",
    "jaxdiff.oracles": "gaussian mixture condition sample_mixture labelled Mixture Labelled",
    "jaxdiff.losses": "denoising dsm esm ism ssm fd_ssm elbo_terms consistency_terms "
    "denoising_draws continuous_elbo girsanov_bound vlb hybrid bits_per_dim mean_and_error "
    "decoders times weights loss_aware",
    "jaxdiff.solvers": "ancestral reverse_diffusion ddim ddim_inversion euler_maruyama "
    "stochastic_heun heun rk4 dpm_2 dpm_3 dpmpp_1 dpmpp_2s dpmpp_3s dpmpp_2m dpmpp_3m unipc deis "
    "adaptive langevin annealed_langevin predictor_corrector projected repaint ddrm ddnm_plus "
    "twisted effective_sample_size",
    "jaxdiff.guidance": "clip_denoised dynamic_threshold classifier_free classifier_free_batched "
    "autoguidance classifier replacement inpainting colourisation inverse",
    "jaxdiff.guidance.inverse": "Tolerance matrix mask box_mask random_mask downsample blur "
    "gaussian_kernel grey saturated matrix_of mmps pigdm dps tmpd "
    "diffpir ddnm spectrum gaussian_twist",
    "jaxdiff.likelihood": "log_likelihood log_likelihood_by_probe dequantized_log_likelihood",
    "jaxdiff.latents": "encode decode interpolate",
    "jaxdiff.flow": "solve_ode velocity integrate angle time_at_angle",
    "jaxdiff.nets": "ADM DDPM DDPMPP DiT MLP NCSNPP UNet",
    "jaxdiff.nets.convert": "diffusers_network from_diffusers load_diffusers score_sde_network "
    "from_score_sde load_score_sde from_inception load_inception save load",
    "jaxdiff.metrics": "Protocol Result over_seeds Moments moments merge save_moments load_moments "
    "frechet_distance frechet_from_moments frechet_infinity spatial_features mmd kernels kid "
    "kid_full cmmd sliced_wasserstein mind inception_score vendi precision_recall density_coverage "
    "inception_features nearest_distances nearest_neighbours authenticity data_copying",
    "jaxdiff.plots": "image_grid trajectory_strip scatter curve",
    "jaxdiff.train": "Algorithm Player Task TrainState Turn View alternate fit",
    "jaxdiff.recipes": "BitsPerDim Config Run bits_per_dim choice from_dict load ode_bits_per_dim "
    "train",
}


@functools.cache
def loaded_by(statement):
    """Names of all modules that a fresh interpreter has loaded after one statement.

    Stubs for the two that may not be installed, last on the path, let imports of them succeed and
    be detected.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name in ("tensorflow", "torch"):
            (Path(folder) / f"{name}.py").touch()
        program = f"import sys; sys.path.append({folder!r}); {statement}; " + (
            "import json; print(json.dumps(sorted(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.parametrize("module", HEAVY)
def test_importing_jaxdiff_imports_nothing_heavy(module):
    loaded = loaded_by("import jaxdiff")
    assert "jaxdiff.train.loop" in loaded  # all of jaxdiff was imported
    assert module not in loaded


def test_a_heavy_import_would_be_detected():
    assert {"scipy", "scipy.special"} <= loaded_by("import scipy.special")
    assert {"tensorflow", "torch"} <= loaded_by("import tensorflow, torch")


@pytest.mark.parametrize("module", NAMES)
def test_public_names_exist_and_are_exported(module):
    exported = importlib.import_module(module)
    missing = [name for name in NAMES[module].split() if not hasattr(exported, name)]
    assert not missing
    if hasattr(exported, "__all__"):
        assert set(NAMES[module].split()) <= set(exported.__all__)


def test_every_exported_name_exists():
    for module in NAMES:
        exported = importlib.import_module(module)
        for name in getattr(exported, "__all__", []):
            assert hasattr(exported, name), f"{module}.__all__ names {name}"
    assert jaxdiff.sample is importlib.import_module("jaxdiff.sampling").sample
