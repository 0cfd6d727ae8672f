"""Reverse diffusion against the published steps of DDPM and of NCSN."""

import jax
import numpy as np
import pytest
from corrector_tools import BARS, BETA, DDPM, KEY, LADDER, NCSN, eps_model, numbers, one

from jaxdiff.solvers.reverse_diffusion import reverse_diffusion


@pytest.mark.parametrize("i", [1000, 999, 500, 20, 2, 1])
def test_reverse_diffusion_is_the_published_step_of_ddpm(i):
    """Song et al. 2021, algorithm 3: (2 − √(1 − β)) x + β score + √β z."""
    x, eps = numbers(2, 5, 3)
    z = np.asarray(jax.random.normal(KEY, x.shape))
    score = -eps / np.sqrt(1 - BARS[i])
    expected = (2 - np.sqrt(1 - BETA[i])) * x + BETA[i] * score + np.sqrt(BETA[i]) * z
    solver = reverse_diffusion(eps_model(DDPM, eps), DDPM)
    got = one(solver, KEY, x, i / 1000, (i - 1) / 1000)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("i", [232, 100, 2, 1])
def test_reverse_diffusion_is_the_published_step_of_ncsn(i):
    """Song et al. 2021, algorithm 2: x + (σ_i² − σ_{i−1}²) score + √(σ_i² − σ_{i−1}²) z."""
    x, eps = numbers(2, 5, 3)
    z = np.asarray(jax.random.normal(KEY, x.shape))
    gained = LADDER[i] ** 2 - LADDER[i - 1] ** 2
    expected = x - gained * eps / LADDER[i] + np.sqrt(gained) * z
    solver = reverse_diffusion(eps_model(NCSN, eps), NCSN)
    got = one(solver, KEY, x, i / 232, (i - 1) / 232)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * max(1.0, LADDER[i]))


@pytest.mark.parametrize(("i", "j"), [(1000, 700), (500, 250), (300, 0)])
def test_reverse_diffusion_can_take_many_steps_of_the_chain_at_once(i, j):
    """q(x_i | x_j) = N(√(ᾱ_i/ᾱ_j) x_j, 1 − ᾱ_i/ᾱ_j): eq. 46 for that chain."""
    x, eps = numbers(2, 5, 3)
    z = np.asarray(jax.random.normal(KEY, x.shape))
    kept = BARS[i] / BARS[j]
    score = -eps / np.sqrt(1 - BARS[i])
    expected = x - (np.sqrt(kept) - 1) * x + (1 - kept) * score + np.sqrt(1 - kept) * z
    solver = reverse_diffusion(eps_model(DDPM, eps), DDPM)
    got = one(solver, KEY, x, i / 1000, j / 1000)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_reverse_diffusion_can_omit_the_noise_of_its_last_step():
    x, eps = numbers(2, 5, 3)
    plain, quiet = (
        reverse_diffusion(eps_model(DDPM, eps), DDPM, denoise=denoise) for denoise in (False, True)
    )
    np.testing.assert_array_equal(one(plain, KEY, x, 0.5, 0.4), one(quiet, KEY, x, 0.5, 0.4))
    z = np.asarray(jax.random.normal(KEY, x.shape), np.float64)
    gone = one(plain, KEY, x, 0.1, 0.0) - one(quiet, KEY, x, 0.1, 0.0)
    np.testing.assert_allclose(gone, np.sqrt(1 - BARS[100]) * z, atol=1e-5)
