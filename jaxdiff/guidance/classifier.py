"""Classifier guidance: the score of the data plus that of a classifier of noisy data.

By Bayes' rule, ∇ log p_t(x | c) = ∇ log p_t(x) + ∇ log p(c | x, t). With the exact classifier the
sum is the exact conditional model at scale 1; a larger scale sharpens the classifier, p(c | x)^s.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.arrays import expand_to
from jaxdiff.checks import check_known
from jaxdiff.guidance.base import check_same_process, checked_model, with_score
from jaxdiff.predictions import DenoiseFn, Estimate
from jaxdiff.processes import Process
from jaxdiff.typing import Array, ArrayLike, Float, InputError, PerExample

LogProbFn = Callable[[Float[Array, "batch *event"], PerExample], Float[Array, "batch"]]
"""``(x_t, t) -> log p(c | x_t)``, one number per example, each of its own x_t alone."""


def classifier(
    denoise_fn: DenoiseFn,
    process: Process,
    log_prob_fn: LogProbFn,
    *,
    scale: PerExample,
    guide_process: Process | None = None,
) -> DenoiseFn:
    """Guide a model by the gradient of a classifier of noisy data.

    ε̂' = ε̂ − s σ ∇ log p(c | x_t),    x̂_0' = x̂_0 + s (σ²/α) ∇ log p(c | x_t)

    Args:
        denoise_fn: the model, with or without a label.
        process: the forward process.
        log_prob_fn: ``(x_t, t) -> [batch]``, the classifier's log probability of the class, which
            is already bound; trained on data noised by the same process. Any log density works,
            such as log p(y | x_t) of a measurement.
        scale: s, a number or one per example; 1 is Bayes' rule.
        guide_process: the process that the classifier was trained with, checked to be ``process``.

    Returns:
        ``denoise_fn(x_t, t)``, one evaluation of the model, and one of the classifier with its
        gradient; the estimate's other fields are unchanged.

    Raises:
        InputError: if scale is not finite, ``guide_process`` is another process, or the classifier
            does not return one number per example.

    Example:
        >>> from jaxdiff import oracles, processes
        >>> process, modes = processes.VP(), jnp.array([[-1.0], [1.0]])
        >>> exact = oracles.labelled(process, jnp.ones(2), modes, jnp.zeros(2), jnp.arange(2))
        >>> model = classifier(exact.denoise_fn, process, exact.log_prob_fn(1), scale=1.0)
        >>> model(jnp.zeros((1, 1)), 0.5).x0.round(4)  # E[x_0 | x_t, c = 1]
        Array([[1.]], dtype=float32)

    Reference: Dhariwal & Nichol 2021, algorithm 2; Song et al. 2021, eq. 14.
    """
    check_known(np.isfinite, scale, requirement="scale must be finite")
    check_same_process(process, guide_process)
    model = checked_model("denoise_fn", denoise_fn)

    def guided(x_t: Array, t: ArrayLike) -> Estimate:
        def total(x: Array) -> Array:
            log_probs = log_prob_fn(x, t)
            if log_probs.shape != x.shape[:1]:
                raise InputError(
                    f"log_prob_fn must return one number per example, {x.shape[:1]}, got shape "
                    f"{log_probs.shape}"
                )
            return jnp.sum(log_probs)

        score = jax.grad(total)(x_t)
        return with_score(
            model(x_t, t), expand_to(scale, x_t).astype(x_t.dtype) * score, process, t
        )

    return guided
