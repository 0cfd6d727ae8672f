"""L9: what each loss of a configuration measures at one noisy draw of every example.

``config.loss.name`` chooses one of :data:`MEASURES`, each of which returns two parts of the loss,
both ``[batch]`` and summed over the event: an error at time t, which is weighted by the importance
of t, and a rest that does not depend on t.

Score matching is done in units of the noise: with the field g(u) = σ s(x_t + σu), whose divergence
at u = 0 is σ² ∇·s, the weight λ = σ² on the score is 1, and the step of a finite difference is a
fraction of σ.
"""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff import divergence, losses
from jaxdiff.arrays import expand_to
from jaxdiff.divergence import DivergenceFn, Field
from jaxdiff.losses import decoders
from jaxdiff.losses.continuous_elbo import denoising_rate, girsanov_rate, prior_cross_entropy
from jaxdiff.losses.elbo import prior_kl, reconstruction
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process, chain_length, perturb
from jaxdiff.recipes.config import Config, LossName
from jaxdiff.typing import Array, Keys, WeightFn

NUM_LEVELS = 256
"""Levels of the bytes that images are stored as."""

FD_STEP = 0.05
"""Step of finite differences, as a fraction of σ: the error is of second order in it, and there is
no cancellation in float32 yet."""


class Case(NamedTuple):
    """What a loss is measured on.

    Args:
        config: of the run.
        weight_fn: λ of ``config.loss.weight``, on the error of ``config.loss.target``.
        keys: randomness, one key per example.
        model: the model.
        process: the forward process.
        x0: data.
        t: one time per example.
    """

    config: Config
    weight_fn: WeightFn
    keys: Keys
    model: DenoiseFn
    process: Process
    x0: Array
    t: Array


Measured = tuple[Array, Array | None]
"""``(error, rest)``; a rest of None is 0."""


def _denoising(case: Case) -> Measured:
    config, weight_fn, keys, model, process, x0, t = case
    error = losses.denoising(
        keys, model, process, x0, t, target=config.loss.target, weight_fn=weight_fn
    )
    return error, None


def _dsm(case: Case) -> Measured:
    _, weight_fn, keys, model, process, x0, t = case

    def score(x: Array, t: Array) -> Array:
        return -model(x, t).eps / expand_to(process.sigma(t), x)

    def on_score(process: Process, t: Array) -> Array:
        return weight_fn(process, t) * process.variance(t)

    return losses.dsm(keys, score, process, x0, t, weight_fn=on_score), None


def _ism(case: Case) -> Measured:
    return _score_matching(
        case, lambda keys, field, u: losses.ism(field, u, divergence_fn=_divergence_fn(case, keys))
    )


def _ssm(case: Case) -> Measured:
    return _score_matching(case, functools.partial(losses.ssm, probe=case.config.loss.probe))


def _ssm_vr(case: Case) -> Measured:
    loss = functools.partial(losses.ssm, variance_reduction=True)
    return _score_matching(case, functools.partial(loss, probe=case.config.loss.probe))


def _fd_ssm(case: Case) -> Measured:
    loss = functools.partial(losses.fd_ssm, variance_reduction=True, step=FD_STEP)
    return _score_matching(case, functools.partial(loss, probe=case.config.loss.probe))


def _score_matching(case: Case, loss: Callable[[Keys, Field, Array], Array]) -> Measured:
    """Score matching on x_t, which does not use its noise."""
    noise_keys, probe_keys = _two(case.keys)
    x_t, _ = perturb(noise_keys, case.process, case.x0, case.t)
    sigma = expand_to(case.process.sigma(case.t), x_t)

    def field(u: Array) -> Array:
        return -case.model(x_t + sigma * u, case.t).eps

    weight = case.weight_fn(case.process, case.t)
    return weight * loss(probe_keys, field, jnp.zeros_like(x_t)), None


def _vlb(case: Case) -> Measured:
    config, _, keys, model, process, x0, t = case
    decode = decoder(config, is_image=x0.ndim == 4)
    length = chain_length(process)
    error = losses.vlb(keys, model, process, x0, t, num_steps=length, decoder=decode)
    return error, prior_kl(process, x0, 1.0)


def _hybrid(case: Case) -> Measured:
    config, _, keys, model, process, x0, t = case
    error = losses.hybrid(
        keys,
        model,
        process,
        x0,
        t,
        num_steps=chain_length(process),
        vlb_weight=config.loss.vlb_weight,
        decoder=decoder(config, is_image=x0.ndim == 4),
    )
    return error, None


def _elbo(case: Case) -> Measured:
    config, _, keys, model, process, x0, t = case
    noise_keys, decoder_keys = _two(keys)
    t_min, decode = config.loss.t_min, decoder(config, is_image=x0.ndim == 4)
    rate = denoising_rate(noise_keys, model, process, x0, t)
    decoded = reconstruction(decoder_keys, model, process, x0, t_min, decoder=decode)
    return (1 - t_min) * rate, prior_kl(process, x0, 1.0) + decoded


def _girsanov(case: Case) -> Measured:
    config, _, keys, model, process, x0, t = case
    noise_keys, probe_keys = _two(keys)
    trace = _divergence_fn(case, probe_keys)
    rate = girsanov_rate(noise_keys, model, process, x0, t, divergence_fn=trace)
    return (1 - config.loss.t_min) * rate, prior_cross_entropy(process, x0)


def _two(keys: Keys) -> tuple[Keys, Keys]:
    """Split each key in two."""
    pairs = jax.vmap(jax.random.split)(keys)
    return pairs[:, 0], pairs[:, 1]


def _divergence_fn(case: Case, keys: Keys) -> DivergenceFn:
    settings = case.config.loss
    if settings.divergence == "exact":
        return divergence.exact
    return functools.partial(divergence.hutchinson, keys, probe=settings.probe)


def decoder(config: Config, *, is_image: bool) -> decoders.Decoder:
    """p(x_0 | x̂_0): images are levels, unless dequantised; vectors are real numbers."""
    if not is_image or config.data.dequantize:
        return decoders.gaussian
    return functools.partial(
        decoders.discretized_gaussian,
        num_levels=NUM_LEVELS,
        low=config.data.low,
        high=config.data.high,
    )


MEASURES: Mapping[LossName, Callable[[Case], Measured]] = {
    "denoising": _denoising,
    "dsm": _dsm,
    "ism": _ism,
    "ssm": _ssm,
    "ssm_vr": _ssm_vr,
    "fd_ssm": _fd_ssm,
    "vlb": _vlb,
    "hybrid": _hybrid,
    "elbo": _elbo,
    "girsanov": _girsanov,
}
CHAINS = ("vlb", "hybrid")
"""Losses only of chains."""
CONTINUOUS = ("elbo", "girsanov")
"""Losses only of processes in continuous time."""
BOUNDS = ("vlb", *CONTINUOUS)
"""Losses that are bounds on −log p."""
WEIGHTED = ("denoising", "dsm", "ism", "ssm", "ssm_vr", "fd_ssm")
"""Losses that have a weight."""
