"""Guidance by the difference of two models: classifier-free guidance and autoguidance.

A model D₁ is extrapolated away from a worse one D₀, in any view of the estimate,

    D = D₀ + s (D₁ − D₀) = s D₁ + (1 − s) D₀,

which the second form computes exactly at s = 0 and s = 1. For classifier-free guidance D₁ is
conditional and D₀ unconditional, so that the score gains (s − 1) ∇ log p(c | x_t). The literature
has two conventions for one number:

    s        D₀ + s (D₁ − D₀)     s = 1 is the conditional model     Saharia et al. 2022; diffusers
    w        (1 + w) D₁ − w D₀    w = 0 is the conditional model     Ho & Salimans 2022, eq. 6

with s = 1 + w; here ``scale`` is s and ``weight`` is w.
"""

from collections.abc import Callable
from typing import Unpack

import jax.numpy as jnp

from jaxdiff.guidance.base import checked_model
from jaxdiff.guidance.extrapolation import GuidanceOptions, difference, extrapolated
from jaxdiff.predictions import DenoiseFn, Estimate
from jaxdiff.typing import Array, ArrayLike, Float, PerExample, Scalar


def classifier_free(
    conditional: DenoiseFn,
    unconditional: DenoiseFn,
    *,
    scale: PerExample | None = None,
    weight: PerExample | None = None,
    **options: Unpack[GuidanceOptions],
) -> DenoiseFn:
    """Classifier-free guidance: extrapolate from the unconditional to the conditional model.

    D₀ + s (D₁ − D₀) = (1 + w) D₁ − w D₀,    s = 1 + w

    With an ``interval`` the guidance acts where low < σ/α ≤ high only (Kynkäänniemi et al. 2024,
    in whose notation α is 1); elsewhere the conditional model is used, and at a scalar time
    the unconditional one is not evaluated. With ``rescale`` the prediction v = α ε̂ − σ x̂_0 is
    multiplied by 1 − φ + φ std(v₁)/std(v), the standard deviations over each example, against
    overexposed images at large scales (Lin et al. 2024, section 3.4).

    Args:
        conditional: the model of a class, its label already bound.
        unconditional: the model of all data.
        scale: s, a number or one per example: 1 is the conditional model, 0 the unconditional one.
        weight: w = s − 1 instead, in the notation of Ho & Salimans.
        **options: ``process``, ``interval``, ``rescale`` and ``guide_process``, the
            :class:`GuidanceOptions`.

    Returns:
        ``denoise_fn(x_t, t)`` of two evaluations, with other fields of the conditional estimate.

    Raises:
        InputError: if not exactly one of scale and weight is given, or it is not finite; if
            interval and rescale have no process or are out of range; if ``guide_process`` is
            another process; if the models return estimates of another shape.

    Example:
        >>> from jaxdiff import oracles, processes
        >>> process, modes = processes.VP(), jnp.array([[-1.0], [1.0]])
        >>> exact = oracles.labelled(process, jnp.ones(2), modes, jnp.zeros(2), jnp.arange(2))
        >>> model = classifier_free(exact.conditioned(1), exact.denoise_fn, scale=2.0)
        >>> model(jnp.zeros((1, 1)), 0.5).x0  # 0 + 2 · (1 − 0)
        Array([[2.]], dtype=float32)

    Reference: Ho & Salimans 2022, eq. 6; Saharia et al. 2022 (Imagen), eq. 2.
    """
    settings = difference(scale, weight, **options)
    better = checked_model("conditional", conditional)
    worse = checked_model("unconditional", unconditional)

    def both(x_t: Array, t: ArrayLike) -> tuple[Estimate, Estimate]:
        return better(x_t, t), worse(x_t, t)

    return extrapolated(better, both, settings)


def classifier_free_batched(
    conditioned: Callable[[Float[Array, "labels"]], DenoiseFn],
    label: PerExample,
    null_label: Scalar,
    *,
    scale: PerExample | None = None,
    weight: PerExample | None = None,
    **options: Unpack[GuidanceOptions],
) -> DenoiseFn:
    """Classifier-free guidance where one network is both models: one call on a doubled batch.

    Args:
        conditioned: the model of given labels, one per example: ``run.conditioned``, or any
            function from labels to a denoise_fn.
        label: a class, or one per example.
        null_label: the label that stands for none; for a run with ``label_dropout`` it is
            ``run.num_classes``.
        scale: as in :func:`classifier_free`, like all that follows.
        weight: w = s − 1 instead.
        **options: the :class:`GuidanceOptions`.

    Returns:
        ``denoise_fn(x_t, t)`` of one evaluation, on 2 × batch examples.

    Raises:
        InputError: as :func:`classifier_free`.

    Example:
        >>> from jaxdiff import oracles, processes
        >>> process, modes = processes.VP(), jnp.array([[-1.0], [1.0]])
        >>> exact = oracles.labelled(process, jnp.ones(2), modes, jnp.zeros(2), jnp.arange(2))
        >>> model = classifier_free_batched(exact.conditioned, 1, null_label=2, scale=2.0)
        >>> model(jnp.zeros((1, 1)), 0.5).x0
        Array([[2.]], dtype=float32)

    Reference: Ho & Salimans 2022, algorithm 2.
    """
    settings = difference(scale, weight, **options)

    def alone(x_t: Array, t: ArrayLike) -> Estimate:
        return conditioned(jnp.broadcast_to(label, x_t.shape[:1]))(x_t, t)

    def both(x_t: Array, t: ArrayLike) -> tuple[Estimate, Estimate]:
        n = x_t.shape[0]
        labels = jnp.concatenate(
            [jnp.broadcast_to(each, (n,)) for each in (jnp.asarray(label), null_label)]
        )
        times = jnp.asarray(t)
        times = jnp.concatenate([times, times]) if times.ndim else times
        twice = jnp.concatenate([x_t, x_t])
        whole = checked_model("conditioned", conditioned(labels))(twice, times)
        return type(whole)(*(view[:n] for view in whole)), type(whole)(*(v[n:] for v in whole))

    return extrapolated(alone, both, settings)


def autoguidance(
    strong: DenoiseFn,
    weak: DenoiseFn,
    *,
    scale: PerExample,
    **options: Unpack[GuidanceOptions],
) -> DenoiseFn:
    """Guide a model by a worse version of itself: smaller, or less trained, of the same data.

    D_weak + s (D_strong − D_weak)

    Args:
        strong: the model, with or without a label.
        weak: the worse model, with the same label.
        scale: s, a number or one per example: 1 is the strong model.
        **options: the :class:`GuidanceOptions`.

    Returns:
        ``denoise_fn(x_t, t)`` of two evaluations.

    Raises:
        InputError: as :func:`classifier_free`.

    Example:
        >>> from jaxdiff.predictions import Denoised
        >>> strong, weak = (lambda x, t, k=k: Denoised(k * x, (1 - k) * x) for k in (0.5, 0.25))
        >>> autoguidance(strong, weak, scale=3.0)(jnp.ones((1, 1)), 0.5).x0  # ¼ + 3 · ¼
        Array([[1.]], dtype=float32)

    Reference: Karras et al. 2024 (guiding a diffusion model with a bad version of itself).
    """
    settings = difference(scale, None, **options)
    better, worse = checked_model("strong", strong), checked_model("weak", weak)

    def both(x_t: Array, t: ArrayLike) -> tuple[Estimate, Estimate]:
        return better(x_t, t), worse(x_t, t)

    return extrapolated(better, both, settings)
