"""Configurations of other systems: which network each describes, and which are unsupported."""

import math

import pytest
from convert_tools import DDPM, NCSNPP, UNET2D

from jaxdiff.nets import UNet
from jaxdiff.nets.convert import diffusers_network, score_sde_network
from jaxdiff.nets.resampling import BINOMIAL, BOX
from jaxdiff.typing import InputError

# score_sde


def test_a_ddpm_of_score_sde_attends_last_and_uses_the_raw_label():
    expected = UNet(
        channels=32,
        multipliers=(1,),
        blocks_per_level=1,
        attention_levels=(0,),
        attention_up="last",
        head_dim=None,
        modulation="shift",
        noise_cond_scale=1.0,
        dropout=0.1,
    )
    assert score_sde_network(DDPM).clone(groups=None) == expected  # the groups are tested below


@pytest.mark.parametrize("channels", [32, 64])
def test_a_ddpm_of_score_sde_has_32_groups_however_narrow_it_is(channels):
    """models/layers.py: GroupNorm(num_groups=32), where NCSN++ has min(channels // 4, 32)."""
    assert score_sde_network(DDPM | {"nf": channels}).groups == 32


def test_an_ncsnpp_of_score_sde_has_every_setting_of_its_config():
    expected = UNet(
        channels=16,
        multipliers=(1, 2),
        blocks_per_level=1,
        attention_levels=(1,),
        attention_up="last",
        head_dim=None,
        modulation="shift",
        resampling="block",
        filter=BINOMIAL,
        project=True,
        skip_scale=math.sqrt(0.5),
        progressive_input="residual",
        embedding="fourier",
        noise_cond_scale=16.0,
        recenter=True,
        dropout=0.1,
    )
    assert score_sde_network(NCSNPP) == expected


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"fir": False}, {"filter": BOX}),
        ({"skip_rescale": False}, {"skip_scale": 1.0}),
        ({"embedding_type": "positional"}, {"embedding": "sinusoidal", "noise_cond_scale": 1.0}),
        ({"progressive": "output_skip"}, {"progressive_output": "skip"}),
        ({"progressive": "residual"}, {"progressive_output": "residual"}),
        ({"progressive_input": "none"}, {"progressive_input": "none"}),
        ({"progressive_input": "input_skip"}, {"progressive_input": "sum"}),
        (
            {"progressive_input": "input_skip", "progressive_combine": "cat"},
            {"progressive_input": "cat"},
        ),
        ({"conditional": False}, {"embedding": "none"}),
        ({"nonlinearity": "elu"}, {"activation": "elu"}),
        ({"nonlinearity": "relu"}, {"activation": "relu"}),
        ({"nonlinearity": "lrelu"}, {"activation": "leaky_relu"}),
        ({"attn_resolutions": ()}, {"attention_levels": (), "middle_attention": True}),
        ({"centered": True}, {"recenter": False}),
        (
            {"resblock_type": "ddpm", "fir": False},
            {"resampling": "conv", "filter": BOX, "project": False},
        ),
        ({"attn_resolutions": (16, 8)}, {"attention_levels": (0, 1)}),
        ({"image_size": 8}, {"attention_levels": (0,)}),
    ],
)
def test_a_setting_of_an_ncsnpp_changes_only_its_own_fields(change, fields):
    plain, changed = score_sde_network(NCSNPP), score_sde_network(NCSNPP | change)
    assert changed == plain.clone(**fields)


@pytest.mark.parametrize(
    ("config", "setting", "value"),
    [
        (DDPM, "name", "other"),
        (DDPM, "nonlinearity", "tanh"),
        (DDPM, "normalization", "InstanceNorm"),
        (DDPM, "resamp_with_conv", False),
        (NCSNPP, "resblock_type", "other"),
        (NCSNPP, "progressive", "other"),
        (NCSNPP, "progressive_input", "other"),
        (NCSNPP, "progressive_combine", "product"),
        (NCSNPP, "embedding_type", "learned"),
    ],
)
def test_an_unsupported_score_sde_network_is_refused(config, setting, value):
    with pytest.raises(
        InputError, match=f"{setting} of the score_sde network must be .*{value!r}$"
    ):
        score_sde_network(config | {setting: value})


def test_convolutions_that_resample_between_levels_also_have_the_filter():
    """layerspp.py, Upsample and Downsample with conv and fir."""
    net = score_sde_network(NCSNPP | {"resblock_type": "ddpm", "fir": True})
    assert (net.resampling, net.filter, net.project) == ("conv", BINOMIAL, False)


@pytest.mark.parametrize("name", ["ncsn", "ncsnv2_64", "ncsnv2_128", "ncsnv2_256"])
def test_a_refinenet_is_refused_by_name_despite_its_missing_fields(name):
    with pytest.raises(InputError, match=f"'ddpm' or 'ncsnpp', got '{name}', a RefineNet$"):
        score_sde_network({"name": name, "nf": 128})


# diffusers

SCALE_SHIFT = {"modulation": "scale_shift"}
RESNETS = {
    "down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "ResnetUpsampleBlock2D"],
    "upsample_type": "resnet",
}


def test_a_unet2d_has_every_setting_of_its_config():
    expected = UNet(
        channels=8,
        multipliers=(1, 2),
        blocks_per_level=1,
        attention_levels=(1,),
        head_dim=4,
        modulation="shift",
        noise_cond_scale=1.0,
        groups=4,
        epsilon=1e-4,
        dropout=0.25,
        recenter=True,
        num_outputs=2,
    )
    assert diffusers_network(UNET2D) == expected


def test_settings_missing_from_a_unet2d_have_the_defaults_of_diffusers():
    """unet_2d.py: heads of 8 channels, 32 groups, ε = 10⁻⁵, no dropout, data uncentred."""
    left_out = "attention_head_dim", "norm_num_groups", "norm_eps", "dropout", "center_input_sample"
    wide = UNET2D | {"block_out_channels": [32, 64]}
    net = diffusers_network({k: v for k, v in wide.items() if k not in left_out})
    assert net.head_dim == 8
    assert net.groups == 32
    assert net.epsilon == 1e-5
    assert net.dropout == 0.0
    assert not net.recenter
    assert diffusers_network(UNET2D | {"attention_head_dim": None}).head_dim is None


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"downsample_padding": None}, {"padding": "both"}),  # unet_2d.py: 1 by default
        ({"downsample_padding": 1}, {"padding": "both"}),
        ({"freq_shift": None}, {"frequency_endpoint": False}),  # 0, frequencies of K
        ({"freq_shift": 0}, {"frequency_endpoint": False}),
        ({"flip_sin_to_cos": True}, {}),  # the order of its rows is handled with the tensors
        ({"act_fn": "swish"}, {}),
        ({"add_attention": False}, {"middle_attention": False}),
        (
            {
                "down_block_types": ["DownBlock2D", "DownBlock2D"],
                "up_block_types": ["UpBlock2D", "UpBlock2D"],
            },
            {"attention_levels": (), "middle_attention": True},
        ),
        ({"attn_norm_num_groups": 4}, {}),
        ({"num_class_embeds": 10}, {"num_classes": 10}),
        ({"resnet_time_scale_shift": "scale_shift"}, SCALE_SHIFT | {"middle_norm": False}),
        ({"resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 4}, SCALE_SHIFT),
        ({"time_embedding_type": "fourier"}, {"embedding": "fourier", "noise_cond_scale": 16.0}),
        ({"time_embedding_dim": 32}, {}),
        (RESNETS, {"resampling": "block"}),
        (RESNETS | {"downsample_padding": 1}, {"resampling": "block"}),
    ],
)
def test_a_setting_of_a_unet2d_changes_only_its_own_fields(change, fields):
    config = {name: value for name, value in (UNET2D | change).items() if value is not None}
    assert diffusers_network(config) == diffusers_network(UNET2D).clone(**fields)


def test_the_default_of_diffusers_is_supported():
    """unet_2d.py: four levels of 224 to 896 channels, all but the first with attention."""
    net = diffusers_network(
        {
            "block_out_channels": [224, 448, 672, 896],
            "down_block_types": ["DownBlock2D", *["AttnDownBlock2D"] * 3],
            "up_block_types": [*["AttnUpBlock2D"] * 3, "UpBlock2D"],
            "layers_per_block": 2,
            "in_channels": 3,
            "out_channels": 3,
        }
    )
    assert (net.multipliers, net.attention_levels, net.head_dim) == ((1, 2, 3, 4), (1, 2, 3), 8)
    assert (net.padding, net.frequency_endpoint, net.epsilon) == ("both", False, 1e-5)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("act_fn", "gelu"),
        ("attn_norm_num_groups", 8),
        ("class_embed_type", "timestep"),
        ("downsample_padding", 2),
        ("downsample_type", "pool"),
        ("freq_shift", 2),
        ("mid_block_scale_factor", 2),
        ("mid_block_type", "UNetMidBlock2DCrossAttn"),
        ("resnet_time_scale_shift", "spatial"),
        ("time_embedding_dim", 64),
        ("time_embedding_type", "learned"),
        ("upsample_type", "pool"),
    ],
)
def test_an_unsupported_unet2d_is_refused(setting, value):
    with pytest.raises(
        InputError, match=f"{setting} of the UNet2DModel must be .*, got {value!r}$"
    ):
        diffusers_network(UNET2D | {setting: value})


@pytest.mark.parametrize(
    "change",
    [
        {"down_block_types": ["DownBlock2D", "SkipDownBlock2D"]},
        {"up_block_types": ["UpBlock2D", "AttnUpBlock2D"]},  # not a mirror image
        {"up_block_types": ["UpBlock2D", "UpBlock2D"]},
        {"block_out_channels": [8, 16, 32]},  # three widths of two blocks
        {"block_out_channels": [8]},
        {"down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"]},
    ],
)
def test_unsupported_blocks_of_a_unet2d_are_refused(change):
    message = r"and up_block_types their mirror images, got \["
    with pytest.raises(InputError, match=message):
        diffusers_network(UNET2D | change)


def test_a_unet2d_that_upsamples_unlike_it_downsamples_is_refused():
    with pytest.raises(InputError, match=r"must resample in the same way, got \["):
        diffusers_network(UNET2D | {"down_block_types": RESNETS["down_block_types"]})


@pytest.mark.parametrize("setting", ["downsample_type", "upsample_type"])
def test_a_unet2d_that_resamples_in_two_ways_is_refused(setting):
    three = {
        "block_out_channels": [8, 16, 32],
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    }
    diffusers_network(UNET2D | three)
    with pytest.raises(InputError, match=r"must resample in the same way, got \["):
        diffusers_network(UNET2D | three | {setting: "resnet"})


def test_heads_that_do_not_divide_a_width_are_refused():
    with pytest.raises(InputError, match=r"attention_head_dim must be a divisor .* got 3$"):
        diffusers_network(UNET2D | {"attention_head_dim": 3})


def test_widths_that_are_not_multiples_of_the_first_are_refused():
    with pytest.raises(InputError, match=r"multiples of the first, got \[8, 12\]"):
        diffusers_network(UNET2D | {"block_out_channels": [8, 12]})
