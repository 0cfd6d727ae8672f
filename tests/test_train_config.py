"""The typed configuration: refusals, and round trips."""

import dataclasses
import functools
import importlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from players import loss_of

from jaxdiff import data, recipes
from jaxdiff.recipes import Run, build, choice, names
from jaxdiff.recipes.diffusion import assemble, init_params
from jaxdiff.typing import InputError

CONFIGS = sorted(
    path.stem for path in Path("experiments/configs").glob("*.py") if path.stem != "__init__"
)
SHAPES = {"digits": (8, 8, 1), "toy": (2,), "mnist": (28, 28, 1), "cifar10": (32, 32, 3)}


def read(name):
    module = importlib.import_module(f"experiments.configs.{name}")
    return recipes.from_dict(module.get_config().to_dict())


def with_one_block_per_level(config):
    """A step treats the blocks of a level alike; another test checks their published number."""
    if config.network.name in ("mlp", "dit"):
        return config
    options = {**dict(config.network.options), "blocks_per_level": 1}
    return dataclasses.replace(config, network=choice(config.network.name, **options))


@functools.cache
def shape_of_losses(config, shape):
    """Of a batch of four examples; traced once for configs that differ only outside the loss."""
    run = Run(assemble(config, shape, 10))
    batch = {
        "x": jax.ShapeDtypeStruct((4, *shape), jnp.float32),
        "label": jax.ShapeDtypeStruct((4,), jnp.int32),
    }
    params = jax.eval_shape(functools.partial(init_params, run.model), jax.random.key(0))
    return jax.eval_shape(loss_of(run.model), params, jax.random.key(0), batch).shape


QUICK = {"toy_ve", "digits_vp", "cifar10_small", "cifar10_dit"}  # one for each kind of network


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in CONFIGS]
)
def test_every_config_builds_a_network_that_runs(name):
    config = read(name)
    names.resolve(names.NETWORKS, config.network, "config.network")()  # all its blocks
    config, shape = with_one_block_per_level(config), SHAPES[name.split("_")[0]]
    assemble(config, shape, 10)
    updates = {"optimizer": recipes.OptimizerConfig(), "training": recipes.TrainingConfig()}
    assert shape_of_losses(dataclasses.replace(config, **updates), shape) == (4,)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_survives_json(name):
    config = read(name)
    assert recipes.from_dict(json.loads(json.dumps(config.as_dict()))) == config


def test_there_are_configs_for_all_processes():
    required = {"digits_vp", "digits_subvp", "digits_ve", "digits_ddpm", "toy_vp", "toy_ve"}
    others = {"mnist_vp", "toy_ssm", "toy_vdm", "digits_vdm", "digits_ncsn"}
    assert required | others <= set(CONFIGS)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"sed": 1}, "config.sed does not exist; config has seed, data, process"),
        ({"training": {"batch": 1}}, "config.training.batch does not exist"),
        ({"training": 3}, "config.training must be a mapping of fields, got 3"),
        (
            {"training": {"num_steps": 1.5}},
            "config.training.num_steps must be an integer, got 1",
        ),
        ({"training": {"num_steps": True}}, "num_steps must be an integer, got True"),
        ({"training": {"num_steps": 0}}, "num_steps must be a number above 0, got 0"),
        ({"training": {"ema_decay": 1.0}}, r"ema_decay must be a number in \[0, 1\), got 1.0"),
        ({"optimizer": {"learning_rate": "x"}}, "learning_rate must be a number, got 'x'"),
        ({"optimizer": {"learning_rate": float("nan")}}, "must be a number above 0, got nan"),
        ({"optimizer": {"learning_rate": float("inf")}}, "must be a finite number, got inf"),
        ({"optimizer": {"learning_rate": 10**400}}, "must be a finite number, got inf"),
        ({"optimizer": {"epsilon": 1e39}}, "must be a finite number, got 1e\\+39"),  # in float32
        ({"model": {"data_std": float("inf")}}, "data_std must be a finite number, got inf"),
        ({"data": {"high": float("inf")}}, "data.high must be a finite number, got inf"),
        (
            {"training": {"num_steps": 2**31}},
            "num_steps must be an integer below 2\\^31, got 21",
        ),
        ({"optimizer": {"name": "sgd"}}, "optimizer.name must be one of adam, adamw, got 'sgd'"),
        ({"data": {"size": -1}}, "config.data.size must be a number of at least 0, got -1"),
        ({"data": {"resize": "fit"}}, "config.data.resize must be one of crop, stretch, pad, got"),
        ({"data": {"flip": 1}}, "config.data.flip must be true or false, got 1"),
        ({"process": "vp"}, "config.process must be a name and its options, got 'vp'"),
    ],
)
def test_an_invalid_field_is_named_in_one_line(values, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        recipes.from_dict(values)
    assert "\n" not in str(caught.value)


SMALL = {"name": "mlp", "width": 8, "depth": 1}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"process": {"name": "vpp"}}, "config.process.name must be one of vp, subvp, ve"),
        ({"process": {"name": "vp", "beta": 1.0}}, "config.process.beta does not exist; config.pr"),
        ({"process": {"name": "vp", "beta_min": "a"}}, "beta_min must be a number, got 'a'"),
        (
            {"process": {"name": "vp", "beta_max": -9.0}},
            "config.process: beta_min and beta_max must be",
        ),
        (
            {"process": {"name": "ve", "sigma_max": 1e-3}},
            "config.process: VE requires finite 0 < sigma_min",
        ),
        (
            {"process": {"name": "vp", "beta_min": 0.0, "beta_max": 1e-40}},  # 0 in float32
            "log SNR decreases from t = 0 to t = 1",
        ),
        ({"process": {"name": "vp", "beta_max": float("inf")}}, "beta_max must be a finite number"),
        (
            {"process": {"name": "cosine_vp", "s": -0.1}},
            "config.process: CosineVP requires a finite s",
        ),
        ({"process": {"name": "ncsn", "num_steps": 10**12}}, "must be an integer below 2"),
        ({"network": {"name": "mlp", "width": 10**12}}, "width must be an integer below 2"),
        ({"network": {"name": "unet", "multipliers": (1, 2**40)}}, "an integer below 2"),
        (
            {"loss": {"weight": {"name": "p2", "gamma": float("nan")}}},
            "gamma must be a finite number",
        ),
        (
            {"loss": {"times": {"name": "log_normal", "std": -1.0}}},
            "std must be positive and finite",
        ),
        (
            {"process": {"name": "ddpm", "betas": "flat"}},
            "config.process.betas must be one of linear",
        ),
        ({"process": {"name": "ddpm", "beta_end": 2.0}}, "beta_end must be strictly between"),
        (
            {"network": {"name": "unet", "multipliers": (1, 2, 2, 2, 2)}},
            "multiples of 16, got 8 x 8",
        ),
        ({"network": {"name": "mlp", "depth": 2.5}}, "config.network.depth must be an integer"),
        ({"loss": {"weight": {"name": "snr"}}}, "config.loss.weight.name must be one of eps, sig"),
        (
            {"sampling": {"solver": {"name": "rk"}}},
            "config.sampling.solver.name must be one of anc",
        ),
        (
            {"sampling": {"times": {"name": "log"}}},
            "config.sampling.times.name must be one of unif",
        ),
        (
            {"sampling": {"times": {"name": "log_snr"}, "t_min": 0.0}},
            "log_snr_times requires t_min",
        ),
        ({"sampling": {"times": {"name": "karras"}, "t_min": 0.0}}, "karras_times requires t_min"),
        (
            {"sampling": {"times": {"name": "leading"}}},
            "t_min must be 0 for the spacings of a chain",
        ),
        (
            {"sampling": {"solver": {"name": "unipc", "order": 4}}},
            "order of UniPC must be 1, 2 or 3",
        ),
        (
            {"sampling": {"solver": {"name": "predictor_corrector", "correct_last": True}}},
            'correct_last requires order="corrector_first"',
        ),
        ({"model": {"noise_cond": "index"}}, "config.model.noise_cond: process must be a chain"),
        (
            {"sampling": {"solver": {"name": "ddim", "eta": 1.5}}},
            "config.sampling.solver: eta must",
        ),
        (
            {"network": {"name": "unet", "blocks_per_level": 0}},
            "blocks_per_level must be a positive int",
        ),
        (
            {"network": {"name": "unet", "multipliers": ()}},
            r"multipliers must be a list of .*\(\)",
        ),
        ({"optimizer": {"weight_decay": 0.1}}, "weight_decay must be 0 for adam"),
        ({"optimizer": {"warmup_steps": 10_000}}, "warmup_steps must be less than config.training"),
    ],
)
def test_configs_that_cannot_be_built_are_refused_in_one_line(change, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        Run(assemble(recipes.from_dict({"network": SMALL} | change), (8, 8, 1), 10))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "meant"),
    [
        ({"training": {"batch_sise": 1}}, "batch_size"),
        ({"trainning": {}}, "training"),
        ({"model": {"kind": "epss"}}, "eps"),
        ({"loss": {"target": "scores"}}, "score"),
        ({"process": {"name": "VPP"}}, "vp"),
        ({"process": {"name": "vp", "betamax": 1.0}}, "beta_max"),
        ({"process": {"name": "ddpm", "betas": "linar"}}, "linear"),
        ({"network": {"name": "mpl"}}, "mlp"),
        ({"network": SMALL | {"dtype": "float23"}}, None),  # an option that it has not
        ({"network": {"name": "dit", "dtype": "bfloat61"}}, "bfloat16"),
        ({"loss": {"times": {"name": "stratifed"}}}, "stratified"),
        ({"sampling": {"times": {"name": "karas"}}}, "karras"),
        ({"sampling": {"solver": {"name": "dpmp_2m"}}}, "dpmpp_2m"),
        ({"sampling": {"solver": {"name": "ancestral", "variance": "anywhere"}}}, None),
        ({"sampling": {"solver": {"name": "ancestral", "variance": "postrior"}}}, "posterior"),
        ({"sampling": {"solver": {"name": "adaptive", "method": "dopri"}}}, "dopri5"),
        ({"sampling": {"solver": {"name": "langevin", "norms": "exampel"}}}, "example"),
        ({"sampling": {"solver": {"name": "predictor_corrector", "predictor": "dim"}}}, "ddim"),
    ],
)
def test_the_nearest_name_is_suggested_for_a_misspelt_one(change, meant):
    with pytest.raises(InputError) as caught:
        Run(assemble(recipes.from_dict({"network": SMALL} | change), (8, 8, 1), 10))
    suggestion = f"; did you mean {meant!r}?"
    assert str(caught.value).endswith(suggestion) if meant else "mean" not in str(caught.value)


def test_infinity_is_accepted_where_it_is_the_default():
    solver = {"name": "stochastic_heun", "sigma_max": float("inf")}
    run = Run(
        assemble(recipes.from_dict({"network": SMALL, "sampling": {"solver": solver}}), (2,), None)
    )
    assert dict(run.config.sampling.solver.options) == {"sigma_max": float("inf")}


def test_class_conditional_training_requires_labels():
    config = recipes.from_dict({"model": {"class_conditional": True}})
    with pytest.raises(InputError, match="class_conditional must be false for data without labels"):
        Run(assemble(config, (8, 8, 1), None))


def test_a_config_resizes_its_images():
    config = recipes.Config(data=recipes.DataConfig("digits", size=4, resize="stretch"))
    dataset = build.dataset(config)
    assert dataset.shape == (4, 4, 1)
    expected = data.load("digits", size=4, resize="stretch").test
    np.testing.assert_array_equal(data.take_all(dataset.test)[0], data.take_all(expected)[0])


def test_a_unet_is_refused_vectors():
    with pytest.raises(
        InputError, match=r"config.network unet: the input of a U-Net must be .* got shape \(1, 2\)"
    ):
        Run(assemble(recipes.from_dict({}), (2,), None))
