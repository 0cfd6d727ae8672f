"""L9: configurations from pipelines of Hugging Face's diffusers."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxdiff.nets.convert import diffusers_network
from jaxdiff.nets.convert.diffusers_folder import (
    CONFIG_FILE,
    read_json,
    unet_folder,
)
from jaxdiff.predictions import Kind
from jaxdiff.recipes.config import (
    Choice,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    SamplingConfig,
    choice,
)
from jaxdiff.recipes.names import choice_of_network
from jaxdiff.typing import InputError

KINDS: Mapping[str, Kind] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
SCHEDULES = {"linear": "linear", "scaled_linear": "quadratic"}
COSINE = "squaredcos_cap_v2"
VARIANCES = {"fixed_small": "posterior", "fixed_large": "transition", "learned_range": "own"}
"""From diffusers' names to jaxdiff's."""

SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
    "variance_type": "fixed_small",
    "rescale_betas_zero_snr": False,
}
"""Values of the settings that a scheduler omits."""


def from_pipeline(folder: str | os.PathLike) -> tuple[Config, tuple[int, ...], int | None]:
    """The configuration under which a pipeline's weights compute and sample as in diffusers.

    Args:
        folder: with ``model_index.json``, ``unet/`` and ``scheduler/``. The clipping of samples
            during sampling is not carried over.

    Returns:
        ``(configuration, shape of an image, number of classes or None)``. The training data are
        not known; ``config.data.name`` is a placeholder for a folder.

    Raises:
        InputError: naming a setting that jaxdiff does not support.
    """
    unet = read_json(unet_folder(folder) / CONFIG_FILE)
    path = Path(folder) / "scheduler" / "scheduler_config.json"
    settings = {**SCHEDULER, **read_json(path)}
    net = diffusers_network(unet)
    if net.embedding == "fourier":
        raise InputError(
            f"{folder} must have a network conditioned on the index of the step, got one on log σ"
        )
    for name, *known in (
        ("prediction_type", *KINDS),
        ("variance_type", *VARIANCES),
        ("beta_schedule", *SCHEDULES, COSINE),
        ("trained_betas", None),
    ):
        if settings[name] not in known:
            raise InputError(
                f"{path}: {name} must be {' or '.join(map(repr, known))}, got {settings[name]!r}"
            )
    size, steps = unet.get("sample_size"), settings["num_train_timesteps"]
    if size is None:
        raise InputError(f"{folder} must specify the sample_size of its images, got None")
    height, width = (size, size) if isinstance(size, int) else size
    cosine = settings["beta_schedule"] == COSINE
    if cosine and settings["rescale_betas_zero_snr"]:
        raise InputError(
            f"{path}: rescale_betas_zero_snr must be false for a cosine schedule, got true"
        )
    process = choice("ddpm_cosine", num_steps=steps) if cosine else _beta_choice(settings, steps)
    config = Config(
        data=DataConfig(
            name="folder:images",
            low=0.0 if net.recenter else -1.0,
            size=height if height == width else 0,
        ),
        process=process,
        network=choice_of_network(net),
        model=ModelConfig(
            kind=KINDS[settings["prediction_type"]],
            noise_cond="index",
            scale_input=False,
            learned_variance=net.num_outputs == 2,
            class_conditional=net.num_classes is not None,
        ),
        loss=LossConfig(t_min=0.0),
        sampling=SamplingConfig(
            solver=choice("ancestral", variance=VARIANCES[settings["variance_type"]]),
            times=choice("uniform"),
            num_steps=steps,
            t_min=0.0,
            denoise=False,  # the chain's last step already ends at the estimate of x_0
        ),
    )
    return config, (height, width, unet["in_channels"]), net.num_classes


def _beta_choice(settings: dict[str, Any], steps: int) -> Choice:
    return choice(
        "ddpm",
        num_steps=steps,
        betas=SCHEDULES[settings["beta_schedule"]],
        beta_start=settings["beta_start"],
        beta_end=settings["beta_end"],
        zero_terminal_snr=settings["rescale_betas_zero_snr"],
    )
