"""Every multistep solver again, in plain numpy and float64: see published_onestep.py."""

import itertools
import math

import numpy as np
from process_table import SMOOTH
from published_onestep import at, noise_of
from solver_table import entry

from jaxdiff import solvers


@entry("dpmpp_1", solvers.dpmpp_1, only_published={"order": 1}, order=1)
@entry("dpmpp_2m", solvers.dpmpp_2m, only_published={"order": 2}, order=2, memory=1)
@entry("dpmpp_3m", solvers.dpmpp_3m, only_published={"order": 3}, order=3, memory=2)
@entry(
    "sde_dpmpp_1_half",
    solvers.dpmpp_1,
    options={"eta": 0.5},
    only_published={"order": 1},
    order=1,
    churn=0.5,
)
@entry(
    "sde_dpmpp_1",
    solvers.dpmpp_1,
    options={"eta": 1.0},
    only_published={"order": 1},
    order=1,
    churn=1.0,
    exact_mean=SMOOTH,
)
@entry(
    "sde_dpmpp_2m",
    solvers.dpmpp_2m,
    options={"eta": 1.0},
    only_published={"order": 2},
    order=1,
    churn=1.0,
    memory=1,
    exact_mean=SMOOTH,
)
@entry(
    "sde_dpmpp_3m",
    solvers.dpmpp_3m,
    options={"eta": 1.0},
    only_published={"order": 3},
    order=1,
    churn=1.0,
    memory=2,
    exact_mean=SMOOTH,
)
def dpmpp_multistep(model, scales, times, x, z, *, order, eta=0.0, parabola=1.0):
    """Lu et al. 2022 (DPM-Solver++), algorithm 2 and its extensions to order 3 and to the SDE.

    The published code of order 3 has ``parabola=0.5``; Taylor's formula gives 1.
    """
    seen = []
    for t, s, noise in zip(times[:-1], times[1:], z, strict=True):
        p, q = at(scales, t), at(scales, s)
        x0 = model(x, t)
        seen = [(x0, p.lam), *seen][:order]
        if q.sigma == 0:
            x = q.alpha * x0
            continue
        h = q.lam - p.lam
        k = (1 + eta**2) * h
        x = q.sigma / p.sigma * math.exp(-(eta**2) * h) * x - q.alpha * math.expm1(-k) * x0
        x = x + q.sigma * math.sqrt(-math.expm1(-2 * eta**2 * h)) * noise
        slopes = [
            (a - b) / (l_a - l_b) * h for (a, l_a), (b, l_b) in itertools.pairwise(seen)
        ]  # per step of h
        if len(slopes) == 1:
            x = x - 0.5 * q.alpha * math.expm1(-k) * slopes[0]
        elif len(slopes) == 2:
            r0, r1 = ((seen[i][1] - seen[i + 1][1]) / h for i in (0, 1))
            bend = (slopes[0] - slopes[1]) / (r0 + r1)
            phi_2 = math.expm1(-k) / k + 1
            phi_3 = phi_2 / k - 0.5
            x = x + q.alpha * phi_2 * (slopes[0] + r0 * bend)
            x = x - 2 * parabola * q.alpha * phi_3 * bend
    return x


@entry("unipc_1", solvers.unipc, options={"order": 1}, order=2, memory=1)
@entry("unipc_2", solvers.unipc, options={"order": 2}, order=3, memory=2)
@entry("unipc_3", solvers.unipc, options={"order": 3}, order=4, memory=3)
def unipc(model, scales, times, x, z, *, order):
    """Zhao et al. 2023, algorithms 5 to 8, with B(h) = e^h − 1 and the data prediction."""

    def update(x, seen, p, q, new=None):
        """x at p to x at q; ``seen`` holds (x̂_0, λ) from p backwards, ``new`` the x̂_0 at q."""
        x0, h = seen[0][0], q.lam - seen[0][1]
        ratios = [(lam - seen[0][1]) / h for _, lam in seen[1:]] + ([] if new is None else [1.0])
        values = [value for value, _ in seen[1:]] + ([] if new is None else [new])
        base = q.sigma / p.sigma * x - q.alpha * math.expm1(-h) * x0
        if not ratios:
            return base
        big = math.expm1(-h)
        rows, right, phi, factorial = [], [], math.expm1(-h) / -h - 1, 1
        for i in range(1, len(ratios) + 1):
            rows.append(np.power(ratios, i - 1))
            right.append(phi * factorial / big)
            factorial *= i + 1
            phi = phi / -h - 1 / factorial
        weights = [0.5] if len(ratios) == 1 else np.linalg.solve(np.array(rows), right)
        change = sum(w * (v - x0) / r for w, v, r in zip(weights, values, ratios, strict=True))
        return base - q.alpha * big * change

    seen, before = [], None
    for t, s in itertools.pairwise(times):
        p, q = at(scales, t), at(scales, s)
        x0 = model(x, t)
        if before is not None:
            x = update(*before, p, new=x0)
        seen = [(x0, p.lam), *seen][:order]
        if q.sigma == 0:
            x = q.alpha * x0 + 0 * x
            continue
        before = x, seen, p
        x = update(x, seen, p, q)
    return x


@entry("deis_2", solvers.deis, options={"order": 2}, order=2, memory=1, in_time=True)
@entry("deis_3", solvers.deis, options={"order": 3}, order=3, memory=2, in_time=True)
@entry("deis_4", solvers.deis, options={"order": 4}, order=4, memory=3, in_time=True)
def deis(model, scales, times, x, z, *, order):
    """Zhang & Chen 2023, eq. 15: ∫ ℓ_j(τ) d(σ/α)(τ), with d(σ/α)/dt = g²/(2ασ), by quadrature."""
    seen = []
    for t, s in itertools.pairwise(times):
        p, q = at(scales, t), at(scales, s)
        seen = [(noise_of(model, p, x), t), *seen][:order]
        if q.sigma == 0:
            x = q.alpha * model(x, t)
            continue
        nodes = [time for _, time in seen]
        weights = _deis_weights(scales, t, s, nodes)
        change = sum(w * eps for w, (eps, _) in zip(weights, seen, strict=True))
        x = q.alpha * (x / p.alpha + change)
    return x


def _deis_weights(scales, t, s, nodes):
    points, weights = np.polynomial.legendre.leggauss(8)
    # over the angle whose sin² is τ, dense at both ends, where dσ̄/dτ may be infinite
    edges = np.linspace(*np.arcsin(np.sqrt([t, s])), 401)  # many: a chain has a kink at every node
    middles, half = 0.5 * (edges[1:] + edges[:-1]), 0.5 * (edges[1] - edges[0])
    angles = middles[:, None] + half * points
    taus = np.sin(angles) ** 2
    alpha, sigma, _, g2 = scales(taus)
    kernel = half * weights * g2 / (2 * alpha * sigma) * np.sin(2 * angles)

    def basis(j):
        others = [node for k, node in enumerate(nodes) if k != j]
        return math.prod(((taus - node) / (nodes[j] - node) for node in others), start=1.0)

    return [np.sum(kernel * basis(j)) for j in range(len(nodes))]
