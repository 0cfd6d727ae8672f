"""score_sde_pytorch's tensors, in modules numbered in order of use, against lists of modules."""

import numpy as np
import pytest
from convert_tools import DDPM, NCSNPP, assert_same, ddpm_state, ncsnpp_state, of_conv, paths

from jaxdiff.nets.convert import from_score_sde, score_sde_network
from jaxdiff.typing import InputError

DDPM_PARTS = {
    "down_0_block_0": 3,
    "down_0_attention_0": 4,
    "middle_block_0": 5,
    "middle_attention": 6,
    "middle_block_1": 7,
    "up_0_block_0": 8,
    "up_0_block_1": 9,
    "up_0_attention_1": 10,
}


def expected_ddpm(state):
    """Every parameter of ours, with the corresponding tensor of score_sde_pytorch."""
    s = {name.removeprefix("all_modules."): tensor for name, tensor in state.items()}
    expected = {
        "embedding/dense_0/kernel": s["0.weight"].T,
        "embedding/dense_0/bias": s["0.bias"],
        "embedding/dense_1/kernel": s["1.weight"].T,
        "embedding/dense_1/bias": s["1.bias"],
        "conv_in/kernel": of_conv(s["2.weight"]),
        "conv_in/bias": s["2.bias"],
        "out_0_norm/scale": s["11.weight"],
        "out_0_norm/bias": s["11.bias"],
        "out_0_conv/kernel": of_conv(s["12.weight"]),
        "out_0_conv/bias": s["12.bias"],
    }
    for part, i in DDPM_PARTS.items():
        if "attention" in part:
            expected[f"{part}/norm/scale"] = s[f"{i}.GroupNorm_0.weight"]
            expected[f"{part}/norm/bias"] = s[f"{i}.GroupNorm_0.bias"]
            for leaf, theirs in (("kernel", "W"), ("bias", "b")):  # W has our layout
                three = [s[f"{i}.NIN_{j}.{theirs}"] for j in range(3)]
                expected[f"{part}/qkv/{leaf}"] = np.concatenate(three, axis=-1)
                expected[f"{part}/out/{leaf}"] = s[f"{i}.NIN_3.{theirs}"]
            continue
        for j in range(2):
            expected[f"{part}/norm_{j}/scale"] = s[f"{i}.GroupNorm_{j}.weight"]
            expected[f"{part}/norm_{j}/bias"] = s[f"{i}.GroupNorm_{j}.bias"]
            expected[f"{part}/conv_{j}/kernel"] = of_conv(s[f"{i}.Conv_{j}.weight"])
            expected[f"{part}/conv_{j}/bias"] = s[f"{i}.Conv_{j}.bias"]
        expected[f"{part}/modulation/kernel"] = s[f"{i}.Dense_0.weight"].T
        expected[f"{part}/modulation/bias"] = s[f"{i}.Dense_0.bias"]
        if part.startswith("up"):
            expected[f"{part}/skip/kernel"] = s[f"{i}.NIN_0.W"]
            expected[f"{part}/skip/bias"] = s[f"{i}.NIN_0.b"]
    return expected


@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_tensor_of_a_ddpm_is_converted_to_our_name_and_layout(prefix):
    state = ddpm_state()
    given = {prefix + name: tensor for name, tensor in state.items()}
    variables = from_score_sde(given, score_sde_network(DDPM))
    assert set(variables) == {"params"}
    assert_same(paths(variables["params"]), expected_ddpm(state))
    assert all(a.dtype == np.float32 for a in paths(variables["params"]).values())


def taken(state, **options):
    """Variables of an NCSN++, and ``{path: original name}``, identified by a tensor's numbers."""
    variables = from_score_sde(state, score_sde_network(NCSNPP | options))
    params = paths(variables["params"])
    known = {np.sort(t, None).tobytes(): n.removeprefix("all_modules.") for n, t in state.items()}
    names = {path: known.get(np.sort(value, None).tobytes()) for path, value in params.items()}
    return variables, params, names


def test_every_part_of_an_ncsnpp_comes_from_the_module_of_its_number():
    state = ncsnpp_state()
    variables, params, names = taken(state)
    np.testing.assert_array_equal(
        variables["constants"]["embedding"]["fourier"]["frequencies"], state["all_modules.0.W"]
    )
    parts = {
        "embedding/dense_0/kernel": "1.weight",
        "embedding/dense_1/bias": "2.bias",
        "conv_in/kernel": "3.weight",
        "down_0_block_0/conv_0/kernel": "4.Conv_0.weight",
        "down_0_resample/skip/kernel": "5.Conv_2.weight",
        "down_0_pyramid/conv/kernel": "6.Conv2d_0.weight",
        "down_1_block_0/skip/kernel": "7.Conv_2.weight",
        "down_1_attention_0/out/kernel": "8.NIN_3.W",
        "middle_block_0/modulation/kernel": "9.Dense_0.weight",
        "middle_attention/norm/scale": "10.GroupNorm_0.weight",
        "middle_block_1/norm_1/bias": "11.GroupNorm_1.bias",
        "up_1_block_0/conv_1/kernel": "12.Conv_1.weight",
        "up_1_block_1/skip/kernel": "13.Conv_2.weight",
        "up_1_attention_1/out/bias": "14.NIN_3.b",
        "up_1_resample/conv_0/kernel": "15.Conv_0.weight",
        "up_0_block_0/conv_0/bias": "16.Conv_0.bias",
        "up_0_block_1/conv_0/bias": "17.Conv_0.bias",
        "out_0_norm/scale": "18.weight",
        "out_0_conv/kernel": "19.weight",
    }
    assert {path: names[path] for path in parts} == parts
    for path, name in parts.items():
        if path.endswith("kernel"):
            tensor = state[f"all_modules.{name}"]
            one_pixel = tensor.ndim == 4 and tensor.shape[-1] == 1
            flat = tensor[:, :, 0, 0] if one_pixel else tensor
            layout = {4: of_conv, 2: np.transpose}[flat.ndim]
            expected = flat if name.endswith("W") else layout(flat)
            np.testing.assert_array_equal(params[path], expected, err_msg=path)


def test_an_output_of_images_ends_with_a_conv_three_blocks_and_norm_and_conv():
    _, _, names = taken(ncsnpp_state(output="output_skip"), progressive="output_skip")
    parts = {
        "out_1_norm/scale": "15.weight",
        "out_1_conv/kernel": "16.weight",
        "up_1_resample/conv_0/kernel": "17.Conv_0.weight",
        "up_0_block_1/conv_0/bias": "19.Conv_0.bias",
        "out_0_norm/scale": "20.weight",
        "out_0_conv/kernel": "21.weight",
    }
    assert {path: names[path] for path in parts} == parts


def test_an_output_of_features_is_upsampled_by_a_convolution_before_its_sum():
    _, _, names = taken(ncsnpp_state(output="residual"), progressive="residual")
    parts = {
        "up_1_pyramid_norm/scale": "15.weight",
        "up_1_pyramid/kernel": "16.weight",
        "up_1_resample/conv_0/kernel": "17.Conv_0.weight",
        "up_0_pyramid/conv/kernel": "20.Conv2d_0.weight",
        "out_0_norm/scale": "21.weight",
        "out_0_conv/kernel": "22.weight",
    }
    assert {path: names[path] for path in parts} == parts


@pytest.mark.parametrize(("given", "how"), [("input_skip", "sum"), ("cat", "cat")])
def test_an_input_that_skips_is_projected_by_one_pixel_wide_convolutions(given, how):
    options = {"progressive_input": "input_skip", "progressive_combine": how}
    _, params, names = taken(ncsnpp_state(given=given), **options)
    assert names["down_0_pyramid/kernel"] == "6.Conv_0.weight"
    assert params["down_0_pyramid/kernel"].shape == (3, 16)
    assert names["out_0_conv/kernel"] == "19.weight"


@pytest.mark.parametrize("fourier", [False, True])
def test_a_network_without_the_noise_level_still_has_layers_for_it(fourier):
    """models/ddpm.py, conditional=False: no embedding, but blocks with an unused Dense_0."""
    conditional = ncsnpp_state() if fourier else ddpm_state()
    drop, config = ({1, 2}, NCSNPP) if fourier else ({0, 1}, DDPM)
    state = {"sigmas": conditional["sigmas"]}
    for name, tensor in conditional.items():
        _, _, rest = name.partition("all_modules.")
        number, _, layer = rest.partition(".")
        if rest and int(number) not in drop:
            place = int(number) - 2 * (int(number) > min(drop))
            state[f"all_modules.{place}.{layer}"] = tensor
    variables = from_score_sde(state, score_sde_network(config | {"conditional": False}))
    assert set(variables) == {"params"}
    params = paths(variables["params"])
    assert not [path for path in params if "modulation" in path or "embedding" in path]
    whole = paths(from_score_sde(conditional, score_sde_network(config))["params"])
    assert_same(params, {path: whole[path] for path in params})


def test_an_ncsnpp_of_ddpm_blocks_has_convolutions_between_its_levels():
    options = {"resblock_type": "ddpm", "fir": False}
    _, _, names = taken(ncsnpp_state(resblock="ddpm", fir=False), **options)
    parts = {
        "down_0_resample/conv/kernel": "5.Conv_0.weight",
        "down_0_pyramid/conv/kernel": "6.Conv_0.weight",
        "down_1_block_0/skip/kernel": "7.NIN_0.W",
        "up_1_resample/conv/bias": "15.Conv_0.bias",
    }
    assert {path: names[path] for path in parts} == parts


def without(state, name):
    return {key: tensor for key, tensor in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: without(s, "all_modules.3.Conv_0.bias"),
            r"the weights hold no .*all_modules\.3\.Conv_0",
        ),
        (
            lambda s: without(s, "all_modules.4.NIN_1.W"),
            r"hold no .*all_modules\.4\.NIN_0\+all",
        ),
        (lambda s: without(s, "all_modules.2.weight"), r"must hold all_modules\.2\.weight, got \["),
        (
            lambda s: s | {"all_modules.13.bias": s["all_modules.12.bias"]},
            r"hold 1 tensors that the network lacks, such as all_modules\.13\.bias",
        ),
        (
            lambda s: s | {"all_modules.0.W": s["all_modules.0.bias"]},  # not a Fourier network
            r"hold 1 tensors that the network lacks, such as all_modules\.0\.W",
        ),
        (
            lambda s: s | {"all_modules.8.Conv_0.weight": s["all_modules.7.Conv_0.weight"]},
            r"up_0_block_0/conv_0/kernel must .* \(3, 3, 64, 32\), got \(3, 3, 32, 32\) from ",
        ),
        (
            lambda s: s | {"all_modules.0.weight": np.full((128, 32), np.nan)},
            r"must be finite in float32, got NaN or infinity in all_modules\.0\.weight$",
        ),
        (
            lambda s: s | {"all_modules.0.weight": np.full((128, 32), 1e39)},
            r"must be finite in float32, got NaN or infinity in all_modules\.0\.weight$",
        ),
        (
            lambda s: s | {"all_modules.0.weight": np.ones((128, 32), int)},
            r"must be floats, got int64 in all_modules\.0\.weight$",
        ),
    ],
    ids=[
        "missing",
        "missing of three",
        "no stem",
        "left over",
        "frequencies",
        "shape",
        "NaN",
        "overflow",
        "whole",
    ],
)
def test_a_missing_extra_or_misshapen_tensor_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        from_score_sde(change(ddpm_state()), score_sde_network(DDPM))


def test_weights_of_another_network_are_refused():
    with pytest.raises(InputError, match="another network"):
        from_score_sde(ddpm_state(), score_sde_network(DDPM | {"nf": 64}))
    with pytest.raises(InputError, match=r"the weights hold no .*all_modules"):
        from_score_sde(ddpm_state(), score_sde_network(DDPM | {"ch_mult": (1, 2)}))
