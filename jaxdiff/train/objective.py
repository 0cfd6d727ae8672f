"""L7: what a configuration minimises: the loss of a batch, with all the chance that goes into it.

Every example draws from a key of its own, folded from its row in the whole batch: devices and
microbatches that see a part of it draw what one device draws.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff import data, losses
from jaxdiff.processes import Process, chain_length
from jaxdiff.train import build, names
from jaxdiff.train.config import Config
from jaxdiff.train.state import BatchSlice, LossFn
from jaxdiff.typing import Array, Key, Params, WeightFn


def loss_fn(config: Config, net: nn.Module, forward: Process) -> LossFn:
    """Build ``(params, key, batch, part) -> [batch]``, the loss per example and per dimension."""
    settings, weight_fn, draw_times = config.loss, weight(config), time_sampler(config, forward)

    def loss(
        params: Params, key: Key, batch: Mapping[str, Array], part: BatchSlice | None = None, /
    ) -> Array:
        time_key, noise_key, dropout_key = jax.random.split(key, 3)
        x0 = batch["x"]
        rows, total = part or BatchSlice(jnp.arange(x0.shape[0]), x0.shape[0])
        t, importance = (drawn[rows] for drawn in draw_times(time_key, total))
        noise_key = keys_per_row(noise_key, rows)
        dropout_key = jax.random.fold_in(dropout_key, rows[0])
        label = batch["label"] if config.model.class_conditional else None
        if config.model.label_dropout:
            dropout_key, label_key = jax.random.split(dropout_key)
            label = drop_labels(
                keys_per_row(label_key, rows),
                batch["label"],
                config.model.label_dropout,
                net.num_classes,
            )
        model = build.denoise_fn(config, net, forward, params, label=label, dropout_key=dropout_key)
        if settings.vlb_weight:
            error = losses.hybrid(
                noise_key,
                model,
                forward,
                x0,
                t,
                num_steps=chain_length(forward),
                vlb_weight=settings.vlb_weight,
            )
        else:
            error = losses.denoising(
                noise_key, model, forward, x0, t, target=settings.target, weight_fn=weight_fn
            )
        if settings.importance_weights:
            error *= importance
        scale = 0.5 if settings.reduction == "sum" else x0.shape[0] / x0.size
        return error * scale

    return loss


def training_loss_fn(config: Config, net: nn.Module, forward: Process) -> LossFn:
    """Build the loss of examples as they are stored: images are bytes, made floats in the step."""
    loss, settings = loss_fn(config, net, forward), config.data
    value_range = (settings.low, settings.high)

    def of_stored(
        params: Params, key: Key, batch: Mapping[str, Array], part: BatchSlice | None = None, /
    ) -> Array:
        x = batch["x"]
        if x.dtype == jnp.uint8:
            rows = jnp.arange(x.shape[0]) if part is None else part.rows
            flip_key, dequantize_key = jax.random.split(jax.random.fold_in(key, IMAGES))
            if settings.flip:
                x = data.flip(keys_per_row(flip_key, rows), x)
            if settings.dequantize:
                x = data.dequantize(keys_per_row(dequantize_key, rows), x, value_range)
            else:
                x = data.scale(x, value_range)
        return loss(params, key, {**batch, "x": x}, part)

    return of_stored


IMAGES = 2**31
"""What is folded into a step's key for the chance in its images: far from the loss's own."""


def keys_per_row(key: Key, rows: Array) -> Key:
    """A key for every row, ``[rows]``, whatever part of the batch it comes in."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, rows)


def drop_labels(keys: Key, label: Array, share: float, num_classes: int) -> Array:
    """Withhold a share of the labels: the last class is that of an example without one."""
    coins = jax.vmap(lambda key: jax.random.bernoulli(key, share))(keys)
    return jnp.where(coins, num_classes - 1, label)


def time_sampler(config: Config, forward: Process) -> Callable[[Key, int], losses.times.TimeSample]:
    """Build ``(key, n) -> TimeSample`` for the process and weighting of the configuration."""
    reserved = ("t_min", "t_max", "num_steps")
    make = names.resolve(
        names.TIME_SAMPLERS, config.loss.times, "config.loss.times", reserved=reserved
    )
    weight_fn = weight(
        dataclasses.replace(config, loss=dataclasses.replace(config.loss, target="eps"))
    )

    def draw(key: Key, n: int) -> losses.times.TimeSample:
        sample: losses.times.TimeSample = make(
            key, n, forward, weight_fn, t_min=config.loss.t_min, num_steps=forward.num_steps
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
