"""Closed forms of the density that the ODE transports from the prior, and the library's own.

If the data distribution is p_0 and the model exact, the flow from t_min to 1 carries p_{t_min} to
p_1, and the model's own density to the prior π. With z the end of the flow from x, also in closed
form here,

    log p(x) = log p_{t_min}(x) + log π(z) − log p_1(z).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from process_table import exact_moments
from scipy import special
from solver_samples import constant

from jaxdiff import oracles
from jaxdiff.likelihood import log_likelihood_by_probe

T_MIN = 1e-3
EVENTS = {2: (2,), 64: (4, 4, 4)}
STDS = np.array([0.35, 0.6])  # across the line on which the modes lie, and along it


class Data:
    """A Gaussian, or a mixture of three along a line, in any dimension and direction.

    In 2 dimensions the model sees vectors, in 64 images; here both are vectors.
    """

    def __init__(self, kind, dim):
        rng = np.random.default_rng(dim)
        self.kind, self.dim = kind, dim
        self.axes = np.linalg.qr(rng.normal(size=(dim, dim)))[0]  # columns
        self.mean = rng.normal(size=dim)
        self.variances = rng.uniform(0.05, 1.5, size=dim)
        self.weights, self.along = np.array([0.2, 0.5, 0.3]), np.array([-1.5, 0.2, 1.1])
        if kind == "mixture":
            self.variances = np.full(dim, 0.09)

    def model(self, process):
        if self.kind == "gaussian":
            cov = self.axes * self.variances @ self.axes.T
            return oracles.gaussian(process, constant(self.image(self.mean)), constant(cov))
        means = self.image(self.mean + self.along[:, None] * self.axes[:, 0])
        stds = np.full(3, np.sqrt(self.variances[0]))
        return oracles.mixture(process, *map(constant, (self.weights, means, stds)))

    def image(self, x):
        return x.reshape(*x.shape[:-1], *EVENTS[self.dim])

    def draw(self, n):
        rng = np.random.default_rng(1)
        white = rng.normal(size=(n, self.dim)) * np.sqrt(self.variances)
        if self.kind == "mixture":
            white[:, 0] += rng.choice(self.along, size=n, p=self.weights)
        return self.mean + white @ self.axes.T

    def along_axes(self, x, alpha):
        return (x - alpha * self.mean) @ self.axes

    def log_density(self, x, scales, t):
        """log p_t, one axis at a time: Gaussian along each, except along the first of a mixture."""
        alpha, sigma, _, _ = scales(t)
        y, variances = self.along_axes(x, alpha), alpha**2 * self.variances + sigma**2
        logs = -0.5 * (y**2 / variances + np.log(2 * np.pi * variances))
        if self.kind == "mixture":
            away = y[:, :1] - alpha * self.along
            each = -0.5 * (away**2 / variances[0] + np.log(2 * np.pi * variances[0]))
            logs[:, 0] = special.logsumexp(each, b=self.weights, axis=1)
        return logs.sum(1)

    def flow(self, x, scales, t, s):
        """Along each axis y/√v is constant; along the line of modes the quantile is."""
        (a_t, sd_t, _, _), (a_s, sd_s, _, _) = scales(t), scales(s)
        y = self.along_axes(x, a_t)
        moved = exact_moments(scales, t, s, 0.0, self.variances, y, 0.0, churn=0.0)[0]
        if self.kind == "mixture":
            std_t, std_s = (np.hypot(a * self.variances[0] ** 0.5, sd)
                            for a, sd in ((a_t, sd_t), (a_s, sd_s)))  # fmt: skip
            target = special.ndtr((y[:, :1] - a_t * self.along) / std_t) @ self.weights
            low, high = np.full(len(x), -20 * std_s), np.full(len(x), 20 * std_s)
            for _ in range(80):
                middle = 0.5 * (low + high)
                reached = special.ndtr((middle[:, None] - a_s * self.along) / std_s) @ self.weights
                below = reached < target
                low, high = np.where(below, middle, low), np.where(below, high, middle)
            moved[:, 0] = middle
        return a_s * self.mean + moved @ self.axes.T

    def log_prob(self, x, row, t_min=T_MIN):
        """Of the distribution that the flow carries from the prior, and the latent code."""
        z = self.flow(x, row.scales, t_min, 1.0)
        std = row.scales(1.0).sigma
        prior = -0.5 * np.sum((z / std) ** 2 + np.log(2 * np.pi * std**2), axis=1)
        change = self.log_density(x, row.scales, t_min) - self.log_density(z, row.scales, 1.0)
        return change + prior, z


@functools.cache
def data_of(kind, dim):
    return Data(kind, dim)


@functools.cache
def jitted(kind, dim, **options):
    """``(process, key, x, rtol, t_min) -> LogLikelihood`` with one estimate per probe."""

    def run(process, key, x, rtol, t_min):
        model = data_of(kind, dim).model(process)
        return log_likelihood_by_probe(
            key, model, process, x, rtol=rtol, atol=rtol, t_min=t_min, **options
        )

    return jax.jit(run)


def run(kind, dim, process, x, *, rtol=1e-5, seed=0, num_probes=None, t_min=T_MIN, **options):
    x = data_of(kind, dim).image(np.asarray(x, jnp.result_type(float)))
    program = jitted(kind, dim, num_probes=num_probes, **options)
    return program(process, jax.random.key(seed), x, rtol, t_min)
