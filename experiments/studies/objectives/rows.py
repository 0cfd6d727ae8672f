"""Every objective of the library as a row: how a small network is fitted with it, and its score.

The law to be learned is a mixture in the plane. Objectives on the data as they are fit s(x); those
on noisy data fit a model of all noise levels, whose score is read off at its lowest, σ/α = 0.05, in
the units of the data.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff import denoisers, divergence, losses, oracles, processes, schedules
from jaxdiff.losses import loss_aware, times, weights
from jaxdiff.nets import MLP
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import LearnedVP, Process
from jaxdiff.typing import Array, Key, Params, PyTree

LOWEST = 0.05
"""Noise-to-signal ratio at which models of noisy data are compared with the data's own score."""
NUM_STEPS = 100
WEIGHTS = jnp.array([0.3, 0.25, 0.2, 0.15, 0.1])
ANGLES = jnp.linspace(0.0, 2 * jnp.pi, 5, endpoint=False)
MEANS = 1.3 * jnp.stack([jnp.cos(ANGLES), jnp.sin(ANGLES)], axis=1)
STDS = jnp.array([0.3, 0.35, 0.4, 0.3, 0.35])
DATA_STD = 1.0


def draw_data(key: Key, n: int) -> Array:
    """Draw from the mixture, ``[n, 2]``."""
    pick_key, noise_key = jax.random.split(key)
    which = jax.random.categorical(pick_key, jnp.log(WEIGHTS), shape=(n,))
    return MEANS[which] + STDS[which][:, None] * jax.random.normal(noise_key, (n, 2))


def true_score(x: Array) -> Array:
    """Exact score of the mixture, ``[n, 2] -> [n, 2]``."""
    process = processes.VP()
    exact = oracles.mixture(process, WEIGHTS, MEANS, STDS)
    return -exact(x, 0.0).eps / process.sigma(0.0)


class Objective(NamedTuple):
    """One row: ``loss`` maps (params, state, key, x0) to losses ``[batch]`` and the next state."""

    init: Callable[[Key], Params]
    state: PyTree
    loss: Callable[[Params, PyTree, Key, Array], tuple[Array, PyTree]]
    score: Callable[[Params, Array], Array]


def network(num_outputs: int = 1) -> MLP:
    """The network that every objective trains."""
    return MLP(width=96, depth=2, noise_cond_scale=1.0, num_outputs=num_outputs)


def init(key: Key, num_outputs: int = 1) -> Params:
    """Its parameters."""
    return network(num_outputs).init(key, jnp.zeros((1, 2)), jnp.zeros(1))


def _apply(net: MLP, params: Params, x: Array, level: Array) -> Array:
    output: Any = net.apply(params, x, level)
    return output


def on_data(loss: Callable[[Key, Callable[[Array], Array], Array], Array]) -> Objective:
    """Row of an objective ``(key, score_fn, x) -> [batch]`` on the data as they are."""

    def score(params: Params, x: Array) -> Array:
        return _apply(network(), params, x, jnp.zeros(len(x)))

    def stateless(params: Params, state: PyTree, key: Key, x0: Array) -> tuple[Array, PyTree]:
        return loss(key, functools.partial(score, params), x0), state

    return Objective(init, (), stateless, score)


def on_noise(
    process: Process,
    loss: Callable[[Key, DenoiseFn, Process, Array], Array],
    *,
    learned_variance: bool = False,
) -> Objective:
    """Row of an objective ``(key, denoise_fn, process, x0) -> [batch]`` on noisy data."""
    num_outputs = 2 if learned_variance else 1

    def stateless(params: Params, state: PyTree, key: Key, x0: Array) -> tuple[Array, PyTree]:
        model = _model(params, process, learned_variance=learned_variance)
        return loss(key, model, process, x0), state

    return Objective(
        functools.partial(init, num_outputs=num_outputs),
        (),
        stateless,
        lambda params, x: _score(
            _model(params, process, learned_variance=learned_variance), process, x
        ),
    )


def _model(params: Params, process: Process, *, learned_variance: bool = False) -> DenoiseFn:
    net = network(2 if learned_variance else 1)
    return denoisers.denoiser(
        functools.partial(_apply, net, params),
        process,
        kind="edm",
        data_std=DATA_STD,
        noise_cond_fn=denoisers.log_sigma,
        learned_variance=learned_variance,
    )


def _lowest_time(process: Process) -> Array:
    """Time at which σ/α is LOWEST."""
    return schedules.karras_times(process, 1, sigma_min=LOWEST, t_min=1e-4)[-1]


def _score(model: DenoiseFn, process: Process, x: Array) -> Array:
    """Score at the lowest noise as a function of x = x_t/α, in its units: α·s(αx, t)."""
    t = _lowest_time(process)
    alpha = process.alpha(t)
    return -alpha * model(alpha * x, t).eps / process.sigma(t)


T_MIN = 1e-3
CHAIN = processes.DiscreteVP.from_betas(
    schedules.linear_betas(NUM_STEPS, beta_start=2e-3, beta_end=0.2)
)
LADDER = processes.DiscreteVE.from_sigmas(
    schedules.geometric_sigmas(10, sigma_min=LOWEST, sigma_max=5.0)
)
VP, SUBVP = processes.VP(), processes.SubVP()
VE = processes.VE(sigma_min=LOWEST, sigma_max=5.0)
SIGMA2 = functools.partial(weights.eps, target="score")
"""λ = σ² on the score."""


def _dsm(process: Process, num_steps: int | None = None) -> Objective:
    """Denoising score matching at λ = σ², at random times or nodes."""

    def loss(key: Key, model: DenoiseFn, process: Process, x0: Array) -> Array:
        time_key, noise_key = jax.random.split(key)
        t, _ = times.stratified(time_key, len(x0), t_min=_t_min(num_steps), num_steps=num_steps)

        def score(x: Array, t: Array) -> Array:
            return -model(x, t).eps / process.sigma(t)[:, None]

        return losses.dsm(noise_key, score, process, x0, t, weight_fn=SIGMA2)

    return on_noise(process, loss)


def _t_min(num_steps: int | None) -> float:
    return T_MIN if num_steps is None else 0.0


def _dsm_one_sigma(key: Key, model: DenoiseFn, process: Process, x0: Array) -> Array:
    t = jnp.full(len(x0), 0.0)  # VE's least noise, LOWEST
    return losses.denoising(key, model, process, x0, t)


def _denoising(process: Process, weight_fn: Callable[..., Array], **options: Any) -> Objective:
    """The denoising loss under a weighting, at stratified times."""
    num_steps = process.num_steps

    def loss(key: Key, model: DenoiseFn, process: Process, x0: Array) -> Array:
        time_key, noise_key = jax.random.split(key)
        t, _ = times.stratified(time_key, len(x0), t_min=_t_min(num_steps), num_steps=num_steps)
        return losses.denoising(
            noise_key, model, process, x0, t, weight_fn=functools.partial(weight_fn, **options)
        )

    return on_noise(process, loss)


def _edm(key: Key, model: DenoiseFn, process: Process, x0: Array) -> Array:
    """EDM's own objective: the average over log-normal σ itself, without the weight back."""
    time_key, noise_key = jax.random.split(key)
    t, _ = times.log_normal(time_key, len(x0), process, t_min=1e-4)
    weight_fn = functools.partial(weights.edm, data_std=DATA_STD)
    return losses.denoising(noise_key, model, process, x0, t, weight_fn=weight_fn)


def _vlb(key: Key, model: DenoiseFn, process: Process, x0: Array) -> Array:
    time_key, noise_key = jax.random.split(key)
    t, _ = times.stratified(time_key, len(x0), num_steps=NUM_STEPS)
    return losses.vlb(noise_key, model, process, x0, t, num_steps=NUM_STEPS)


def _hybrid(key: Key, model: DenoiseFn, process: Process, x0: Array) -> Array:
    time_key, noise_key = jax.random.split(key)
    t, _ = times.stratified(time_key, len(x0), num_steps=NUM_STEPS)
    return losses.hybrid(noise_key, model, process, x0, t, num_steps=NUM_STEPS)


def _loss_aware_vlb() -> Objective:
    """L_vlb at steps drawn by the size of their last losses."""

    def loss(params: Params, state: PyTree, key: Key, x0: Array) -> tuple[Array, PyTree]:
        time_key, noise_key = jax.random.split(key)
        t, weight = loss_aware.sample(time_key, len(x0), state)
        model = _model(params, CHAIN, learned_variance=True)
        found = losses.vlb(noise_key, model, CHAIN, x0, t, num_steps=NUM_STEPS)
        return weight * found, loss_aware.record(state, t, found)

    row = on_noise(CHAIN, _vlb, learned_variance=True)
    return row._replace(state=loss_aware.start(NUM_STEPS), loss=loss)


def _bound(key: Key, model: DenoiseFn, process: Process, x0: Array) -> Array:
    """The continuous bound's integral, at times even in log SNR."""
    time_key, noise_key = jax.random.split(key)
    time = times.importance(time_key, len(x0), process, weights.likelihood, t_min=T_MIN)
    return time.weight * losses.denoising_rate(noise_key, model, process, x0, time.t)


def _girsanov(divergence_name: str) -> Objective:
    def loss(key: Key, model: DenoiseFn, process: Process, x0: Array) -> Array:
        time_key, noise_key, probe_key = jax.random.split(key, 3)
        time = times.importance(time_key, len(x0), process, weights.likelihood, t_min=T_MIN)
        divergence_fn = (
            divergence.exact
            if divergence_name == "exact"
            else functools.partial(divergence.hutchinson, probe_key)
        )
        rate = losses.girsanov_rate(
            noise_key, model, process, x0, time.t, divergence_fn=divergence_fn
        )
        return time.weight * rate

    return on_noise(VP, loss)


def _learned_schedule() -> Objective:
    """The bound under a schedule whose inner shape trains to make its estimate vary less."""

    def start(key: Key) -> Params:
        schedule = LearnedVP.create(log_snr_max=6.5, log_snr_min=-7.0)
        return {"network": init(key), "schedule": schedule}

    def bound(net: Params, process: LearnedVP, key: Key, x0: Array) -> Array:
        time_key, noise_key = jax.random.split(key)
        t, _ = times.stratified(time_key, len(x0))
        return losses.denoising_rate(noise_key, _model(net, process), process, x0, t)

    def loss(params: Params, state: PyTree, key: Key, x0: Array) -> tuple[Array, PyTree]:
        net, schedule = params["network"], processes.with_fixed_ends(params["schedule"])
        found = bound(net, processes.with_fixed_shape(schedule), key, x0)
        square = jnp.square(bound(jax.lax.stop_gradient(net), schedule, key, x0))
        return found + 1e-2 * square, state

    def score(params: Params, x: Array) -> Array:
        return _score(_model(params["network"], params["schedule"]), params["schedule"], x)

    return Objective(start, (), loss, score)


def _fd_ssm(key: Key, score_fn: Callable[[Array], Array], x: Array) -> Array:
    return losses.fd_ssm(key, score_fn, x, variance_reduction=True)


OBJECTIVES: Mapping[str, Objective] = {
    "ESM (knows the score)": on_data(lambda _, s, x: losses.esm(s, true_score, x)),
    "ISM exact": on_data(lambda _, s, x: losses.ism(s, x)),
    "ISM one coordinate": on_data(functools.partial(losses.ssm, probe="coordinate")),
    "SSM": on_data(losses.ssm),
    "SSM-VR (ISM Hutchinson)": on_data(functools.partial(losses.ssm, variance_reduction=True)),
    "FD-SSM": on_data(_fd_ssm),
    "DSM one sigma": on_noise(VE, _dsm_one_sigma),
    "DSM ladder (NCSN)": _dsm(LADDER, num_steps=10),
    "DSM VE": _dsm(VE),
    "DSM VP": _dsm(VP),
    "DSM sub-VP": _dsm(SUBVP),
    "L_simple (DDPM)": _denoising(CHAIN, weights.eps),
    "L_vlb": on_noise(CHAIN, _vlb, learned_variance=True),
    "L_vlb loss-aware": _loss_aware_vlb(),
    "L_hybrid": on_noise(CHAIN, _hybrid, learned_variance=True),
    "min-SNR": _denoising(VP, weights.min_snr),
    "P2": _denoising(VP, weights.p2),
    "EDM log-normal": on_noise(VP, _edm),
    "VDM likelihood": on_noise(VP, _bound),
    "VDM learned schedule": _learned_schedule(),
    "Girsanov exact": _girsanov("exact"),
    "Girsanov Hutchinson": _girsanov("hutchinson"),
}
