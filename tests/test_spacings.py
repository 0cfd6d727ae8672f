"""DDPM's time spacings: the published tables, and the guarantees of every grid."""

import jax
import numpy as np
import pytest
from process_table import BETAS, PROCESSES
from process_tools import drift_diffusion, scales

from jaxdiff.schedules import spacings
from jaxdiff.typing import InputError

SPACINGS = {
    "leading": spacings.leading_times,
    "trailing": spacings.trailing_times,
    "linspace": spacings.linspace_times,
}
every_spacing = pytest.mark.parametrize("spacing", SPACINGS)


def nodes_of(times, chain_steps=1000):
    """The nodes i of the chain at which a grid lies: t must be i/T, rounded once."""
    nodes = np.round(np.asarray(times, np.float64) * chain_steps).astype(int)
    np.testing.assert_array_equal(times, (nodes / chain_steps).astype(np.asarray(times).dtype))
    return nodes.tolist()


@pytest.mark.parametrize(
    ("spacing", "published"),
    [
        ("leading", [1, 101, 201, 301, 401, 501, 601, 701, 801, 901]),
        ("linspace", [1, 112, 223, 334, 445, 556, 667, 778, 889, 1000]),
        ("trailing", [100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]),
    ],
)
def test_ten_of_a_thousand_steps_match_the_published_table(spacing, published):
    """Lin et al. 2023, table 2, whose steps are counted from 1."""
    assert nodes_of(SPACINGS[spacing](10)) == [*published[::-1], 0]


def test_fifty_leading_steps_with_offset_one_match_stable_diffusion():
    """τ = 981, 961, …, 21, 1: the timesteps that its samplers print, counted from 0."""
    assert nodes_of(spacings.leading_times(50, offset=1)) == [*range(982, 1, -20), 0]


def roundings(p, q):
    """p/q rounded to an integer, in integer arithmetic; both neighbours for a tie."""
    up = (2 * p + q) // (2 * q)
    return {up, up - 1} if (2 * p + q) % (2 * q) == 0 else {up}


@pytest.mark.parametrize("n", [2, 3, 7, 11, 24, 30, 48, 300, 999])
def test_steps_that_do_not_divide_the_chain_follow_the_formulas(n):
    """Lin et al. 2023, table 2; linspace from 0 to T − 1, as samplers count, plus one."""
    leading, trailing, linspace = (nodes_of(make(n))[:-1][::-1] for make in SPACINGS.values())
    assert leading == [k * (1000 // n) + 1 for k in range(n)]
    for k in range(n):
        assert trailing[k] in roundings((k + 1) * 1000, n)
        assert linspace[k] - 1 in roundings(k * 999, n - 1)


@every_spacing
def test_grids_have_the_requested_number_of_steps(spacing):
    """Every n, on a short chain and on a long one: strictly down to 0, in float32, on the nodes."""
    for chain, counts in ((1, [1]), (7, range(1, 8)), (1000, [1, 2, 3, 10, 333, 501, 999, 1000])):
        for n in counts:
            times = np.asarray(SPACINGS[spacing](n, chain_steps=chain))
            assert times.dtype == np.float32
            assert times.shape == (n + 1,)
            assert np.all(np.diff(times) < 0)
            assert times[-1] == 0
            assert times[0] <= 1
            nodes_of(times, chain)


@every_spacing
def test_all_steps_of_the_chain_are_the_uniform_grid(spacing):
    assert nodes_of(SPACINGS[spacing](1000)) == list(range(1000, -1, -1))


@pytest.mark.parametrize("n", [1, 2, 9, 128, 1000])
def test_trailing_and_linspace_start_at_the_noise(n):
    assert spacings.trailing_times(n)[0] == 1
    assert spacings.linspace_times(n)[0] == 1
    assert n == 1 or nodes_of(spacings.linspace_times(n))[-2] == 1


@every_spacing
@pytest.mark.parametrize("num_steps", [10, 48, 999])
def test_the_chain_sees_exactly_its_nodes(spacing, num_steps):
    """ᾱ at every time is the cumulative product of DDPM's 1 − β, and β is that of the step."""
    betas = BETAS["ddpm_linear_1000"]
    process = PROCESSES["ddpm_linear_1000"].process
    times = SPACINGS[spacing](num_steps)
    nodes = nodes_of(times)
    bars = np.append(1.0, np.cumprod(1 - betas))
    alpha, _, _ = scales(process, times)
    np.testing.assert_allclose(np.asarray(alpha) ** 2, bars[nodes], rtol=2e-5)
    # At a node the slope is that of the preceding step.
    rate, _ = drift_diffusion(process, np.asarray(times)[:-1])
    own = 0.5 * 1000 * np.log1p(-betas[np.array(nodes[:-1]) - 1])
    np.testing.assert_allclose(rate, own, rtol=4e-4)  # the next β is 1e-3 away


@every_spacing
def test_grids_have_the_current_precision(spacing):
    with jax.enable_x64(True):
        times = np.asarray(SPACINGS[spacing](30))
        assert times.dtype == np.float64
        nodes_of(times)


@every_spacing
@pytest.mark.parametrize("n", [0, -1, 1001])
def test_an_impossible_number_of_steps_is_refused(spacing, n):
    with pytest.raises(InputError, match="num_steps"):
        SPACINGS[spacing](n)


@pytest.mark.parametrize(("n", "offset"), [(10, -1), (10, 100), (1000, 1), (300, 103), (1, 1000)])
def test_an_offset_beyond_the_chain_is_refused(n, offset):
    with pytest.raises(InputError, match="offset"):
        spacings.leading_times(n, offset=offset)


@pytest.mark.parametrize(("n", "offset"), [(10, 99), (300, 102), (1, 999)])
def test_the_largest_offset_starts_at_the_noise(n, offset):
    assert spacings.leading_times(n, offset=offset)[0] == 1
