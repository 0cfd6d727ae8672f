"""Softmax attention, written to be fast on the platform it is compiled for."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff.typing import Array

CACHED = 2**22
"""Number of attention weights up to which a CPU is fastest computing a whole batch at once."""


def attention(q: Array, k: Array, v: Array) -> Array:
    """Attend from every query to every key, separately in each head.

    out_i = Σ_j p_ij v_j,    p_ij = exp(q_i · k_j/√d) / Σ_j' exp(q_i · k_j'/√d)

    The weights of a large batch are recomputed in backpropagation. On a CPU, where
    ``jax.nn.dot_product_attention`` transposes within its products and takes up to eight times as
    long, they are also computed example by example, so that they stay in the cache. The platform is
    the one that a program is lowered for, not the one in use while it is traced.

    Args:
        q: queries, ``[batch, tokens, heads, d]``.
        k: keys, in the shape of ``q``.
        v: values, in the shape of ``q``.

    Returns:
        In the shape and dtype of ``q``; softmax is taken in float32.

    Example:
        >>> q, v = jnp.zeros((1, 2, 1, 4)), jnp.arange(8.0).reshape(1, 2, 1, 4)
        >>> attention(q, q, v)[0, 0, 0]  # equal weights: the mean
        Array([2., 3., 4., 5.], dtype=float32)

    Reference: Vaswani et al. 2017, eq. 1.
    """
    batch, tokens, heads, _ = q.shape
    operands = (jnp.swapaxes(q, 1, 2), *(jnp.transpose(x, (0, 2, 3, 1)) for x in (k, v)))
    if batch * heads * tokens**2 <= CACHED:
        out = _attend(*operands).astype(q.dtype)
    else:
        # both keep only their operands for backpropagation, so that neither burdens the other
        out = jax.lax.platform_dependent(
            *operands, cpu=_by_example, default=jax.checkpoint(_by_library)
        )
    return jnp.swapaxes(out, 1, 2)


def _attend(q: Array, k: Array, v: Array) -> Array:
    """Attention of ``q [..., tokens, d]`` to ``k`` and ``v [..., d, tokens]``.

    In this layout, no product here or in its derivatives has to transpose the weights.
    """
    wide = jnp.promote_types(q.dtype, jnp.float32)
    multiply = functools.partial(jnp.einsum, preferred_element_type=wide)
    logits = multiply("...id,...dj->...ij", q * q.shape[-1] ** -0.5, k)
    largest = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    weights = jnp.exp(logits - largest)
    mixed = multiply("...ij,...dj->...id", weights.astype(v.dtype), v)
    return mixed / jnp.sum(weights, axis=-1, keepdims=True)


def _by_library(q: Array, k: Array, v: Array) -> Array:
    """The same by the library's own function, which has fast kernels for accelerators."""
    own = jnp.swapaxes(q, 1, 2), *(jnp.transpose(x, (0, 3, 1, 2)) for x in (k, v))
    return jnp.swapaxes(jax.nn.dot_product_attention(*own), 1, 2)


def _by_example(q: Array, k: Array, v: Array) -> Array:
    """The same, one example of every device at a time: no device needs another one's examples."""

    def mapped(rows: Any) -> Array:
        return jax.lax.map(jax.checkpoint(lambda example: _attend(*example)), rows)

    parts = math.gcd(len(q), _num_devices())
    if parts == 1:
        return mapped((q, k, v)).astype(q.dtype)
    cut = [x.reshape(parts, -1, *x.shape[1:]) for x in (q, k, v)]
    return jax.vmap(mapped)(cut).reshape(q.shape).astype(q.dtype)


def _num_devices() -> int:
    """Over how many devices a batch may be sharded here: one, where it is a device's own shard."""
    mesh = jax.sharding.get_abstract_mesh()
    return jax.device_count() // math.prod(mesh.shape[axis] for axis in mesh.manual_axes)
