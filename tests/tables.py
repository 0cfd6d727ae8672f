"""The rows that buy a battery of tests, and the few helpers that every battery uses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import processes, schedules
from jaxdiff.processes import Process

NCSN_SIGMAS = schedules.geometric_sigmas(232, sigma_min=0.01, sigma_max=50.0)

LEARNED = dataclasses.replace(
    processes.LearnedVP.create(log_snr_max=9.0, log_snr_min=-10.0, num_steps=2),
    log_range=jnp.asarray(3.0),
    log_slope=jnp.asarray(0.5),
    log_heights=jnp.array([0.0, -0.75]),
    log_steepness=jnp.array([2.0, 2.5]),
    centres=jnp.array([0.25, 0.75]),
)

PROCESSES: dict[str, Process] = {
    "vp": processes.VP(),
    "subvp": processes.SubVP(),
    "ve": processes.VE(),
    "ve_348": processes.VE(sigma_max=348.0),
    "cosine_vp": processes.CosineVP(),
    "ddpm_linear_1000": processes.DiscreteVP.from_betas(schedules.linear_betas(1000)),
    "ddpm_cosine_100": processes.DiscreteVP.from_betas(schedules.cosine_betas(100)),
    "ncsn_232": processes.DiscreteVE.from_sigmas(NCSN_SIGMAS),
    "learned_vp": LEARNED,
}
CHAINS = [name for name, process in PROCESSES.items() if hasattr(process, "num_steps")]


def float64():
    """Context in which JAX computes in float64."""
    return jax.enable_x64(True)


def as_float64(process):
    """The same process with every parameter in float64; call it inside :func:`float64`."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), process)


def assert_mean_close(samples, mean, *, z=5.0):
    """Every mean over axis 0 lies within z of its own standard errors of ``mean``."""
    samples = np.asarray(samples, np.float64)
    error = np.abs(samples.mean(0) - np.asarray(mean, np.float64))
    standard_error = samples.std(0, ddof=1) / np.sqrt(len(samples))
    assert np.all(standard_error > 0), "samples that do not vary measure nothing"
    worst = np.max(error / standard_error)
    assert worst <= z, f"mean is {worst:.1f} standard errors away, at most {z} are allowed"


def assert_variance_close(samples, variance, *, mean, z=5.0):
    """The variance about the known ``mean`` lies within z standard errors of ``variance``."""
    assert_mean_close((np.asarray(samples, np.float64) - mean) ** 2, variance, z=z)


def assert_finite(tree):
    """No leaf holds a NaN or an infinity; a failure names the leaves that do."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    bad = [jax.tree_util.keystr(path) for path, leaf in leaves if not np.all(np.isfinite(leaf))]
    assert not bad, f"not finite: {', '.join(bad)}"


def exact_scales(name, t):
    """α(t) and σ(t) of a row in float64 numpy, from the papers' formulas, not from the library."""
    t = np.asarray(t, np.float64)
    one = np.ones_like(t)
    match name:
        case "vp" | "subvp":
            alpha = np.exp(-0.25 * t**2 * (20 - 0.1) - 0.5 * t * 0.1)
            return alpha, np.sqrt(1 - alpha**2) if name == "vp" else 1 - alpha**2
        case "ve" | "ve_348":
            return one, 0.01 * ((50.0 if name == "ve" else 348.0) / 0.01) ** t
        case "cosine_vp":
            first = np.pi / 2 * 0.008 / 1.008
            last = np.arccos(np.cos(first) / np.sqrt(1 + np.exp(20.0)))
            alpha = np.cos(first + t * (last - first)) / np.cos(first)
            return alpha, np.sqrt(1 - alpha**2)
        case "ddpm_linear_1000" | "ddpm_cosine_100":
            log_alphas = np.log(np.sqrt(np.cumprod(1 - BETAS[name])))
            alpha = np.exp(_between_nodes(np.append(0, log_alphas), t))
            return alpha, np.sqrt(1 - alpha**2)
        case "ncsn_232":
            sigmas = 0.01 * 5000 ** (np.arange(232) / 231)
            return one, np.sqrt(_between_nodes(np.append(0, sigmas**2), t))
        case "learned_vp":
            start, whole = _risen(np.zeros(())), _risen(np.ones(()))
            log_snr = 9.0 - np.exp(3.0) * (_risen(t) - start) / (whole - start)
            return np.sqrt(1 / (1 + np.exp(-log_snr))), np.sqrt(1 / (1 + np.exp(log_snr)))
    raise KeyError(name)


def _risen(t):
    """A line and two logistic steps: those of LEARNED."""
    line, first = np.exp(0.5) * t, 1 / (1 + np.exp(-np.exp(2.0) * (t - 0.25)))
    return line + first + np.exp(-0.75) / (1 + np.exp(-np.exp(2.5) * (t - 0.75)))


def _between_nodes(values, t):
    return np.interp(t, np.linspace(0, 1, len(values)), values)


_COSINE = np.cos((np.arange(101) / 100 + 0.008) / 1.008 * np.pi / 2) ** 2
BETAS = {
    "ddpm_linear_1000": np.linspace(1e-4, 0.02, 1000),
    "ddpm_cosine_100": np.minimum(1 - _COSINE[1:] / _COSINE[:-1], 0.999),
}
