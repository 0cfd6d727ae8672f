"""Progressive input and output of NCSN++, level by level, from the output of each part."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from net_tools import (
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
    silu,
    smoothed,
)
from quickly import first_is_quick

from jaxdiff.nets import UNet
from jaxdiff.nets.norm import num_groups
from jaxdiff.nets.resampling import BINOMIAL


def normed(h, p):
    return silu(group_norm(h, num_groups(h.shape[-1]), p["scale"], p["bias"]))


@functools.cache
def with_pyramids(progressive_input="residual", progressive_output="skip"):
    """A network of three levels with both pyramids: its parameters, output and all parts."""
    net = UNet(
        4,
        (1, 2, 2),
        1,
        (),
        modulation="shift",
        filter=BINOMIAL,
        skip_scale=0.5,
        progressive_input=progressive_input,
        progressive_output=progressive_output,
        num_outputs=2,
    )
    x, level = normal((2, 8, 8, 3)), jnp.array([0.2, 0.7])
    variables = any_params(shapes_of(net, x, level))
    run = jax.jit(
        lambda v: net.apply(v, x, level, capture_intermediates=True, mutable="intermediates")
    )
    return x, variables, run


def parts_of(variables, *kinds):
    """The output, and that of each part by name; a block's first norm is ``block/norm_0``."""
    y, captured = with_pyramids(*kinds)[2](variables)
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(captured["intermediates"]):
        names = [key.key for key in path if hasattr(key, "key")]
        found["/".join(names[:-1])] = np.asarray(leaf)  # the last one is __call__
    return np.asarray(y), found


def test_progressive_output_is_the_sum_of_upsampled_images_from_every_level():
    _, variables, _ = with_pyramids()
    y, part = parts_of(variables)
    assert y.shape == (2, 8, 8, 6)
    image = np.zeros((2, 1, 1, 6))
    for depth in (2, 1, 0):
        own = part[f"out_{depth}_conv"]
        assert own.shape == (2, 8 >> depth, 8 >> depth, 6)
        assert own.std() > 0.1
        np.testing.assert_allclose(
            own,
            convolve(part[f"out_{depth}_norm"], variables["params"][f"out_{depth}_conv"]),
            atol=rounding(9 * 8, 4),
        )
        image = own + (doubled(image, BINOMIAL) if depth < 2 else 0)
    np.testing.assert_allclose(y, image, atol=rounding(3 * 2 * 12, 8))


@pytest.mark.parametrize("alone", [0, 1, 2])
def test_a_single_level_gives_its_image_upsampled_to_full_size(alone):
    _, variables, _ = with_pyramids()
    silent = {
        f"out_{depth}_conv": jax.tree.map(np.zeros_like, variables["params"][f"out_{depth}_conv"])
        for depth in {0, 1, 2} - {alone}
    }
    y, part = parts_of({"params": variables["params"] | silent})
    image = part[f"out_{alone}_conv"]
    for _ in range(alone):
        image = doubled(image, BINOMIAL)
    assert np.abs(y).max() > 0.1
    np.testing.assert_allclose(y, image, atol=rounding(2 * 2 * 12, 4))


def test_progressive_input_adds_the_downsampled_pyramid_and_continues_from_the_sum():
    x, variables, _ = with_pyramids()
    _, part = parts_of(variables)
    p, pyramid = variables["params"], x
    for depth in range(2):
        small = convolve(
            smoothed(pyramid, BINOMIAL), p[f"down_{depth}_pyramid"]["conv"], stride=2, pad=(0, 0)
        )
        np.testing.assert_allclose(
            part[f"down_{depth}_pyramid"], small, atol=rounding(9 * 8 + 24, 4)
        )
        pyramid = 0.5 * (small + part[f"down_{depth}_resample"])
        # the next block normalises the sum
        np.testing.assert_allclose(
            part[f"down_{depth + 1}_block_0/norm_0"],
            normed(pyramid, p[f"down_{depth + 1}_block_0"]["norm_0"]),
            atol=rounding(10 * (9 * 8 + 24), 8),
        )
        if depth == 0:  # a norm does not depend on its scale
            skip = dense(pyramid, p["down_1_block_0"]["skip"])
            np.testing.assert_allclose(part["down_1_block_0/skip"], skip, atol=rounding(140, 8))


@pytest.mark.parametrize("kind", first_is_quick(["cat", "sum"]))
def test_the_downsampled_input_is_projected_and_added_or_concatenated(kind):
    """models/layerspp.py, Combine: pixels through one dense layer, without the scale of a sum."""
    x, variables, _ = with_pyramids(kind, "residual")
    _, part = parts_of(variables, kind, "residual")
    p, small = variables["params"], x
    for depth in range(2):
        small = halved(small, BINOMIAL)
        from_input, own = dense(small, p[f"down_{depth}_pyramid"]), part[f"down_{depth}_resample"]
        joined = from_input + own if kind == "sum" else np.concatenate([from_input, own], axis=-1)
        np.testing.assert_allclose(
            part[f"down_{depth + 1}_block_0/norm_0"],
            normed(joined, p[f"down_{depth + 1}_block_0"]["norm_0"]),
            atol=rounding(10 * (3 + 24), 8),
        )
        if kind == "sum" and depth == 0:  # a norm ignores the scale, a projected skip does not
            skip = dense(joined, p["down_1_block_0"]["skip"])
            np.testing.assert_allclose(part["down_1_block_0/skip"], skip, atol=rounding(40, 8))


def test_a_residual_output_is_carried_from_level_to_level_as_features():
    """models/ncsnpp.py: features of the deepest level, upsampled by convolutions and summed."""
    _, variables, _ = with_pyramids("cat", "residual")
    y, part = parts_of(variables, "cat", "residual")
    p = variables["params"]
    features = convolve(part["up_2_pyramid_norm"], p["up_2_pyramid"])
    for depth in (1, 0):
        up = doubled_by_convolution(features, p[f"up_{depth}_pyramid"]["conv"], BINOMIAL)
        features = 0.5 * (up + part[f"up_{depth}_block_1"])
    own = normed(features, p["out_0_norm"])
    np.testing.assert_allclose(part["out_0_norm"], own, atol=rounding(10 * 2 * (9 * 8 + 24), 8))
    np.testing.assert_allclose(
        y, convolve(part["out_0_norm"], p["out_0_conv"]), atol=rounding(9 * 8, 4)
    )
