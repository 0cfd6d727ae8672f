"""The FID's Inception-v3 against torch, where it is installed: from its files to the features."""

import hashlib

import inception_tools as tools
import jax
import numpy as np
import pytest

from jaxdiff import metrics
from jaxdiff.data.inception_input import inception_input
from jaxdiff.nets.convert import load_inception
from jaxdiff.typing import InputError

torch = pytest.importorskip("torch", reason="torch is an extra: pip install -e '.[torch]'")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

IMAGES = np.random.default_rng(0).integers(0, 256, size=(1, 40, 32, 3), dtype=np.uint8)
POOLS = {
    "halve": lambda x: F.max_pool2d(x, 3, stride=2),
    "max": lambda x: F.max_pool2d(x, 3, stride=1, padding=1),
    "average": lambda x: F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False),
}


class Layer(nn.Module):
    def __init__(self, inputs, outputs, size, stride, pad):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride=stride, padding=pad, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        for name, own in tools.LAYERS.items():
            parent = self
            *blocks, last = name.split(".")
            for block in blocks:
                if not hasattr(parent, block):
                    parent.add_module(block, nn.Module())
                parent = getattr(parent, block)
            parent.add_module(last, Layer(*own))
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x):
        layers = dict(self.named_modules())
        last, spatial = tools.run(
            x, lambda name, y: layers[name](y), POOLS, lambda p: torch.cat(p, 1)
        )
        pool = F.adaptive_avg_pool2d(last, 1).flatten(1)
        return pool, spatial[:, :7].permute(0, 2, 3, 1), pool @ self.fc.weight.T


@pytest.fixture(scope="module")
def network():
    network = Network().eval()
    state = {name: torch.from_numpy(v) for name, v in tools.random_state(tools.TENSORS).items()}
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    return network


def save(network, path, **options):
    torch.save(network.state_dict(), path, **options)
    return path


@pytest.mark.slow
def test_features_match_torch(network, tmp_path):
    """The whole way of pytorch-fid, from bytes; the other two from the network's input on."""
    path = save(network, tmp_path / "inception.pth")
    x = torch.from_numpy(np.moveaxis(IMAGES, -1, 1).astype(np.float32) / 255)
    x = F.interpolate(x, size=(299, 299), mode="bilinear", align_corners=False)
    inputs = {"legacy_pytorch": 2 * x - 1}
    for resize in ("clean", "legacy_tensorflow"):
        inputs[resize] = torch.from_numpy(
            np.moveaxis(inception_input(IMAGES, resize), -1, 1).copy()
        )
    for resize, x in inputs.items():
        got = metrics.inception_features(path, IMAGES, resize=resize)
        assert got.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        with torch.no_grad():
            expected = [leaf.numpy() for leaf in network(x)]
        for layer, leaf, of_torch in zip(got._fields, got, expected, strict=False):
            assert of_torch.std() > 0.1
            error = np.abs(leaf - of_torch).max()
            print(f"{resize} {layer}: error {error:.1e}, std {of_torch.std():.2f}")
            assert error < 1e-4  # 1e-3 is required


def test_pickles_from_before_torch_1_6_are_read(network, tmp_path):
    """As the published one is."""
    old = save(network, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    new = save(network, tmp_path / "new.pth")
    assert new.read_bytes()[:2] == b"PK" != old.read_bytes()[:2]
    jax.tree.map(np.testing.assert_array_equal, load_inception(old), load_inception(new))


@pytest.mark.parametrize("size", [(40, 32), (299, 299), (320, 500)])
def test_legacy_pytorch_is_its_interpolation(size):
    images = np.random.default_rng(1).integers(0, 256, size=(1, *size, 3), dtype=np.uint8)
    x = torch.from_numpy(np.moveaxis(images, -1, 1).astype(np.float32) / 255)
    x = 2 * F.interpolate(x, size=(299, 299), mode="bilinear", align_corners=False) - 1
    expected = np.moveaxis(x.numpy(), 1, -1)
    atol = 2e-6 + 4 * max(size) * 2.0**-23  # positions are float32; torch fuses two operations
    got = inception_input(images, "legacy_pytorch")
    np.testing.assert_allclose(got, expected, rtol=0, atol=atol)
    assert np.abs(got - expected).mean() < 1e-7


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(1)], "weights.pth must be the weights of Inception-v3, got no tensors by n"),
        ({"fc.weight": 3}, "weights.pth must be the weights of Inception-v3, got no tensors by n"),
        ({"fc.weight": torch.zeros(1)}, "weights.pth holds no Conv2d_1a_3x3.conv.weight, which"),
    ],
)
def test_pickles_of_something_else_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=message) as error:
        load_inception(tmp_path / "weights.pth")
    assert "\n" not in str(error.value)
