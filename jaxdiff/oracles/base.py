"""What the exact denoisers share: products in full precision, and the lift to a batch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff.processes import Process
from jaxdiff.typing import Array, ArrayLike, Float, PerExample, Shaped


def exact_product(a: Shaped[Array, "..."], b: Shaped[Array, "..."]) -> Float[Array, "..."]:
    """Matrix product in full precision, even where the default rounds to bfloat16 or TF32."""
    return jnp.matmul(a, b, precision="highest")


def over_batch(
    process: Process, of_one: Callable[..., Any], *per_example: Shaped[ArrayLike, "..."]
) -> Callable[[Array, PerExample], Any]:
    """Lift a function of one example to a batch and its times.

    Args:
        process: the forward process.
        of_one: ``(x_t, alpha, sigma, *per_example) -> result`` for one example.
        *per_example: further arguments, one for all examples or one for each.

    Returns:
        ``(x_t, t) -> results``, batched.
    """

    def of_batch(x_t: Array, t: PerExample) -> Any:
        # α and σ are computed once, where all examples have one time
        others = process.alpha(t), process.sigma(t), *per_example
        return jax.vmap(of_one)(x_t, *(jnp.broadcast_to(other, x_t.shape[:1]) for other in others))

    return of_batch
