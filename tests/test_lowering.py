"""Every program lowers for accelerators that are not there, and asks none of them for a kernel."""

import functools
import re
from collections import Counter

import jax
import jax.numpy as jnp
import pytest
from jax import export
from jax.sharding import AbstractMesh
from players import player_of, shapes
from quickly import first_is_quick
from small_nets import CONFIGS, small

from jaxdiff import flow, likelihood, oracles, processes, sampling, schedules
from jaxdiff.nets import attention as attention_module
from jaxdiff.nets.attention import attention
from jaxdiff.recipes import Run, bounds, build, choice, likelihoods, names
from jaxdiff.recipes.diffusion import algorithm, batch_spec
from jaxdiff.train import sharding
from jaxdiff.train.compiled import on_mesh

ACCELERATORS = ("tpu", "cuda")
VP = processes.VP()
KEY = jax.eval_shape(lambda: jax.random.key(0))
X = jax.ShapeDtypeStruct((4, 2), jnp.float32)


def lowered(jitted, *args, platforms=ACCELERATORS):
    """The StableHLO of a jitted function, lowered for platforms on this machine's CPU."""
    return export.export(jitted, platforms=platforms)(*args).mlir_module()


def two_modes():
    return oracles.mixture(VP, jnp.ones(2), jnp.eye(2), stds=jnp.full(2, 0.5))


def assert_portable(text):
    assert "stablehlo." in text
    assert "custom_call" not in text


@pytest.fixture
def example_by_example(monkeypatch):
    """Let attention of any size take the path of a large batch."""
    monkeypatch.setattr(attention_module, "CACHED", 0)


@pytest.fixture
def unchecked(monkeypatch):
    """Without the check that adaptive steps reach the end: it calls back to Python, and is lowered
    only where the accelerator is."""
    monkeypatch.setattr(flow, "_check_reached_end", lambda state, *_: state)


def test_every_network_has_a_small_one():
    assert set(CONFIGS) == set(names.NETWORKS)


@functools.cache
def step(network, fsdp):
    """A training step over eight devices that do not exist, and its number of parameters."""
    model = small(network)
    mesh = AbstractMesh((8 // fsdp, fsdp), sharding.AXES)
    state, rows = shapes(model), sharding.batch_sharding(mesh)
    layout = sharding.state_shardings(mesh, state)
    jitted = jax.jit(
        on_mesh(functools.partial(algorithm, model), mesh).step,
        in_shardings=(layout, rows),
        out_shardings=(layout, sharding.replicated(mesh)),
    )
    return lowered(jitted, state, batch_spec(model)), len(jax.tree.leaves(player_of(state).params))


def exchanges(text):
    """How often each kind of exchange between devices occurs in a program."""
    return Counter(re.findall(r"stablehlo\.(all_\w+|reduce_scatter|collective_\w+)", text))


@pytest.mark.usefixtures("example_by_example")
@pytest.mark.parametrize("network", first_is_quick(CONFIGS))
def test_the_step_of_every_network_lowers_and_exchanges_only_gradients(network):
    """One sum for the loss and for each leaf, which XLA combines into one."""
    text, leaves = step(network, fsdp=1)
    assert_portable(text)
    assert exchanges(text) == {"all_reduce": leaves + 1}


@pytest.mark.usefixtures("example_by_example")
def test_the_step_of_a_sharded_network_gathers_and_scatters():
    text, _ = step("dit", fsdp=4)
    assert_portable(text)
    assert set(exchanges(text)) == {"all_reduce", "all_gather", "reduce_scatter"}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", first_is_quick(names.SOLVERS))
def test_every_solver_lowers_for_accelerators(name):
    def draw(key, x):
        solver = build.solver(choice(name), two_modes(), VP)
        return sampling.sample(key, solver, x, schedules.uniform_times(3, t_min=1e-3))

    assert_portable(lowered(jax.jit(draw), KEY, X))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("num_probes", [None, 1])
def test_the_likelihood_lowers_for_accelerators(num_probes):
    def log_prob(key, x):
        return likelihood.log_likelihood(key, two_modes(), VP, x, num_probes=num_probes)

    assert_portable(lowered(jax.jit(log_prob), KEY, X))


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("measure", [bounds, likelihoods])
def test_bits_per_dimension_of_a_run_lower_for_accelerators(measure):
    model = small("mlp")
    options = {"t_min": bounds.last_time(Run(model))}
    options |= {"rtol": 1e-4} if measure is likelihoods else {}

    def bits(key, params, data, label):
        run = Run(model, params)
        return measure._draw(run, key, data, label, **options)

    spec = batch_spec(model)
    params = player_of(shapes(model)).params
    assert_portable(lowered(jax.jit(bits), KEY, params, spec["x"], spec["label"]))


@pytest.mark.usefixtures("example_by_example")
@pytest.mark.parametrize(("platform", "loops"), [("cpu", True), ("tpu", False), ("cuda", False)])
def test_attention_follows_the_platform_it_is_lowered_for(platform, loops):
    """On this CPU: only a program for CPUs loops over the examples."""
    q = jax.ShapeDtypeStruct((4, 8, 2, 4), jnp.float32)
    gradient = jax.grad(lambda q, k, v: jnp.sum(attention(q, k, v) ** 2))
    text = lowered(jax.jit(gradient), q, q, q, platforms=(platform,))
    assert ("stablehlo.while" in text) == loops


def test_attention_of_every_platform_is_the_same_function():
    """Executed here, the accelerators' path gives the same values and gradients as the CPU's."""
    q, k, v = jax.random.normal(jax.random.key(0), (3, 2, 3, 4, 5))  # k and v as [..., d, tokens]
    operands = jnp.swapaxes(q, 2, 3), k, v
    paths = [attention_module._by_example, attention_module._by_library]
    (out, pullback), (expected, expected_pullback) = (jax.vjp(path, *operands) for path in paths)
    assert jnp.allclose(out, expected, rtol=1e-5, atol=1e-6)
    for got, gradient in zip(pullback(out), expected_pullback(out), strict=True):
        assert jnp.allclose(got, gradient, rtol=1e-4, atol=1e-5)
