"""Invalid options of a U-Net are refused with a clear message before anything is computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from net_tools import any_params, normal, shapes_of

from jaxdiff.nets import MLP, UNet
from jaxdiff.nets.layers import check_counts
from jaxdiff.typing import InputError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, r"channels must be a positive integer, got 0"),
        ({"channels": -8}, r"channels must be a positive integer, got -8"),
        ({"multipliers": ()}, r"multipliers must be a list of positive integers, got \(\)"),
        (
            {"multipliers": (1, 0)},
            r"multipliers must be a list of positive integers, got \(1, 0\)",
        ),
        (
            {"multipliers": (1, 1.5)},
            r"multipliers must be a list of positive integers, got \(1, 1.5\)",
        ),
        ({"blocks_per_level": 0}, r"blocks_per_level must be a positive integer, got 0"),
        ({"head_dim": -1}, r"head_dim must be a positive integer, or None, got -1"),
        ({"groups": -4}, r"groups must be a positive integer, or None, got -4"),
        ({"num_outputs": 0}, r"num_outputs must be a positive integer, got 0"),
        ({"attention_up": "all"}, r"attention_up must be one of each, last, got 'all'"),
        ({"modulation": "scale"}, r"modulation must be one of shift, scale_shift, got 'scale'"),
        ({"resampling": "blocks"}, r"resampling must be one of conv, block, got 'blocks'"),
        (
            {"embedding": "learned"},
            r"embedding must be one of sinusoidal, fourier, none, got 'learned'",
        ),
        ({"padding": "start"}, r"padding must be one of end, both, got 'start'"),
        (
            {"activation": "sin"},
            r"activation must be one of silu, elu, relu, leaky_relu, got 'sin'",
        ),
        ({"progressive_input": True}, r"progressive_input must be one of none, .*, cat, got True"),
        (
            {"progressive_output": "sum"},
            r"progressive_output must be one of none, .* got 'sum'",
        ),
        ({"dtype": "float16"}, r"dtype must be one of float32, bfloat16, got 'float16'"),
        ({"filter": (1, 2, 1)}, r"filter must have an even number of weights .* got \(1, 2, 1\)"),
        ({"filter": (1, -1)}, r"even number of weights with a positive sum, got \(1, -1\)"),
        ({"attention_levels": (2,)}, r"attention_levels must be levels from 0 to 1, got \(2,\)"),
        (
            {"attention_levels": (0, -1)},
            r"attention_levels must be levels from 0 to 1, got \(0, -1",
        ),
        ({"dropout": 1.0}, r"dropout must be a number in \[0, 1\), got 1.0"),
        ({"dropout": -0.1}, r"dropout must be a number in \[0, 1\), got -0.1"),
        ({"attention_levels": 1}, r"attention_levels must be levels from 0 to 1, got 1"),
        ({"dropout": "0.1"}, r"dropout must be a number in \[0, 1\), got '0.1'"),
        ({"epsilon": "1"}, r"epsilon must be a positive number, got '1'"),
        ({"filter": "ab"}, r"filter must have an even number of weights .* got 'ab'"),
    ],
)
def test_an_option_out_of_range_is_refused_by_name(options, message):
    with pytest.raises(InputError, match=message):
        UNet(**options)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("channels", 8.0),
        ("channels", (8,)),
        ("blocks_per_level", (1,)),
        ("multipliers", 2),
        ("head_dim", 0),
        ("groups", 0),
        ("num_classes", 0),
    ],
)
def test_a_number_that_is_not_a_count_is_refused_by_name(option, value):
    with pytest.raises(InputError, match=f"{option} must be a (list of )?positive integers?"):
        UNet(**{option: value})


def test_groups_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(InputError, match="groups"):
        shapes_of(UNet(8, groups=3), jnp.zeros((1, 8, 8, 1)), jnp.zeros(1))


@pytest.mark.parametrize("net", [UNet(1), MLP(3)], ids=["UNet", "MLP"])
def test_a_network_too_narrow_to_embed_its_level_is_refused(net):
    with pytest.raises(InputError):
        shapes_of(net, jnp.zeros((1, 8, 8, 1)), jnp.zeros(1))


@pytest.mark.parametrize("option", ["width", "depth", "num_outputs"])
def test_an_mlp_of_no_size_is_refused_by_name(option):
    with pytest.raises(InputError, match=f"{option} must be a positive integer, got 0"):
        MLP(**{option: 0})


def test_positive_integers_pass_and_the_first_other_value_is_named():
    check_counts(a=1, b=2)
    with pytest.raises(InputError, match=r"^b must be a positive integer, got True$"):
        check_counts(a=1, b=True, c=-1)


def test_a_convolution_that_resamples_has_no_projection():
    with pytest.raises(InputError, match='project must be False where resampling is "conv"'):
        UNet(project=True)
    UNet(resampling="block", project=True)


@pytest.mark.parametrize("options", [{"filter": (1, 3, 3, 1)}, {"resampling": "block"}])
def test_only_plain_convolutions_pad_both_ends(options):
    with pytest.raises(InputError, match='padding must be "end" unless resampling is "conv"'):
        UNet(padding="both", **options)


@pytest.mark.parametrize("shape", [(2, 8), (2, 2, 2, 2, 2, 2), (8,)])
def test_data_with_too_few_or_too_many_axes_is_refused(shape):
    with pytest.raises(InputError, match=r"one, two or three axes between, got shape \("):
        shapes_of(UNet(4), jnp.zeros(shape), jnp.zeros(1))


@pytest.mark.parametrize(
    ("size", "levels", "factor"),
    [((7, 8), 2, 2), ((6, 8), 3, 4), ((28, 28), 4, 8), ((6,), 3, 4), ((4, 4, 2), 3, 4)],
)
def test_an_image_that_does_not_halve_at_every_level_is_refused(size, levels, factor):
    got = " x ".join(map(str, size))
    with pytest.raises(
        InputError, match=rf"U-Net of {levels} levels requires .* multiples of {factor}, got {got}"
    ):
        shapes_of(UNet(4, (1,) * levels), jnp.zeros((1, *size, 1)), jnp.zeros(1))


def test_a_network_without_noise_conditioning_ignores_the_level():
    net = UNet(4, (1,), 1, (), embedding="none", num_classes=3)
    x, label, levels = normal((2, 8, 1)), jnp.array([0, 2]), (jnp.zeros(2), jnp.ones(2))
    params = any_params(shapes_of(net, x, levels[0], label))
    assert set(params["params"]["embedding"]) == {"label"}
    apply = jax.jit(net.apply)
    np.testing.assert_array_equal(*(apply(params, x, level, label) for level in levels))
    alone = shapes_of(UNet(4, (1,), 1, (), embedding="none"), x, levels[0])
    assert "embedding" not in alone["params"]


@pytest.mark.slow
def test_the_middle_attends_if_any_level_does_unless_overridden():
    def attends(**options):
        net = UNet(4, **options)
        return "middle_attention" in shapes_of(net, jnp.zeros((1, 8, 1)), jnp.zeros(1))["params"]

    assert attends()
    assert not attends(attention_levels=())
    assert attends(attention_levels=(), middle_attention=True)
    assert not attends(middle_attention=False)


@pytest.mark.parametrize(("kind", "number"), [("sinusoidal", 0), ("fourier", 4)])
def test_only_fourier_features_have_constants(kind, number):
    shapes = shapes_of(UNet(4, embedding=kind), jnp.zeros((1, 8, 1)), jnp.zeros(1))
    constants = shapes.get("constants", {})
    assert [leaf.shape for leaf in jax.tree.leaves(constants)] == ([(number,)] if number else [])
