"""Averages in a checkpoint of score_sde_pytorch: an unnamed list, in a pickle."""

import sys

import numpy as np
import pytest
from convert_tools import DDPM, NCSNPP, assert_same, ddpm_state, ncsnpp_state, paths

from jaxdiff.nets.convert import from_score_sde, load_score_sde, score_sde_network
from jaxdiff.nets.convert.score_sde_checkpoint import averaged
from jaxdiff.typing import InputError

FIXED = ("sigmas", "all_modules.0.W")


def shadow_of(state):
    """The contents of ExponentialMovingAverage: one tensor per trained parameter, in order."""
    return [tensor + 1 for name, tensor in state.items() if name not in FIXED]


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("make", [ddpm_state, ncsnpp_state])
def test_averages_replace_the_trained_parameters_and_nothing_else(make, prefix):
    state = make()
    given = {prefix + name: tensor for name, tensor in state.items()}
    got = averaged(given, shadow_of(state))
    expected = {
        prefix + name: tensor if name in FIXED else tensor + 1 for name, tensor in state.items()
    }
    assert list(got) == list(expected)
    assert_same(got, expected)
    assert_same(given, {prefix + name: tensor for name, tensor in make().items()})  # unchanged


def test_too_few_too_many_or_misshapen_averages_are_refused():
    state = ncsnpp_state()
    shadow = shadow_of(state)
    number = len(state) - 2
    for wrong in (shadow[:-1], [*shadow, shadow[-1]], [state["all_modules.0.W"], *shadow], []):
        with pytest.raises(
            InputError, match=f"match the {number} trained .* got {len(wrong)} tens"
        ):
            averaged(state, wrong)
    with pytest.raises(InputError, match=f"match the {number} trained .* got {number} tensors"):
        averaged(state, [shadow[1], shadow[0], *shadow[2:]])


# The pickle


def saved(folder):
    """A checkpoint as score_sde_pytorch writes it: DataParallel's names, optimiser and all."""
    torch = pytest.importorskip("torch")
    state = ncsnpp_state()
    path = folder / "checkpoint_8.pth"
    torch.save(
        {
            "optimizer": {"state": {}, "param_groups": [{"lr": 2e-4, "params": [0]}]},
            "model": {f"module.{name}": torch.tensor(array) for name, array in state.items()},
            "ema": {
                "decay": 0.999,
                "num_updates": 3,
                "shadow_params": [torch.tensor(array) for array in shadow_of(state)],
            },
            "step": 3,
        },
        path,
    )
    return path, state


def test_a_checkpoint_is_read_with_its_averages_or_raw_and_with_its_step(tmp_path):
    path, state = saved(tmp_path)
    net = score_sde_network(NCSNPP)
    got = load_score_sde(path, net)
    assert got.step == 3
    averages = {name: t if name in FIXED else t + 1 for name, t in state.items()}
    for variables, tensors in ((got.average, averages), (got.trained, state)):
        expected = from_score_sde(tensors, net)
        assert_same(paths(variables["params"]), paths(expected["params"]))
        np.testing.assert_array_equal(
            variables["constants"]["embedding"]["fourier"]["frequencies"], state["all_modules.0.W"]
        )


class Touch:
    """Unpickling this creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("content", ["nothing", "text", "other keys", "code"])
def test_a_file_that_is_not_a_checkpoint_is_refused_and_runs_no_code(tmp_path, content):
    torch = pytest.importorskip("torch")
    path = tmp_path / "checkpoint.pth"
    if content == "text":
        path.write_text("not a pickle")
    elif content == "other keys":
        torch.save({"weights": torch.ones(3)}, path)
    elif content == "code":
        torch.save({"model": Touch(tmp_path / "touched")}, path)
    with pytest.raises(
        InputError, match=r"checkpoint\.pth must be a checkpoint of score_sde_p"
    ) as e:
        load_score_sde(path, score_sde_network(DDPM))
    assert not (tmp_path / "touched").exists()
    message = str(e.value)
    assert "weights_only" not in message  # torch advises turning off its protection
    assert "\n" not in message
    if content == "code":
        assert "can run code" in message


def test_without_torch_the_error_names_the_package_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it now fails
    with pytest.raises(InputError) as caught:
        load_score_sde(tmp_path / "checkpoint_8.pth", score_sde_network(DDPM))
    assert str(caught.value) == (
        f"reading the pickle {tmp_path}/checkpoint_8.pth requires torch, which is not installed: "
        "pip install 'jaxdiff[torch]'"
    )
