"""Features of images by the whole network, compiled once, from a file of random weights."""

import hashlib

import inception_tools as tools
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxdiff import metrics
from jaxdiff.data.inception_input import inception_input
from jaxdiff.metrics import inception
from jaxdiff.nets.convert import INCEPTION_SHA256
from jaxdiff.typing import InputError

IMAGES = np.random.default_rng(0).integers(0, 256, size=(3, 24, 20, 3), dtype=np.uint8)
IMAGES[2] = IMAGES[0]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """``(path, state)``."""
    path = tmp_path_factory.mktemp("weights") / "inception.safetensors"
    state = tools.random_state(tools.TENSORS)
    save_file(state, path)
    return path, state


@pytest.mark.slow
def test_features_match_numpy(weights):
    path, state = weights
    got = metrics.inception_features(path, IMAGES, resize="legacy_tensorflow", batch_size=2)
    assert [leaf.shape for leaf in got[:3]] == [(3, 2048), (3, 17, 17, 7), (3, 1008)]
    x = inception_input(IMAGES[1:2], "legacy_tensorflow")
    for leaf, expected in zip(got[:3], tools.numpy_features(state, x), strict=True):
        assert leaf.dtype == np.float32
        assert expected.std() > 0.1
        np.testing.assert_allclose(leaf[1:2], expected, rtol=0, atol=1e-4)
        np.testing.assert_array_equal(leaf[2], leaf[0])  # alone in the second batch
    assert inception._apply()._cache_size() == 1
    assert (got.resize, got.path) == ("legacy_tensorflow", str(path))
    assert got.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert got.named("spatial") == "inception-2015-12-05, spatial, legacy_tensorflow"


def test_the_published_hash_begins_as_the_name_of_the_file_says():
    assert INCEPTION_SHA256.startswith("6726825d")  # pt_inception-2015-12-05-6726825d.pth
    assert len(bytes.fromhex(INCEPTION_SHA256)) == 32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resize": "lanczos"}, "resize must be one of clean, legacy_pytorch, legacy_tensorflow, "),
        ({"batch_size": 0}, "batch_size must be a positive integer, got 0$"),
        ({"images": IMAGES / 255}, "images must be uint8, got float64$"),
        (
            {"images": IMAGES[:0]},
            r"images must have a nonempty shape \[n, h, w, 1 or 3\], got \(0, 24, 20, ",
        ),
        ({}, r"no\.safetensors cannot be read: No such file or directory$"),
    ],
)
def test_invalid_arguments_are_refused_in_one_line(tmp_path, options, message):
    arguments = {"path": tmp_path / "no.safetensors", "images": IMAGES} | options
    with pytest.raises(InputError, match=message) as error:
        metrics.inception_features(**arguments)
    assert "\n" not in str(error.value)


def test_an_unknown_layer_has_no_name():
    features = metrics.InceptionFeatures(*np.zeros((3, 1, 1)), "clean", "weights.pth", "00")
    assert features.named() == "inception-2015-12-05, pool, clean"
    with pytest.raises(InputError, match="layer must be one of pool, spatial, logits, got 'pol'"):
        features.named("pol")
