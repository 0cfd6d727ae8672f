"""The blocks of the networks against plain numpy and Flax's own layers."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from net_tools import any_params, normal, shapes_of, silu

from jaxdiff.nets.embeddings import Conditioning, sinusoidal
from jaxdiff.nets.norm import GroupNorm, num_groups
from jaxdiff.nets.unet import ResBlock, SelfAttention
from jaxdiff.typing import InputError

# Group normalisation


def group_norm(x, groups, gamma, beta, epsilon=1e-5):
    """Wu & He 2018, eq. 1 and 2, a loop over examples and groups."""
    y = np.empty_like(x, dtype=np.float64)
    size = x.shape[-1] // groups
    for i in range(x.shape[0]):
        for g in range(groups):
            part = x[i, ..., g * size : (g + 1) * size].astype(np.float64)
            y[i, ..., g * size : (g + 1) * size] = (part - part.mean()) / np.sqrt(
                part.var() + epsilon
            )
    return y * gamma + beta


@given(st.integers(1, 2048))
def test_groups_divide_are_at_most_32_and_hold_four_channels_where_they_can(channels):
    groups = num_groups(channels)
    assert channels % groups == 0
    assert groups <= 32
    assert channels // groups >= min(channels, 4)
    better = [g for g in range(groups + 1, 33) if channels % g == 0 and channels // g >= 4]
    assert not better


@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("with_silu", [False, True])
@pytest.mark.parametrize("shape", [(3, 4, 5, 16), (2, 6, 8), (2, 3, 3, 3), (4, 12)])
def test_group_norm_is_the_published_one(shape, with_silu, modulated):
    x = 3 + 2 * normal(shape)
    channels, groups = shape[-1], num_groups(shape[-1])
    gamma, beta = normal((2, channels), seed=1)
    scale, shift = normal((2, shape[0], channels), seed=2)
    params = {"params": {"scale": gamma, "bias": beta}}

    expected = group_norm(x, groups, gamma, beta)
    if modulated:  # Dhariwal & Nichol 2021, eq. 1
        wide = (shape[0],) + (1,) * (len(shape) - 2) + (channels,)
        expected = expected * (1 + scale.reshape(wide)) + shift.reshape(wide)
    expected = silu(expected) if with_silu else expected
    modulation = (jnp.asarray(scale), jnp.asarray(shift)) if modulated else None
    got = GroupNorm(silu=with_silu).apply(params, jnp.asarray(x), modulation)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("channels", [8, 64, 256])
def test_group_norm_is_flaxs(channels):
    x = jnp.asarray(1 + 3 * normal((2, 5, 5, channels)))
    params = {"params": dict(zip(("scale", "bias"), normal((2, channels), seed=1), strict=True))}
    flax_norm = nn.GroupNorm(num_groups=num_groups(channels), epsilon=1e-5)
    np.testing.assert_allclose(
        GroupNorm(silu=False).apply(params, x), flax_norm.apply(params, x), rtol=1e-5, atol=2e-5
    )


def test_group_norm_in_bfloat16_keeps_the_type_and_takes_its_statistics_in_float32():
    x = jnp.asarray(4 + normal((2, 32, 32, 8)), jnp.bfloat16)
    norm = GroupNorm(silu=False)
    params = norm.init(jax.random.key(0), x)
    got = norm.apply(params, x)
    assert got.dtype == jnp.bfloat16
    expected = group_norm(np.asarray(x, np.float32), num_groups(8), 1.0, 0.0)
    # a·x and b are each rounded to 8 bits at a magnitude of about 8, so three roundings of ≤ 2⁻⁸·8
    np.testing.assert_allclose(np.asarray(got, np.float32), expected, atol=3 * 8 / 2**8)


def test_group_norm_of_a_constant_image_is_its_bias():
    x = jnp.full((1, 4, 4, 8), 7.0)
    params = {"params": {"scale": jnp.ones(8), "bias": jnp.arange(8.0)}}
    got = GroupNorm(silu=False).apply(params, x)
    # what is left is rounding of E[x²] − E[x]², ≤ 49·2⁻²³, over ε
    np.testing.assert_allclose(got, np.broadcast_to(np.arange(8.0), x.shape), atol=1e-2)


# Embeddings


@pytest.mark.parametrize("scale", [1.0, 999.0])
@pytest.mark.parametrize("features", [2, 4, 64])
def test_sinusoidal_embedding_is_the_published_one(features, scale):
    """Ho et al. 2020 (their code): sin then cos of t·10000^{−k/(K−1)}, K = features/2."""
    level = np.array([0.0, 1e-3, 0.25, 1.0])
    got = sinusoidal(jnp.asarray(level, jnp.float32), features, scale=scale)
    half = features // 2
    for i, t in enumerate(level):
        for k in range(half):
            angle = scale * t * 10_000.0 ** (-k / max(half - 1, 1))
            atol = 1e-6 + scale * t * 2e-7  # float32's rounding of the angle
            assert got[i, k] == pytest.approx(math.sin(angle), abs=atol)
            assert got[i, half + k] == pytest.approx(math.cos(angle), abs=atol)


@pytest.mark.parametrize("scale", [999.0, 50.0])
def test_conditioning_is_a_two_layer_perceptron_plus_the_label(scale):
    module = Conditioning(8, scale, num_classes=3)
    values, label = jnp.array([0.1, 0.7]), jnp.array([2, 0])
    params = any_params(shapes_of(module, values, label))
    p = params["params"]
    waves = np.asarray(sinusoidal(values, 4, scale=scale))
    hidden = silu(waves @ p["Dense_1"]["kernel"] + p["Dense_1"]["bias"])
    total = hidden @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"]
    total += p["Embed_0"]["embedding"][np.asarray(label)]
    np.testing.assert_allclose(module.apply(params, values, label), silu(total), atol=1e-5)


# Blocks


def attend(x, p, heads):
    """Vaswani et al. 2017, eq. 1, pixel by pixel and head by head, beside the identity."""
    batch, height, width, channels = x.shape
    gamma, beta = p["GroupNorm_0"]["scale"], p["GroupNorm_0"]["bias"]
    h = group_norm(x, num_groups(channels), gamma, beta)
    h = h.reshape(batch, height * width, channels)
    q, k, v = np.split(h @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"], 3, axis=-1)
    dim = channels // heads
    mixed = np.empty_like(q)
    for b in range(batch):
        for head in range(heads):
            own = slice(head * dim, (head + 1) * dim)
            for i in range(height * width):
                logits = np.array([q[b, i, own] @ key for key in k[b, :, own]]) / np.sqrt(dim)
                weights = np.exp(logits - logits.max())
                mixed[b, i, own] = weights @ v[b, :, own] / weights.sum()
    return x + (mixed @ p["Dense_1"]["kernel"] + p["Dense_1"]["bias"]).reshape(x.shape)


@pytest.mark.parametrize(("channels", "head_dim", "heads"), [(8, 64, 1), (8, 4, 2), (12, 4, 3)])
def test_self_attention_is_softmax_attention(channels, head_dim, heads):
    module = SelfAttention(head_dim)
    x = normal((2, 3, 4, channels))
    params = module.init(jax.random.key(0), x)
    np.testing.assert_array_equal(module.apply(params, x), x)  # the identity when it is new
    params = any_params(params)
    expected = attend(x, params["params"], heads)
    np.testing.assert_allclose(module.apply(params, x), expected, rtol=1e-4, atol=2e-5)


def test_self_attention_moves_with_its_pixels():
    """It knows no place: a permutation of the pixels permutes the output. No window, no edge."""
    module, x = SelfAttention(4), normal((1, 4, 4, 8))
    params = any_params(shapes_of(module, x))
    order = np.random.default_rng(0).permutation(16)

    def shuffled(image):
        return np.asarray(image).reshape(1, 16, 8)[:, order].reshape(image.shape)

    np.testing.assert_allclose(
        module.apply(params, shuffled(x)), shuffled(module.apply(params, x)), atol=1e-5
    )


@pytest.mark.parametrize("channels", [28, 224])
def test_self_attention_at_a_width_its_heads_do_not_divide_runs_or_says_so(channels):
    """28 channels in heads of 8 are 3 heads of 9⅓; 224 = 112·2 in heads of 64 likewise."""
    module = SelfAttention(8 if channels == 28 else 64)
    x = normal((1, 2, 2, channels))
    try:
        params = any_params(shapes_of(module, x))
    except InputError:
        return
    assert np.all(np.isfinite(module.apply(params, x)))


def convolve(x, kernel, bias):
    """3 × 3, zero padding, stride 1."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    return bias + sum(
        padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3)
    )


@pytest.mark.parametrize("channels", [8, 12])
def test_residual_block_is_the_published_one(channels):
    """Dhariwal & Nichol 2021: norm, SiLU, conv; AdaGN, SiLU, conv; beside the identity."""
    block = ResBlock(channels)
    x, embedding = normal((2, 4, 4, 8)), normal((2, 6), seed=1)
    params = any_params(shapes_of(block, x, embedding, train=False))
    p = params["params"]
    norms = [p["GroupNorm_0"], p["GroupNorm_1"]]
    h = silu(group_norm(x, num_groups(8), norms[0]["scale"], norms[0]["bias"]))
    h = convolve(h, p["Conv_0"]["kernel"], p["Conv_0"]["bias"])
    both = embedding @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"]
    scale, shift = (half[:, None, None] for half in np.split(both, 2, axis=1))
    h = group_norm(h, num_groups(channels), norms[1]["scale"], norms[1]["bias"])
    h = convolve(silu(h * (1 + scale) + shift), p["Conv_1"]["kernel"], p["Conv_1"]["bias"])
    beside = x @ p["Dense_1"]["kernel"] + p["Dense_1"]["bias"] if channels != 8 else x
    got = block.apply(params, x, embedding, train=False)
    np.testing.assert_allclose(got, beside + h, rtol=1e-4, atol=1e-4)
