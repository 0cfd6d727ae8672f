"""Attention against the loop that defines it, on both CPU code paths, with derivatives."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from net_tools import normal

from jaxdiff.nets import attention as module
from jaxdiff.nets.attention import attention

SHAPE = (2, 5, 3, 4)


def by_loops(q, k, v):
    """Vaswani et al. 2017, eq. 1, in float64."""
    q, k, v = (np.asarray(a, np.float64) for a in (q, k, v))
    out = np.empty_like(v)
    for b in range(q.shape[0]):
        for head in range(q.shape[2]):
            for i in range(q.shape[1]):
                logits = k[b, :, head] @ q[b, i, head] / math.sqrt(q.shape[3])
                weights = np.exp(logits - logits.max())
                out[b, i, head] = weights @ v[b, :, head] / weights.sum()
    return out


@pytest.fixture(params=["whole batch", "by example"])
def code_path(request, monkeypatch):
    monkeypatch.setattr(module, "CACHED", 0 if request.param == "by example" else 2**22)


@pytest.mark.usefixtures("code_path")
def test_attention_is_the_weighted_mean_of_the_values():
    q, k, v = (jnp.asarray(normal(SHAPE, seed)) for seed in range(3))
    np.testing.assert_allclose(attention(q, k, v), by_loops(q, k, v), rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("code_path")
def test_large_logits_do_not_overflow():
    q, k, v = (jnp.asarray(scale * normal(SHAPE, seed)) for seed, scale in enumerate((60, 60, 1)))
    np.testing.assert_allclose(attention(q, k, v), by_loops(q, k, v), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("code_path", "x64")
def test_both_modes_of_differentiation_match_the_loop():
    primal = [jnp.asarray(normal(SHAPE, seed), jnp.float64) for seed in range(3)]
    tangent = [jnp.asarray(normal(SHAPE, seed + 3), jnp.float64) for seed in range(3)]
    weights = normal(SHAPE, seed=6).astype(float)
    step = 1e-5
    ahead, behind = (
        by_loops(*(p + sign * step * t for p, t in zip(primal, tangent, strict=True)))
        for sign in (1, -1)
    )
    slope = np.sum(weights * (ahead - behind)) / (2 * step)
    forward = jax.jvp(attention, primal, tangent)[1]
    backward = jax.grad(lambda qkv: jnp.sum(weights * attention(*qkv)))(tuple(primal))
    assert np.sum(weights * forward) == pytest.approx(slope, rel=1e-6)
    total = sum(np.sum(g * t) for g, t in zip(backward, tangent, strict=True))
    assert total == pytest.approx(slope, rel=1e-6)


def test_bfloat16_is_kept_and_its_softmax_is_computed_in_float32():
    q, k, v = (jnp.asarray(normal(SHAPE, seed), jnp.bfloat16) for seed in range(3))
    out = attention(q, k, v)
    assert out.dtype == jnp.bfloat16
    # the weights and the output are rounded to 8 bits each
    np.testing.assert_allclose(out.astype(jnp.float32), by_loops(q, k, v), atol=2 * 4 * 2**-8)
