"""L0: the divergence of a field, exactly or along random directions.

∇·f = tr ∇f,    E vᵀ∇f v = tr ∇f  for every random v with E vvᵀ = I

A field is a function of a batch that treats each row independently. Each estimate also returns the
value of the field, since one forward derivative computes both.
"""

import functools
import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from jaxdiff.arrays import is_per_example, sum_events
from jaxdiff.checks import check_count, check_one_of
from jaxdiff.typing import Array, Float, Key, Keys, Shaped

Field = Callable[[Float[Array, "batch *event"]], Float[Array, "batch *event"]]
"""``x -> field(x)``, row by row."""

Probe = Literal["rademacher", "gaussian", "sphere", "coordinate"]
"""Distributions of random directions: :func:`draw_probes`."""

DivergenceFn = Callable[
    [Field, Float[Array, "batch *event"]],
    tuple[Float[Array, "batch *event"], Float[Array, "batch"]],
]
"""``(field, x) -> (field(x), divergence)``."""

UNROLLED = 8
"""Largest number of directions over which a mean is unrolled instead of looped."""


def exact(
    field: Field, x: Float[Array, "batch *event"]
) -> tuple[Float[Array, "batch *event"], Float[Array, "batch"]]:
    """Exact divergence by D forward derivatives, for low dimension.

    Args:
        field: the vector field.
        x: points, D numbers each.

    Returns:
        ``(field(x), divergence [batch])``.

    Example:
        >>> exact(lambda x: -x, jnp.array([[3.0, 4.0]]))[1]
        Array([-2.], dtype=float32)
    """
    dim = math.prod(x.shape[1:])
    value, push = jax.linearize(field, x)

    def slope(axis: Array) -> Array:
        flat = jax.nn.one_hot(axis, dim, dtype=x.dtype)
        direction = jnp.broadcast_to(flat.reshape(1, *x.shape[1:]), x.shape)
        # Indexed, not summed against the axis: jaxlib 0.10 gets three such sums wrong on a CPU.
        return push(direction).reshape(x.shape[0], dim)[:, axis]

    return value, dim * mean_over(slope, jnp.arange(dim))


def hutchinson(
    key: Key | Keys,
    field: Field,
    x: Float[Array, "batch *event"],
    *,
    num_probes: int = 1,
    probe: Probe = "rademacher",
) -> tuple[Float[Array, "batch *event"], Float[Array, "batch"]]:
    """Unbiased estimate of the divergence along random directions, one forward derivative each.

    mean of vᵀ∇f v over v

    Args:
        key: randomness of the directions; or one key per example.
        field: the vector field.
        x: points.
        num_probes: directions per example.
        probe: their distribution, as in :func:`draw_probes`.

    Returns:
        ``(field(x), divergence [batch])``. Bind the key, ``partial(hutchinson, key)``, to use it as
        a ``divergence_fn``.

    Raises:
        InputError: if ``probe`` does not exist or ``num_probes`` is below 1.

    Example:
        >>> hutchinson(jax.random.key(0), lambda x: -x, jnp.array([[3.0, 4.0]]))[1]
        Array([-2.], dtype=float32)

    Reference: Hutchinson 1989; Grathwohl et al. 2019, eq. 7.
    """
    value, push = jax.linearize(field, x)
    probes = draw_probes(key, x, num_probes=num_probes, probe=probe)
    return value, mean_over(lambda v: sum_events(v * push(v)), probes)


def mean_over(
    fn: Callable[[Array], Array], items: Shaped[Array, "items ..."]
) -> Float[Array, "..."]:
    """Mean of ``fn`` over the first axis of ``items``, one item after another.

    A field is fastest on whole batches of its own shape, and memory does not grow with the number
    of items, even when the mean is differentiated.
    """
    if len(items) <= UNROLLED:
        return functools.reduce(jnp.add, map(fn, items)) / len(items)
    step = jax.checkpoint(fn)
    first = jax.eval_shape(fn, items[0])
    nothing = jnp.zeros(first.shape, first.dtype)
    total, _ = jax.lax.scan(lambda total, item: (total + step(item), None), nothing, items)
    return total / len(items)


def draw_probes(
    key: Key | Keys, x: Float[Array, "batch *event"], *, num_probes: int, probe: Probe
) -> Float[Array, "{num_probes} batch *event"]:
    """Draw directions v with E vvᵀ = I.

    Args:
        key: randomness; or one key per example.
        x: points, D numbers each, whose shape and dtype the directions have.
        num_probes: directions per example.
        probe: "rademacher" (the trace of a diagonal Jacobian is then exact), "gaussian", "sphere"
            (of radius √D; unit vectors would give 1/D), or "coordinate" (√D times a random axis,
            onto which the field is projected).

    Raises:
        InputError: if ``probe`` does not exist or ``num_probes`` is below 1.
    """
    check_count("num_probes must be a positive integer", num_probes)
    check_one_of(probe=(probe, Probe))
    dim = math.prod(x.shape[1:])
    if is_per_example(key):
        own = jax.vmap(lambda k: PROBES[probe](k, (num_probes, dim), x.dtype), out_axes=1)
        flat = own(key)
    else:
        flat = PROBES[probe](key, (num_probes, x.shape[0], dim), x.dtype)
    return flat.reshape(num_probes, *x.shape)


def _sphere(key: Key, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    v = jax.random.normal(key, shape, dtype)
    return v * jnp.sqrt(shape[-1] / jnp.sum(v**2, axis=-1, keepdims=True))


def _coordinate(key: Key, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    axis = jax.random.randint(key, shape[:-1], 0, shape[-1])
    return math.sqrt(shape[-1]) * jax.nn.one_hot(axis, shape[-1], dtype=dtype)


PROBES: dict[Probe, Callable[[Key, tuple[int, ...], jnp.dtype], Array]] = {
    "rademacher": jax.random.rademacher,
    "gaussian": jax.random.normal,
    "sphere": _sphere,
    "coordinate": _coordinate,
}
