"""The order of every ODE solver, against the exact flow map."""

import functools

import numpy as np
import pytest
from process_table import PROCESSES, every_smooth
from solver_samples import (
    AXES,
    DETERMINISTIC,
    FLOWS,
    MEAN_ALONG,
    VARIANCES,
    endpoint,
    even_times,
    gaussian_flow,
    in_double,
    slope,
    times_at,
)
from solver_table import SOLVERS


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("model", FLOWS)
@every_smooth
@pytest.mark.parametrize("solver", DETERMINISTIC)
def test_ode_solver_converges_to_the_exact_flow_at_its_order(solver, process, model):
    """Evenly in log SNR; multistep methods from exact starting values.

    Sampling ends where the estimate changes fastest: over the whole transition from noise to data
    the leading errors of some methods cancel, and their order would appear higher by one.
    """
    scales = PROCESSES[process].scales
    t_max, t_min = 0.9, float(times_at(in_double(process), [0.5])[0])
    alpha, sigma, _, _ = scales(t_max)
    unit = np.random.default_rng(0).uniform(-1.5, 1.5, size=(16, 2 if model == "gaussian" else 1))
    x = 0.3 * alpha + np.hypot(alpha, sigma) * unit
    flow = functools.partial(FLOWS[model], scales, x, t_max)
    exact = flow(t_min)

    counts = np.array([64, 96, 144, 216])
    errors = []
    for n in counts:
        times = even_times(in_double(process), scales, n, t_max=t_max, t_min=t_min)
        end = endpoint(solver, in_double(process, model), x, times, model=model, exact_start=flow)
        errors.append(np.sqrt(np.mean((end - exact) ** 2)))
    order = SOLVERS[solver].order
    assert slope(counts, errors) == pytest.approx(order, abs=max(0.15, 0.1 * order))
    assert errors[-1] < 0.05


@pytest.mark.usefixtures("x64")
@every_smooth
def test_ddim_shrinks_the_std_by_the_cosine_of_every_angle(process):
    """The standard deviation √λ shrinks to √λ ∏ cos Δφ, with φ = arctan(σ/(α√λ)).

    In x̄ = x/α, σ̄ = σ/α a step multiplies x̄ − m by (λ + σ̄_t σ̄_s)/(λ + σ̄_t²), which is
    cos(φ_t − φ_s) cos φ_t/cos φ_s, and the exact flow by cos φ_t/cos φ_s.
    """
    row = PROCESSES[process]
    times = np.linspace(0.9, 0.05, 8)
    scales = [row.scales(t) for t in times]
    angles = np.array([np.arctan(s.sigma / s.alpha / np.sqrt(VARIANCES)) for s in scales])
    left = np.prod(np.cos(np.diff(angles, axis=0)), axis=0)

    x = np.random.default_rng(0).normal(size=(16, 2))
    got = endpoint("ddim", in_double(process), x, times) @ AXES - scales[-1].alpha * MEAN_ALONG
    exact = gaussian_flow(row.scales, x, times[0], times[-1]) @ AXES
    expected = left * (exact - scales[-1].alpha * MEAN_ALONG)
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)
