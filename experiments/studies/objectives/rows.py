"""Every objective of the library as a configuration of one small network, and its score.

The distribution to be learned is a mixture in the plane. A row that needs no noise is fitted at one
noise level, σ = 0.05; the others fit a model of all levels, whose score is evaluated at that one,
σ/α = 0.05, in the units of the data.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff import losses, oracles, processes, recipes, schedules
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process
from jaxdiff.recipes import Choice, Config, Diffusion, LossConfig, assemble, build, choice
from jaxdiff.recipes.objective import Objective
from jaxdiff.train import BatchSlice, View
from jaxdiff.typing import Array, Key, Params, PyTree

LOWEST = 0.05
"""Noise-to-signal ratio at which models of noisy data are compared with the data's own score."""
WEIGHTS = jnp.array([0.3, 0.25, 0.2, 0.15, 0.1])
ANGLES = jnp.linspace(0.0, 2 * jnp.pi, 5, endpoint=False)
MEANS = 1.3 * jnp.stack([jnp.cos(ANGLES), jnp.sin(ANGLES)], axis=1)
STDS = jnp.array([0.3, 0.35, 0.4, 0.3, 0.35])


def draw_data(key: Key, n: int) -> Array:
    """Draw from the mixture, ``[n, 2]``."""
    pick_key, noise_key = jax.random.split(key)
    which = jax.random.categorical(pick_key, jnp.log(WEIGHTS), shape=(n,))
    return MEANS[which] + STDS[which][:, None] * jax.random.normal(noise_key, (n, 2))


def true_score(x: Array) -> Array:
    """Exact score of the mixture, ``[n, 2] -> [n, 2]``."""
    process = processes.VP()
    exact = oracles.mixture(process, WEIGHTS, MEANS, STDS)
    return -exact(x, 0.0).eps / process.sigma(0.0)


VP, SUBVP = choice("vp"), choice("subvp")
VE = choice("ve", sigma_min=LOWEST, sigma_max=5.0)
CHAIN_VE = choice("ncsn", num_steps=10, sigma_min=LOWEST, sigma_max=5.0)
CHAIN = choice("ddpm", num_steps=100, beta_start=2e-3, beta_end=0.2)
LEARNED = choice("learned_vp", log_snr_max=6.5, log_snr_min=-7.0)


def _row(process: Choice, *, learned_variance: bool = False, **loss: Any) -> Config:
    t_min = 0.0 if process in (CHAIN_VE, CHAIN, LEARNED) else 1e-3
    return Config(
        process=process,
        network=choice("mlp", width=96, depth=2),
        model=recipes.ModelConfig(
            noise_cond="log_sigma", data_std=1.0, learned_variance=learned_variance
        ),
        loss=LossConfig(**{"t_min": t_min, **loss}),
    )


def _one_level(**loss: Any) -> Config:
    """Only at VE's lowest noise level."""
    return _row(VE, times=choice("fixed"), t_min=0.0, **loss)


EVEN = choice("importance")
"""Times at which a bound's integrand is weighted uniformly, even in log SNR."""
ESM = "ESM (knows the score)"
OBJECTIVES: Mapping[str, Config] = {
    ESM: _one_level(),
    "ISM exact": _one_level(name="ism"),
    "ISM one coordinate": _one_level(name="ssm", probe="coordinate"),
    "SSM": _one_level(name="ssm"),
    "SSM-VR (ISM Hutchinson)": _one_level(name="ssm_vr"),
    "FD-SSM": _one_level(name="fd_ssm"),
    "DSM one sigma": _one_level(name="dsm"),
    "DSM ladder (NCSN)": _row(CHAIN_VE, name="dsm"),
    "DSM VE": _row(VE, name="dsm"),
    "DSM VP": _row(VP, name="dsm"),
    "DSM sub-VP": _row(SUBVP, name="dsm"),
    "L_simple (DDPM)": _row(CHAIN),
    "L_vlb": _row(CHAIN, name="vlb", learned_variance=True),
    "L_vlb loss-aware": _row(CHAIN, name="vlb", times=choice("loss_aware"), learned_variance=True),
    "L_hybrid": _row(CHAIN, name="hybrid", vlb_weight=1e-3, learned_variance=True),
    "min-SNR": _row(VP, weight=choice("min_snr")),
    "P2": _row(VP, weight=choice("p2")),
    "EDM log-normal": _row(
        VP, weight=choice("edm"), times=choice("log_normal"), importance_weights=False, t_min=1e-4
    ),
    "VDM likelihood": _row(VP, name="elbo", times=EVEN),
    "VDM learned schedule": _row(LEARNED, name="elbo"),
    "Girsanov exact": _row(VP, name="girsanov", times=EVEN),
    "Girsanov Hutchinson": _row(VP, name="girsanov", times=EVEN, divergence="hutchinson"),
}


def model_of(name: str, *, steps: int, batch: int, learning_rate: float) -> Diffusion:
    """Build a row, trained by Adam with a cosine decay and without clipping."""
    config = dataclasses.replace(
        OBJECTIVES[name],
        optimizer=recipes.OptimizerConfig(
            learning_rate=learning_rate,
            schedule="cosine",
            clip_norm=1e9,
            process_learning_rate=learning_rate,
        ),
        training=recipes.TrainingConfig(num_steps=steps, batch_size=batch),
    )
    model = assemble(config, (2,), None)
    return _knowing_the_score(model) if name == ESM else model


def score(model: Diffusion, params: Params, x: Array) -> Array:
    """Score at the lowest noise as a function of x = x_t/α, in its units: α·s(αx, t)."""
    process = build.process_of(model.process, params)
    return score_of(build.denoise_fn(model.config, model.network, process, params), process, x)


def score_of(denoise_fn: DenoiseFn, process: Process, x: Array) -> Array:
    """The same for any model."""
    t = schedules.karras_times(process, 1, sigma_min=LOWEST, t_min=1e-4)[-1]
    alpha = process.alpha(t)
    return -alpha * denoise_fn(alpha * x, t).eps / process.sigma(t)


def _knowing_the_score(model: Diffusion) -> Diffusion:
    """The model with explicit score matching on the data, which no configuration can specify."""

    def loss_fn(
        params: Params, view: View, key: Key, batch: PyTree, part: BatchSlice, /
    ) -> tuple[Array, PyTree]:
        return losses.esm(lambda x: score(model, params, x), true_score, batch["x"]), ()

    minimised = Objective(loss_fn, loss_fn, (), lambda carry, aux: carry)
    return dataclasses.replace(model, objective=minimised)
