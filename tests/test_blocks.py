"""The blocks of the U-Net against plain numpy: residual, attention, down- and upsampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from net_tools import (
    ACTIVATIONS,
    any_params,
    convolve,
    dense,
    doubled,
    doubled_by_convolution,
    group_norm,
    halved,
    normal,
    rounding,
    shapes_of,
    smoothed,
    wide,
)

from jaxdiff.nets.blocks import Downsample, ResBlock, SelfAttention, Upsample
from jaxdiff.nets.norm import num_groups
from jaxdiff.nets.resampling import BINOMIAL, BOX
from jaxdiff.typing import InputError

KEY = jax.random.key(0, impl="unsafe_rbg")  # compiles faster


def normed(x, p, groups, epsilon):
    return group_norm(x, groups or num_groups(x.shape[-1]), p["scale"], p["bias"], epsilon)


# The residual block


def residual(
    x,
    embedding,
    p,
    *,
    modulation="scale_shift",
    activation="silu",
    resample="",
    weights=BOX,
    skip_scale=1.0,
    groups=None,
    epsilon=1e-6,
):
    """Ho et al. 2020 and Dhariwal & Nichol 2021, resampled as in BigGAN, rescaled as in NCSN++."""
    change = {"": lambda x, _: x, "down": halved, "up": doubled}[resample]
    act = ACTIVATIONS[activation]
    h = change(act(normed(x, p["norm_0"], groups, epsilon)), weights)
    h = convolve(h, p["conv_0"])
    level = None if embedding is None else dense(embedding, p["modulation"])
    if level is None:
        h = normed(h, p["norm_1"], groups, epsilon)
    elif modulation == "shift":
        h = normed(h + wide(level, h), p["norm_1"], groups, epsilon)
    else:
        scale, shift = np.split(level, 2, axis=1)
        h = normed(h, p["norm_1"], groups, epsilon) * (1 + wide(scale, h)) + wide(shift, h)
    h = convolve(act(h), p["conv_1"])
    skip = change(x, weights)
    return ((dense(skip, p["skip"]) if "skip" in p else skip) + h) * skip_scale


@pytest.mark.parametrize("modulation", ["shift", "scale_shift"])
@pytest.mark.parametrize(
    ("channels", "options"),
    [
        (8, {}),
        (12, {"skip_scale": 0.5**0.5}),
        (8, {"resample": "down", "weights": BINOMIAL, "groups": 4, "epsilon": 0.1}),
        (12, {"resample": "up", "weights": BOX}),
        (8, {"resample": "up", "weights": BINOMIAL, "skip_scale": 0.25}),
        (8, {"resample": "down", "weights": BOX, "epsilon": 1e-5, "activation": "leaky_relu"}),
        (8, {"activation": "elu"}),
    ],
)
def test_residual_block_is_the_published_one(channels, options, modulation):
    block = ResBlock(channels, modulation, **options)
    x, embedding = normal((2, 4, 4, 8)), normal((2, 6), seed=1)
    params = any_params(shapes_of(block, x, embedding))
    assert ("skip" in params["params"]) == (channels != 8)
    expected = residual(x, embedding, params["params"], modulation=modulation, **options)
    got = jax.jit(block.apply)(params, x, embedding)
    # two convolutions of 9·12 terms and two norms over 16 pixels, of sizes up to 16
    np.testing.assert_allclose(got, expected, atol=rounding(2 * (9 * 12 + 4 * 16), 16))


def test_residual_block_projects_its_skip_only_on_request():
    x, embedding = normal((2, 4, 4, 8)), normal((2, 6), seed=1)
    block = ResBlock(8, project=True)
    params = any_params(shapes_of(block, x, embedding))
    assert params["params"]["skip"]["kernel"].shape == (8, 8)
    expected = residual(x, embedding, params["params"])
    got = jax.jit(block.apply)(params, x, embedding)
    np.testing.assert_allclose(got, expected, atol=rounding(2 * (9 * 12 + 4 * 16), 16))


def test_a_residual_block_without_a_level_adds_nothing_between_convolution_and_norm():
    x, block = normal((2, 4, 4, 8)), ResBlock(8, activation="relu")
    params = any_params(shapes_of(block, x, None))
    assert "modulation" not in params["params"]
    got = jax.jit(block.apply)(params, x, None)
    expected = residual(x, None, params["params"], activation="relu")
    np.testing.assert_allclose(got, expected, atol=rounding(2 * (9 * 12 + 4 * 16), 16))


@pytest.mark.parametrize(("modulation", "resample"), [("shift", ""), ("scale_shift", "down")])
def test_a_new_residual_block_is_only_its_skip(modulation, resample):
    block = ResBlock(8, modulation, resample, skip_scale=0.5)
    x, embedding = normal((1, 4, 4, 8)), normal((1, 6), seed=1)
    got, _ = jax.jit(block.init_with_output)(KEY, x, embedding)
    expected = 0.5 * (halved(x, BOX) if resample else x)
    np.testing.assert_allclose(got, expected, atol=rounding(8, 4))


def test_dropout_of_a_residual_block_acts_before_its_second_convolution():
    """If that convolution copies each input channel to two outputs, both show the same drops."""
    block, x, embedding = ResBlock(8, dropout=0.5), normal((2, 4, 4, 8)), normal((2, 6), seed=1)
    params = any_params(shapes_of(block, x, embedding))
    kernel = np.zeros((3, 3, 8, 8), np.float32)
    kernel[1, 1, :4] = np.eye(4).repeat(2, axis=1)
    params["params"]["conv_1"] = {"kernel": kernel, "bias": np.zeros(8, np.float32)}
    run = jax.jit(
        lambda train, key: block.apply(params, x, embedding, train, rngs={"dropout": key}),
        static_argnums=0,
    )
    calm, trained = (np.asarray(run(train, KEY)) - x for train in (False, True))
    kept = trained != 0
    np.testing.assert_array_equal(kept[..., ::2], kept[..., 1::2])
    assert 0.28 < kept.mean() < 0.72  # of 128 coins, at 5 standard deviations
    np.testing.assert_allclose(trained[kept], 2 * calm[kept], atol=rounding(8, 16))


# Attention


def attend(x, p, heads, groups=None, epsilon=1e-6, skip_scale=1.0):
    """Vaswani et al. 2017, eq. 1, pixel by pixel and head by head, plus the identity."""
    batch, channels = x.shape[0], x.shape[-1]
    h = normed(x, p["norm"], groups, epsilon).reshape(batch, -1, channels)
    q, k, v = np.split(dense(h, p["qkv"]), 3, axis=-1)
    dim = channels // heads
    mixed = np.empty_like(q)
    for b in range(batch):
        for head in range(heads):
            own = slice(head * dim, (head + 1) * dim)
            for i in range(h.shape[1]):
                logits = np.array([q[b, i, own] @ key for key in k[b, :, own]]) / np.sqrt(dim)
                weights = np.exp(logits - logits.max())
                mixed[b, i, own] = weights @ v[b, :, own] / weights.sum()
    return (x + dense(mixed, p["out"]).reshape(x.shape)) * skip_scale


@pytest.mark.parametrize(
    ("channels", "head_dim", "heads", "options"),
    [
        (8, 64, 1, {}),
        (8, None, 1, {"skip_scale": 0.5**0.5}),
        (8, 4, 2, {"groups": 8, "epsilon": 0.1}),
        (12, 4, 3, {"skip_scale": 0.5}),
    ],
)
def test_self_attention_is_softmax_attention(channels, head_dim, heads, options):
    module = SelfAttention(head_dim, **options)
    x = normal((2, 3, 4, channels))
    params = any_params(shapes_of(module, x))
    expected = attend(x, params["params"], heads, **options)
    # three layers of 12 terms, logits of size ≤ 16 in an exponential, a mean over 12 pixels
    atol = rounding(16 * 12 + 4 * 12, 8)
    np.testing.assert_allclose(jax.jit(module.apply)(params, x), expected, atol=atol)


def test_new_self_attention_is_the_identity():
    x = normal((2, 3, 4, 8))
    new, _ = jax.jit(SelfAttention(4, skip_scale=0.5).init_with_output)(KEY, x)
    np.testing.assert_array_equal(new, 0.5 * x)


def test_self_attention_is_equivariant_to_permutations():
    """A permutation of the pixels permutes the output: no positions, no window, no edge."""
    module, x = SelfAttention(4), normal((1, 4, 4, 8))
    params = any_params(shapes_of(module, x))
    order, apply = np.random.default_rng(0).permutation(16), jax.jit(module.apply)

    def shuffled(image):
        return np.asarray(image).reshape(1, 16, 8)[:, order].reshape(image.shape)

    np.testing.assert_allclose(apply(params, shuffled(x)), shuffled(apply(params, x)), atol=1e-5)


@pytest.mark.parametrize(("channels", "head_dim", "heads"), [(28, 8, 2), (224, 64, 2)])
def test_the_number_of_heads_is_reduced_to_divide_the_channels(channels, head_dim, heads):
    """28 channels in heads of 8 would be 3 heads of 9⅓."""
    module, x = SelfAttention(head_dim), normal((1, 2, 2, channels))
    params = any_params(shapes_of(module, x))
    expected = attend(x, params["params"], heads)
    # as above, with longer sums
    atol = rounding(16 * channels, 8)
    np.testing.assert_allclose(jax.jit(module.apply)(params, x), expected, atol=atol)


# Down- and upsampling convolutions


@pytest.mark.parametrize("shape", [(2, 6, 4), (2, 6, 4, 4)])
@pytest.mark.parametrize("weights", [BOX, (3, 1), BINOMIAL, (1, 5, 10, 10, 5, 1)])
def test_downsampling_is_a_filter_unless_plain_and_a_strided_convolution(weights, shape):
    """TensorFlow's SAME puts its one zero at the end; StyleGAN2 filters, then pads nothing."""
    module, x = Downsample(5, weights), normal(shape)
    params = any_params(shapes_of(module, x))
    p = params["params"]["conv"]
    if weights == BOX:
        expected = convolve(x, p, stride=2, pad=(0, 1))
    else:
        reversed_weights = weights[::-1]  # ours does not flip the weights
        expected = convolve(smoothed(x, reversed_weights), p, stride=2, pad=(0, 0))
    got = jax.jit(module.apply)(params, x)
    assert got.shape == (2, *(side // 2 for side in shape[1:-1]), 5)
    np.testing.assert_allclose(got, expected, atol=rounding(9 * 4 + 3 * 2 * 6, 16))


def test_downsampling_can_pad_both_ends_as_pytorch_does():
    """Conv2d(stride=2, padding=1): of 6 pixels padded to 8 the last window ends at the seventh."""
    module, x = Downsample(5, padding="both"), normal((2, 6, 4, 4))
    params = any_params(shapes_of(module, x))
    expected = convolve(x, params["params"]["conv"], stride=2, pad=(1, 1))
    got = jax.jit(module.apply)(params, x)
    assert got.shape == (2, 3, 2, 5)
    np.testing.assert_allclose(got, expected, atol=rounding(9 * 4, 16))


@pytest.mark.parametrize("weights", [(3, 1), BINOMIAL, (1, 2, 5, 4)])
def test_upsampling_by_a_filter_convolves_with_full_padding(weights):
    module, x = Upsample(5, weights), normal((2, 3, 2, 4))
    params = any_params(shapes_of(module, x))
    expected = doubled_by_convolution(x, params["params"]["conv"], weights[::-1])
    got = jax.jit(module.apply)(params, x)
    assert got.shape == (2, 6, 4, 5)
    np.testing.assert_allclose(got, expected, atol=rounding(9 * 4 + 3 * 2 * 6, 16))


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 2, 4)])
def test_upsampling_repeats_pixels_then_convolves(shape):
    module, x = Upsample(5), normal(shape)
    params = any_params(shapes_of(module, x))
    large = x
    for axis in range(1, x.ndim - 1):
        large = large.repeat(2, axis=axis)
    expected = convolve(large, params["params"]["conv"])
    got = jax.jit(module.apply)(params, jnp.asarray(x))
    np.testing.assert_allclose(got, expected, atol=rounding(9 * 4, 16))


@pytest.mark.parametrize(
    "option", [{"resample": "third"}, {"modulation": "tilt"}, {"activation": "sin"}]
)
def test_a_block_of_an_unknown_kind_is_refused(option):
    (name,) = option
    with pytest.raises(InputError, match=f"{name} must be one of "):
        ResBlock(8, **option)
