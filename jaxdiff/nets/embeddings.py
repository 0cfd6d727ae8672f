"""How a network is told the noise level and the class.

The embedding owns the scale of what it is given: a network built for ``level="time"`` takes t and
multiplies by 999 itself, one built for "log_sigma" or "log_snr" takes those logarithms.
"""

import math

import flax.linen as nn
import jax.numpy as jnp

from jaxdiff.typing import Array, InputError

LEVEL_SCALES = {"time": 999.0, "log_sigma": 100.0, "log_snr": 50.0}
"""What each kind of level is multiplied by, so that all of them span about a thousand units."""


def sinusoidal(level: Array, features: int, *, scale: float = 999.0) -> Array:
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
        level: what the level is: "time", "log_sigma" or "log_snr".
        num_classes: number of classes, or None for a network without labels.

    Raises:
        InputError: at call, if ``level`` does not exist, or if labels are given to a network
            without classes or withheld from one with.
    """

    features: int
    level: str = "time"
    num_classes: int | None = None

    @nn.compact
    def __call__(self, level: Array, label: Array | None = None) -> Array:
        """Embed ``level [batch]`` and ``label [batch]`` into ``[batch, features]``."""
        if self.level not in LEVEL_SCALES:
            raise InputError(f"level is one of {', '.join(LEVEL_SCALES)}, got {self.level!r}")
        waves = sinusoidal(level, self.features // 2, scale=LEVEL_SCALES[self.level])
        embedding = nn.Dense(self.features)(nn.silu(nn.Dense(self.features)(waves)))
        if (label is None) != (self.num_classes is None):
            raise InputError(
                f"a network built with num_classes={self.num_classes} takes "
                f"{'no label' if self.num_classes is None else 'a label'}, got label={label}"
            )
        if self.num_classes is not None:
            embedding += nn.Embed(self.num_classes, self.features)(label)
        return nn.silu(embedding)
