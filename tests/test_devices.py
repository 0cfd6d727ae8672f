"""A layout over devices changes where arrays are, but neither training nor samples."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import on_devices
import pytest
import toy_tasks
from running import forked

from jaxdiff.train import sharding
from jaxdiff.train.fingerprint import STACKED, fingerprint
from jaxdiff.typing import InputError


@pytest.fixture(scope="module")
def found():
    done = forked("on_devices", devices=8)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


LAYOUTS = ["8×1", "2×4", "pmap"]


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_training_steps_give_the_same_parameters(found, layout):
    assert found[layout]["params"] < 1e-5
    assert found[layout]["loss"] < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["mesh", "pmap"])
@pytest.mark.parametrize("name", toy_tasks.TASKS)
def test_players_frozen_parameters_and_a_carry_match_one_device(found, name, layout):
    assert found["toys"][f"{name} {layout}"] < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS[:2])
def test_samples_do_not_depend_on_the_devices(found, layout):
    assert found[layout]["samples"] < 1e-5


@pytest.mark.slow
def test_bits_per_dimension_do_not_depend_on_the_devices(found):
    expected = on_devices.bounds_of_points()
    # the ODE, at tolerance 1e-4, chooses its steps by sums over the batch, which round differently
    np.testing.assert_allclose(found["bounds"][0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found["bounds"][1], expected[1], rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("layout", [*LAYOUTS[:2], "1×1"])
def test_the_fingerprint_does_not_depend_on_the_layout(found, layout):
    assert found[layout]["fingerprint"] == found[layout]["on_one"]


@pytest.mark.slow
def test_devices_share_the_work_and_exchange_the_gradient_once(found):
    one, eight = found["1×1"], found["8×1"]
    assert one["collectives"] == []
    # optimizer and averages are not divided: a few dozen operations per parameter
    undivided = 60 * found["parameters"]
    assert one["flops"] / 8 <= eight["flops"] < one["flops"] / 8 + undivided < one["flops"]
    assert eight["collectives"] == [["all-reduce", found["parameters"] + 1]]  # plus the loss


@pytest.mark.slow
@pytest.mark.parametrize("network", ["dit", "ddpm"])
def test_attention_needs_no_examples_of_other_devices(found, network):
    """Although it maps over the examples of a large batch; the other networks share its code."""
    of = found["attention"][network]
    assert of["sampling"] == []
    [[kind, words]] = of["training"]
    assert kind == "all-reduce"
    # XLA derives some from others, such as the gradients of biases that are added to each other
    assert 0.9 * of["parameters"] < words <= of["parameters"] + 1


@pytest.mark.slow
def test_divided_parameters_are_gathered_once_and_their_gradients_scattered_once(found):
    """One piece, as they are few; a device receives its quarter of the gradients, and no more."""
    assert found["2×4"]["largest_share"] == 1 / 4
    exchanged = found["2×4"]["collectives"]
    gathered = [words for kind, words in exchanged if kind == "all-gather"]
    scattered = [words for kind, words in exchanged if kind == "reduce-scatter"]
    assert len(gathered) == len(scattered) == 1
    assert 0.9 * found["parameters"] < gathered[0] < found["parameters"]
    assert scattered[0] == gathered[0] / 4
    # the two replicas of a quarter, the gradients that are not divided, loss and norm of them
    summed = sum(words for kind, words in exchanged if kind == "all-reduce")
    assert len(exchanged) <= 5
    assert scattered[0] < summed < scattered[0] + found["parameters"] - gathered[0] + 20


@pytest.mark.slow
def test_leaves_of_any_axis_and_dtype_are_exchanged_in_pieces(found):
    of = found["pieces"]
    # 12 KiB and 8 KiB of a leaf fill a piece of 20 KiB; the smallest leaf is not divided
    assert of["pieces"] == [[[64, 32]], [[64, 32], [3, 1024]], [[8, 4, 128]]]
    assert of["gathered"] == 0
    assert of["averaged"] < 2**-6  # sums of eight numbers with eight bits


@pytest.mark.parametrize(
    "make",
    [
        lambda tree: {**tree, "w": tree["w"].at[2, 1].add(1e-7)},
        lambda tree: {**tree, "w": tree["w"].T},
        lambda tree: {**tree, "half": tree["half"].at[0].set(2)},
        lambda tree: {**tree, "key": jax.random.key(1)},
        lambda tree: {**tree, "step": tree["step"] + 1},
        lambda tree: {**tree, "w": tree["w"].at[0, 0].set(-0.0)},
        lambda tree: {**tree, "w": tree["v"], "v": tree["w"]},
    ],
    ids=["one bit", "order", "half precision", "key", "step", "sign of zero", "exchange"],
)
def test_a_fingerprint_detects_any_change(make):
    tree = {
        "w": jnp.arange(9.0).reshape(3, 3) / 8,
        "v": jnp.ones((3, 3)),
        "half": jnp.ones(3, jnp.bfloat16),
        "key": jax.random.key(0),
        "step": jnp.int32(7),
    }
    assert int(fingerprint(tree)) == int(jax.jit(fingerprint)(tree))
    assert int(fingerprint(make(tree))) != int(fingerprint(tree))


def test_a_fingerprint_is_the_sum_of_its_formula():
    """Word by word in numpy: stored checkpoints depend on the number itself."""
    rng = np.random.default_rng(0)
    shapes = [(2, 3), (130, 130), (3, 2), (2, 3), (), (130, 130), ()]
    leaves = [rng.integers(0, 2**32, shape, np.uint32) for shape in shapes]
    assert leaves[1].size > STACKED > leaves[0].size
    total = 0
    for number, leaf in enumerate(leaves, start=1):
        place = np.full(leaf.shape, number, np.uint64)
        for along in np.indices(leaf.shape, np.uint64):
            place = (place * 0x9E3779B1 + along) % 2**32
        place = (place ^ place >> 16) * 0x85EBCA6B % 2**32
        odd = place ^ place >> 13 | 1
        total += np.sum(leaf * odd % 2**32, dtype=np.uint64)
    assert int(fingerprint([jnp.asarray(leaf) for leaf in leaves])) == total % 2**32


def test_every_flipped_bit_is_detected():
    words = np.random.default_rng(0).integers(0, 2**32, 64, np.uint32)
    flipped = words[None] ^ (
        np.eye(64, dtype=np.uint32) << np.arange(64, dtype=np.uint32)[:, None] % 32
    )
    sums = jax.vmap(lambda x: fingerprint({"w": x}))(jnp.asarray(flipped))
    assert np.all(np.asarray(sums) != int(fingerprint({"w": jnp.asarray(words)})))


def test_layouts_that_do_not_divide_are_refused():
    with pytest.raises(InputError, match="divisor of the number of devices, 1, got 2"):
        sharding.mesh(fsdp=2, devices=jax.devices()[:1])
    one = sharding.mesh(devices=jax.devices()[:1])
    with pytest.raises(InputError, match="multiple of devices × microbatches, 1 × 3, got 16"):
        sharding.check_batch(16, 3, one)
