"""The default solver, at few steps and at more."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import tiny_config

from experiments.studies.solvers.rows import mixtures
from jaxdiff import schedules, solvers
from jaxdiff.processes import VE, sample_prior
from jaxdiff.recipes import SamplingConfig, build, choice
from jaxdiff.solvers.multistep import multistep


@pytest.mark.parametrize(("num_steps", "order"), [(1, 3), (12, 3), (13, 4), (20, 4)])
def test_the_default_uses_a_lower_order_for_few_steps(num_steps, order):
    default = tiny_config().sampling.solver
    assert default == SamplingConfig().solver
    assert build.suited(default, num_steps) == choice("deis", order=order)
    chosen = choice("deis", order=2)
    assert build.suited(chosen, num_steps) == chosen
    assert build.suited(choice("heun"), num_steps) == choice("heun")


def adams_bashforth(denoise_fn, process, *, order=4):
    """Adams–Bashforth in σ itself, k-diffusion's LMS: ε̂ a polynomial in σ, integrated exactly."""
    nodes, weights = np.polynomial.legendre.leggauss(4)

    def weights_fn(t, earlier, s):
        sigmas = [process.sigma(time) for time in (t, *earlier)]
        begin, end = sigmas[0], process.sigma(s)
        points = begin + (end - begin) * (jnp.asarray(nodes) + 1) / 2

        def basis(j):
            others = [sigma for k, sigma in enumerate(sigmas) if k != j]
            return jnp.prod(jnp.stack([(points - o) / (sigmas[j] - o) for o in others]), axis=0)

        terms = range(1, len(sigmas))
        return [(end - begin) * jnp.sum(basis(j) * jnp.asarray(weights)) / 2 for j in terms]

    return multistep(denoise_fn, process, weights_fn, length=order - 1, view=lambda e: e.eps)


@pytest.mark.slow
def test_the_default_is_best_in_ten_steps_from_80_to_the_data():
    """64 dimensions, noise as in Karras et al. 2022; the median distance to the exact end."""
    process, mixture = VE(0.002, 80.0), mixtures()["8×8×1"]
    model = mixture.model(process)
    x = sample_prior(jax.random.key(0), process, (64, 8, 8, 1))
    ends = jnp.array([1.0, 1e-5])
    adaptive = solvers.adaptive(model, process, rtol=1e-6, atol=1e-6)
    exact = jax.jit(lambda x: adaptive.step(jax.random.key(0), adaptive.init(x, 1.0), *ends).x)(x)

    def error(make, grid):
        solver = make(model, process)
        step = jax.jit(solver.step)
        times = np.asarray(grid(process, 10, t_min=1e-5))
        state = solver.init(x, times[0])
        for t, s in itertools.pairwise(times):
            state = step(jax.random.key(0), state, t, s)
        squares = np.mean(np.asarray(state.x - exact) ** 2, axis=(1, 2, 3))
        return np.median(np.sqrt(squares))

    options = dict(build.suited(SamplingConfig().solver, 10).options)
    ours = error(functools.partial(solvers.deis, **options), schedules.logistic_times)
    peers = {
        "Adams–Bashforth": error(adams_bashforth, schedules.karras_times),
        "DPM-Solver++ 2M": error(solvers.dpmpp_2m, schedules.karras_times),
        "UniPC": error(solvers.unipc, schedules.log_snr_times),
    }
    assert ours < 0.8 * min(peers.values()), peers
