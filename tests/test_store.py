"""A network saved to a folder is loaded again bit for bit."""

import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from net_tools import any_params, shapes_of
from safetensors.numpy import load_file, save_file

import jaxdiff.files
from jaxdiff.nets import DDPM, MLP, NCSNPP, DiT, UNet
from jaxdiff.nets.convert import load, save
from jaxdiff.nets.embeddings import Conditioning
from jaxdiff.typing import InputError

X, LEVEL = jnp.zeros((1, 8, 8, 1)), jnp.zeros(1)
NETS = {
    "unet": UNet(
        4, (1, 2), 1, (1,), head_dim=4, num_classes=3, noise_cond_scale=1 / 3, dtype="bfloat16"
    ),
    "ncsnpp": NCSNPP(channels=8, multipliers=(1, 2), blocks_per_level=1, groups=4),
    "ddpm": DDPM(channels=8, multipliers=(1,), attention_levels=(), dropout=1 / 7, recenter=True),
    "mlp": MLP(16, 1, num_outputs=2),
    "dit": DiT(16, 2, 2),
}


def variables_of(net):
    label = None if net.num_classes is None else jnp.zeros(1, int)
    return any_params(shapes_of(net, X, LEVEL, label))


@pytest.mark.parametrize("name", NETS)
def test_a_network_and_its_variables_survive_a_round_trip(tmp_path, name):
    net, variables = NETS[name], variables_of(NETS[name])
    leaf = jax.tree.leaves(variables)[0]
    leaf.ravel()[:3] = [-0.0, 1e-45, 3.4e38]  # and numbers that are easily lost
    save(tmp_path / "a" / "folder", net, variables)
    again, loaded = load(str(tmp_path / "a" / "folder"))
    assert again == net
    assert hash(again) == hash(net)  # so that jit treats it as the same
    assert jax.tree.structure(loaded) == jax.tree.structure(variables)
    for got, expected in zip(jax.tree.leaves(loaded), jax.tree.leaves(variables), strict=True):
        assert got.dtype == expected.dtype
        assert np.asarray(got).tobytes() == expected.tobytes()
    assert sorted(os.listdir(tmp_path / "a" / "folder")) == ["config.json", "model.safetensors"]


def test_the_files_can_be_read_without_jaxdiff(tmp_path):
    net, variables = NETS["ncsnpp"], variables_of(NETS["ncsnpp"])
    save(tmp_path, net, variables)
    tensors = load_file(tmp_path / "model.safetensors")
    assert len(tensors) == len(jax.tree.leaves(variables))
    np.testing.assert_array_equal(
        tensors["params.down_0_block_0.conv_0.kernel"],
        variables["params"]["down_0_block_0"]["conv_0"]["kernel"],
    )
    assert tensors["constants.embedding.fourier.frequencies"].shape == (8,)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert config["network"] == "UNet"
    assert config["multipliers"] == [1, 2]
    assert config["skip_scale"] == 0.5**0.5
    assert not {"parent", "name"} & config.keys()


@pytest.mark.parametrize(
    "layout",
    [np.asfortranarray, np.transpose, lambda a: np.repeat(a, 2, 0)[::2]],
    ids=["Fortran", "transposed", "strided"],
)
def test_an_array_of_any_memory_layout_survives_a_round_trip(tmp_path, layout):
    array = layout(np.arange(36, dtype=np.float32).reshape(6, 6))[:6]
    assert not array.flags.c_contiguous
    variables = variables_of(NETS["mlp"])
    kernel = variables["params"]["Dense_0"]["kernel"]
    kernel[:6, :6] = array
    variables["params"]["Dense_0"]["kernel"] = np.asfortranarray(kernel)
    save(tmp_path, NETS["mlp"], variables)
    np.testing.assert_array_equal(load(tmp_path)[1]["params"]["Dense_0"]["kernel"], kernel)


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_floats_of_another_type_become_float32(tmp_path, dtype):
    net, variables = NETS["mlp"], variables_of(NETS["mlp"])
    save(tmp_path, net, jax.tree.map(lambda leaf: leaf.astype(jnp.dtype(dtype)), variables))
    loaded = load(tmp_path)[1]
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {jnp.dtype("float32")}
    jax.tree.map(
        lambda got, leaf: np.testing.assert_array_equal(
            got, leaf.astype(jnp.dtype(dtype)).astype(np.float32)
        ),
        loaded,
        variables,
    )


NAME = "params.Dense_0.bias"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(NAME), rf"holds no {NAME}, which its network needs$"),
        (lambda t: t.pop("params.Dense_0.kernel"), r"holds no params\.Dense_0\.kernel, which"),
        (lambda t: t.update(more=np.ones(1)), r"holds more, which its network lacks$"),
        (lambda t: t.update({NAME: np.ones(15)}), rf"{NAME} must have shape \(16,\), got \(15,\)$"),
        (lambda t: t.update({NAME: np.full(16, np.nan)}), rf"must be finite .* NaN .* in {NAME}$"),
        (lambda t: t.update({NAME: np.full(16, np.inf)}), rf"must be finite .* in {NAME}$"),
        (lambda t: t.update({NAME: np.full(16, 1e300)}), rf"must be finite .* in {NAME}$"),
        (lambda t: t.update({NAME: np.ones(16, int)}), rf"must be floats, got int64 in {NAME}$"),
        (lambda t: t.update({NAME: np.ones(16, bool)}), rf"must be floats, got bool in {NAME}$"),
    ],
)
def test_tensors_that_do_not_match_the_network_are_refused_by_name(tmp_path, change, message):
    save(tmp_path, NETS["mlp"], variables_of(NETS["mlp"]))
    tensors = load_file(tmp_path / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=message):
        load(tmp_path)


def test_saving_again_replaces_both_files(tmp_path):
    for name in ("unet", "mlp"):
        save(tmp_path, NETS[name], variables_of(NETS[name]))
    net, variables = load(tmp_path)
    assert net == NETS["mlp"]
    assert jax.tree.structure(variables) == jax.tree.structure(variables_of(net))


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_files(tmp_path, monkeypatch, broken):
    net, variables = NETS["mlp"], variables_of(NETS["mlp"])

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(jaxdiff.files.os, broken, fail)
        with pytest.raises(OSError, match="disk full"):
            save(tmp_path, net, variables)
    assert os.listdir(tmp_path) == []

    save(tmp_path, net, variables)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(jaxdiff.files.os, broken, fail)
        with pytest.raises(OSError, match="disk full"):
            save(tmp_path, net, jax.tree.map(lambda a: a + 1, variables))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_unknown_network_is_not_saved(tmp_path):
    with pytest.raises(
        InputError, match=r"a network to save must be one of .*UNet.*, got Conditioning"
    ):
        save(tmp_path / "folder", Conditioning(8), {"params": {}})
    assert not (tmp_path / "folder").exists()


def test_a_field_that_json_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    net = MLP(16, 1, noise_cond_scale=np.float32(2.0))
    with pytest.raises(InputError):
        save(tmp_path, net, variables_of(net))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "config",
    [
        None,
        "",
        "{",
        "[1]",
        "{}",
        '{"network": "Transformer"}',
        '{"network": "UNet", "widths": 3}',
        '{"network": "UNet", "channels": 0}',
    ],
)
def test_a_folder_without_a_network_is_refused(tmp_path, config):
    save(tmp_path, NETS["mlp"], variables_of(NETS["mlp"]))
    path = tmp_path / "config.json"
    path.unlink() if config is None else path.write_text(config)
    with pytest.raises(InputError, match="holds no network of jaxdiff: "):
        load(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"\x00" * 64])
def test_a_folder_without_its_tensors_is_refused(tmp_path, content):
    save(tmp_path, NETS["mlp"], variables_of(NETS["mlp"]))
    path = tmp_path / "model.safetensors"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.safetensors is not a readable safetensors"):
        load(tmp_path)


def test_half_a_file_of_tensors_is_refused(tmp_path):
    save(tmp_path, NETS["mlp"], variables_of(NETS["mlp"]))
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"model\.safetensors is not a readable safetensors"):
        load(tmp_path)
