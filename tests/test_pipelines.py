"""Pipelines of diffusers: read as runs, and written from runs."""

import dataclasses
import json
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convert_tools import SCHEDULER, UNET2D
from net_tools import any_params, normal, shapes_of
from running import run
from safetensors.numpy import load_file, save_file

from jaxdiff import recipes, schedules
from jaxdiff.nets import DDPM, DDPMPP, MLP, NCSNPP, UNet
from jaxdiff.nets.convert import (
    diffusers_config,
    diffusers_network,
    from_diffusers,
    to_diffusers,
)
from jaxdiff.recipes import Run, choice
from jaxdiff.recipes.diffusers import from_pipeline
from jaxdiff.recipes.diffusers_pipeline import save_pipeline
from jaxdiff.recipes.diffusion import assemble
from jaxdiff.typing import InputError

X, LEVEL = jnp.zeros((1, 8, 8, 3)), jnp.zeros(1)
NET = DDPM(
    channels=8, multipliers=(1, 2), blocks_per_level=1, head_dim=4, groups=4, noise_cond_scale=1.0
)
EXPRESSED = {
    "ddpm": NET,
    "heads as wide as the level": NET.clone(head_dim=64),
    "resnets between": NET.clone(resampling="block", modulation="scale_shift"),
    "as diffusers": NET.clone(padding="both", frequency_endpoint=False, epsilon=1e-5),
    "no norm in the middle": NET.clone(modulation="scale_shift", middle_norm=False),
    "no attention": NET.clone(attention_levels=(), recenter=True, head_dim=None),
    "the middle alone": NET.clone(attention_levels=(), middle_attention=True, num_outputs=2),
    "labels": NET.clone(num_classes=3, middle_attention=False),
}


@pytest.mark.parametrize("name", EXPRESSED)
def test_a_network_survives_a_round_trip_to_diffusers(name):
    net = EXPRESSED[name]
    config = json.loads(json.dumps(diffusers_config(net, (8, 8, 3))))
    again = diffusers_network(config)
    one_head = net.head_dim is not None and net.head_dim >= 16
    assert again == net.clone(head_dim=None if one_head else net.head_dim)
    label = None if net.num_classes is None else jnp.zeros(1, int)
    variables = any_params(shapes_of(net, X, LEVEL, label))
    read = from_diffusers(to_diffusers(net, variables), again)
    chex.assert_trees_all_equal(read, variables)


@pytest.mark.parametrize(
    ("net", "shape", "message"),
    [
        (
            MLP(),
            (8, 8, 3),
            r"a UNet of images, got MLP for shape \(8, 8, 3\)$",
        ),
        (NET, (8, 3), r"a UNet of images, got UNet for shape \(8, 3\)$"),
        (DDPMPP(), (8, 8, 3), r"^attention_up .* must be 'each', got 'last'$"),
        (
            NCSNPP(attention_up="each"),
            (8, 8, 3),
            r"^filter .* must be \(1, 1\), got \(1, 3, 3, 1\)$",
        ),
        (
            NET.clone(activation="elu"),
            (8, 8, 3),
            r"^activation .* must be 'silu', got 'elu'$",
        ),
        (
            NET.clone(skip_scale=0.5),
            (8, 8, 3),
            r"^skip_scale .* must be 1\.0, got 0\.5$",
        ),
        (
            NET.clone(embedding="fourier"),
            (8, 8, 3),
            r"^embedding .* must be 'sinusoidal', got 'fourier'$",
        ),
        (UNet(64), (8, 8, 3), r"same number of groups, got \[16, 32\]; set groups"),
        (
            NET.clone(head_dim=3),
            (8, 8, 3),
            r"^head_dim .* must divide the widths \[16\], got 3",
        ),
        (
            NET.clone(middle_norm=False),
            (8, 8, 3),
            r"middle_norm must be 'scale_shift', got 'shift'$",
        ),
    ],
)
def test_settings_that_no_unet2d_has_are_refused_by_name(net, shape, message):
    with pytest.raises(InputError, match=message):
        diffusers_config(net, shape)


# Pipelines

ONE_LEVEL = {  # since this part tests the files, and the part above the networks
    "block_out_channels": [8],
    "down_block_types": ["AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D"],
}


def pipeline(folder, scheduler=SCHEDULER):
    """A pipeline with random weights, with the names of diffusers."""
    config = UNET2D | {"out_channels": 3, "center_input_sample": False} | ONE_LEVEL
    net = diffusers_network(config)
    params = any_params(shapes_of(net, X, LEVEL))
    for name, content in (
        ("model_index.json", {"unet": ["diffusers", "UNet2DModel"]}),
        ("unet/config.json", config),
        ("scheduler/scheduler_config.json", scheduler),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    save_file(to_diffusers(net, params), folder / "unet/diffusion_pytorch_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return pipeline(tmp_path_factory.mktemp("written"))


def test_a_pipeline_determines_process_kind_and_sampler(written):
    config, shape, classes = from_pipeline(written)
    assert (shape, classes) == ((8, 8, 3), None)
    assert (config.model.kind, config.model.noise_cond) == ("v", "index")
    assert config.sampling.solver == choice("ancestral", variance="transition")
    process = Run(assemble(config, shape, classes)).process
    betas = np.linspace(1e-3**0.5, 0.2**0.5, 100) ** 2  # scaled_linear
    expected = np.sqrt(np.cumprod(1 - betas))
    t = np.float32(np.arange(1, 101) / 100)
    np.testing.assert_allclose(jax.vmap(process.alpha)(t), expected, rtol=1e-4)


def test_a_chain_rescaled_to_end_without_signal_survives_a_round_trip(tmp_path):
    config, *data = from_pipeline(pipeline(tmp_path, SCHEDULER | {"rescale_betas_zero_snr": True}))
    made = Run(assemble(config, *data))
    assert float(made.process.alpha(1.0)) < 1e-19
    save_pipeline(
        tmp_path / "again",
        dataclasses.replace(made, params=any_params(shapes_of(made.network, X, LEVEL))),
    )
    text = (tmp_path / "again/scheduler/scheduler_config.json").read_text()
    assert json.loads(text)["rescale_betas_zero_snr"]
    change = {"rescale_betas_zero_snr": True, "prediction_type": "epsilon"}
    described = from_pipeline(pipeline(tmp_path, SCHEDULER | change))
    with pytest.raises(
        InputError, match=r"config\.model\.kind: kind must be x0, v or edm for a chain"
    ):
        Run(assemble(*described))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"prediction_type": "flow"},
            r"json: prediction_type must be 'epsilon' or .*, got 'flow'$",
        ),
        ({"beta_schedule": "laplace"}, r"json: beta_schedule must be .*, got 'laplace'$"),
        ({"trained_betas": [0.1]}, r"json: trained_betas must be None, got \[0\.1\]$"),
        ({"variance_type": "learned"}, r"json: variance_type must be .*, got 'learned'$"),
    ],
)
def test_an_unsupported_scheduler_is_refused_by_name(written, tmp_path, change, message):
    folder = shutil.copytree(written, tmp_path / "pipeline")
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(SCHEDULER | change))
    with pytest.raises(InputError, match=message):
        from_pipeline(folder)


@pytest.mark.slow
def test_a_pipeline_becomes_a_run_that_samples_and_is_written_back_unchanged(tmp_path):
    source, made, out = (
        pipeline(tmp_path / "source"),
        tmp_path / "run",
        tmp_path / "out",
    )
    for flags in ([f"--read={source}"], [f"--write_diffusers={out}"]):
        done = run("experiments.weights", f"--workdir={made}", *flags)
        assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote ") == 5
    for name in ("unet/config.json", "scheduler/scheduler_config.json", "model_index.json"):
        before, after = (json.loads((root / name).read_text()) for root in (source, out))
        assert before == {key: after[key] for key in before}
    weights = "unet/diffusion_pytorch_model.safetensors"
    before, after = load_file(source / weights), load_file(out / weights)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        np.testing.assert_array_equal(after[name], tensor, err_msg=name)
    assert "DiffusionPipeline.from_pretrained" in (out / "README.md").read_text()


def bare_run(**fields):
    """A run of a U-Net that a pipeline can express."""
    config = recipes.Config(
        process=choice("vp"),
        network=choice("ddpm", channels=8, multipliers=(1,), blocks_per_level=1, head_dim=4,
                       attention_levels=(0,), groups=4, dropout=0.0),
        model=recipes.ModelConfig(kind="eps", noise_cond="time", scale_input=False),
        loss=recipes.LossConfig(),
    )  # fmt: skip
    return Run(assemble(dataclasses.replace(config, **fields), (8, 8, 3), None))


def tiny_run(**fields):
    """Such a run, with random weights."""
    made = bare_run(**fields)
    return dataclasses.replace(made, params=any_params(shapes_of(made.network, X, LEVEL)))


@pytest.mark.slow
def test_a_network_conditioned_on_time_is_written_for_a_chain_of_999_steps(tmp_path):
    made = tiny_run()
    save_pipeline(tmp_path, made)
    scheduler = json.loads((tmp_path / "scheduler/scheduler_config.json").read_text())
    betas = np.array(scheduler["trained_betas"])
    assert scheduler["num_train_timesteps"] == len(betas) == 999
    t = np.arange(1, 1000) / 999  # log α² of VP, in closed form
    np.testing.assert_allclose(np.cumsum(np.log1p(-betas)), -0.5 * t**2 * 19.9 - t * 0.1, rtol=1e-4)

    net = diffusers_network(json.loads((tmp_path / "unet/config.json").read_text()))
    state = load_file(tmp_path / "unet/diffusion_pytorch_model.safetensors")
    step, x = np.array([0, 499, 998]), normal((3, 8, 8, 3))
    got = jax.jit(net.apply)(from_diffusers(state, net), x, jnp.float32(step))
    expected = jax.jit(made.network.apply)(made.params, x, jnp.float32((step + 1) / 999))
    np.testing.assert_allclose(got, expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("process", "schedule"),
    [
        (choice("ddpm", beta_start=2e-4), {"beta_schedule": "linear", "beta_start": 2e-4}),
        (choice("ddpm_cosine"), {"beta_schedule": "squaredcos_cap_v2"}),
        (choice("ddpm_cosine", s=0.01), {"trained_betas": schedules.cosine_betas(1000, s=0.01)}),
    ],
)
def test_a_chain_is_named_if_diffusers_has_its_schedule(tmp_path, process, schedule):
    model = recipes.ModelConfig(kind="x0", noise_cond="index", scale_input=False)
    save_pipeline(tmp_path, tiny_run(process=process, model=model))
    scheduler = json.loads((tmp_path / "scheduler/scheduler_config.json").read_text())
    assert scheduler["prediction_type"] == "sample"
    assert ("trained_betas" in scheduler) == ("trained_betas" in schedule)
    for name, value in schedule.items():
        if name == "trained_betas":
            np.testing.assert_allclose(scheduler[name], value, rtol=1e-3, atol=1e-6)
        else:
            assert scheduler[name] == value


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"model": recipes.ModelConfig(kind="edm")},
            r"config.model.kind must be .* for a pipeline of diffusers, got 'edm'$",
        ),
        (
            {"model": recipes.ModelConfig(kind="eps", noise_cond="log_snr")},
            r"config.model.noise_cond must be 'index' or 'time' .*, got 'log_snr'$",
        ),
        (
            {"model": recipes.ModelConfig(kind="eps", data_std=0.5)},
            r"config.model.scale_input must be false, or .* got data_std 0.5$",
        ),
        ({"process": choice("subvp")}, r"must be variance-preserving .*, got subvp$"),
        (
            {"data": recipes.DataConfig(low=0.0)},
            r"config.data.low and high must be \(-1.0, 1.0\) .*, got \(0.0, 1.0\)$",
        ),
    ],
)
def test_settings_that_no_pipeline_expresses_are_refused_by_name(tmp_path, fields, message):
    with pytest.raises(InputError, match=message):
        save_pipeline(tmp_path / "new", bare_run(**fields))
    assert not (tmp_path / "new").exists()
