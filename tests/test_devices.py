"""A layout over devices changes where things are, and nothing of what is trained or drawn."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import on_devices
import pytest
import toy_tasks
from running import forked

from jaxdiff.train import sharding
from jaxdiff.train.fingerprint import fingerprint
from jaxdiff.typing import InputError


@pytest.fixture(scope="module")
def found():
    done = forked("on_devices", devices=8)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


LAYOUTS = ["8×1", "2×4", "pmap"]


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_some_steps_end_in_the_same_parameters(found, layout):
    assert found[layout]["params"] < 1e-5
    assert found[layout]["loss"] < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["mesh", "pmap"])
@pytest.mark.parametrize("name", toy_tasks.TASKS)
def test_players_frozen_parameters_and_a_carry_end_where_one_device_ends(found, name, layout):
    assert found["toys"][f"{name} {layout}"] < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS[:2])
def test_samples_do_not_depend_on_the_devices(found, layout):
    assert found[layout]["samples"] < 1e-5


@pytest.mark.slow
def test_bits_per_dimension_do_not_depend_on_the_devices(found):
    expected = on_devices.bounds_of_points()
    # the ODE, of tolerance 1e-4, chooses its steps by sums over the batch, which round otherwise
    np.testing.assert_allclose(found["bounds"][0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found["bounds"][1], expected[1], rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("layout", [*LAYOUTS[:2], "1×1"])
def test_the_fingerprint_does_not_depend_on_the_layout(found, layout):
    assert found[layout]["fingerprint"] == found[layout]["on_one"]


@pytest.mark.slow
def test_devices_share_the_work_and_exchange_the_gradient_once(found):
    one, eight, unet = found["1×1"], found["8×1"], found["unet"]
    assert one["collectives"] == []
    # what is not divided is the optimizer and the averages: some dozens of sums per parameter
    undivided = 60 * found["parameters"]
    assert one["flops"] / 8 <= eight["flops"] < one["flops"] / 8 + undivided < one["flops"]
    # of its rows alone a device makes all that it does not get from others: no convolution of more
    for collectives, parameters in (
        (eight["collectives"], found["parameters"]),
        (unet["collectives"], unet["parameters"]),
    ):
        assert collectives == [["all-reduce", parameters + 1]]  # and the loss


@pytest.mark.slow
def test_divided_parameters_are_gathered_once_and_their_gradients_exchanged_once(found):
    assert found["2×4"]["largest_share"] == 1 / 4
    exchanged = found["2×4"]["collectives"]
    assert [kind for kind, _ in exchanged if kind != "all-gather"] == ["all-reduce"]
    words = {kind: sum(w for k, w in exchanged if k == kind) for kind, _ in exchanged}
    assert words["all-reduce"] == found["parameters"] + 1
    assert 0.9 * found["parameters"] < words["all-gather"] < found["parameters"]


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
    ids=["one bit", "order", "half precision", "key", "step", "sign of zero", "leaves of a shape"],
)
def test_a_fingerprint_tells_any_change(make):
    tree = {
        "w": jnp.arange(9.0).reshape(3, 3) / 8,
        "v": jnp.ones((3, 3)),
        "half": jnp.ones(3, jnp.bfloat16),
        "key": jax.random.key(0),
        "step": jnp.int32(7),
    }
    assert int(fingerprint(tree)) == int(jax.jit(fingerprint)(tree))
    assert int(fingerprint(make(tree))) != int(fingerprint(tree))


def test_every_flipped_bit_is_told():
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
