"""Group normalisation against a loop over groups, and against Flax's own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from net_tools import ACTIVATIONS, group_norm, normal, wide

from jaxdiff.nets.norm import GroupNorm, num_groups


@given(st.integers(1, 2048))
def test_groups_divide_are_at_most_32_and_hold_four_channels_where_they_can(channels):
    groups = num_groups(channels)
    assert channels % groups == 0
    assert groups <= 32
    assert channels // groups >= min(channels, 4)
    better = [g for g in range(groups + 1, 33) if channels % g == 0 and channels // g >= 4]
    assert not better


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("activation", ["", "silu"])
@pytest.mark.parametrize("shape", [(3, 4, 5, 16), (2, 6, 8), (2, 3, 3, 3), (4, 12)])
def test_group_norm_matches_the_published_one(shape, activation, modulated):
    x = 3 + 2 * normal(shape)
    channels, groups = shape[-1], num_groups(shape[-1])
    gamma, beta = normal((2, channels), seed=1)
    scale, shift = normal((2, shape[0], channels), seed=2)
    params = {"params": {"scale": gamma, "bias": beta}}

    expected = group_norm(x, groups, gamma, beta)
    if modulated:  # Dhariwal & Nichol 2021, eq. 1
        expected = expected * (1 + wide(scale, x)) + wide(shift, x)
    expected = ACTIVATIONS[activation](expected)
    modulation = (jnp.asarray(scale), jnp.asarray(shift)) if modulated else None
    got = jax.jit(GroupNorm(activation=activation).apply)(params, jnp.asarray(x), modulation)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(("groups", "epsilon"), [(1, 1e-6), (3, 1e-5), (12, 0.5), (6, 10.0)])
def test_groups_and_epsilon_can_be_set(groups, epsilon):
    x = 1 + 2 * normal((2, 4, 4, 12))
    params = {"params": {"scale": jnp.ones(12), "bias": jnp.zeros(12)}}
    norm = GroupNorm(activation="", groups=groups, epsilon=epsilon)
    expected = group_norm(x, groups, 1.0, 0.0, epsilon)
    np.testing.assert_allclose(jax.jit(norm.apply)(params, x), expected, rtol=1e-5, atol=2e-5)
    others = [group_norm(x, g, 1.0, 0.0, e) for g, e in [(4, epsilon), (groups, 2.0)]]
    assert all(np.max(np.abs(other - expected)) > 0.05 for other in others)


@pytest.mark.parametrize("channels", [8, 256])
def test_group_norm_matches_flax(channels):
    x = jnp.asarray(1 + 3 * normal((2, 5, 5, channels)))
    params = {"params": dict(zip(("scale", "bias"), normal((2, channels), seed=1), strict=True))}
    flax_norm = nn.GroupNorm(num_groups=num_groups(channels), epsilon=1e-6)
    ours, theirs = (
        jax.jit(norm.apply)(params, x) for norm in (GroupNorm(activation=""), flax_norm)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-5)


def test_group_norm_keeps_bfloat16_and_computes_statistics_in_float32():
    x = jnp.asarray(4 + normal((2, 32, 32, 8)), jnp.bfloat16)
    norm = GroupNorm(activation="")
    params = norm.init(jax.random.key(0), x)
    got = norm.apply(params, x)
    assert got.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    expected = group_norm(np.asarray(x, np.float32), num_groups(8), 1.0, 0.0)
    # a·x and b are each rounded to 8 bits at a magnitude of about 8: three roundings of ≤ 2⁻⁸·8
    np.testing.assert_allclose(np.asarray(got, np.float32), expected, atol=3 * 8 / 2**8)


def test_group_norm_of_a_constant_image_is_its_bias():
    x = jnp.full((1, 4, 4, 8), 7.0)
    params = {"params": {"scale": jnp.ones(8), "bias": jnp.arange(8.0)}}
    got = jax.jit(GroupNorm(activation="").apply)(params, x)
    # a ≤ ε^{−½} = 1000, and a·x and mean·a each round by 2⁻²⁴ of 7·1000
    np.testing.assert_allclose(got, np.broadcast_to(np.arange(8.0), x.shape), atol=3 * 7e3 / 2**24)
