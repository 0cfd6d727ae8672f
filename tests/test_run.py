"""A run as used in a notebook: its sampler, its trajectories, its labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from players import quiet
from tiny import tiny_config

from jaxdiff import recipes
from jaxdiff.recipes import run as run_module
from jaxdiff.typing import InputError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return recipes.train(tiny_config(), tmp_path_factory.mktemp("run"), say=quiet)


def test_samples_are_a_function_of_the_key_and_compile_once(run):
    first = run.sample(jax.random.key(0), 4)
    compiled = run_module._compiled_sample(jax.default_backend())._cache_size()
    again, other = run.sample(jax.random.key(0), 4), run.sample(jax.random.key(1), 4)
    assert run_module._compiled_sample(jax.default_backend())._cache_size() == compiled
    assert first.shape == (4, 2)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_sampling_works_inside_other_compiled_functions(run):
    inside = jax.jit(lambda key: run.sample(key, 4))(jax.random.key(0))
    np.testing.assert_allclose(inside, run.sample(jax.random.key(0), 4), rtol=1e-4, atol=1e-5)


def test_samples_come_from_the_named_solver(run):
    """The compiled ``sample`` equals the library's parts combined by hand."""
    import jaxdiff
    from jaxdiff import processes, schedules, solvers

    key = jax.random.key(5)
    prior_key, solver_key = jax.random.split(jax.random.split(key)[1])
    times = schedules.karras_times(run.process, 4, t_min=1e-3)

    @jax.jit
    def by_hand():
        x = processes.sample_prior(prior_key, run.process, (3, 2))
        x = jaxdiff.sample(solver_key, solvers.heun(run.denoise_fn, run.process), x, times)
        return run.denoise_fn(x, times[-1]).x0

    expected = by_hand()
    found = run.sample(key, 3, solver="heun", times="karras", num_steps=4)
    np.testing.assert_allclose(found, expected, atol=2e-4, rtol=1e-4)


def shifted(denoise_fn, process):
    """A model whose every estimate of the data lies 3 further along the first axis."""

    def guided(x, t):
        estimate = denoise_fn(x, t)
        push = jnp.array([[3.0, 0.0]])
        blame = process.alpha(t) / process.sigma(t)
        return estimate._replace(x0=estimate.x0 + push, eps=estimate.eps - blame * push)

    return guided


def test_a_guide_wraps_the_model_of_the_solver(run):
    """One step of DDIM, x_s = α_s x̂_0 + σ_s ε̂, from the same noise: the shift in closed form."""
    choices = {"solver": "ddim", "num_steps": 1, "times": "uniform"}
    plain, guided = (
        run.trajectory(jax.random.key(2), 4, guide=guide, **choices)[1] for guide in (None, shifted)
    )
    np.testing.assert_array_equal(plain[0], guided[0])
    s, process = 1e-3, run.process
    push = 3 * (process.alpha(s) - process.sigma(s) * process.alpha(1.0) / process.sigma(1.0))
    np.testing.assert_allclose(guided[1] - plain[1], [[push, 0.0]] * 4, rtol=1e-4, atol=1e-5)
    run.sample(jax.random.key(3), 4, guide=shifted, **choices)
    compiled = run_module._compiled_sample(jax.default_backend())._cache_size()
    run.sample(jax.random.key(4), 4, guide=shifted, **choices)
    assert run_module._compiled_sample(jax.default_backend())._cache_size() == compiled


def test_a_guide_of_another_shape_is_refused_before_sampling(run):
    def flat(denoise_fn, process):
        return lambda x, t: denoise_fn(x, t)._replace(x0=jnp.zeros(3))

    with pytest.raises(InputError, match=r"guide must return estimates .*\(4, 2\), got shape \(3,"):
        run.sample(jax.random.key(0), 4, guide=flat)


def test_a_trajectory_starts_at_the_noise_and_ends_at_the_sample(run):
    x, saved = run.trajectory(jax.random.key(0), 2, num_steps=5)
    assert saved.shape == (6, 2, 2)
    denoised = jax.jit(run.denoise_fn)(saved[-1], 1e-3)
    np.testing.assert_allclose(denoised.x0, x, atol=1e-5)


@pytest.mark.slow
def test_a_class_conditional_run_depends_on_its_label(tmp_path):
    config = tiny_config(num_steps=3, model=recipes.ModelConfig(class_conditional=True))
    run = recipes.train(config, tmp_path, say=quiet)
    same = [run.sample(jax.random.key(0), 2, label=k) for k in (0, 0, 1)]
    np.testing.assert_array_equal(same[0], same[1])
    assert not np.array_equal(same[0], same[2])
    mixed = run.sample(jax.random.key(0), 2, label=jnp.array([0, 1]))
    np.testing.assert_allclose(mixed[0], same[0][0], atol=1e-5)
    assert run.sample(jax.random.key(0), 2).shape == (2, 2)


def test_an_unknown_solver_or_option_is_refused(run):
    with pytest.raises(InputError, match=r"solver\.name must be one of ancestral"):
        run.sample(jax.random.key(0), 1, solver="rk9")
    with pytest.raises(InputError, match=r"solver\.eta does not exist"):
        run.sample(jax.random.key(0), 1, solver="heun", eta=0.5)
    with pytest.raises(InputError, match="at least 1, got 0"):
        run.sample(jax.random.key(0), 0)
