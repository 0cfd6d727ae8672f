"""L8: moving averages of the parameters, and reconstruction of others after training.

An EMA schedule is ``step -> d``, the decay at update k = step:
average ← d·average + (1 − d)·params.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.typing import Array, InputError, Params

EmaSchedule = Callable[[Array], Array]


def exponential(decay: float) -> EmaSchedule:
    """An EMA with warm-up: its length grows with the run, up to its final value.

    d = min(decay, (1 + t)/(10 + t)),    t = k + 1 updates made

    Args:
        decay: in [0, 1).

    Example:
        >>> schedule = exponential(0.999)
        >>> round(float(schedule(0)), 4), round(float(schedule(10**6)), 4)
        (0.1818, 0.999)

    Reference: the warm-up of TensorFlow's ExponentialMovingAverage, with t as in score_sde: it
        counts the update whose parameters are averaged in.
    """
    return lambda step: jnp.minimum(decay, (2.0 + step) / (11.0 + step))


def power(std: float) -> EmaSchedule:
    """A profile that scales with the run: weights ∝ τ^γ at the fraction τ of the run.

    d = (1 − 1/t)^(γ + 1),    t = k + 1

    Args:
        std: the profile's standard deviation, as a fraction of the run; 0.05 and 0.10 are usual.

    Example:
        >>> schedule = power(0.1)
        >>> float(schedule(jnp.asarray(0)))  # it starts from the parameters of the first update
        0.0

    Reference: Karras et al. 2024, eq. 2 and algorithm 2.
    """
    gamma = exponent(std)
    return lambda step: (step / (step + 1.0)) ** (gamma + 1)


def exponent(std: float) -> float:
    """γ of the profile with this standard deviation.

    std² = (γ + 1)/((γ + 2)² (γ + 3)), whose largest root decreases in std

    Args:
        std: in (0, 0.2886), whose upper end, 1/√12, belongs to γ = 0, the plain mean.

    Returns:
        γ > 0.

    Raises:
        InputError: if std is out of range.

    Example:
        >>> round(exponent(0.1), 2), round(exponent(0.05), 2)
        (6.94, 16.97)

    Reference: Karras et al. 2024, eq. 126.
    """
    if not 0 < std < 12**-0.5:
        raise InputError(f"std of an average must be in (0, 0.2886) of the run, got {std}")
    inverse = std**-2
    roots = np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse])
    return float(np.max(roots.real))


def update(average: Params, params: Params, d: Array) -> Params:
    """Update an average: d·average + (1 − d)·params, leaf by leaf.

    Args:
        average: before the update.
        params: to be averaged in.
        d: the decay, in [0, 1].

    Returns:
        The average after the update.
    """
    # in this form, the average of a constant is that constant, bit for bit
    return jax.tree.map(lambda a, p: a + (1 - d) * (p - a), average, params)


def combination(
    steps: Sequence[float] | np.ndarray,
    stds: Sequence[float] | np.ndarray,
    *,
    step: float,
    std: float,
) -> np.ndarray:
    """Weights of stored averages whose sum best approximates an average of another profile.

    Minimises ‖Σ w_i p_i − p‖² over the run, for profiles p_i(τ) ∝ τ^γ_i up to step t_i, among
    weights that sum to 1, so that the average of a constant parameter is that constant.

    Args:
        steps: at which each average was stored, ``[n]``.
        stds: of the profile of each, ``[n]``.
        step: at which the target average ends, at most the last of ``steps``.
        std: of the target profile.

    Returns:
        ``[n]`` float64, summing to 1.

    Raises:
        InputError: if nothing is stored, or a std is out of range.

    Example:
        >>> abs(combination([10, 20], [0.1, 0.1], step=20, std=0.1)).round(6).tolist()
        [0.0, 1.0]

    Reference: Karras et al. 2024, appendix C.2 and algorithm 3, which do not constrain the sum.
    """
    if not len(steps):
        raise InputError("stored averages must be at least one, got none")
    ends, gammas = np.asarray(steps, np.float64), np.array([exponent(s) for s in stds])
    overlaps = _overlap(ends[:, None], gammas[:, None], ends[None], gammas[None])
    target = _overlap(ends, gammas, np.array(step, float), np.array(exponent(std)))
    bordered = np.pad(overlaps * ends[-1], (0, 1), constant_values=1.0)
    bordered[-1, -1] = 0.0  # the multiplier of Σ w = 1
    solution: np.ndarray = np.linalg.lstsq(
        bordered, np.append(target * ends[-1], 1.0), rcond=1e-13
    )[0]
    return solution[:-1]


def _overlap(t_a: np.ndarray, a: np.ndarray, t_b: np.ndarray, b: np.ndarray) -> np.ndarray:
    """∫ p_a p_b dτ of the profiles p(τ) = (γ + 1) τ^γ/t^(γ + 1) on [0, t]."""
    ratio = t_a / t_b
    power = np.where(t_a < t_b, b, -a)
    return (a + 1) * (b + 1) * ratio**power / ((a + b + 1) * np.maximum(t_a, t_b))
