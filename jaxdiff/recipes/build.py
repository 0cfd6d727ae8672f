"""L9: a configuration is turned into things, but for what is minimised.

:mod:`jaxdiff.recipes.names` knows what there is; here it is bound to the rest of the configuration,
in :mod:`jaxdiff.recipes.objective` into a loss, in :mod:`jaxdiff.recipes.diffusion` into one value.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxdiff import data, denoisers
from jaxdiff.nets.variables import init_shapes
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import LearnedVP, Process
from jaxdiff.recipes import names
from jaxdiff.recipes.config import Choice, Config, DataConfig, choice
from jaxdiff.solvers import Solver
from jaxdiff.train import averages, memory
from jaxdiff.typing import Array, InputError, Key, Params


def dataset(config: Config) -> data.Dataset:
    """Load the data that a configuration names, resized where it says so."""
    chosen = config.data
    if chosen.resize != DataConfig.resize and not chosen.size:
        raise InputError(
            f"config.data.resize must be {DataConfig.resize}, which does nothing, where "
            f"config.data.size is 0, got {chosen.resize}"
        )
    return data.load(
        chosen.name,
        data_dir=chosen.data_dir or None,
        size=chosen.size or None,
        resize=chosen.resize,
    )


def process(config: Config) -> Process:
    """Build the forward process, and refuse one whose noise does not grow with time."""
    built: Process = names.resolve(names.PROCESSES, config.process, "config.process")()
    if not bool(_log_snr_falls(built)):
        raise InputError(
            "config.process takes parameters under which log SNR falls from t = 0 to t = 1, got "
            f"{config.process.as_dict()}"
        )
    return built


@jax.jit
def _log_snr_falls(forward: Process) -> Array:
    log_snr = forward.log_snr(jnp.linspace(0.0, 1.0, 101))
    return jnp.all(jnp.diff(log_snr) < 0)


PROCESS = "process"
"""Collection of the variables that holds the parameters of a learned process."""


def with_process(variables: Params, forward: Process) -> Params:
    """The variables of a network, with the parameters of a process that is learned beside it."""
    if not isinstance(forward, LearnedVP):
        return variables
    own = {f.name: getattr(forward, f.name) for f in dataclasses.fields(forward)}
    return {**variables, PROCESS: own}


def process_of(forward: Process, params: Params) -> Process:
    """The process as far as it has been learned; one that is not learned is what it was."""
    if not isinstance(forward, LearnedVP) or params is None:
        return forward
    return dataclasses.replace(forward, **params[PROCESS])


def network(config: Config, shape: tuple[int, ...], num_classes: int | None) -> nn.Module:
    """Build the network for examples of one shape, labelled where the configuration says so."""
    if config.model.class_conditional and num_classes is None:
        raise InputError("config.model.class_conditional takes data with labels, got data without")
    if config.model.label_dropout and not config.model.class_conditional:
        raise InputError(
            "config.model.label_dropout must be 0 without config.model.class_conditional, got "
            f"{config.model.label_dropout}"
        )
    make = names.resolve(
        names.NETWORKS, config.network, "config.network", reserved=names.SET_ELSEWHERE
    )
    told = names.NOISE_CONDS[config.model.noise_cond]
    built = make(
        noise_cond_scale=told.scale,
        embedding=told.embedding,
        num_classes=_num_labels(config, num_classes),
        num_outputs=2 if config.model.learned_variance else 1,
    )
    if getattr(built, "recenter", False) and (config.data.low, config.data.high) != (0, 1):
        raise InputError(
            "config.network.recenter takes data in [0, 1], got config.data.low and high of "
            f"{config.data.low} and {config.data.high}"
        )
    for depth in ("depth", "blocks_per_level"):
        number = getattr(built, depth, 0)
        memory.check_fits(f"config.network.{depth}", number, number * memory.BLOCK)
    label = None if built.num_classes is None else jnp.zeros(1, int)
    try:
        init_shapes(built, jnp.zeros((1, *shape)), jnp.ones(1), label)
    except InputError as error:
        raise InputError(f"config.network {config.network.name}: {error}") from error
    return built


def _num_labels(config: Config, num_classes: int | None) -> int | None:
    """Classes, and one more where labels are withheld: that of an example without a label."""
    if not config.model.class_conditional or num_classes is None:
        return None
    return num_classes + (config.model.label_dropout > 0)


def denoise_fn(
    config: Config,
    net: nn.Module,
    forward: Process,
    params: Params,
    *,
    label: Array | None = None,
    dropout_key: Key | None = None,
) -> DenoiseFn:
    """Bind a network to parameters and labels; with a ``dropout_key`` it runs as in training.

    Without labels, a network that was trained with ``label_dropout`` is the unconditional model.
    """
    training = dropout_key is not None
    rngs = None if dropout_key is None else {"dropout": dropout_key}

    model = config.model
    if isinstance(forward, LearnedVP):
        params = {name: part for name, part in params.items() if name != PROCESS}

    def apply(x: Array, noise_cond: Array) -> Array:
        own = label
        if own is None and model.label_dropout:
            own = jnp.full(x.shape[0], net.num_classes - 1)
        output: Any = net.apply(params, x, noise_cond, own, train=training, rngs=rngs)
        return output

    return denoisers.denoiser(
        apply,
        forward,
        kind=model.kind,
        data_std=model.data_std,
        noise_cond_fn=names.NOISE_CONDS[model.noise_cond].fn,
        scale_input=model.scale_input,
        learned_variance=model.learned_variance,
    )


def optimizer(config: Config) -> optax.GradientTransformation:
    """Build the optax chain: clip by global norm, then Adam or AdamW on the schedule."""
    settings, num_steps = config.optimizer, config.training.num_steps
    peak, warmup = settings.learning_rate, settings.warmup_steps
    if warmup >= num_steps:
        raise InputError(
            "config.optimizer.warmup_steps must be less than config.training.num_steps "
            f"({num_steps}), got {warmup}"
        )
    if settings.weight_decay and settings.name == "adam":
        raise InputError(
            "config.optimizer.weight_decay must be 0 under adam, which has none, got "
            f"{settings.weight_decay}; take adamw"
        )
    start = 0.0 if warmup else peak
    if settings.schedule == "cosine":
        rate = optax.warmup_cosine_decay_schedule(start, peak, warmup, num_steps)
    else:
        rate = optax.warmup_constant_schedule(start, peak, warmup)
    adamw = functools.partial(optax.adamw, weight_decay=settings.weight_decay, mask=_trainable)
    make = adamw if settings.name == "adamw" else optax.adam
    chain = optax.chain(
        optax.clip_by_global_norm(settings.clip_norm),
        make(rate, b1=settings.b1, b2=settings.b2, eps=settings.epsilon),
    )
    if config.process.name != "learned_vp":
        return chain
    parts = {"network": chain, PROCESS: optax.adam(settings.process_learning_rate)}
    return optax.multi_transform(parts, _learner)


def ema_schedules(config: Config) -> tuple[averages.EmaSchedule, ...]:
    """Build the rules of all averages that are kept, the one that samples first."""
    settings = config.training
    return (
        *map(averages.exponential, settings.ema_decays),
        *map(averages.power, settings.ema_stds),
    )


def _trainable(variables: Params) -> dict[str, bool]:
    """Which collections may decay: not the constants, to which no gradient flows."""
    return {name: name != "constants" for name in variables}


def _learner(variables: Params) -> dict[str, str]:
    """By which chain each collection moves."""
    return {name: PROCESS if name == PROCESS else "network" for name in variables}


def solver(chosen: Choice, model: DenoiseFn, forward: Process) -> Solver:
    """Build the solver around a model."""
    return names.resolve(names.SOLVERS, chosen, "config.sampling.solver")(model, forward)


FEW_STEPS = 12
"""Up to as many steps DEIS of order 3 errs less than that of order 4: over three mixtures in 2, 16
and 64 dimensions under VP, sub-VP and VE, on the logistic grid, by 1.3 times at 10 steps."""


def suited(chosen: Choice, num_steps: int) -> Choice:
    """The solver for so many steps: DEIS of order 0 becomes that of order 3 or 4."""
    options = dict(chosen.options)
    if chosen.name != "deis" or options.get("order", 0):
        return chosen
    return choice(chosen.name, **{**options, "order": 3 if num_steps <= FEW_STEPS else 4})


def time_grid(chosen: Choice, forward: Process, num_steps: int, *, t_min: float) -> Array:
    """Build the grid ``[num_steps + 1]`` from t = 1 to t_min."""
    reserved = ("t_max", "t_min", "sigma_min", "sigma_max")
    make = names.resolve(names.TIME_GRIDS, chosen, "config.sampling.times", reserved=reserved)
    memory.check_fits("num_steps", num_steps, num_steps * memory.STEP)
    return make(forward, num_steps, t_min=t_min)
