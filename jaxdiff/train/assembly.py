"""L7: a configuration becomes a run, or is refused in one sentence before anything is written."""

import jax
import jax.numpy as jnp

from jaxdiff import data, denoisers
from jaxdiff.predictions import Denoised
from jaxdiff.processes import Process
from jaxdiff.sampling import check_times
from jaxdiff.train import build, names, objective
from jaxdiff.train.config import Config
from jaxdiff.train.run import Run
from jaxdiff.train.state import TrainState, init_state
from jaxdiff.typing import InputError


def assemble(config: Config, shape: tuple[int, ...], num_classes: int | None) -> Run:
    """Build what a configuration names, for examples of one shape, without parameters yet.

    Raises:
        InputError: for whatever in the configuration cannot be built.
    """
    process = build.process(config)
    network = build.network(config, shape, num_classes)
    check(config, process, shape)
    return Run(config, process, network, None, shape, num_classes, step=0)


def fresh_state(run: Run) -> TrainState:
    """Training state at step 0, a pure function of the configuration."""
    init_key, train_key = jax.random.split(jax.random.key(run.config.seed))
    label = jnp.zeros(1, int) if run.config.model.class_conditional else None
    params = jax.jit(run.network.init)(init_key, jnp.zeros((1, *run.shape)), jnp.ones(1), label)
    return init_state(
        train_key,
        params,
        build.optimizer(run.config),
        num_averages=len(build.ema_schedules(run.config)),
    )


def check(config: Config, forward: Process, shape: tuple[int, ...]) -> None:
    """Build what training needs late, so that it is refused before anything is written."""
    data.check_range((config.data.low, config.data.high))
    if (config.data.flip or config.data.dequantize) and len(shape) != 3:
        raise InputError("config.data.flip and dequantize are for images, the data are vectors")
    objective.weight(config)
    build.optimizer(config)
    if config.training.keep_best and not config.training.eval_every:
        raise InputError(
            "config.training.keep_best must be 0 unless config.training.eval_every says when the "
            f"held-out loss is measured, got {config.training.keep_best}"
        )
    try:
        names.NOISE_CONDS[config.model.noise_cond].fn(forward, jnp.ones(1))
    except InputError as error:
        raise InputError(f"config.model.noise_cond: {error}") from error
    try:
        denoisers.denoiser(lambda x, level: x, forward, kind=config.model.kind)
    except InputError as error:
        raise InputError(f"config.model.kind: {error}") from error
    jax.eval_shape(lambda key: objective.time_sampler(config, forward)(key, 1), jax.random.key(0))
    if config.loss.vlb_weight:
        _check_hybrid(config, forward)
    sampling = config.sampling
    grid = build.time_grid(sampling.times, forward, sampling.num_steps, t_min=sampling.t_min)
    check_times(grid)
    build.solver(sampling.solver, lambda x, t: Denoised(x, x), forward)


def _check_hybrid(config: Config, forward: Process) -> None:
    """Refuse to add the bound to a loss that it does not belong to."""
    plain = config.loss.target == "eps" and config.loss.weight.name == "eps"
    if not (plain and config.model.learned_variance and forward.num_steps is not None):
        raise InputError(
            "config.loss.vlb_weight must be 0 unless the process is a chain, "
            "config.model.learned_variance is true and target and weight are eps (the hybrid loss "
            f"of improved DDPM), got {config.loss.vlb_weight}"
        )
