"""A mixture whose components belong to classes: exact conditional models and exact classifier.

The data of class c are the mixture of its components, and by Bayes' rule

    log p(c | x_t) = log Σ_{k in c} w_k N(x_t; αm_k, α²C_k + σ²I) − log Σ_k w_k N(x_t; …),

so that E[ε | x_t, c] = E[ε | x_t] − σ ∇ log p(c | x_t): classifier guidance at scale 1 is exact.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.checks import check_known
from jaxdiff.oracles.base import over_batch
from jaxdiff.oracles.mixture import NoisyComponents, Stds, averaged, components, given_noisy
from jaxdiff.predictions import Denoised, DenoiseFn
from jaxdiff.processes import Process
from jaxdiff.typing import Array, ArrayLike, InputError, Int, PerExample, Real

LogProbFn = Callable[[Array, PerExample], Array]
"""``(x_t, t) -> log p(c | x_t) [batch]``, of one class or one per example."""


class Labelled(NamedTuple):
    """The exact models of data with classes; a label is one class, or one per example."""

    denoise_fn: DenoiseFn  # without a label
    conditioned: Callable[[ArrayLike], DenoiseFn]  # label -> model of that class
    log_prob_fn: Callable[[ArrayLike], LogProbFn]  # label -> classifier, under the process


def labelled(
    process: Process,
    weights: Real[ArrayLike, "components"],
    means: Real[ArrayLike, "components *event"],
    stds: Stds,
    labels: Int[Any, "components"],
) -> Labelled:
    """Exact models of a mixture whose components have labels.

    p(c | x_t) = Σ_{k in c} p(k | x_t),    E[x_0 | x_t, c] = Σ_k p(k | x_t, c) E[x_0 | x_t, k]

    Args:
        process: the forward process.
        weights: weight of each component, normalised here.
        means: mean of each component.
        stds: standard deviations, or covariances of the flattened data.
        labels: class of each component: 0, 1, …, without a gap.

    Returns:
        ``Labelled(denoise_fn, conditioned, log_prob_fn)``. A label is a whole number or one per
        example ``[batch]``; the number of classes is allowed too: it stands for no label.

    Raises:
        InputError: as :func:`jaxdiff.oracles.mixture`; if labels are not as described, now or in
            ``conditioned`` and ``log_prob_fn``.

    Example:
        >>> from jaxdiff.processes import VP
        >>> modes, labels = jnp.array([[-1.0], [1.0]]), jnp.array([0, 1])
        >>> exact = labelled(VP(), jnp.ones(2), modes, jnp.full(2, 0.1), labels)
        >>> exact.conditioned(1)(jnp.zeros((1, 1)), 1.0).x0.round(2)
        Array([[1.]], dtype=float32)
        >>> exact.log_prob_fn(1)(jnp.zeros((1, 1)), 0.5)  # log ½
        Array([-0.6931472], dtype=float32)

    Reference: Bayes' rule; Dhariwal & Nichol 2021, eq. 2.
    """
    parts = components(weights, means, stds)
    given = np.asarray(labels)
    count = parts.means.shape[0]
    if given.shape != (count,) or given.dtype.kind not in "iu":
        raise InputError(
            f"labels must be {count} integers, one for each component, got "
            f"{given.dtype} of shape {given.shape}"
        )
    num_classes = int(given.max()) + 1
    if set(given.tolist()) != set(range(num_classes)):
        raise InputError(f"labels must be 0, 1, … without a gap, got {given.tolist()}")
    # the last row, that of no label, has all components
    members = jnp.asarray(
        np.vstack([given[None] == np.arange(num_classes)[:, None], np.ones((1, count), bool)])
    )

    def of(label: ArrayLike) -> Array:
        check_known(
            lambda c: (c >= 0) & (c <= num_classes) & (c == np.floor(c)),
            label,
            requirement=f"label must be whole numbers from 0 to {num_classes - 1}, or "
            f"{num_classes} for no label",
        )
        return jnp.asarray(label, int)

    def only(label: Array, noisy: NoisyComponents) -> NoisyComponents:
        return noisy._replace(log_joint=jnp.where(members[label], noisy.log_joint, -jnp.inf))

    def conditioned(label: ArrayLike) -> DenoiseFn:
        def denoise(x: Array, alpha: Array, sigma: Array, label: Array) -> Denoised:
            return Denoised(*averaged(only(label, given_noisy(parts, x, alpha, sigma)), x))

        return over_batch(process, denoise, of(label))

    def log_prob_fn(label: ArrayLike) -> LogProbFn:
        def log_prob(x: Array, alpha: Array, sigma: Array, label: Array) -> Array:
            every = given_noisy(parts, x, alpha, sigma)
            own = only(label, every)
            return jax.nn.logsumexp(own.log_joint) - jax.nn.logsumexp(every.log_joint)

        return over_batch(process, log_prob, of(label))

    return Labelled(conditioned(num_classes), conditioned, log_prob_fn)
