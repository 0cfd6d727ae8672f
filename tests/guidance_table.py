"""The wrappers that the battery of ``test_guidance.py`` runs on: one row adds one to all tests.

Every row wraps the exact model of the same mixture in three dimensions, with two classes.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from exact_posteriors import problem

from jaxdiff import guidance, oracles
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process
from jaxdiff.typing import Array

GIVEN = problem(components=3, dim=3, measured=2, noise_std=0.3)
LABELS = np.array([1, 0, 1])


class GuidanceRow(NamedTuple):
    make: Callable[[DenoiseFn, Process, Array], DenoiseFn]  # of a model, a process and a number
    number: float  # of its options, which must not be compiled in
    other: float


def constant(values):
    """In the current precision: JAX caches the one in which a numpy array was first traced."""
    return jnp.array(values.tolist())


def exact(process):
    """The exact models of the mixture."""
    return oracles.labelled(process, *map(constant, GIVEN[:3]), LABELS)


def measured(method, number="noise_std", **options):
    """A method for inverse problems with the measurement of the mixture."""

    def make(model, process, value):
        operator, y = guidance.inverse.matrix(constant(GIVEN.A)), constant(GIVEN.y)
        return method(model, process, operator=operator, y=y, **{number: value}, **options)

    return make


GUIDANCE = {
    "clip": GuidanceRow(
        lambda model, process, high: guidance.clip_denoised(model, process, high=high), 0.4, 0.8
    ),
    "dynamic": GuidanceRow(
        lambda model, process, bound: guidance.dynamic_threshold(
            model, process, quantile=0.7, bound=bound
        ),
        0.4, 0.8,
    ),
    "classifier_free": GuidanceRow(
        lambda model, process, scale: guidance.classifier_free(
            exact(process).conditioned(1), model, scale=scale
        ),
        2.0, 0.5,
    ),
    "classifier_free_batched": GuidanceRow(
        lambda model, process, weight: guidance.classifier_free_batched(
            exact(process).conditioned, 1, null_label=2, weight=weight
        ),
        2.0, -0.5,
    ),
    "interval": GuidanceRow(
        lambda model, process, low: guidance.classifier_free(
            exact(process).conditioned(1), model, scale=3.0, process=process, interval=(low, 2.0)
        ),
        0.3, 1.0,
    ),
    "rescaled": GuidanceRow(
        lambda model, process, rescale: guidance.classifier_free(
            exact(process).conditioned(1), model, scale=3.0, process=process, rescale=rescale
        ),
        0.7, 1.0,
    ),
    "autoguidance": GuidanceRow(
        lambda model, process, scale: guidance.autoguidance(
            model,
            oracles.gaussian(process, jnp.zeros(3), 2.0 * jnp.eye(3)),
            scale=scale,
            process=process,
            guide_process=process,
        ),
        2.0, 1.5,
    ),
    "classifier": GuidanceRow(
        lambda model, process, scale: guidance.classifier(
            model, process, exact(process).log_prob_fn(1), scale=scale
        ),
        2.0, 0.5,
    ),
    "mmps": GuidanceRow(measured(guidance.inverse.mmps), 0.3, 1.0),
    "pigdm": GuidanceRow(measured(guidance.inverse.pigdm), 0.3, 1.0),
    "tmpd": GuidanceRow(measured(guidance.inverse.tmpd), 0.3, 1.0),
    "tmpd_diagonal": GuidanceRow(
        measured(guidance.inverse.tmpd, covariance="diagonal"), 0.3, 1.0
    ),
    "diffpir": GuidanceRow(measured(guidance.inverse.diffpir), 0.3, 1.0),
    "dps": GuidanceRow(measured(guidance.inverse.dps, number="scale"), 0.3, 1.0),
    "ddnm": GuidanceRow(
        lambda model, process, y: guidance.inverse.ddnm(
            model, process, operator=guidance.inverse.matrix(constant(GIVEN.A)),
            y=constant(GIVEN.y) + y,
        ),
        0.0, 1.0,
    ),
}  # fmt: skip
