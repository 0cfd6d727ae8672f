"""L9: what each loss of a configuration measures at one noisy draw of every example.

``config.loss.name`` picks one of :data:`MEASURES`. Each is built from the configuration and then
maps ``(keys, model, process, x0, t)`` to two parts of the loss, both ``[batch]`` and summed over
the event: an error at time t, which is weighted by the importance of t, and the rest, which does
not depend on t.

Score matching is done in units of the noise: with the field g(u) = σ s(x_t + σu), whose divergence
at u = 0 is σ² ∇·s, the weight λ = σ² on the score is 1, and the step of a finite difference is a
share of σ.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff import divergence, losses
from jaxdiff.arrays import expand_to
from jaxdiff.divergence import DivergenceFn
from jaxdiff.losses import decoders
from jaxdiff.losses.continuous_elbo import denoising_rate, girsanov_rate, prior_cross_entropy
from jaxdiff.losses.elbo import prior_kl, reconstruction
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process, chain_length, perturb
from jaxdiff.recipes.config import Config
from jaxdiff.typing import Array, Keys, WeightFn

Measure = Callable[[Keys, DenoiseFn, Process, Array, Array], tuple[Array, Array | None]]
"""``(keys, model, process, x0, t) -> (error, rest)``; a rest of None is 0."""

NUM_LEVELS = 256
"""Levels of the bytes that images are stored as."""

FD_STEP = 0.05
"""Step of finite differences, as a share of σ: the error is of its square, float32 does not yet
cancel."""


def _denoising(config: Config, weight_fn: WeightFn) -> Measure:
    target = config.loss.target

    def measure(
        keys: Keys, model: DenoiseFn, process: Process, x0: Array, t: Array
    ) -> tuple[Array, None]:
        return (
            losses.denoising(keys, model, process, x0, t, target=target, weight_fn=weight_fn),
            None,
        )

    return measure


def _dsm(config: Config, weight_fn: WeightFn) -> Measure:
    def on_score(process: Process, t: Array) -> Array:
        return weight_fn(process, t) * process.variance(t)

    def measure(
        keys: Keys, model: DenoiseFn, process: Process, x0: Array, t: Array
    ) -> tuple[Array, None]:
        def score(x: Array, t: Array) -> Array:
            return -model(x, t).eps / expand_to(process.sigma(t), x)

        return losses.dsm(keys, score, process, x0, t, weight_fn=on_score), None

    return measure


def _score_matching(estimate: Callable[..., Array]) -> Callable[[Config, WeightFn], Measure]:
    """Score matching of x_t without its noise, by ``(keys, config, field, u) -> [batch]``."""

    def build(config: Config, weight_fn: WeightFn) -> Measure:
        def measure(
            keys: Keys, model: DenoiseFn, process: Process, x0: Array, t: Array
        ) -> tuple[Array, None]:
            noise_keys, probe_keys = _two(keys)
            x_t, _ = perturb(noise_keys, process, x0, t)
            sigma = expand_to(process.sigma(t), x_t)

            def field(u: Array) -> Array:
                return -model(x_t + sigma * u, t).eps

            found = estimate(probe_keys, config, field, jnp.zeros_like(x_t))
            return weight_fn(process, t) * found, None

        return measure

    return build


def _ism(keys: Keys, config: Config, field: divergence.Field, u: Array) -> Array:
    return losses.ism(field, u, divergence_fn=_divergence_fn(config, keys))


def _sliced(loss: Callable[..., Array], **options: Any) -> Callable[..., Array]:
    def estimate(keys: Keys, config: Config, field: divergence.Field, u: Array) -> Array:
        return loss(keys, field, u, probe=config.loss.probe, **options)

    return estimate


def _vlb(config: Config, weight_fn: WeightFn) -> Measure:
    def measure(
        keys: Keys, model: DenoiseFn, process: Process, x0: Array, t: Array
    ) -> tuple[Array, Array]:
        error = losses.vlb(
            keys,
            model,
            process,
            x0,
            t,
            num_steps=chain_length(process),
            decoder=decoder(config, is_image=x0.ndim == 4),
        )
        return error, prior_kl(process, x0, 1.0)

    return measure


def _hybrid(config: Config, weight_fn: WeightFn) -> Measure:
    def measure(
        keys: Keys, model: DenoiseFn, process: Process, x0: Array, t: Array
    ) -> tuple[Array, None]:
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

    return measure


def _elbo(config: Config, weight_fn: WeightFn) -> Measure:
    t_min = config.loss.t_min

    def measure(
        keys: Keys, model: DenoiseFn, process: Process, x0: Array, t: Array
    ) -> tuple[Array, Array]:
        noise_keys, decoder_keys = _two(keys)
        rate = denoising_rate(noise_keys, model, process, x0, t)
        ends = prior_kl(process, x0, 1.0) + reconstruction(
            decoder_keys, model, process, x0, t_min, decoder=decoder(config, is_image=x0.ndim == 4)
        )
        return (1 - t_min) * rate, ends

    return measure


def _girsanov(config: Config, weight_fn: WeightFn) -> Measure:
    def measure(
        keys: Keys, model: DenoiseFn, process: Process, x0: Array, t: Array
    ) -> tuple[Array, Array]:
        noise_keys, probe_keys = _two(keys)
        rate = girsanov_rate(
            noise_keys, model, process, x0, t, divergence_fn=_divergence_fn(config, probe_keys)
        )
        return (1 - config.loss.t_min) * rate, prior_cross_entropy(process, x0)

    return measure


def _two(keys: Keys) -> tuple[Keys, Keys]:
    """Two keys of each."""
    pairs = jax.vmap(jax.random.split)(keys)
    return pairs[:, 0], pairs[:, 1]


def _divergence_fn(config: Config, keys: Keys) -> DivergenceFn:
    if config.loss.divergence == "exact":
        return divergence.exact
    return functools.partial(divergence.hutchinson, keys, probe=config.loss.probe)


def decoder(config: Config, *, is_image: bool) -> decoders.Decoder:
    """p(x_0 | x̂_0): images are levels, unless noise was added to them; vectors real numbers."""
    if not is_image or config.data.dequantize:
        return decoders.gaussian
    return functools.partial(
        decoders.discretized_gaussian,
        num_levels=NUM_LEVELS,
        low=config.data.low,
        high=config.data.high,
    )


MEASURES: Mapping[str, Callable[[Config, WeightFn], Measure]] = {
    "denoising": _denoising,
    "dsm": _dsm,
    "ism": _score_matching(_ism),
    "ssm": _score_matching(_sliced(losses.ssm)),
    "ssm_vr": _score_matching(_sliced(losses.ssm, variance_reduction=True)),
    "fd_ssm": _score_matching(_sliced(losses.fd_ssm, variance_reduction=True, step=FD_STEP)),
    "vlb": _vlb,
    "hybrid": _hybrid,
    "elbo": _elbo,
    "girsanov": _girsanov,
}
CHAINS = ("vlb", "hybrid")
"""Losses of a chain alone."""
CONTINUOUS = ("elbo", "girsanov")
"""Losses of a process in continuous time alone."""
BOUNDS = ("vlb", *CONTINUOUS)
"""Losses that are bounds on −log p."""
WEIGHTED = ("denoising", "dsm", "ism", "ssm", "ssm_vr", "fd_ssm")
"""Losses that take a weight."""
