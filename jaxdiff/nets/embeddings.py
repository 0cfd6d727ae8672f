"""Embeddings of the noise level and the class.

The embedding scales its own input: a network built with ``TIME_SCALE`` is given t and multiplies it
by 999 itself; one built with ``LOG_SIGMA_SCALE`` or ``LOG_SNR_SCALE`` is given that logarithm.
"""

import math
from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff.nets.layers import ACTIVATIONS, Activation, Dense
from jaxdiff.typing import Array, InputError

TIME_SCALE, LOG_SIGMA_SCALE, LOG_SNR_SCALE = 999.0, 100.0, 50.0
"""Factors of ``noise_cond``, so that t, log σ and log SNR all span about a thousand units."""

Embedding = Literal["sinusoidal", "fourier"]
OptionalEmbedding = Literal[Embedding, "none"]


def sinusoidal(
    noise_cond: Array, features: int, *, scale: float = TIME_SCALE, endpoint: bool = True
) -> Array:
    """Sines and cosines of the noise level at geometrically spaced frequencies.

    [sin(scale·c·ω_k), cos(scale·c·ω_k)],    ω_k = 10000^{−k/(K−1)}, K = features/2

    Args:
        noise_cond: c, the noise level as the network receives it, ``[batch]``.
        features: even number of features.
        scale: factor of c.
        endpoint: whether the last frequency is 1/10000; otherwise the next one would be, with K in
            place of K − 1, as in Vaswani et al., ADM and by default in diffusers.

    Returns:
        ``[batch, features]`` in [−1, 1].

    Example:
        >>> sinusoidal(jnp.zeros(1), 4)
        Array([[0., 0., 1., 1.]], dtype=float32)

    Reference: Vaswani et al. 2017, section 3.5; Ho et al. 2020, appendix B.
    """
    half = features // 2
    rates = jnp.exp(-math.log(10_000.0) * jnp.arange(half) / max(half - endpoint, 1))
    return _waves(scale * noise_cond[:, None] * rates[None])


class GaussianFourier(nn.Module):
    """Sines and cosines of the noise level at random frequencies, drawn once and never trained.

    [sin(2π w_k c), cos(2π w_k c)],    w_k ~ N(0, scale²)

    The frequencies are the variable "frequencies" of the collection "constants".

    Args:
        features: number of frequencies.
        scale: their standard deviation.

    Reference: Tancik et al. 2020, section 6; Song et al. 2021, appendix H.
    """

    features: int
    scale: float

    @nn.compact
    def __call__(self, noise_cond: Array) -> Array:
        """Map ``noise_cond [batch]`` to ``[batch, 2 · features]``."""
        frequencies = self.variable(
            "constants",
            "frequencies",
            lambda: (
                self.scale * jax.random.normal(self.make_rng("params"), (self.features,), "float32")
            ),
        )
        rates = jax.lax.stop_gradient(frequencies.value)
        return _waves(2 * math.pi * noise_cond[:, None] * rates[None])


class Conditioning(nn.Module):
    """Noise level, and class label where there are classes, as one vector per example.

    Args:
        features: width of the vector.
        noise_cond_scale: what ``noise_cond`` is multiplied by.
        num_classes: number of classes, or None for a network without labels.
        embedding: "sinusoidal" or "fourier", or "none" for a network that ignores the noise level.
        waves: sinusoidal features, or Fourier frequencies, in between; None for a quarter of
            ``features``.
        endpoint: of the sinusoidal frequencies; see :func:`sinusoidal`.
        activation: one of ``layers.ACTIVATIONS``.

    Raises:
        InputError: at call, if labels are given to a network without classes, or missing for one
            with classes, or not integers.
    """

    features: int
    noise_cond_scale: float = TIME_SCALE
    num_classes: int | None = None
    embedding: OptionalEmbedding = "sinusoidal"
    waves: int | None = None
    endpoint: bool = True
    activation: Activation = "silu"

    @nn.compact
    def __call__(self, noise_cond: Array, label: Array | None = None) -> Array | None:
        """Embed ``noise_cond [batch]`` and ``label [batch]`` into ``[batch, features]``.

        Returns None where neither is used.
        """
        if (label is None) != (self.num_classes is None):
            raise InputError(
                f"label must be {'None' if self.num_classes is None else 'given'} for a network "
                f"built with num_classes={self.num_classes}, got {label}"
            )
        if label is not None and not jnp.issubdtype(label.dtype, jnp.integer):
            raise InputError(f"label must be of an integer type, got {label.dtype}")
        activate = ACTIVATIONS[self.activation]
        vector = None if self.embedding == "none" else self._of_noise(noise_cond, activate)
        if self.num_classes is not None:
            own = nn.Embed(self.num_classes, self.features, name="label")(label)
            vector = own if vector is None else vector + own
        return None if vector is None else activate(vector)

    def _of_noise(self, noise_cond: Array, activate: Callable[[Array], Array]) -> Array:
        noise_cond, count = noise_cond.astype(jnp.float32), self.waves or self.features // 4
        if count < 2:
            raise InputError(
                "a network must be wide enough for a sine and a cosine of its noise level, got "
                f"{self.features} features of its embedding, {count} of them sines and cosines"
            )
        if self.embedding == "fourier":
            waves = GaussianFourier(count, self.noise_cond_scale, name="fourier")(noise_cond)
        else:
            waves = sinusoidal(
                noise_cond, count, scale=self.noise_cond_scale, endpoint=self.endpoint
            )
        hidden = activate(Dense(self.features, name="dense_0")(waves))
        vector: Array = Dense(self.features, name="dense_1")(hidden)
        return vector


def _waves(angles: Array) -> Array:
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1)
