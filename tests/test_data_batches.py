"""Batches are a pure function of (seed, step); every example occurs exactly once per epoch."""

import subprocess
import sys
from itertools import islice

import numpy as np
import pytest

from jaxdiff import data
from jaxdiff.data.pipeline import Schedule
from jaxdiff.data.sources import Arrays, Decoded, take
from jaxdiff.typing import InputError

N = 23


def numbered(n=N):
    """A source of vectors that hold their own index."""
    return Arrays(np.arange(n, dtype=np.float32)[:, None], np.arange(n, dtype=np.int32))


def images(n=N, shape=(5, 4, 3), seed=0):
    x = np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)
    return Arrays(x, np.arange(n, dtype=np.int32))


class Plain:
    """A minimal source: ``__len__`` and ``__getitem__``."""

    def __init__(self, arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays)

    def __getitem__(self, index):
        return self.arrays[index]


def first(n, source, **options):
    return list(islice(data.batches(source, **options), n))


def assert_same(a, b):
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left["x"], right["x"])
        np.testing.assert_array_equal(left["label"], right["label"])


@pytest.mark.parametrize("batch_size", [1, 4, 23, 50])
def test_step_k_does_not_depend_on_the_start(batch_size):
    options = {"batch_size": batch_size, "seed": 3}
    straight = first(14, images(), **options)
    for k in (1, 5, 6, 13):
        assert_same(straight[k:], first(14 - k, images(), start_step=k, **options))


def test_a_distant_step_needs_no_replay():
    far = first(1, numbered(), batch_size=4, seed=0, start_step=10**12)
    assert far[0]["x"].shape == (4, 1)


@pytest.mark.parametrize("batch_size", [1, 4, 23, 50])
def test_every_example_occurs_once_per_epoch(batch_size):
    steps = -(-3 * N // batch_size)
    batches = first(steps, numbered(), batch_size=batch_size, seed=1)
    assert all(len(batch["label"]) == batch_size for batch in batches)
    labels = np.concatenate([batch["label"] for batch in batches])[: 3 * N].reshape(3, N)
    np.testing.assert_array_equal(np.sort(labels, axis=1), np.tile(np.arange(N), (3, 1)))
    assert len({tuple(epoch) for epoch in labels.tolist()}) == 3, "all epochs must differ in order"


def test_seeds_differ_in_every_epoch():
    orders = {}
    for seed in range(3):
        labels = [b["label"] for b in first(3, numbered(), batch_size=N, seed=seed)]
        for epoch, order in enumerate(labels):
            orders[tuple(order.tolist())] = (seed, epoch)
    assert len(orders) == 9, "no two seeds may share an epoch"


def test_the_first_example_is_uniform_over_seeds():
    # Chi-square with N − 1 degrees of freedom has mean N − 1 and variance 2(N − 1).
    firsts = [Schedule(size=N, batch_size=1, seed=seed)[0].item() for seed in range(2000)]
    counts = np.bincount(firsts, minlength=N)
    expected = len(firsts) / N
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi2 - (N - 1)) < 5 * np.sqrt(2 * (N - 1))


def test_a_plain_source_gives_the_same_batches():
    options = {"batch_size": 7, "seed": 2}
    assert_same(first(5, images(), **options), first(5, Plain(images()), **options))


def test_x_and_label_stay_together():
    source = images()
    for batch in first(8, source, batch_size=6, seed=0):
        np.testing.assert_array_equal(batch["x"], source.x[batch["label"]])
        assert (batch["x"].dtype, batch["label"].dtype) == (np.uint8, np.int32)


def test_vectors_pass_unchanged():
    batch = first(1, Arrays(np.arange(5.0)[:, None], np.arange(5)), batch_size=5, seed=0)[0]
    assert batch["x"].dtype == np.float32
    np.testing.assert_array_equal(batch["x"][:, 0], batch["label"])


def test_stack_is_the_split_in_order():
    source = images()
    x, label = data.stack(source, value_range=(0.0, 1.0))
    np.testing.assert_array_equal(data.to_uint8(x, (0.0, 1.0)), source.x)
    np.testing.assert_array_equal(label, source.label)
    assert [len(part) for part in data.stack(source, limit=7)] == [7, 7]
    assert len(data.stack(source, limit=10**6)[0]) == N
    np.testing.assert_array_equal(data.stack(numbered())[0], numbered().x)


@pytest.mark.parametrize("cache_bytes", [0, 2**30])
def test_decoded_source_decodes_once_if_the_cache_suffices(monkeypatch, cache_bytes):
    monkeypatch.setattr("jaxdiff.data.sources.CACHE_BYTES", cache_bytes)
    arrays, requested = images(), []

    def decode(indices):
        requested.extend(indices)
        return arrays.x[indices], arrays.label[indices]

    source = Decoded(decode, len(arrays), arrays.x.shape[1:])
    for indices in ([3, 1, 3], [1, 2], [5]):
        got, expected = take(source, np.array(indices)), take(arrays, np.array(indices))
        assert_same([got], [expected])
    assert len(requested) == (4 if cache_bytes else 6)
    np.testing.assert_array_equal(source[-1]["x"], arrays.x[-1])
    assert source[0]["label"].dtype == np.int32
    with pytest.raises(IndexError):
        source[N]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
        ({"seed": -1}, "seed must be .* got -1"),
        ({"start_step": -2}, "start_step must be .* got -2"),
    ],
)
def test_invalid_options_of_batches_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        data.batches(numbered(), **{"batch_size": 2, "seed": 0, **options})


def test_invalid_sources_and_limits_are_refused():
    with pytest.raises(InputError, match="must hold at least one example"):
        data.batches(numbered(0), batch_size=2, seed=0)
    with pytest.raises(InputError, match="must hold at least one example"):
        data.stack(numbered(0))
    with pytest.raises(InputError, match="pixels must be uint8, got float32"):
        data.batches(Arrays(np.zeros((2, 4, 4, 1), np.float32), np.zeros(2)), batch_size=2, seed=0)
    with pytest.raises(InputError, match=r"limit must be .* got 0"):
        data.stack(numbered(), limit=0)


@pytest.mark.slow
def test_import_is_light_and_an_open_iterator_does_not_block_exit():
    code = """
import sys
import jaxdiff.data as data
heavy = {"grain", "tensorflow_datasets", "sklearn", "PIL", "orbax", "tensorflow", "matplotlib"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
batches = data.batches(data.load("toy:rings").train, batch_size=8, seed=0)
print(next(batches)["x"].shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(8, 2)\n"
