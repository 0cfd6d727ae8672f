"""L7: the one place where a configuration is turned into things.

:mod:`jaxdiff.train.names` knows what there is; here it is bound to the rest of the configuration.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxdiff import data, denoisers, losses
from jaxdiff.predictions import Denoised, DenoiseFn
from jaxdiff.processes import Process
from jaxdiff.sampling import check_times
from jaxdiff.solvers import Solver
from jaxdiff.train import averages, names
from jaxdiff.train.config import Choice, Config
from jaxdiff.train.state import LossFn, Part
from jaxdiff.typing import Array, InputError, Key, Params, WeightFn


def process(config: Config) -> Process:
    """Build the forward process, and refuse one whose noise does not grow with time."""
    built: Process = names.resolve(names.PROCESSES, config.process, "config.process")()
    log_snr = jax.jit(built.log_snr)(jnp.linspace(0.0, 1.0, 101))
    if not bool(jnp.all(jnp.diff(log_snr) < 0)):
        raise InputError(
            "config.process takes parameters under which log SNR falls from t = 0 to t = 1, got "
            f"{config.process.as_dict()}"
        )
    return built


def network(config: Config, shape: tuple[int, ...], num_classes: int | None) -> nn.Module:
    """Build the network for examples of one shape, labelled where the configuration says so."""
    if config.model.class_conditional and num_classes is None:
        raise InputError("config.model.class_conditional takes data with labels, got data without")
    if config.model.label_dropout and not config.model.class_conditional:
        raise InputError(
            "config.model.label_dropout takes 0 without config.model.class_conditional, got "
            f"{config.model.label_dropout}"
        )
    make = names.resolve(names.NETWORKS, config.network, "config.network", reserved=_SET_ELSEWHERE)
    level = names.LEVELS[config.model.level]
    built = make(
        level_scale=level.scale,
        embedding=level.embedding,
        num_classes=_num_labels(config, num_classes),
        predictions=2 if config.model.learned_variance else 1,
    )
    if getattr(built, "recenter", False) and (config.data.low, config.data.high) != (0, 1):
        raise InputError(
            "config.network.recenter takes data in [0, 1], got config.data.low and high of "
            f"{config.data.low} and {config.data.high}"
        )
    label = None if built.num_classes is None else jnp.zeros(1, int)
    try:
        jax.eval_shape(built.init, jax.random.key(0), jnp.zeros((1, *shape)), jnp.ones(1), label)
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

    def apply(x: Array, level: Array) -> Array:
        own = label
        if own is None and model.label_dropout:
            own = jnp.full(x.shape[0], net.num_classes - 1)
        output: Any = net.apply(params, x, level, own, train=training, rngs=rngs)
        return output

    return denoisers.denoiser(
        apply,
        forward,
        kind=model.kind,
        data_std=model.data_std,
        level_fn=names.LEVELS[model.level].fn,
        scale_input=model.scale_input,
        learned_variance=model.learned_variance,
    )


def loss_fn(config: Config, net: nn.Module, forward: Process) -> LossFn:
    """Build ``(params, key, batch, part) -> [batch]``, the loss per example and per dimension."""
    settings, weight_fn, draw_times = config.loss, weight(config), time_sampler(config, forward)

    def loss(
        params: Params, key: Key, batch: Mapping[str, Array], part: Part | None = None, /
    ) -> Array:
        time_key, noise_key, dropout_key = jax.random.split(key, 3)
        x0 = batch["x"]
        rows, total = part or Part(jnp.arange(x0.shape[0]), x0.shape[0])
        t, importance = (drawn[rows] for drawn in draw_times(time_key, total))
        noise_key = each(noise_key, rows)
        dropout_key = jax.random.fold_in(dropout_key, rows[0])
        label = batch["label"] if config.model.class_conditional else None
        if config.model.label_dropout:
            dropout_key, label_key = jax.random.split(dropout_key)
            label = withheld(
                each(label_key, rows), batch["label"], config.model.label_dropout, net.num_classes
            )
        model = denoise_fn(config, net, forward, params, label=label, dropout_key=dropout_key)
        if settings.vlb_weight:
            error = losses.hybrid(
                noise_key,
                model,
                forward,
                x0,
                t,
                num_steps=getattr(forward, "num_steps", 0),
                vlb_weight=settings.vlb_weight,
            )
        else:
            error = losses.denoising(
                noise_key, model, forward, x0, t, target=settings.target, weight_fn=weight_fn
            )
        if settings.importance_weights:
            error *= importance
        scale = 0.5 if settings.reduction == "half_sum" else x0.shape[0] / x0.size
        return error * scale

    return loss


def training_loss_fn(config: Config, net: nn.Module, forward: Process) -> LossFn:
    """Build the loss of examples as they are stored: images are bytes, made floats in the step."""
    loss, settings = loss_fn(config, net, forward), config.data
    value_range = (settings.low, settings.high)

    def of_stored(
        params: Params, key: Key, batch: Mapping[str, Array], part: Part | None = None, /
    ) -> Array:
        x = batch["x"]
        if x.dtype == jnp.uint8:
            rows = jnp.arange(x.shape[0]) if part is None else part.rows
            flip_key, dequantize_key = jax.random.split(jax.random.fold_in(key, IMAGES))
            if settings.flip:
                x = data.flip(each(flip_key, rows), x)
            if settings.dequantize:
                x = data.dequantize(each(dequantize_key, rows), x, value_range)
            else:
                x = data.scale(x, value_range)
        return loss(params, key, {**batch, "x": x}, part)

    return of_stored


IMAGES = 2**31
"""What is folded into a step's key for the chance in its images: far from the loss's own."""


def each(key: Key, rows: Array) -> Key:
    """A key for every row, ``[rows]``, whatever part of the batch it comes in."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, rows)


def withheld(keys: Key, label: Array, share: float, num_classes: int) -> Array:
    """Withhold a share of the labels: the last class is that of an example without one."""
    coins = jax.vmap(lambda key: jax.random.bernoulli(key, share))(keys)
    return jnp.where(coins, num_classes - 1, label)


def time_sampler(config: Config, forward: Process) -> Callable[[Key, int], losses.times.TimeSample]:
    """Build ``(key, n) -> TimeSample`` for the process and weighting of the configuration."""
    reserved = ("t_min", "t_max", "num_steps")
    make = names.resolve(
        names.TIME_SAMPLERS, config.loss.times, "config.loss.times", reserved=reserved
    )
    num_steps = getattr(forward, "num_steps", None)
    weight_fn = weight(
        dataclasses.replace(config, loss=dataclasses.replace(config.loss, target="eps"))
    )

    def draw(key: Key, n: int) -> losses.times.TimeSample:
        sample: losses.times.TimeSample = make(
            key, n, forward, weight_fn, t_min=config.loss.t_min, num_steps=num_steps
        )
        return sample

    return draw


def weight(config: Config) -> WeightFn:
    """Build the weighting, for the target whose error is measured and the data's own σ_d."""
    chosen = config.loss.weight
    settings: dict[str, Any] = {"target": config.loss.target}
    make = names.resolve(
        names.WEIGHTS, chosen, "config.loss.weight", reserved=("target", "data_std")
    )
    if "data_std" in inspect.signature(names.WEIGHTS[chosen.name]).parameters:
        settings["data_std"] = config.model.data_std
    return functools.partial(make, **settings)


def batches(config: Config, source: data.Source, **more: Any) -> Iterator[data.Example]:
    """Iterate over the training batches that the configuration describes; see ``data.batches``."""
    return data.batches(
        source,
        batch_size=config.training.batch_size,
        seed=config.seed,
        **more,
    )


def optimizer(config: Config) -> optax.GradientTransformation:
    """Build the optax chain: clip by global norm, then Adam or AdamW on the schedule."""
    settings, num_steps = config.optimizer, config.training.num_steps
    peak, warmup = settings.learning_rate, settings.warmup_steps
    if warmup >= num_steps:
        raise InputError(
            "config.optimizer.warmup_steps takes less than config.training.num_steps "
            f"({num_steps}), got {warmup}"
        )
    if settings.weight_decay and settings.name == "adam":
        raise InputError(
            "config.optimizer.weight_decay takes 0 under adam, which has none, got "
            f"{settings.weight_decay}; take adamw"
        )
    start = 0.0 if warmup else peak
    if settings.schedule == "cosine":
        rate = optax.warmup_cosine_decay_schedule(start, peak, warmup, num_steps)
    else:
        rate = optax.warmup_constant_schedule(start, peak, warmup)
    adamw = functools.partial(optax.adamw, weight_decay=settings.weight_decay, mask=_trainable)
    make = adamw if settings.name == "adamw" else optax.adam
    return optax.chain(
        optax.clip_by_global_norm(settings.clip_norm),
        make(rate, b1=settings.b1, b2=settings.b2, eps=settings.epsilon),
    )


def averaging(config: Config) -> tuple[averages.Rule, ...]:
    """Build the rules of all averages that are kept, the one that samples first."""
    settings = config.training
    return (
        *map(averages.exponential, settings.ema_decays),
        *map(averages.power, settings.ema_stds),
    )


def _trainable(variables: Params) -> dict[str, bool]:
    """Which collections may decay: not the constants, to which no gradient flows."""
    return {name: name != "constants" for name in variables}


def solver(chosen: Choice, model: DenoiseFn, forward: Process) -> Solver:
    """Build the solver around a model."""
    return names.resolve(names.SOLVERS, chosen, "config.sampling.solver")(model, forward)


def time_grid(chosen: Choice, forward: Process, num_steps: int, *, t_min: float) -> Array:
    """Build the grid ``[num_steps + 1]`` from t = 1 to t_min."""
    reserved = ("t_max", "t_min", "sigma_min", "sigma_max")
    make = names.resolve(names.TIME_GRIDS, chosen, "config.sampling.times", reserved=reserved)
    return make(forward, num_steps, t_min=t_min)


def check(config: Config, forward: Process, shape: tuple[int, ...]) -> None:
    """Build what training needs late, so that it is refused before anything is written."""
    data.check_range((config.data.low, config.data.high))
    if (config.data.flip or config.data.dequantize) and len(shape) != 3:
        raise InputError("config.data.flip and dequantize are for images, the data are vectors")
    weight(config)
    optimizer(config)
    if config.training.keep_best and not config.training.eval_every:
        raise InputError(
            "config.training.keep_best takes 0 unless config.training.eval_every says when the "
            f"held-out loss is measured, got {config.training.keep_best}"
        )
    try:
        names.LEVELS[config.model.level].fn(forward, jnp.ones(1))
    except InputError as error:
        raise InputError(f"config.model.level: {error}") from error
    jax.eval_shape(lambda key: time_sampler(config, forward)(key, 1), jax.random.key(0))
    if config.loss.vlb_weight:
        _check_hybrid(config, forward)
    sampling = config.sampling
    grid = time_grid(sampling.times, forward, sampling.num_steps, t_min=sampling.t_min)
    check_times(grid)
    solver(sampling.solver, lambda x, t: Denoised(x, x), forward)


def _check_hybrid(config: Config, forward: Process) -> None:
    """Refuse to add the bound to a loss that it does not belong to."""
    plain = config.loss.target == "eps" and config.loss.weight.name == "eps"
    if not (plain and config.model.learned_variance and hasattr(forward, "num_steps")):
        raise InputError(
            "config.loss.vlb_weight takes 0 unless the process is a chain, "
            "config.model.learned_variance is true and target and weight are eps (the hybrid loss "
            f"of improved DDPM), got {config.loss.vlb_weight}"
        )


_SET_ELSEWHERE = ("level_scale", "embedding", "num_classes", "predictions", "parent", "name")
"""Options of a network that the data and ``config.model`` decide."""
