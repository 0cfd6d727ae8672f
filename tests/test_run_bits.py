"""Bits per dimension of a run: exact models against closed forms, averages, errors, progress.

A network whose last layer is still zero is, by EDM's preconditioning, the exact model of N(0, s²I).
"""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from scipy.special import ndtr
from tiny import tiny_config

from jaxdiff import recipes
from jaxdiff.recipes import Run, bounds, choice, likelihoods
from jaxdiff.recipes.diffusion import assemble, init_params
from jaxdiff.typing import InputError

STD, N = 0.25, 512
SHAPES = {
    "vectors": (2,),
    "learned": (2,),
    "chain": (2,),
    "levels": (1, 2, 1),
    "dequantised": (1, 2, 1),
}


@functools.cache
def exact_run(kind):
    """The exact model of N(0, STD²), of data of one kind."""
    source = recipes.DataConfig(name="toy:moons", dequantize=kind == "dequantised")
    config = tiny_config(data=source, model=recipes.ModelConfig(kind="edm", data_std=STD))
    if kind == "learned":  # trained from t = 0, where its log SNR is 8
        process = choice("learned_vp", log_snr_max=8.0, log_snr_min=-8.0)
        loss = recipes.LossConfig(name="elbo", t_min=0.0)
        config = dataclasses.replace(config, process=process, loss=loss)
    if kind == "chain":
        config = dataclasses.replace(config, process=choice("ddpm_cosine", num_steps=100))
    model = assemble(config, SHAPES[kind], None)
    return Run(model, init_params(model, jax.random.key(0)))


@functools.cache
def examples(kind):
    """Draws of that distribution, as stored, and their exact bits per dimension."""
    x = STD * np.random.default_rng(0).normal(size=(N, *SHAPES[kind]))
    label = np.zeros(N, np.int32)
    if kind in ("vectors", "learned", "chain"):
        x = x.astype(np.float32)
        nats = x.astype(float) ** 2 / (2 * STD**2) + 0.5 * np.log(2 * np.pi * STD**2)
        return x, label, np.mean(nats) / np.log(2)
    # the 256 levels lie on −1, …, 1; dequantised ones are 256 intervals of [−1, 1]
    width = 2 / 256 if kind == "dequantised" else 2 / 255
    start = -1.0 if kind == "dequantised" else -1 - width / 2
    level = np.clip(np.floor((x - start) / width), 0, 255).astype(np.uint8)
    low = start + width * level.astype(float)
    return level, label, -np.mean(np.log2(ndtr((low + width) / STD) - ndtr(low / STD)))


def assert_bounds(found, exact, *, gap):
    """An upper bound by no more than a gap, within five standard errors."""
    assert found.bits > exact - 5 * found.std_error
    assert found.bits < exact + gap + 5 * found.std_error


@pytest.mark.parametrize(
    "kind",
    [
        "vectors",
        pytest.param("learned", marks=pytest.mark.slow),
        pytest.param("levels", marks=pytest.mark.slow),
        pytest.param("dequantised", marks=pytest.mark.slow),
    ],
)
def test_the_bound_of_the_exact_model_is_nearly_tight(kind):
    *data, exact = examples(kind)
    found = recipes.bits_per_dim(exact_run(kind), *data, draws=200, seed=0)
    assert found.std_error < 0.05
    assert found.n == N
    assert_bounds(found, exact, gap=0.05)


@pytest.mark.slow
def test_the_bound_of_a_chain_leaves_the_gap_of_its_last_step():
    """At least; and few steps leave more than Euler's constant, 0.577/2 nats per dimension."""
    *data, exact = examples("chain")
    found = recipes.bits_per_dim(exact_run("chain"), *data, draws=200, seed=0)
    assert_bounds(found, exact, gap=2 * np.euler_gamma / 2 / np.log(2))
    assert found.bits > exact + np.euler_gamma / 2 / np.log(2) / 2
    assert "chain of 100 steps" in found.kind


@pytest.mark.slow
def test_the_ode_of_the_exact_model_reproduces_the_density():
    *data, exact = examples("vectors")
    found = recipes.ode_bits_per_dim(exact_run("vectors"), *data, draws=1, seed=0)
    np.testing.assert_allclose(found.bits, exact, atol=1e-3)


@pytest.mark.slow
def test_the_ode_of_the_exact_model_bounds_the_probability_of_levels():
    *data, exact = examples("levels")
    found = recipes.ode_bits_per_dim(exact_run("levels"), *data, draws=1, seed=0, rtol=1e-3)
    assert_bounds(found, exact, gap=0.05)


def first_column(run, key, x, label):
    return x[:, 0] + 0 * run.params["w"]


def average(x, *, draws=2, on_batch=None):
    run = Run(assemble(tiny_config(), (2,), None), params={"w": np.zeros(())})
    return bounds.averaged(
        first_column, run, x, np.zeros(len(x), np.int32),
        draws=draws, seed=0, kind="a sum", on_batch=on_batch,
    )  # fmt: skip


def test_one_example_has_bits_but_no_standard_error():
    x = np.array([[3.0, 0.0], [5.0, 0.0]], np.float32)
    assert average(x[:1]) == (3.0, None, "a sum", 1, "highest")
    assert average(x) == (4.0, 1.0, "a sum", 2, "highest")


def test_each_batch_reports_its_number_of_draws():
    calls = []
    average(np.zeros((bounds.BATCH + 1, 2), np.float32), on_batch=calls.append)
    assert calls == [bounds.BATCH, bounds.BATCH, 1, 1]


@pytest.mark.parametrize("check", [bounds.check, functools.partial(likelihoods.check, rtol=0.1)])
@pytest.mark.parametrize(
    ("kind", "x", "label", "message"),
    [
        ("vectors", np.zeros((0, 2)), [], r"data must have shape \(n, 2\) with n at least 1, got"),
        ("vectors", np.zeros((1, 3)), [0], r"shape \(n, 2\) with n at least 1, got \(1, 3\)"),
        ("vectors", np.zeros((1, 2), int), [0], "data must be floats, got int64"),
        ("levels", np.zeros((1, 1, 2, 1)), [0], "data must be bytes, got float64"),
        ("vectors", np.zeros((1, 2)), [0, 0], r"label must have shape \(1,\), got \(2,\)"),
    ],
)
def test_data_that_does_not_match_the_run_is_refused(check, kind, x, label, message):
    with pytest.raises(InputError, match=message):
        check(exact_run(kind), x, np.array(label, int))


def test_an_unknown_class_is_refused():
    model = recipes.ModelConfig(class_conditional=True)
    run = Run(assemble(tiny_config(model=model), (2,), 3))
    with pytest.raises(InputError, match="label must be whole numbers from 0 to 2, got 3"):
        bounds.check(run, np.zeros((2, 2)), np.array([0, 3]))


def test_zero_draws_are_refused():
    with pytest.raises(InputError, match="draws must be an integer of at least 1, got 0"):
        average(np.zeros((1, 2)), draws=0)
