"""L9: builds everything that a configuration specifies, except the loss.

:mod:`jaxdiff.recipes.names` maps names to functions; here they are bound to the rest of the
configuration, :mod:`jaxdiff.recipes.objective` builds the loss, and
:mod:`jaxdiff.recipes.diffusion` collects everything in one value.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdiff import data, denoisers
from jaxdiff.nets.variables import init_shapes
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import LearnedVP, Process
from jaxdiff.recipes import names
from jaxdiff.recipes.config import Choice, Config, DataConfig, choice
from jaxdiff.solvers import Solver
from jaxdiff.train import averages, memory
from jaxdiff.typing import Array, ArrayLike, InputError, Key, Params


def dataset(config: Config) -> data.Dataset:
    """Load the data that a configuration names, resized if it has a size."""
    chosen = config.data
    if chosen.resize != DataConfig.resize and not chosen.size:
        raise InputError(
            f"config.data.resize must be {DataConfig.resize}, the default, unless "
            f"config.data.size is set, got {chosen.resize}"
        )
    return data.load(
        chosen.name,
        data_dir=chosen.data_dir or None,
        size=chosen.size or None,
        resize=chosen.resize,
    )


@jax.jit
def _log_snr(process: Process, t: ArrayLike) -> Array:
    return process.log_snr(t)


def process(config: Config) -> Process:
    """Build the forward process, and refuse one whose noise does not grow with time."""
    built: Process = names.resolve(names.PROCESSES, config.process, "config.process")()
    log_snr = np.asarray(_log_snr(built, np.linspace(0.0, 1.0, 101)))
    if not np.all(log_snr[1:] < log_snr[:-1]):
        raise InputError(
            "config.process must have parameters for which log SNR decreases from t = 0 to t = 1, "
            f"got {config.process.as_dict()}"
        )
    return built


PROCESS = "process"
"""Collection of variables that holds the parameters of a learned process."""


def with_process(variables: Params, forward: Process) -> Params:
    """Add the parameters of a learned process, if it is one, to the variables of a network."""
    if not isinstance(forward, LearnedVP):
        return variables
    own = {f.name: getattr(forward, f.name) for f in dataclasses.fields(forward)}
    return {**variables, PROCESS: own}


def process_of(forward: Process, params: Params) -> Process:
    """A learned process with its current parameters; any other process unchanged."""
    if not isinstance(forward, LearnedVP) or params is None:
        return forward
    return dataclasses.replace(forward, **params[PROCESS])


def network(config: Config, shape: tuple[int, ...], num_classes: int | None) -> nn.Module:
    """Build the network for examples of one shape, conditional if the configuration is."""
    if config.model.class_conditional and num_classes is None:
        raise InputError("config.model.class_conditional must be false for data without labels")
    if config.model.label_dropout and not config.model.class_conditional:
        raise InputError(
            "config.model.label_dropout must be 0 without config.model.class_conditional, got "
            f"{config.model.label_dropout}"
        )
    make = names.resolve(
        names.NETWORKS, config.network, "config.network", reserved=names.SET_ELSEWHERE
    )
    noise_cond = names.NOISE_CONDS[config.model.noise_cond]
    built = make(
        noise_cond_scale=noise_cond.scale,
        embedding=noise_cond.embedding,
        num_classes=_num_labels(config, num_classes),
        num_outputs=2 if config.model.learned_variance else 1,
    )
    if getattr(built, "recenter", False) and (config.data.low, config.data.high) != (0, 1):
        raise InputError(
            "config.network.recenter requires data in [0, 1], got config.data.low and high of "
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
    """Number of classes, plus one for dropped labels with ``label_dropout``."""
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
    """Bind a network to parameters and labels; with a ``dropout_key`` it runs in training mode.

    Without labels, a network trained with ``label_dropout`` is the unconditional model.
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
        with jax.default_matmul_precision(model.matmul_precision):
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
            "config.optimizer.weight_decay must be 0 for adam, got "
            f"{settings.weight_decay}; use adamw"
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
    """Build the schedules of all EMAs that are kept, first the one used for sampling."""
    settings = config.training
    return (
        *map(averages.exponential, settings.ema_decays),
        *map(averages.power, settings.ema_stds),
    )


def _trainable(variables: Params) -> dict[str, bool]:
    """Which collections weight decay applies to: not the constants, which are not trained."""
    return {name: name != "constants" for name in variables}


def _learner(variables: Params) -> dict[str, str]:
    """Which optax chain updates each collection."""
    return {name: PROCESS if name == PROCESS else "network" for name in variables}


def solver(chosen: Choice, model: DenoiseFn, forward: Process) -> Solver:
    """Build the solver around a model."""
    return names.resolve(names.SOLVERS, chosen, "config.sampling.solver")(model, forward)


FEW_STEPS = 12
"""Up to this many steps DEIS of order 3 is more accurate than of order 4: for three mixtures in 2,
16 and 64 dimensions under VP, sub-VP and VE, on the logistic grid, 1.3 times at 10 steps."""


def suited(chosen: Choice, num_steps: int) -> Choice:
    """Choose the solver's order for the number of steps: DEIS of order 0 gets order 3 or 4."""
    options = dict(chosen.options)
    if chosen.name != "deis" or options.get("order", 0):
        return chosen
    return choice(chosen.name, **{**options, "order": 3 if num_steps <= FEW_STEPS else 4})


def time_grid(chosen: Choice, forward: Process, num_steps: int, *, t_min: float) -> Array:
    """Build the time grid ``[num_steps + 1]`` from t = 1 to t_min."""
    reserved = ("t_max", "t_min", "sigma_min", "sigma_max")
    make = names.resolve(names.TIME_GRIDS, chosen, "config.sampling.times", reserved=reserved)
    memory.check_fits("num_steps", num_steps, num_steps * memory.STEP)
    return make(forward, num_steps, t_min=t_min)
