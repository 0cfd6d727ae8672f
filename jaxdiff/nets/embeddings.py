"""How a network is told the noise level and the class.

The embedding owns the scale of what it is given: a network built with ``TIME_SCALE`` takes t and
multiplies by 999 itself, one built with ``LOG_SIGMA_SCALE`` or ``LOG_SNR_SCALE`` those logarithms.
"""

import math

import flax.linen as nn
import jax.numpy as jnp

from jaxdiff.typing import Array, InputError

TIME_SCALE, LOG_SIGMA_SCALE, LOG_SNR_SCALE = 999.0, 100.0, 50.0
"""What a level is multiplied by, so that t, log σ and log SNR all span about a thousand units."""


def sinusoidal(level: Array, features: int, *, scale: float = TIME_SCALE) -> Array:
    """Sines and cosines of the level at geometrically spaced frequencies.

    [sin(scale·level·ω_k), cos(scale·level·ω_k)],    ω_k = 10000^{−k/(K−1)}, K = features/2

    Args:
        level: noise level, ``[batch]``.
        features: even number of features.
        scale: units per unit of level.

    Returns:
        ``[batch, features]`` in [−1, 1].

    Example:
        >>> sinusoidal(jnp.zeros(1), 4)
        Array([[0., 0., 1., 1.]], dtype=float32)

    Reference: Vaswani et al. 2017, section 3.5; Ho et al. 2020, appendix B.
    """
    half = features // 2
    rates = jnp.exp(-math.log(10_000.0) * jnp.arange(half) / max(half - 1, 1))
    angles = scale * level[:, None] * rates[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1)


class Conditioning(nn.Module):
    """Noise level, and class label where there are classes, as one vector per example.

    Args:
        features: width of the vector.
        level_scale: what the level is multiplied by.
        num_classes: number of classes, or None for a network without labels.

    Raises:
        InputError: at call, if labels are given to a network without classes, or withheld from
            one with.
    """

    features: int
    level_scale: float = TIME_SCALE
    num_classes: int | None = None

    @nn.compact
    def __call__(self, level: Array, label: Array | None = None) -> Array:
        """Embed ``level [batch]`` and ``label [batch]`` into ``[batch, features]``."""
        waves = sinusoidal(level, self.features // 2, scale=self.level_scale)
        embedding = nn.Dense(self.features)(nn.silu(nn.Dense(self.features)(waves)))
        if (label is None) != (self.num_classes is None):
            raise InputError(
                f"a network built with num_classes={self.num_classes} takes "
                f"{'no label' if self.num_classes is None else 'a label'}, got label={label}"
            )
        if self.num_classes is not None:
            embedding += nn.Embed(self.num_classes, self.features)(label)
        return nn.silu(embedding)
