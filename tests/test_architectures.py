"""The published U-Nets by their parameters, and the assembly in one, two and three dimensions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from net_tools import any_params, count, normal, rounding, shapes_of

from jaxdiff.nets import ADM, DDPM, DDPMPP, NCSNPP, UNet

X, LEVEL = jnp.zeros((1, 32, 32, 3)), jnp.zeros(1)

# Counts


@pytest.mark.parametrize(
    ("make", "options", "numbers"),
    [
        (DDPM, {}, 35_746_307),  # as in google/ddpm-cifar10-32
        pytest.param(DDPM, {"attention_up": "last"}, 35_218_947, marks=pytest.mark.slow),
        pytest.param(DDPMPP, {}, 61_804_419, marks=pytest.mark.slow),
        pytest.param(DDPMPP, {"blocks_per_level": 8}, 106_632_579, marks=pytest.mark.slow),
        pytest.param(NCSNPP, {}, 62_758_787, marks=pytest.mark.slow),
        pytest.param(NCSNPP, {"blocks_per_level": 8}, 107_586_947, marks=pytest.mark.slow),
    ],
)
def test_a_published_network_has_the_published_number_of_parameters(make, options, numbers):
    shapes = shapes_of(make(**options), X, LEVEL)
    assert count(shapes.pop("params")) == numbers
    assert count(shapes) == (128 if make is NCSNPP else 0)  # frequencies, which are not trained


def unet_size(
    c,
    multipliers,
    blocks,
    attention_levels,
    colours,
    classes=0,
    *,
    shift=False,
    last=False,
    resampling="conv",
    project=False,
    pyramids=(False, False),
    fourier=False,
    num_outputs=1,
):
    """Number of parameters, from the diagrams of Ho et al., Song et al. and Dhariwal & Nichol."""
    e = 4 * c

    def conv(a, b):
        return 9 * a * b + b

    def dense(a, b):
        return a * b + b

    def res(a, b, project=False):
        side = dense(a, b) if a != b or project else 0
        return 2 * a + conv(a, b) + dense(e, b if shift else 2 * b) + 2 * b + conv(b, b) + side

    def attention(a):
        return 2 * a + 4 * dense(a, a)

    def resample(a):
        return res(a, a, project) if resampling == "block" else conv(a, a)

    def out(a):
        return 2 * a + conv(a, num_outputs * colours)

    total = dense(2 * c if fourier else c, e) + dense(e, e) + classes * e + conv(colours, c)
    widths, skips, now = [c * m for m in multipliers], [c], c
    small = colours
    for depth, width in enumerate(widths):
        for _ in range(blocks):
            total += res(now, width) + (attention(width) if depth in attention_levels else 0)
            now = width
            skips.append(now)
        if depth < len(widths) - 1:
            total += resample(now)
            if pyramids[0]:
                total += conv(small, now)
                small = now
            skips.append(now)
    total += 2 * res(now, now) + (attention(now) if attention_levels else 0)
    for depth, width in reversed(list(enumerate(widths))):
        for i in range(blocks + 1):
            total += res(now + skips.pop(), width)
            if depth in attention_levels and (i == blocks or not last):
                total += attention(width)
            now = width
        if pyramids[1] or depth == 0:
            total += out(now)
        if depth > 0:
            total += resample(now)
    assert not skips
    return total


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (UNet(8, (1,), 1, ()), unet_size(8, (1,), 1, (), 3)),
        (UNet(4, (1, 2, 3), 2, (0, 2), num_classes=10), unet_size(4, (1, 2, 3), 2, (0, 2), 3, 10)),
        (UNet(), unet_size(64, (1, 2), 2, (1,), 3)),
        (UNet(4, num_outputs=2), unet_size(4, (1, 2), 2, (1,), 3, num_outputs=2)),
        pytest.param(
            ADM(),
            unet_size(128, (1, 2, 2, 2), 3, (1, 2), 3, resampling="block"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            NCSNPP(channels=8, progressive_output="skip"),
            unet_size(
                8,
                (1, 2, 2, 2),
                4,
                (1,),
                3,
                shift=True,
                last=True,
                resampling="block",
                project=True,
                pyramids=(True, True),
                fourier=True,
            ),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["one level", "labels", "defaults", "variance", "ADM", "both pyramids"],
)
def test_a_unet_has_as_many_parameters_as_its_diagram(net, expected):
    label = None if net.num_classes is None else jnp.zeros(1, int)
    assert count(shapes_of(net, X, LEVEL, label)["params"]) == expected


# Dimensions


def lifted(variables, axes):
    """One-dimensional kernels with more dimensions, of extent one along the new axes."""

    def lift(path, leaf):
        if path[-1].key != "kernel" or leaf.ndim != 3:
            return leaf
        wide = np.zeros((3,) * axes + leaf.shape[1:], np.float32)
        wide[(slice(None), *(1,) * (axes - 1))] = leaf
        return wide

    return jax.tree_util.tree_map_with_path(lift, variables)


@pytest.mark.slow
@pytest.mark.parametrize(("resampling", "axes"), [("block", 2), ("conv", 3)])
def test_an_image_constant_along_new_axes_is_treated_as_one_with_fewer(resampling, axes):
    """Two and three dimensions agree with one; everything but the kernels is identical."""
    net = UNet(4, (1, 2), 1, (), head_dim=4, resampling=resampling, progressive_input="residual")
    x, level = normal((2, 8, 2)), jnp.array([0.2, 0.7])
    variables = any_params(shapes_of(net, x, level))
    apply = jax.jit(net.apply)
    expected = np.asarray(apply(variables, x, level))
    assert expected.shape == x.shape
    assert np.ptp(expected) > 0.1

    def spread(image):
        wide = image.reshape(2, 8, *(1,) * (axes - 1), 2)
        return np.broadcast_to(wide, (2, 8, *(4, 2)[: axes - 1], 2))

    got = apply(lifted(variables, axes), spread(x), level)
    # seven blocks of two convolutions with their norms, of ≤ 3³·16 terms
    np.testing.assert_allclose(got, spread(expected), atol=rounding(14 * 27 * 16, 2))
