"""L9: what a configuration minimises: the loss of a batch, with all the chance that goes into it.

Every example draws from a key of its own, folded from its row in the whole batch: devices and
microbatches that see a part of it draw what one device draws.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff import data, losses
from jaxdiff.processes import Process, chain_length
from jaxdiff.recipes import build, names
from jaxdiff.recipes.config import Config
from jaxdiff.train.state import BatchSlice, LossFn, View
from jaxdiff.typing import Array, InputError, Key, Params, PyTree, WeightFn


class Objective(NamedTuple):
    """What is minimised, and what a step hands to the next for it.

    Args:
        loss_fn: of examples as the network sees them, ``{"x": [batch, ...], "label": [batch]}``:
            per example and per dimension.
        stored_loss_fn: of examples as they are stored: images are bytes, made floats in the step.
        carry: before the first step.
        update_carry: ``(carry, aux) -> carry``, from what the loss returned beside the loss.
    """

    loss_fn: LossFn
    stored_loss_fn: LossFn
    carry: PyTree
    update_carry: Callable[[PyTree, PyTree], PyTree]


def objective(config: Config, net: nn.Module, forward: Process) -> Objective:
    """Build what a configuration minimises.

    Raises:
        InputError: if its fields do not go together.
    """
    weight_fn, draw_times = weight(config), time_sampler(config, forward)
    jax.eval_shape(lambda key: draw_times(key, 1), jax.random.key(0))
    if config.loss.vlb_weight:
        _check_hybrid(config, forward)
    loss_fn = _loss_fn(config, net, forward, weight_fn, draw_times)
    return Objective(loss_fn, _of_stored(loss_fn, config), (), lambda carry, aux: carry)


def _loss_fn(
    config: Config,
    net: nn.Module,
    forward: Process,
    weight_fn: WeightFn,
    draw_times: Callable[[Key, int], losses.times.TimeSample],
) -> LossFn:
    settings = config.loss

    def loss(
        params: Params, view: View, key: Key, batch: PyTree, part: BatchSlice, /
    ) -> tuple[Array, PyTree]:
        time_key, noise_key, dropout_key = jax.random.split(key, 3)
        x0, (rows, total) = batch["x"], part
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
        return error * scale, ()

    return loss


def _of_stored(loss_fn: LossFn, config: Config) -> LossFn:
    settings = config.data
    value_range = (settings.low, settings.high)

    def of_stored(
        params: Params, view: View, key: Key, batch: PyTree, part: BatchSlice, /
    ) -> tuple[Array, PyTree]:
        x = batch["x"]
        if x.dtype == jnp.uint8:
            flip_key, dequantize_key = jax.random.split(jax.random.fold_in(key, IMAGES))
            if settings.flip:
                x = data.flip(keys_per_row(flip_key, part.rows), x)
            if settings.dequantize:
                x = data.dequantize(keys_per_row(dequantize_key, part.rows), x, value_range)
            else:
                x = data.scale(x, value_range)
        return loss_fn(params, view, key, {**batch, "x": x}, part)

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


def _check_hybrid(config: Config, forward: Process) -> None:
    """Refuse to add the bound to a loss that it does not belong to."""
    plain = config.loss.target == "eps" and config.loss.weight.name == "eps"
    if not (plain and config.model.learned_variance and forward.num_steps is not None):
        raise InputError(
            "config.loss.vlb_weight must be 0 unless the process is a chain, "
            "config.model.learned_variance is true and target and weight are eps (the hybrid loss "
            f"of improved DDPM), got {config.loss.vlb_weight}"
        )
