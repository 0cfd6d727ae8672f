"""L9: conversion of score_sde_pytorch's configurations, published or with the same fields.

A ``checkpoint_N.pth`` does not specify its network, process and noise levels; the configuration it
was trained with does. Unsupported settings are refused by name.
"""

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from jaxdiff.nets.convert import score_sde_network
from jaxdiff.recipes.config import (
    Choice,
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    NoiseCondName,
    OptimizerConfig,
    SamplingConfig,
    choice,
)
from jaxdiff.recipes.names import choice_of_network
from jaxdiff.train.settings import TrainingConfig
from jaxdiff.typing import InputError, out_of

SECTIONS = ("data", "model", "optim", "sampling", "training")
DATASETS = {"CIFAR10": "tfds:cifar10", "CELEBA": "tfds:celeb_a"}
"""Datasets that TFDS has; others are folders of images."""
T_MIN = {"vpsde": 1e-3, "subvpsde": 1e-3, "vesde": 1e-5}
"""Where sampling ends in score_sde."""


def published() -> dict[str, dict[str, dict[str, Any]]]:
    """All configurations that score_sde_pytorch publishes, by name, as nested fields.

    Example:
        >>> published()["ve/cifar10_ncsnpp_continuous"]["model"]["sigma_max"]
        50
    """
    text = resources.files("jaxdiff.recipes").joinpath("score_sde.json").read_text(encoding="utf-8")
    stored = json.loads(text)

    def whole(own: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        return {
            section: {
                field: value
                for field, value in {**common, **own.get(section, {})}.items()
                if value is not None  # a field that this one lacks
            }
            for section, common in stored["common"].items()
        }

    return {name: whole(own) for name, own in stored["configurations"].items()}


def read_score_sde(name: str) -> dict[str, dict[str, Any]]:
    """A published configuration by its name, or one of the same fields from a JSON file.

    Raises:
        InputError: if it is neither.
    """
    known = published()
    if name in known:
        return known[name]
    if not name.endswith(".json"):
        raise InputError(
            f"a score_sde config must be a .json file, or one of {out_of(name, known)}"
        )
    try:
        fields = json.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{name} must be the JSON of a score_sde config: {error}") from error
    if not isinstance(fields, dict) or not all(isinstance(fields.get(s), dict) for s in SECTIONS):
        raise InputError(f"{name} must be a JSON with the sections {', '.join(SECTIONS)}")
    return fields


def from_score_sde(fields: Mapping[str, Mapping[str, Any]]) -> Config:
    """The configuration under which score_sde's weights compute, sample and train as there.

    Args:
        fields: sections ``data``, ``model``, ``optim``, ``sampling`` and ``training``.

    Returns:
        jaxdiff's configuration. Its Langevin corrections use the norms of each example, where
        score_sde averages them over the batch; the name of its dataset may need to be changed.

    Raises:
        InputError: for a field that is missing, or whose value is not supported.

    Reference: Song et al. 2021, appendices F to H.
    """
    try:
        return _config(fields)
    except KeyError as error:
        raise InputError(f"the score_sde config lacks {error}") from error


def _config(fields: Mapping[str, Mapping[str, Any]]) -> Config:
    data, model, training, optim = (fields[s] for s in ("data", "model", "training", "optim"))
    net = score_sde_network(
        {**model, "image_size": data["image_size"], "centered": data["centered"]}
    )
    sde, continuous = training["sde"], training["continuous"] or training["sde"] == "subvpsde"
    _check("training.sde", sde, *T_MIN)
    _check("optim.optimizer", optim["optimizer"], "Adam")
    _check("optim.weight_decay", optim["weight_decay"], 0)
    weighted = training["likelihood_weighting"]
    _check("training.likelihood_weighting", weighted, *((False, True) if continuous else (False,)))
    if optim["grad_clip"] <= 0:
        raise InputError(
            f"optim.grad_clip of a score_sde config must be positive, got {optim['grad_clip']}"
        )
    explodes = sde == "vesde"
    _check("model.scale_by_sigma", model["scale_by_sigma"], explodes)
    return Config(
        data=DataConfig(
            name=DATASETS.get(data["dataset"], f"folder:{str(data['dataset']).lower()}"),
            low=-1.0 if data["centered"] else 0.0,
            high=1.0,
            size=0 if data["dataset"] == "CIFAR10" else data["image_size"],
            flip=data["random_flip"],
            dequantize=data["uniform_dequantization"],
        ),
        process=_process(model, sde, continuous),
        network=choice_of_network(net),
        model=ModelConfig(
            kind="sigma_score" if explodes else "eps",
            noise_cond=_noise_cond(model, net.embedding, explodes, continuous),
            scale_input=False,
        ),
        loss=LossConfig(
            target="eps",
            weight=choice("likelihood_weighting" if weighted else "eps"),
            times=choice("uniform"),
            reduction="mean" if training["reduce_mean"] else "sum",
            t_min=1e-5 if continuous else 0.0,
        ),
        optimizer=OptimizerConfig(
            learning_rate=optim["lr"],
            b1=optim["beta1"],
            epsilon=optim["eps"],
            warmup_steps=optim["warmup"],
            clip_norm=optim["grad_clip"],
        ),
        training=TrainingConfig(
            num_steps=training["n_iters"],
            batch_size=training["batch_size"],
            ema_decay=model["ema_rate"],
            sample_every=10_000,
            checkpoint_every=10_000,
        ),
        sampling=_sampling(fields["sampling"], model["num_scales"], sde, continuous),
    )


def _process(model: Mapping[str, Any], sde: str, continuous: bool) -> Choice:
    """The SDE, or the chain that it is the limit of: β_i = β(i/N)/N, σ_i geometric."""
    steps = model["num_scales"]
    if sde == "vesde":
        sigmas = {name: float(model[name]) for name in ("sigma_min", "sigma_max")}
        return choice("ve", **sigmas) if continuous else choice("ncsn", num_steps=steps, **sigmas)
    low, high = model["beta_min"], model["beta_max"]
    if continuous:
        return choice(sde.removesuffix("sde"), beta_min=low, beta_max=high)
    return choice(
        "ddpm", num_steps=steps, betas="linear", beta_start=low / steps, beta_end=high / steps
    )


def _noise_cond(
    model: Mapping[str, Any], embedding: str, explodes: bool, continuous: bool
) -> NoiseCondName:
    """What score_sde's networks are conditioned on: log σ, 999 t, or the index of a step."""
    if embedding == "none":
        return "none"
    if embedding == "fourier":
        _check("model.fourier_scale", model["fourier_scale"], 16)
    if (embedding == "fourier") != (explodes and continuous):
        raise InputError(
            'model.embedding_type must be "fourier" for a continuous vesde, and "positional" '
            f"otherwise, got {embedding!r}"
        )
    return "fourier" if embedding == "fourier" else "time" if continuous else "index"


def _sampling(
    sampling: Mapping[str, Any], steps: int, sde: str, continuous: bool
) -> SamplingConfig:
    """The same evaluations at the same times; score_sde's last prediction is the denoising."""
    _check("sampling.method", sampling["method"], "pc")
    _check("sampling.probability_flow", sampling["probability_flow"], False)
    _check("sampling.noise_removal", sampling["noise_removal"], True)
    _check("sampling.corrector", sampling["corrector"], "none", "langevin")
    predictor, last = sampling["predictor"], 1 / steps
    names = {
        "euler_maruyama": choice("euler_maruyama", eta=1.0),
        "reverse_diffusion": choice("reverse_diffusion"),
        "ancestral_sampling": choice(
            "ancestral", variance="posterior" if sde == "vesde" else "transition"
        ),
    }
    _check("sampling.predictor", predictor, *names)
    solver = names[predictor]
    if sampling["corrector"] == "langevin":
        _check("sampling.predictor with a corrector", predictor, "reverse_diffusion")
        solver = choice(
            "predictor_corrector",
            predictor=solver.name,
            order="corrector_first",
            snr=float(sampling["snr"]),
            num_corrections=sampling["n_steps_each"],
            norms="example",
            correct_last=True,
        )
    return SamplingConfig(
        solver=solver,
        times=choice("uniform"),
        num_steps=steps - 1,
        t_min=T_MIN[sde] if continuous else last,
    )


def _check(name: str, value: Any, *known: Any) -> None:
    if value not in known:
        raise InputError(
            f"{name} of a score_sde config must be {' or '.join(map(repr, known))}, got {value!r}"
        )
