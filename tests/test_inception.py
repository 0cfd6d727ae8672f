"""The FID's Inception-v3 against NumPy, and the conversion of its weights."""

import sys

import inception_tools as tools
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from net_tools import count

from jaxdiff.nets.convert import from_inception, load_inception
from jaxdiff.nets.convert.inception import folded
from jaxdiff.nets.inception import MIXED, STEM, Inception, Mixed
from jaxdiff.nets.variables import init_shapes
from jaxdiff.typing import InputError

NARROW = {  # each kind of block, of few channels
    "Mixed_5b": tools.mixed_5(5, 32),
    "Mixed_6a": tools.mixed_6a(5),
    "Mixed_6b": tools.mixed_6(5, 128),
    "Mixed_7a": tools.mixed_7a(5),
    "Mixed_7b": tools.mixed_7(5),
    "Mixed_7c": tools.mixed_7(5),
}
WITHOUT_TOP, CLASSES = 21_768_352, 2048 * 1008
"""Trainable parameters of Keras's InceptionV3(include_top=False), whose normalisation has no γ: as
many as ours after folding; and those of the last layer."""


@pytest.fixture(scope="module")
def zeros():
    """A state of zeros, which take no memory."""
    return {name: np.zeros(shape, np.float32) for name, shape in tools.TENSORS.items()}


def test_every_kind_of_block_matches_numpy():
    layers = {f"{block}.{name}": v for block, own in NARROW.items() for name, v in own.items()}
    state = tools.random_state(tools.shapes(layers))
    x = np.random.default_rng(1).normal(size=(2, 7, 6, 5)).astype(np.float32)

    @jax.jit
    def apply(params, x):
        return {name: Mixed(MIXED[name]).apply({"params": own}, x) for name, own in params.items()}

    params = {name: {i: folded(state, f"{name}.{i}") for i in own} for name, own in NARROW.items()}
    got, conv = apply(params, x), tools.numpy_conv(state, layers)
    for block in NARROW:
        parts = tools.run_block(block, x.astype(np.float64), conv, tools.NUMPY_POOLS)
        expected = np.concatenate(parts, axis=-1)
        assert 0.1 < expected.std() < 3
        np.testing.assert_allclose(got[block], expected, rtol=0, atol=2e-5, err_msg=block)


def test_the_stem_matches_numpy():
    state = tools.random_state(tools.shapes(tools.STEM))
    x = np.random.default_rng(1).normal(size=(1, 43, 39, 3)).astype(np.float32)

    @jax.jit
    def apply(params, x):
        for branch in STEM:
            names = [layer.name for layer in branch.layers]
            own = {name: params[name] for name in names}
            x = Mixed((branch,)).apply({"params": own}, x)
        return x

    got = apply({name: folded(state, name) for name in tools.STEM}, x)
    conv = tools.numpy_conv(state, tools.STEM)
    expected = tools.run_stem(x.astype(np.float64), conv, tools.NUMPY_POOLS)
    assert expected.shape == (1, 3, 2, 192)
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5)


def test_the_network_matches_numpy():
    state = tools.random_state(tools.TENSORS)
    x = np.random.default_rng(1).normal(size=(1, 99, 83, 3)).astype(np.float32)
    got = jax.jit(Inception().apply)(from_inception(state), x)
    for leaf, expected in zip(got, tools.numpy_features(state, x.astype(np.float64)), strict=True):
        assert 0.2 < expected.std() < 3
        np.testing.assert_allclose(leaf, expected, rtol=0, atol=2e-5)


def test_its_size_is_the_published_one():
    shapes = init_shapes(Inception(), jnp.zeros((1, 75, 75, 3)))
    assert count(shapes) == WITHOUT_TOP + CLASSES
    out = jax.eval_shape(Inception().apply, shapes, jnp.zeros((2, 299, 299, 3)))
    assert [leaf.shape for leaf in out] == [(2, 2048), (2, 17, 17, 7), (2, 1008)]


def test_conversion_fills_all_variables_from_tensors_of_any_float_type(zeros):
    state = zeros | {
        "Mixed_6d.branch7x7_2.conv.weight": np.arange(160 * 160 * 7.0).reshape(160, 160, 1, 7),
        "Mixed_6d.branch7x7_2.bn.weight": np.full(160, 3, np.float16),
        "Mixed_6d.branch7x7_2.bn.bias": np.full(160, 0.5, jnp.bfloat16),
        "Mixed_6d.branch7x7_2.bn.running_mean": np.full(160, 2.0),
        "Mixed_6d.branch7x7_2.bn.running_var": np.full(160, 8.999),  # and ε: 9
        "fc.weight": np.arange(1008 * 2048.0).reshape(1008, 2048),
        "Mixed_5b.branch1x1.bn.num_batches_tracked": np.array(7),
    }
    got = traverse_util.flatten_dict(from_inception(state)["params"], sep="/")
    shapes = init_shapes(Inception(), jnp.zeros((1, 75, 75, 3)))["params"]
    expected = traverse_util.flatten_dict(shapes, sep="/")
    assert {name: (leaf.shape, leaf.dtype) for name, leaf in got.items()} == {
        name: (leaf.shape, leaf.dtype) for name, leaf in expected.items()
    }
    kernel = np.transpose(state["Mixed_6d.branch7x7_2.conv.weight"], (2, 3, 1, 0))
    np.testing.assert_allclose(got["Mixed_6d/branch7x7_2/kernel"], kernel, rtol=1e-6)
    np.testing.assert_allclose(got["Mixed_6d/branch7x7_2/bias"], -1.5, rtol=1e-6)
    np.testing.assert_array_equal(got["fc/kernel"], state["fc.weight"].T)


LAYER = "Mixed_7c.branch_pool"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (f"{LAYER}.bn.bias", None, rf"the state holds no {LAYER}.bn.bias, which its network needs"),
        (
            "fc.weight",
            np.zeros((1000, 2048)),
            r"fc.weight must have shape \(1008, 2048\), got \(10",
        ),
        ("AuxLogits.fc.weight", np.zeros((1, 1)), "holds AuxLogits.fc.weight, which its network l"),
        (f"{LAYER}.bn.bias", np.full(192, np.nan), rf"must be finite .* in {LAYER}.bn.bias$"),
        (f"{LAYER}.bn.bias", np.zeros(192, int), rf"must be floats, got int64 in {LAYER}.bn.bias$"),
        (
            f"{LAYER}.bn.running_var",
            np.full(192, -0.5),
            "running_var must be nonnegative, got -0.5",
        ),
        ("fc.weight", np.full((1008, 2048), np.inf), "must be finite .* in fc.weight$"),
    ],
)
def test_tensors_of_another_network_are_refused_by_name(zeros, name, value, message):
    state = {other: tensor for other, tensor in zeros.items() if other != name}
    with pytest.raises(InputError, match=message) as error:
        from_inception(state if value is None else state | {name: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["none.safetensors", "damaged.safetensors"])
def test_files_that_are_no_weights_are_refused(tmp_path, name):
    (tmp_path / "damaged.safetensors").write_bytes(b"\x00" * 64)
    with pytest.raises(InputError, match=rf"{name} is not a readable safetensors"):
        load_inception(tmp_path / name)


def test_a_pickle_without_torch_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        InputError, match=r"inception\.pth requires torch, which .*jaxdiff\[torch\]'"
    ):
        load_inception(tmp_path / "inception.pth")


@pytest.mark.parametrize("shape", [(1, 74, 299, 3), (1, 299, 299, 1), (299, 299, 3)])
def test_images_that_are_too_small_or_grey_are_refused(shape):
    with pytest.raises(InputError, match=r"x must be images \[n, h, w, 3\], at least 75 pixels"):
        init_shapes(Inception(), jnp.zeros(shape))
