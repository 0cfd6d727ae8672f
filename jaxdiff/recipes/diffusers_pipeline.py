"""L9: conversion of runs to pipelines of Hugging Face's diffusers."""

import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.extras import require
from jaxdiff.files import atomic_write
from jaxdiff.nets.convert import diffusers_config, to_diffusers
from jaxdiff.nets.convert.diffusers_folder import CONFIG_FILE, FORMS, PIPELINE_FILE
from jaxdiff.nets.embeddings import TIME_SCALE
from jaxdiff.processes import chain_length
from jaxdiff.recipes.diffusers import COSINE, KINDS, SCHEDULES
from jaxdiff.recipes.run import Run
from jaxdiff.typing import Array, InputError, Params


def save_pipeline(folder: str | os.PathLike, run: Run) -> list[Path]:
    """Write a run as a DDPMPipeline that ``DiffusionPipeline.from_pretrained`` loads.

    A chain's network is conditioned on the index of a step, as in diffusers. One conditioned on
    999 t becomes that of a chain of 999 steps, whose step i is ours at t = (i + 1)/999; the
    difference of one rotates each sine and cosine, which the embedding's first layer absorbs.

    Args:
        folder: where to; made if missing.
        run: with the parameters to write.

    Returns:
        The files, the index of the pipeline last.

    Raises:
        InputError: naming what a pipeline cannot represent; nothing is written then.
    """
    require("safetensors", purpose="writing a pipeline")
    from safetensors.numpy import save as to_bytes

    unet = diffusers_config(run.network, run.shape)
    scheduler, steps = _scheduler(run)
    params = run.params
    if run.config.model.noise_cond == "time":
        params = _rotated(params, run.network.channels, run.network.frequency_endpoint)
    tensors = to_bytes(to_diffusers(run.network, params), metadata={"format": "pt"})
    index = {
        "_class_name": "DDPMPipeline",
        "_diffusers_version": "0.35.0",
        "scheduler": ["diffusers", "DDPMScheduler"],
        "unet": ["diffusers", "UNet2DModel"],
    }
    files: dict[str, str | bytes] = {
        f"unet/{FORMS[0]}": tensors,
        f"unet/{CONFIG_FILE}": _json(unet),
        "scheduler/scheduler_config.json": _json(scheduler),
        "README.md": _card(run, steps),
        PIPELINE_FILE: _json(index),  # last: without it the folder is no pipeline
    }
    for name, content in files.items():
        atomic_write(Path(folder) / name, content)
    return [Path(folder) / name for name in files]


def _scheduler(run: Run) -> tuple[dict[str, Any], int]:
    """Settings of a DDPMScheduler for a run, and the length of its chain."""
    model, process = run.config.model, run.config.process
    kinds = {ours: theirs for theirs, ours in KINDS.items()}
    for name, value, known in (
        ("config.model.kind", model.kind, tuple(kinds)),
        ("config.model.noise_cond", model.noise_cond, ("index", "time")),
        ("config.data.low and high", run.value_range, ((-1.0, 1.0),)),
    ):
        if value not in known:
            raise InputError(
                f"{name} must be {' or '.join(map(repr, known))} for a pipeline of diffusers, got "
                f"{value!r}"
            )
    if model.scale_input and model.data_std != 1:
        raise InputError(
            "config.model.scale_input must be false, or config.model.data_std 1, for a pipeline of "
            f"diffusers, got data_std {model.data_std}"
        )
    steps = int(TIME_SCALE) if model.noise_cond == "time" else chain_length(run.process)
    t = jnp.arange(steps + 1) / steps
    log_alpha = np.asarray(jax.vmap(run.process.log_alpha)(t), np.float64)
    variance = np.asarray(jax.vmap(run.process.variance)(t))
    if not np.allclose(np.exp(2 * log_alpha) + variance, 1.0, atol=1e-4):
        raise InputError(
            "config.process must be variance-preserving for a pipeline of diffusers, got "
            f"{process.name}"
        )
    betas = -np.expm1(2 * np.diff(log_alpha))
    schedule: dict[str, Any] = {"trained_betas": betas.tolist()}
    options = dict(process.options)
    schedules = {ours: theirs for theirs, ours in SCHEDULES.items()}
    if process.name == "ddpm" and options.get("betas", "linear") in schedules:
        schedule = {
            "beta_schedule": schedules[options.get("betas", "linear")],
            "beta_start": options.get("beta_start", 1e-4),
            "beta_end": options.get("beta_end", 0.02),
            "rescale_betas_zero_snr": options.get("zero_terminal_snr", False),
        }
    elif process.name == "ddpm_cosine" and set(options) <= {"num_steps"}:
        schedule = {"beta_schedule": COSINE}
    large = dict(run.config.sampling.solver.options).get("variance") == "transition"
    return {
        "_class_name": "DDPMScheduler",
        "_diffusers_version": "0.35.0",
        "num_train_timesteps": steps,
        **schedule,
        "prediction_type": kinds[model.kind],
        "variance_type": "learned_range"
        if model.learned_variance
        else f"fixed_{'large' if large else 'small'}",
        "clip_sample": False,
        "timestep_spacing": "trailing",
    }, steps


def _rotated(params: Params, features: int, endpoint: bool) -> Params:
    """Parameters whose embedding at index i equals the original one at i + 1.

    sin ω(i + 1) = sin ωi cos ω + cos ωi sin ω,    cos ω(i + 1) = cos ωi cos ω − sin ωi sin ω
    """
    half = features // 2
    omega = 10_000.0 ** (-np.arange(half) / max(half - endpoint, 1))[:, None]
    first = params["params"]["embedding"]["dense_0"]
    sines, cosines = np.split(np.asarray(first["kernel"], np.float64), 2)
    rotated = [
        np.cos(omega) * sines - np.sin(omega) * cosines,
        np.sin(omega) * sines + np.cos(omega) * cosines,
    ]
    kernel: Array = jnp.asarray(np.concatenate(rotated), jnp.float32)
    embedding = {**params["params"]["embedding"], "dense_0": {**first, "kernel": kernel}}
    return {**params, "params": {**params["params"], "embedding": embedding}}


def _card(run: Run, steps: int) -> str:
    """The model card: what it is, and how to sample from it."""
    config = run.config
    labels = ""
    if run.network.num_classes is not None:
        labels = (
            "\nThe network requires `class_labels`, which `DDPMPipeline` does not pass to it: call "
            "`pipeline.unet` yourself.\n"
        )
    return f"""---
library_name: diffusers
pipeline_tag: unconditional-image-generation
tags:
- diffusers
- unconditional-image-generation
- jaxdiff
---

# {config.data.name}, {config.process.name}

A diffusion model trained with jaxdiff on `{config.data.name}`, images of
{" × ".join(map(str, run.shape))}: {run.step:,} updates, {run.average or "parameters as given"}.

```python
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("path/to/this/folder")
pipeline(batch_size=4, num_inference_steps=100).images[0].save("sample.png")
```

The chain has {steps} steps; its process is `{config.process.as_dict()}`, the network predicts
`{config.model.kind}`.
{labels}"""


def _json(settings: dict[str, Any]) -> str:
    return json.dumps(settings, indent=2) + "\n"
