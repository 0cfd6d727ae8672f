"""Bits per dimension: a likelihood in units that are independent of image size and scaling.

A probability of levels needs no change of units. A density depends on the units of the data: if the
model is given x = f(u), where u increases by 1 from level to level, p(u) = p(x) Π_i |f'(u_i)|, and

    bits/dim = [−log p(x) − Σ_i log |f'(u_i)|] / (D log 2).

For uniformly dequantised data u + U[0, 1) its mean bounds that of −log₂ P(level) from above
(Theis et al. 2016).
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdiff.arrays import sum_events
from jaxdiff.typing import Array, Float, Real


def bits_per_dim(
    nats: Float[Array, "batch"],
    levels: Real[Array, "batch *event"],
    *,
    to_data: Callable[[Array], Array] | None = None,
) -> Float[Array, "batch"]:
    """Convert −log p in nats to bits per dimension of the levels.

    [nats − Σ_i log |f'(u_i)|] / (D log 2)

    Args:
        nats: −log p of each example, or a bound on it.
        levels: the data in units of one level, D numbers each.
        to_data: f, elementwise, from levels to the data of which ``nats`` is the density; None
            if ``nats`` is that of a probability of levels.

    Example:
        >>> u = jnp.array([[0.3, 77.9]])  # uniform on 256 levels is 8 bits, in any range
        >>> log_density = jnp.log(jnp.full(1, (1 / 2) ** 2))  # of x = 2u/256 − 1, on [−1, 1]²
        >>> bits_per_dim(-log_density, u, to_data=lambda u: 2 * u / 256 - 1).round(5)
        Array([8.], dtype=float32)

    Reference: Theis et al. 2016, section 3.1.
    """
    if to_data is not None:
        _, slope = jax.jvp(to_data, (levels,), (jnp.ones_like(levels),))
        nats = nats - sum_events(jnp.log(jnp.abs(slope)))
    return nats / (math.prod(levels.shape[1:]) * math.log(2))
