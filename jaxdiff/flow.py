"""L5: the probability-flow ODE of every process as one rotation, solved to a tolerance.

Divide x by its scale for data of unit variance, h = √(α² + σ²), and use as time the angle
φ = arctan(σ/α), from 0 for data to ½π for noise. Then y = x/h and the model's two views satisfy

    y = cos φ · x̂_0 + sin φ · ε̂,    dy/dφ = cos φ · ε̂ − sin φ · x̂_0 = v̂,

which follows from dx̄/dσ̄ = ε̂ (Song, Meng & Ermon 2021, eq. 14) for x̄ = x/α = y/cos φ and
σ̄ = σ/α = tan φ. Nothing divides by α or by σ, every term is of the size of the data at every noise
level, the process enters only through t(φ), and for data N(0, I) the solution is constant. For
VP, y is x and v̂ is the v-prediction of Salimans & Ho (2022, appendix D).

Diffrax integrates. The state is a pytree of leaves ``[batch, ...]``, and a step is accepted when
the root mean square of error/(atol + rtol·|y|) is below 1 in the *worst* example. All examples thus
share one network call, at one time, and none is solved less accurately because the others are easy.
Within the tolerance the solution of an example does depend on the rest of its batch, through the
steps; on a fixed grid it does not, nor under ``jax.vmap`` over batches of one, where each example
has its own steps.
"""

from collections.abc import Callable
from typing import Any, Literal, TypedDict, TypeVar, Unpack

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.arrays import VARIANCE_FLOOR
from jaxdiff.checks import (
    check_batch,
    check_count,
    check_known,
    check_one_of,
    known,
    known_scalar,
)
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process
from jaxdiff.schedules.inverse import divide, time_at_log_snr
from jaxdiff.typing import Array, ArrayLike, Float, InputError, Real, Scalar

T = TypeVar("T")

Method = Literal["tsit5", "dopri5"]
METHODS: dict[Method, Callable[[], diffrax.AbstractSolver[Any]]] = {
    "tsit5": diffrax.Tsit5,
    "dopri5": diffrax.Dopri5,
}
"""Runge–Kutta pairs of order 5(4), six evaluations a step (Tsitouras 2011; Dormand & Prince 1980)
plus two at the start; on a fixed grid one."""


class OdeOptions(TypedDict, total=False):
    """Options of :func:`integrate`, which every function that calls it accepts: the accuracy."""

    rtol: Scalar
    atol: Scalar
    method: Method
    max_steps: int


def unit_scale(process: Process, t: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """Scale of x_t for data of unit variance, h = √(α² + σ²)."""
    return jnp.sqrt(process.alpha(t) ** 2 + process.variance(t))


def angle(process: Process, t: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """Noise level as an angle, φ = arctan(σ/α) ∈ [0, ½π], increasing.

    Example:
        >>> from jaxdiff.processes import VE
        >>> round(float(angle(VE(sigma_min=0.01, sigma_max=1.0), 1.0)), 4)  # ¼π: as much as data
        0.7854
    """
    return jnp.arctan2(process.sigma(t), process.alpha(t))


def time_at_angle(process: Process, angles: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """The inverse of :func:`angle`, by bisection, clipped to the range of the process.

    Its gradients, in the angles and in the process, are those of the implicit function of the
    angle: log SNR has no finite slope at the data.

    Args:
        process: the forward process.
        angles: φ, in radians.

    Returns:
        Times in [0, 1].
    """
    angles = jnp.asarray(angles)

    def solve(_: Callable[[Array], Array], start: Array) -> Array:
        # a float32 may round ½π up, where the cosine is negative
        cos = jnp.maximum(jnp.cos(angles), VARIANCE_FLOOR)
        return time_at_log_snr(process, 2 * (jnp.log(cos) - jnp.log(jnp.sin(angles))))

    times: Array = jax.lax.custom_root(
        lambda t: angle(process, t) - angles, jnp.zeros_like(angles), solve, divide
    )
    return times


def velocity(
    denoise_fn: DenoiseFn, process: Process
) -> Callable[[Float[Array, "batch *event"], Float[Array, ""]], Float[Array, "batch *event"]]:
    """The right-hand side of the ODE, (y, φ) ↦ v̂ = cos φ · ε̂ − sin φ · x̂_0.

    Args:
        denoise_fn: the model.
        process: the forward process.

    Returns:
        ``(y, φ) -> dy/dφ``.

    Example:
        >>> from jaxdiff import oracles, processes
        >>> exact = oracles.gaussian(processes.VE(), jnp.zeros(1), jnp.zeros((1, 1)))  # x̂_0 = 0
        >>> field = velocity(exact, processes.VE())
        >>> bool(jnp.allclose(field(jnp.ones((1, 1)), jnp.pi / 4), 1.0))  # y/tan φ
        True
    """

    def field(y: Array, angles: Array) -> Array:
        t = time_at_angle(process, angles)
        scale = unit_scale(process, t)
        estimate = denoise_fn((scale * y).astype(y.dtype), t)
        rotation = process.alpha(t) * estimate.eps - process.sigma(t) * estimate.x0
        return (rotation / scale).astype(y.dtype)

    return field


def integrate(
    field: Callable[[T, Array], T],
    state: T,
    angles: Float[Array, "times"],
    *,
    adaptive: bool = True,
    rtol: Scalar = 1e-5,
    atol: Scalar = 1e-5,
    method: Method = "tsit5",
    max_steps: int = 1000,
) -> T:
    """Solve d state/dφ = field(state, φ) from the first angle to the last, in either direction.

    Args:
        field: the right-hand side.
        state: a pytree of leaves ``[batch, ...]``.
        angles: strictly monotone.
        adaptive: whether the tolerances choose the steps between the two ends; otherwise every
            interval of ``angles`` is one step.
        rtol: tolerated error of a step, relative to the state.
        atol: tolerated error of a step, in units of the state.
        method: "tsit5" or "dopri5".
        max_steps: maximum number of adaptive steps, including rejected ones.

    Returns:
        The state at the last angle. Reverse-mode differentiable, also through what ``field`` closes
        over; forward mode would require another adjoint of Diffrax.

    Raises:
        InputError: if ``method`` does not exist, a tolerance is negative or both are 0, or adaptive
            steps do not reach the end: ``max_steps`` is too small, the tolerances are below
            rounding error, or the field is not finite. Compiled code raises these as RuntimeError.

    Reference: Hairer, Nørsett & Wanner 1993, section II.4.
    """
    check_one_of(method=(method, Method))
    _check_tolerances(rtol, atol, max_steps)
    controller: diffrax.AbstractStepSizeController[Any, Any] = diffrax.StepTo(ts=angles)
    if adaptive:
        controller = diffrax.PIDController(
            rtol=jnp.asarray(rtol),
            atol=jnp.asarray(atol),
            norm=_worst_example,
            # Steps that shrink towards zero, as those of a field that is NaN do, fail soon.
            dtmin=1e-2 * float(jnp.finfo(angles.dtype).eps),
            force_dtmin=False,
        )
    field = jax.jit(field)  # so that it is traced once; Diffrax calls it in four places
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda angle, state, _: field(state, jnp.asarray(angle))),
        METHODS[method](),
        t0=angles[0],
        t1=angles[-1],
        dt0=None,
        y0=state,
        saveat=diffrax.SaveAt(t1=True),
        stepsize_controller=controller,
        max_steps=max_steps if adaptive else angles.shape[0] - 1,
        throw=False,  # its messages address callers of Diffrax
    )
    state = jax.tree.map(lambda leaf: leaf[0], solution.ys)
    if not adaptive:
        return state
    too_many = solution.result == diffrax.RESULTS.max_steps_reached
    stuck = (solution.result != diffrax.RESULTS.successful) & ~too_many
    return _check_reached_end(state, too_many, stuck, max_steps)


def solve_ode(
    denoise_fn: DenoiseFn,
    process: Process,
    x: Float[Array, "batch *event"],
    t: Scalar,
    s: Scalar,
    **options: Unpack[OdeOptions],
) -> Float[Array, "batch *event"]:
    """Solve the probability-flow ODE from t to s, towards the data or the noise.

    Args:
        denoise_fn: the model.
        process: the forward process.
        x: the batch at t.
        t: start time.
        s: end time.
        **options: see :class:`OdeOptions`; tolerances are in units of x/√(α² + σ²).

    Returns:
        x at s.

    Raises:
        InputError: as :func:`integrate`; if t or s is outside [0, 1], or x is not a batch of
            floats.
    """
    for time in (t, s):
        check_known(
            lambda number: (number >= 0) & (number <= 1),
            time,
            requirement="the start and end times must be in [0, 1]",
        )
    y = rescale(process, x, t)
    angles = angle(process, jnp.stack([jnp.asarray(t), jnp.asarray(s)])).astype(y.dtype)
    y = integrate(velocity(denoise_fn, process), y, angles, **options)
    return (unit_scale(process, s) * y).astype(x.dtype)


def rescale(
    process: Process, x: Float[Array, "batch *event"], t: Scalar
) -> Float[Array, "batch *event"]:
    """The variable of the ODE, y = x/√(α² + σ²), in at least float32.

    Raises:
        InputError: if x is not a batch of floats.
    """
    check_batch("x", x)
    return (x / unit_scale(process, t)).astype(jnp.promote_types(x.dtype, jnp.float32))


def _check_tolerances(rtol: ArrayLike, atol: ArrayLike, max_steps: int) -> None:
    requirement = "rtol and atol must be finite and at least 0"
    tolerances = [known_scalar(requirement, x, 0) for x in (rtol, atol)]
    if tolerances == [0, 0]:
        raise InputError(f"rtol and atol must not both be 0, got {rtol} and {atol}")
    check_count("max_steps must be a positive integer", max_steps)


def _worst_example(error: T) -> Array:
    """Root mean square of the scaled error of an example, the largest over examples and leaves."""

    def worst(leaf: Array) -> Array:
        leaf = jax.lax.stop_gradient(leaf).reshape(leaf.shape[0], -1)
        return jnp.max(jnp.sqrt(jnp.mean(leaf**2, axis=1)))

    largest = jnp.max(jnp.stack([worst(leaf) for leaf in jax.tree.leaves(error)]))
    return jnp.where(jnp.isnan(largest), jnp.inf, largest)  # a step to NaN is rejected


def _check_reached_end(state: T, too_many: Array, stuck: Array, max_steps: int) -> T:
    """The state, or an error if the solver stopped early; in compiled code by a callback."""

    def check(too_many: np.ndarray, stuck: np.ndarray) -> np.ndarray:
        if np.any(too_many):
            raise InputError(
                f"the adaptive solver did not reach the end within max_steps={max_steps}; "
                "increase max_steps, or rtol and atol"
            )
        if np.any(stuck):
            raise InputError(
                "the adaptive solver failed: the output of the model must be finite and "
                "continuous, and rtol and atol must be above rounding error"
            )
        return np.zeros(np.shape(too_many), bool)

    numbers = known(jnp.stack([too_many, stuck]))
    if numbers is not None:
        check(numbers[0], numbers[1])
        return state
    no = jax.ShapeDtypeStruct(too_many.shape, bool)
    failed = jax.lax.cond(
        too_many | stuck,
        lambda: jax.pure_callback(check, no, too_many, stuck, vmap_method="broadcast_all"),
        lambda: jnp.zeros_like(too_many),
    )
    return jax.tree.map(lambda leaf: jnp.where(failed, jnp.nan, leaf), state)
