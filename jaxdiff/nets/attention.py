"""Softmax attention, written to be fast on the backend in use."""

import functools

import jax
import jax.numpy as jnp

from jaxdiff.typing import Array

CACHED = 2**22
"""Number of attention weights up to which a CPU is fastest computing a whole batch at once."""


def attention(q: Array, k: Array, v: Array) -> Array:
    """Attend from every query to every key, separately in each head.

    out_i = Σ_j p_ij v_j,    p_ij = exp(q_i · k_j/√d) / Σ_j' exp(q_i · k_j'/√d)

    On a CPU, ``jax.nn.dot_product_attention`` transposes within its products and takes up to eight
    times as long. There, the weights of a large batch are computed example by example, and
    recomputed in backpropagation, so that they stay in the cache.

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
    if jax.default_backend() != "cpu":
        return jax.nn.dot_product_attention(q, k, v)
    batch, tokens, heads, _ = q.shape
    operands = (jnp.swapaxes(q, 1, 2), *(jnp.transpose(x, (0, 2, 3, 1)) for x in (k, v)))
    if batch * heads * tokens**2 <= CACHED:
        out = _attend(*operands)
    else:
        out = jax.lax.map(jax.checkpoint(lambda example: _attend(*example)), operands)
    return jnp.swapaxes(out, 1, 2).astype(q.dtype)


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
