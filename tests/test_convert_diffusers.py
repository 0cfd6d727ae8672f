"""diffusers' UNet2DModel: tensors by the names of its blocks, and the folder they are in."""

import json
import os

import numpy as np
import pytest
from convert_tools import (
    UNET2D,
    assert_same,
    conv,
    linear,
    norm,
    of_conv,
    paths,
    random_state,
    within,
)
from safetensors.numpy import save_file

from jaxdiff.nets.convert import diffusers_network, from_diffusers, load_diffusers
from jaxdiff.typing import InputError

BLOCKS = {  # our name, their name, channels in and out
    "down_0_block_0": ("down_blocks.0.resnets.0", 8, 8),
    "down_1_block_0": ("down_blocks.1.resnets.0", 8, 16),
    "middle_block_0": ("mid_block.resnets.0", 16, 16),
    "middle_block_1": ("mid_block.resnets.1", 16, 16),
    "up_1_block_0": ("up_blocks.0.resnets.0", 32, 16),
    "up_1_block_1": ("up_blocks.0.resnets.1", 24, 16),
    "up_0_block_0": ("up_blocks.1.resnets.0", 24, 8),
    "up_0_block_1": ("up_blocks.1.resnets.1", 16, 8),
}
ATTENTIONS = {
    "down_1_attention_0": "down_blocks.1.attentions.0",
    "middle_attention": "mid_block.attentions.0",
    "up_1_attention_0": "up_blocks.0.attentions.0",
    "up_1_attention_1": "up_blocks.0.attentions.1",
}
NEW, OLD = ("to_q", "to_k", "to_v", "to_out.0"), ("query", "key", "value", "proj_attn")


def unet2d_state(names=NEW):
    """Two levels of one block, attention at the second, three channels in and six out."""
    modules = {
        "conv_in": conv(3, 8),
        "time_embedding.linear_1": linear(8, 32),
        "time_embedding.linear_2": linear(32, 32),
        "down_blocks.0.downsamplers.0.conv": conv(8, 8),
        "up_blocks.0.upsamplers.0.conv": conv(16, 16),
        "conv_norm_out": norm(8),
        "conv_out": conv(8, 6),
    }
    for theirs, inputs, outputs in BLOCKS.values():
        modules[theirs] = within(
            norm1=norm(inputs),
            conv1=conv(inputs, outputs),
            time_emb_proj=linear(32, outputs),
            norm2=norm(outputs),
            conv2=conv(outputs, outputs),
            **({"conv_shortcut": conv(inputs, outputs, 1)} if inputs != outputs else {}),
        )
    for theirs in ATTENTIONS.values():
        modules[theirs] = within(group_norm=norm(16), **{name: linear(16, 16) for name in names})
    return random_state(modules)


def expected_params(s, names=NEW):
    """Every parameter of ours, with the corresponding tensor of diffusers."""
    expected = {}

    def put(ours, theirs, layout, leaf="kernel"):
        expected[f"{ours}/{leaf}"] = layout(s[f"{theirs}.weight"])
        expected[f"{ours}/bias"] = s[f"{theirs}.bias"]

    put("conv_in", "conv_in", of_conv)
    put("embedding/dense_0", "time_embedding.linear_1", np.transpose)
    put("embedding/dense_1", "time_embedding.linear_2", np.transpose)
    put("down_0_resample/conv", "down_blocks.0.downsamplers.0.conv", of_conv)
    put("up_1_resample/conv", "up_blocks.0.upsamplers.0.conv", of_conv)
    put("out_0_norm", "conv_norm_out", np.asarray, "scale")
    put("out_0_conv", "conv_out", of_conv)
    for ours, (theirs, inputs, outputs) in BLOCKS.items():
        for i in range(2):
            put(f"{ours}/norm_{i}", f"{theirs}.norm{i + 1}", np.asarray, "scale")
            put(f"{ours}/conv_{i}", f"{theirs}.conv{i + 1}", of_conv)
        put(f"{ours}/modulation", f"{theirs}.time_emb_proj", np.transpose)
        if inputs != outputs:
            put(f"{ours}/skip", f"{theirs}.conv_shortcut", lambda w: w[:, :, 0, 0].T)
    for ours, theirs in ATTENTIONS.items():
        put(f"{ours}/norm", f"{theirs}.group_norm", np.asarray, "scale")
        put(f"{ours}/out", f"{theirs}.{names[3]}", np.transpose)
        three = [s[f"{theirs}.{name}.weight"].T for name in names[:3]]
        expected[f"{ours}/qkv/kernel"] = np.concatenate(three, axis=1)
        three = [s[f"{theirs}.{name}.bias"] for name in names[:3]]
        expected[f"{ours}/qkv/bias"] = np.concatenate(three)
    return expected


@pytest.mark.parametrize("names", [NEW, OLD], ids=["new names", "names until 2022"])
def test_every_tensor_of_a_unet2d_is_converted_to_our_name_and_layout(names):
    state = unet2d_state(names)
    variables = from_diffusers(state, diffusers_network(UNET2D))
    assert set(variables) == {"params"}
    assert_same(paths(variables["params"]), expected_params(state, names))


def without(state, name):
    return {key: tensor for key, tensor in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: without(s, "mid_block.resnets.1.norm2.bias"),
            r"no bias of mid_block.resnets.1.norm2$",
        ),
        (
            lambda s: without(s, "mid_block.attentions.0.to_k.weight"),
            r"no kernel of mid_block\.attentions\.0\.to_q\+.*to_v or mid_block.*\.query\+",
        ),
        (
            lambda s: without(s, "conv_in.weight"),
            r"a UNet2DModel must hold conv_in\.weight, got \[",
        ),
        (
            lambda s: s | {"class_embedding.weight": np.ones((10, 32))},
            r"hold 1 tensors that the network lacks, such as class_embedding\.weight",
        ),
        (
            lambda s: s | {"conv_out.weight": s["conv_out.weight"][:3]},
            r"out_0_conv/kernel must .* \(3, 3, 8, 6\), got \(3, 3, 8, 3\) from conv_out\.weight",
        ),
    ],
    ids=["missing", "missing of three", "no stem", "left over", "shape"],
)
def test_a_missing_extra_or_misshapen_tensor_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        from_diffusers(change(unet2d_state()), diffusers_network(UNET2D))


def test_a_network_unlike_any_unet2d_is_refused():
    net = diffusers_network(UNET2D).clone(progressive_input="residual")
    with pytest.raises(InputError, match="a UNet2DModel has no down_0_pyramid"):
        from_diffusers(unet2d_state(), net)


# The folder


def written(folder, config, state):
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(state, folder / "diffusion_pytorch_model.safetensors")


def test_a_folder_is_read_as_its_network_and_its_tensors(tmp_path):
    state = unet2d_state()
    written(tmp_path, UNET2D, state)
    for folder in (tmp_path, str(tmp_path)):
        net, variables = load_diffusers(folder)
        assert net == diffusers_network(UNET2D)
        assert_same(paths(variables["params"]), expected_params(state))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda f: os.remove(f / "config.json"),
            r"config\.json must be a JSON file of diffusers: .*No such",
        ),
        (lambda f: (f / "config.json").write_text("{"), r"config\.json must be a JSON file of"),
        (lambda f: (f / "config.json").write_text("[]"), r"config\.json must hold a mapping, got"),
        (
            lambda f: os.remove(f / "diffusion_pytorch_model.safetensors"),
            r"must hold one of diffusion_pytorch_model\.safetensors, .*, got none of them$",
        ),
        (
            lambda f: (f / "diffusion_pytorch_model.safetensors").write_bytes(b"\0" * 100),
            r"model\.safetensors is not a readable safetensors file",
        ),
    ],
)
def test_a_folder_with_a_missing_or_invalid_file_is_refused(tmp_path, spoil, message):
    written(tmp_path, UNET2D, {"conv_in.weight": np.ones((8, 3, 3, 3), np.float32)})
    spoil(tmp_path)
    with pytest.raises(InputError, match=message):
        load_diffusers(tmp_path)


def halves(state):
    names = sorted(state)
    return {name: state[name] for name in names[::2]}, {name: state[name] for name in names[1::2]}


def test_tensors_in_several_files_and_of_half_precision_are_read(tmp_path):
    state = {name: tensor.astype(np.float16) for name, tensor in unet2d_state().items()}
    written(tmp_path, UNET2D, {})
    os.remove(tmp_path / "diffusion_pytorch_model.safetensors")
    places = {}
    for number, part in enumerate(halves(state)):
        name = f"diffusion_pytorch_model.fp16-{number + 1:05}-of-00002.safetensors"
        save_file(part, tmp_path / name)
        places |= dict.fromkeys(part, name)
    index = tmp_path / "diffusion_pytorch_model.fp16.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    _, variables = load_diffusers(tmp_path)
    got = paths(variables["params"])
    assert {array.dtype for array in got.values()} == {np.dtype("float32")}
    assert_same(got, expected_params({k: v.astype(np.float32) for k, v in state.items()}))

    wrong = [
        (places | {"conv_in.bias": "../elsewhere.safetensors"}, r"must list files beside it, got"),
        (places | {"more": places["conv_in.bias"]}, r"lists more in .*, which lacks it$"),
        (None, r"must hold a weight_map from tensors to files, got None$"),
    ]
    for weight_map, message in wrong:
        index.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(InputError, match=message):
            load_diffusers(tmp_path)


def test_a_pickle_of_tensors_is_read_with_torch(tmp_path):
    torch = pytest.importorskip("torch")
    state = unet2d_state()
    (tmp_path / "config.json").write_text(json.dumps(UNET2D))
    tensors = {name: torch.tensor(tensor) for name, tensor in state.items()}
    torch.save(tensors, tmp_path / "diffusion_pytorch_model.bin")
    _, variables = load_diffusers(tmp_path)
    assert_same(paths(variables["params"]), expected_params(state))


@pytest.mark.parametrize("unet", [["diffusers", "UNet2DConditionModel"], None])
def test_the_unet_of_a_pipeline_is_read_if_supported(tmp_path, unet):
    (tmp_path / "unet").mkdir()
    written(tmp_path / "unet", UNET2D, unet2d_state())
    index = tmp_path / "model_index.json"
    index.write_text(json.dumps({"unet": ["diffusers", "UNet2DModel"], "scheduler": []}))
    assert load_diffusers(tmp_path)[0] == diffusers_network(UNET2D)
    index.write_text(json.dumps({"unet": unet}))
    with pytest.raises(InputError, match="must be a pipeline whose unet is a UNet2DModel, got"):
        load_diffusers(tmp_path)


def test_cosines_before_sines_are_reordered():
    state, net = unet2d_state(), diffusers_network(UNET2D)
    plain, turned = (
        from_diffusers(state, net, cosines_first=flag)["params"]["embedding"]["dense_0"]["kernel"]
        for flag in (False, True)
    )
    np.testing.assert_array_equal(turned, np.concatenate([plain[4:], plain[:4]]))


def test_labels_and_fourier_frequencies_have_their_own_tensors():
    state = unet2d_state() | {"class_embedding.weight": np.ones((10, 32), np.float32)}
    params = from_diffusers(state, diffusers_network(UNET2D | {"num_class_embeds": 10}))["params"]
    assert params["embedding"]["label"]["embedding"].shape == (10, 32)
    net = diffusers_network(UNET2D | {"time_embedding_type": "fourier"})
    frequencies = np.arange(8, dtype=np.float32)
    wide = np.ones((32, 16), np.float32)
    state = unet2d_state() | {"time_embedding.linear_1.weight": wide}
    got = from_diffusers(state | {"time_proj.weight": frequencies}, net)
    np.testing.assert_array_equal(
        got["constants"]["embedding"]["fourier"]["frequencies"], frequencies
    )
    with pytest.raises(
        InputError, match=r"features must hold 8 of them in time_proj\.weight, got none$"
    ):
        from_diffusers(state, net)
