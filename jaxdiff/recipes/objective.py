"""L9: what a configuration minimises: the loss of a batch, with all of its randomness.

Every example draws from a key of its own, folded from its row in the whole batch: the draws do not
depend on how the batch is divided over devices and microbatches.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff import data
from jaxdiff.processes import LearnedVP, Process, with_fixed_ends, with_fixed_shape
from jaxdiff.recipes import build, names
from jaxdiff.recipes.config import Config, choice
from jaxdiff.recipes.loss_checks import check_loss
from jaxdiff.recipes.measures import BOUNDS, MEASURES, Case
from jaxdiff.recipes.time_sampling import TimeSampler, time_sampler
from jaxdiff.train.state import BatchSlice, LossFn, View
from jaxdiff.typing import Array, Key, Params, PyTree, WeightFn


class Objective(NamedTuple):
    """What is minimised, and what a step passes to the next for it.

    Args:
        loss_fn: of examples as the network sees them, ``{"x": [batch, ...], "label": [batch]}``:
            per example and per dimension.
        stored_loss_fn: of examples as stored: images are bytes, converted to floats in the step.
        carry: before the first step.
        update_carry: ``(carry, aux) -> carry``, from the auxiliary output of the loss.
    """

    loss_fn: LossFn
    stored_loss_fn: LossFn
    carry: PyTree
    update_carry: Callable[[PyTree, PyTree], PyTree]


def objective(config: Config, net: nn.Module, forward: Process) -> Objective:
    """Build what a configuration minimises.

    Raises:
        InputError: if its fields are inconsistent.
    """
    check_loss(config, forward)
    sampler = time_sampler(config, forward, weight(_on_eps(config)))
    jax.eval_shape(lambda key: sampler.draw(key, 1, sampler.history), jax.random.key(0))
    loss_fn = _loss_fn(config, net, forward, weight(config), sampler)

    def update_carry(carry: PyTree, aux: PyTree) -> PyTree:
        return carry if sampler.record is None else sampler.record(carry, *aux)

    return Objective(loss_fn, _of_stored(loss_fn, config), sampler.history, update_carry)


def _loss_fn(
    config: Config, net: nn.Module, forward: Process, weight_fn: WeightFn, sampler: TimeSampler
) -> LossFn:
    settings = config.loss

    def loss(
        params: Params, view: View, key: Key, batch: PyTree, part: BatchSlice, /
    ) -> tuple[Array, PyTree]:
        time_key, noise_key, dropout_key = jax.random.split(key, 3)
        x0, (rows, total) = batch["x"], part
        t, importance = (drawn[rows] for drawn in sampler.draw(time_key, total, view.carry))
        noise_keys = keys_per_row(noise_key, rows)
        batch_key = jax.random.fold_in(dropout_key, 0)
        dropout_key = jax.random.fold_in(dropout_key, rows[0])
        label = batch["label"] if config.model.class_conditional else None
        if config.model.label_dropout:
            dropout_key, _ = jax.random.split(dropout_key)
            _, label_key = jax.random.split(batch_key)  # the same for every part of a batch
            label = drop_labels(
                keys_per_row(label_key, rows),
                batch["label"],
                config.model.label_dropout,
                net.num_classes,
            )
        scale = 0.5 if settings.reduction == "sum" else x0.shape[0] / x0.size

        def measured(params: Params, process: Process) -> tuple[Array, Array, Array]:
            """The loss, its time-dependent part, and that part without importance weights."""
            model = build.denoise_fn(
                config, net, process, params, label=label, dropout_key=dropout_key
            )
            case = Case(config, weight_fn, noise_keys, model, process, x0, t)
            error, rest = MEASURES[settings.name](case)
            weighted = error * importance if settings.importance_weights else error
            whole = weighted if rest is None else weighted + rest
            return whole * scale, weighted * scale, error * scale

        process = build.process_of(forward, params)
        if isinstance(process, LearnedVP):
            whole, *_ = measured(params, with_fixed_shape(process))
            held = jax.lax.stop_gradient(params)
            _, varying, _ = measured(held, with_fixed_ends(process))
            return whole + _only_gradient(jnp.square(varying)), ()
        whole, _, error = measured(params, process)
        return whole, () if sampler.record is None else (t, error)

    return loss


def _on_eps(config: Config) -> Config:
    """The configuration with the loss's weight on the error of ε̂; for a bound, "likelihood"."""
    loss = config.loss
    chosen = choice("likelihood") if loss.name in BOUNDS else loss.weight
    return dataclasses.replace(config, loss=dataclasses.replace(loss, target="eps", weight=chosen))


def _only_gradient(x: Array) -> Array:
    """Zero, with the gradient of x."""
    return x - jax.lax.stop_gradient(x)


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
"""Folded into a step's key for the randomness of augmentation: far from those of the loss."""


def keys_per_row(key: Key, rows: Array) -> Key:
    """A key for every row, ``[rows]``, independent of the slice of the batch it comes in."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, rows)


def drop_labels(keys: Key, label: Array, rate: float, num_classes: int) -> Array:
    """Replace labels at random by the last class, which stands for no label."""
    dropped = jax.vmap(lambda key: jax.random.bernoulli(key, rate))(keys)
    return jnp.where(dropped, num_classes - 1, label)


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
