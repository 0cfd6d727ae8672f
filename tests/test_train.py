"""Training: the pure step against optax by hand, and runs that are stopped and go on."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import tiny_config

from jaxdiff import train
from jaxdiff.train import build
from jaxdiff.train import run as run_module
from jaxdiff.train.checkpoints import Checkpoints
from jaxdiff.train.run import assemble, fresh_state
from jaxdiff.train.workdir import write_config
from jaxdiff.typing import InputError


def quadratic(params, key, batch):
    """Loss with the gradient params − mean(x), and no randomness."""
    return 0.5 * jnp.sum((params["w"][None] - batch["x"]) ** 2, axis=1)


def bits(tree):
    """Every leaf as raw bytes, keys included."""
    leaves = jax.tree.leaves(tree)
    return [
        np.asarray(
            jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        ).tobytes()
        for leaf in leaves
    ]


def quiet(line):
    """Swallow a line of report."""


# --- the pure step ----------------------------------------------------------------------------


def test_a_step_of_plain_descent_is_that_of_the_formula():
    batch = {"x": jnp.array([[1.0, 2.0], [3.0, 4.0]])}
    optimizer = optax.sgd(0.1)
    state = train.init_state(jax.random.key(0), {"w": jnp.array([0.0, 1.0])}, optimizer)
    after, metrics = train.train_step(
        state, batch, loss_fn=quadratic, optimizer=optimizer, ema_decay=0.9
    )
    gradient = np.array([0.0, 1.0]) - np.array([2.0, 3.0])
    np.testing.assert_allclose(after.params["w"], np.array([0.0, 1.0]) - 0.1 * gradient, rtol=1e-6)
    np.testing.assert_allclose(metrics["grad_norm"], np.hypot(*gradient), rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"], 0.5 * np.mean([1 + 1, 9 + 9]), rtol=1e-6)
    assert int(after.step) == 1


def test_ema_is_the_recursion_of_the_formula_with_its_warm_up():
    params = np.sin(np.arange(40.0))
    average, expected = {"w": jnp.asarray(0.0)}, 0.0
    for k, value in enumerate(params):
        average = train.ema_update(average, {"w": jnp.asarray(value)}, jnp.asarray(k), decay=0.7)
        d = min(0.7, (1 + k) / (10 + k))
        expected = d * expected + (1 - d) * value
    np.testing.assert_allclose(average["w"], expected, rtol=1e-5)


def test_ema_of_a_constant_forgets_where_it_began():
    average = {"w": jnp.asarray(1.0)}
    for k in range(60):
        average = train.ema_update(average, {"w": jnp.asarray(0.0)}, jnp.asarray(k), decay=0.9999)
    # With no warm-up 0.9999^60 = 0.994 of the start would be left; ∏(1+k)/(10+k) leaves 10⁻¹⁰.
    assert float(average["w"]) < 1e-6


def rates(**options):
    config = train.from_dict({"optimizer": options, "training": {"num_steps": 100}})
    optimizer = build.optimizer(config)
    params = jnp.zeros(1)
    state, moved = optimizer.init(params), []
    for _ in range(100):
        # Adam's first moments settle at once on a constant gradient: every update is −rate.
        update, state = optimizer.update(jnp.ones(1), state, params)
        moved.append(-float(update[0]))
    return np.array(moved)


def test_learning_rate_warms_up_and_falls_by_the_cosine():
    step = np.arange(100)
    expected = np.where(step < 20, 0.01 * step / 20, 0.005 * (1 + np.cos(np.pi * (step - 20) / 80)))
    moved = rates(learning_rate=0.01, schedule="cosine", warmup_steps=20)
    np.testing.assert_allclose(moved, expected, atol=2e-6)


def test_learning_rate_stays_where_it_warmed_up_to():
    expected = 0.01 * np.minimum(np.arange(100) / 20, 1)
    np.testing.assert_allclose(rates(learning_rate=0.01, warmup_steps=20), expected, atol=2e-6)


def test_gradients_are_clipped_by_their_global_norm():
    grads = {"a": jnp.array([30.0]), "b": jnp.array([40.0])}
    # At an epsilon far above the gradient Adam divides by a constant, which shows what it was fed.
    config = train.from_dict(
        {"optimizer": {"clip_norm": 1.0, "epsilon": 1e6, "learning_rate": 1e6, "b1": 0.0}}
    )
    optimizer = build.optimizer(config)
    update, _ = optimizer.update(grads, optimizer.init(grads), grads)
    np.testing.assert_allclose([-update["a"][0], -update["b"][0]], [0.6, 0.8], rtol=1e-4)


def test_noise_is_a_function_of_the_key():
    run = assemble(tiny_config(), (2,), 2)
    loss_fn = build.loss_fn(run.config, run.network, run.process)
    params = fresh_state(run).params
    batch = {"x": jnp.zeros((4, 2)), "label": jnp.zeros(4, int)}
    losses = [loss_fn(params, jax.random.fold_in(jax.random.key(0), k), batch) for k in (0, 0, 1)]
    np.testing.assert_array_equal(losses[0], losses[1])
    assert np.all(np.asarray(losses[0]) != np.asarray(losses[2]))


def test_a_network_of_zeros_starts_at_the_loss_of_the_prior():
    """At initialisation the network is 0, so EDM's loss per dimension is E F² = 1 for unit data."""
    config = tiny_config(
        model=train.ModelConfig(data_std=1.0),
        loss=train.LossConfig(target="x0", weight=train.choice("edm", data_std=1.0)),
    )
    run = assemble(config, (2,), 2)
    loss_fn = jax.jit(build.loss_fn(config, run.network, run.process))
    x = jax.random.normal(jax.random.key(1), (4096, 2))
    params = fresh_state(run).params
    loss = loss_fn(params, jax.random.key(2), {"x": x, "label": jnp.zeros(4096, int)})
    error = np.std(loss) / np.sqrt(loss.size)
    assert abs(np.mean(loss) - 1.0) < 5 * error


# --- runs -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "straight"
    lines = []
    return train.train(tiny_config(), workdir, say=lines.append), workdir, lines


def final_state(workdir, config):
    run = assemble(config, (2,), 2)
    with Checkpoints(workdir) as checkpoints:
        return checkpoints.restore(fresh_state(run))


def rows(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if "second" not in k} for line in lines]


def test_a_run_leaves_what_it_says(trained):
    run, workdir, lines = trained
    assert run.step == 6
    written = [line.removeprefix("wrote ") for line in lines if line.startswith("wrote ")]
    assert written == [
        str(workdir / name)
        for name in ("config.json", "metrics.jsonl", "loss.png", "samples.png", "checkpoints")
    ]
    assert all((workdir / name).exists() for name in written)
    assert [row["step"] for row in rows(workdir)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("died_after", [1, 2, 5])
def test_a_run_that_died_goes_on_to_the_same_bits(trained, tmp_path, monkeypatch, died_after):
    _, straight, _ = trained
    update = train.loop.Progress.update

    def dying(self, step, metrics):
        update(self, step, metrics)
        if step == died_after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train.loop.Progress, "update", dying)
        with pytest.raises(KeyboardInterrupt):
            train.train(tiny_config(), tmp_path, say=quiet)
    train.train(tiny_config(), tmp_path, say=quiet)
    assert bits(final_state(tmp_path, tiny_config())) == bits(final_state(straight, tiny_config()))
    assert rows(tmp_path) == rows(straight)
    assert (tmp_path / "samples.png").read_bytes() == (straight / "samples.png").read_bytes()


def test_another_seed_is_another_run(trained, tmp_path):
    _, straight, _ = trained
    other = dataclasses.replace(tiny_config(), seed=1)
    train.train(other, tmp_path, say=quiet)
    assert rows(tmp_path)[0]["loss"] != rows(straight)[0]["loss"]


def test_a_finished_run_is_left_as_it_is(trained):
    _, workdir, _ = trained
    before = rows(workdir)
    state = final_state(workdir, tiny_config())
    assert train.train(tiny_config(), workdir, say=quiet).step == 6
    assert rows(workdir) == before
    assert bits(final_state(workdir, tiny_config())) == bits(state)


def test_a_workdir_of_another_config_is_refused_and_nothing_overwritten(trained):
    _, workdir, _ = trained
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    other = dataclasses.replace(tiny_config(), seed=3)
    with pytest.raises(InputError, match=r"another config.*config\.seed: 0 -> 3"):
        train.train(other, workdir, say=quiet)
    assert before == {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}


def test_only_the_newest_checkpoints_are_kept(trained):
    _, workdir, _ = trained
    steps = {path.name for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()}
    assert steps == {"4", "6"}


def test_a_loss_that_is_not_finite_ends_the_run_before_it_is_saved(tmp_path):
    config = tiny_config(
        optimizer=train.OptimizerConfig(learning_rate=1e30, clip_norm=1e30),
    )
    with pytest.raises(InputError, match="stopped being finite by step"):
        train.train(config, tmp_path, say=quiet)
    assert not [p for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()]


# --- what a notebook loads --------------------------------------------------------------------


def test_load_gives_back_the_averaged_parameters(trained):
    run, workdir, _ = trained
    loaded = train.load(workdir)
    assert loaded.step == 6
    assert loaded.config == run.config
    assert bits(loaded.params) == bits(final_state(workdir, tiny_config()).ema_params)


def test_samples_are_a_function_of_the_key_and_compile_once(trained):
    run, _, _ = trained
    first = run.sample(jax.random.key(0), 4)
    compiled = run_module._sample._cache_size()
    again, other = run.sample(jax.random.key(0), 4), run.sample(jax.random.key(1), 4)
    assert run_module._sample._cache_size() == compiled
    assert first.shape == (4, 2)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_samples_are_the_walk_of_the_named_solver(trained):
    """What ``sample`` compiles equals the library's own parts put together by hand."""
    import jaxdiff
    from jaxdiff import processes, schedules, solvers

    run, _, _ = trained
    key = jax.random.key(5)
    prior_key, solver_key = jax.random.split(jax.random.split(key)[1])
    x_init = processes.sample_prior(prior_key, run.process, (3, 2))
    times = schedules.karras_times(run.process, 4, t_min=1e-3)
    walked = jaxdiff.sample(solver_key, solvers.heun(run.denoise_fn, run.process), x_init, times)
    expected = run.denoise_fn(walked, times[-1]).x0
    found = run.sample(key, 3, solver="heun", times="karras", num_steps=4)
    np.testing.assert_allclose(found, expected, atol=2e-4, rtol=1e-4)


def test_a_trajectory_starts_at_the_noise_and_ends_at_the_sample(trained):
    run, _, _ = trained
    x, saved = run.trajectory(jax.random.key(0), 2, num_steps=5)
    assert saved.shape == (6, 2, 2)
    np.testing.assert_allclose(run.denoise_fn(saved[-1], 1e-3).x0, x, atol=1e-5)


def test_a_class_conditional_run_listens_to_its_label(tmp_path):
    config = tiny_config(num_steps=3, model=train.ModelConfig(class_conditional=True))
    run = train.train(config, tmp_path, say=quiet)
    same = [run.sample(jax.random.key(0), 2, label=k) for k in (0, 0, 1)]
    np.testing.assert_array_equal(same[0], same[1])
    assert not np.array_equal(same[0], same[2])
    mixed = run.sample(jax.random.key(0), 2, label=jnp.array([0, 1]))
    np.testing.assert_allclose(mixed[0], same[0][0], atol=1e-5)
    assert run.sample(jax.random.key(0), 2).shape == (2, 2)


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        (lambda workdir: None, "holds no run: there is no config.json"),
        (lambda workdir: (workdir / "config.json").write_text("{"), "is not the configuration of"),
        (
            lambda workdir: write_config(workdir, tiny_config(), (2,), 2),
            "holds no checkpoint to load",
        ),
    ],
)
def test_a_workdir_without_a_model_is_told_in_one_sentence(tmp_path, prepare, sentence):
    prepare(tmp_path)
    with pytest.raises(InputError, match=sentence) as caught:
        train.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_unknown_solver_or_option_is_told_in_one_sentence(trained):
    run, _, _ = trained
    with pytest.raises(InputError, match=r"solver\.name takes one of ancestral"):
        run.sample(jax.random.key(0), 1, solver="rk9")
    with pytest.raises(InputError, match=r"solver\.eta does not exist"):
        run.sample(jax.random.key(0), 1, solver="heun", eta=0.5)
    with pytest.raises(InputError, match="at least 1, got 0"):
        run.sample(jax.random.key(0), 0)
