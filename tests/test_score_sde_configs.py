"""The published configurations of score_sde_pytorch, converted: fields by their meaning there."""

import copy
import dataclasses
import importlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convert_tools import ncsnpp_state
from net_tools import any_params, normal, shapes_of
from running import run

from jaxdiff import recipes
from jaxdiff.recipes import build, choice, names
from jaxdiff.recipes.score_sde import from_score_sde, published, read_score_sde
from jaxdiff.typing import InputError

FACTS = Path(__file__).parents[2] / "shared" / "published" / "score_sde_configs.json"
PUBLISHED = published()
REFINENETS = [name for name in PUBLISHED if name.startswith(("ve/ncsn/", "ve/ncsnv2/"))]


def test_the_configurations_match_the_published_ones():
    assert len(PUBLISHED) == 39
    assert len(PUBLISHED) - len(REFINENETS) == 28
    if not FACTS.exists():
        pytest.skip(f"{FACTS} does not exist: the facts are not part of the project")
    assert json.loads(FACTS.read_text(encoding="utf-8")) == PUBLISHED


@pytest.mark.parametrize("name", PUBLISHED)
def test_all_but_refinenets_are_supported(name):
    if name in REFINENETS:
        with pytest.raises(InputError, match=r"'ddpm' or 'ncsnpp', got 'ncsn.*', a RefineNet$"):
            from_score_sde(PUBLISHED[name])
        return
    config = from_score_sde(PUBLISHED[name])
    assert recipes.from_dict(json.loads(json.dumps(config.as_dict()))) == config


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("cifar10_ddpmpp_vp", "vp/cifar10_ddpmpp_continuous"),
        ("cifar10_ddpmpp_deep_vp", "vp/cifar10_ddpmpp_deep_continuous"),
        ("cifar10_ddpmpp_subvp", "subvp/cifar10_ddpmpp_continuous"),
        ("cifar10_ddpmpp_deep_subvp", "subvp/cifar10_ddpmpp_deep_continuous"),
        ("cifar10_ncsnpp_ve", "ve/cifar10_ncsnpp_continuous"),
        ("cifar10_ncsnpp_deep_ve", "ve/cifar10_ncsnpp_deep_continuous"),
    ],
)
def test_our_config_files_of_these_experiments_agree(module, name):
    """Written by hand from the papers, one by one."""
    file = importlib.import_module(f"experiments.configs.{module}")
    ours, theirs = recipes.from_dict(file.get_config().to_dict()), from_score_sde(PUBLISHED[name])
    nets = [
        names.resolve(names.NETWORKS, config.network, "", reserved=names.SET_ELSEWHERE)()
        for config in (ours, theirs)
    ]
    assert nets[0] == nets[1]
    assert dataclasses.replace(theirs, network=ours.network).as_dict() == ours.as_dict()


VALUES = {
    "vp/ddpm/cifar10": {
        "process": choice("ddpm", num_steps=1000, betas="linear", beta_start=1e-4, beta_end=0.02),
        "network": choice("ddpm", attention_up="last", groups=32),
        "model.kind": "eps",
        "model.noise_cond": "index",
        "data.low": -1.0,
        "loss.reduction": "mean",
        "loss.t_min": 0.0,
        "training.ema_decay": 0.9999,
        "sampling.solver": choice("ancestral", variance="transition"),
        "sampling.t_min": 1e-3,  # the first node of the chain
    },
    "vp/cifar10_ncsnpp": {
        "sampling.solver": choice("reverse_diffusion"),
        "model.noise_cond": "index",
    },
    "vp/ddpm/cifar10_unconditional": {"model.noise_cond": "none"},
    "ve/cifar10_ncsnpp": {
        "process": choice("ncsn", num_steps=1000, sigma_min=0.01, sigma_max=50.0),
        "network": choice("ncsnpp", recenter=True),
        "model.kind": "sigma_score",
        "model.noise_cond": "index",
        "data.low": 0.0,
        "data.name": "tfds:cifar10",
        "loss.reduction": "sum",
        "training.ema_decay": 0.999,
        "training.num_steps": 1_300_001,
        "sampling.num_steps": 999,  # and the final denoising
        "optimizer.warmup_steps": 5000,
    },
    "ve/ffhq_256_ncsnpp_continuous": {
        "process": choice("ve", sigma_min=0.01, sigma_max=348.0),
        "network": choice(
            "ncsnpp",
            multipliers=(1, 1, 2, 2, 2, 2, 2),
            blocks_per_level=2,
            attention_levels=(4,),
            progressive_input="sum",
            progressive_output="skip",
            recenter=True,
            dropout=0.0,
        ),
        "model.noise_cond": "fourier",
        "data.name": "folder:ffhq",
        "sampling.num_steps": 1999,
        "sampling.solver": choice(
            "predictor_corrector",
            predictor="reverse_diffusion",
            order="corrector_first",
            snr=0.075,
            num_corrections=1,
            norms="example",
            correct_last=True,
        ),
    },
}


@pytest.mark.parametrize("name", VALUES)
def test_a_field_is_converted_by_its_meaning(name):
    config = from_score_sde(PUBLISHED[name])
    for path, value in VALUES[name].items():
        found = config
        for part in path.split("."):
            found = getattr(found, part)
        if isinstance(value, recipes.Choice):
            assert found.as_dict() == value.as_dict(), path
        else:
            assert found == value, path


TINY = {"nf": 8, "ch_mult": [1, 2], "num_res_blocks": 1, "num_scales": 10}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ve/cifar10_ncsnpp", "ve/cifar10_ncsnpp_continuous"])
def test_the_score_of_a_discrete_ve_is_the_networks_at_its_label_over_sigma(name):
    """models/utils.py: labels count from the largest σ; models/ncsnpp.py divides by σ at the end.

    A continuous network gets σ itself, whose logarithm its Fourier features use.
    """
    fields = copy.deepcopy(PUBLISHED[name])
    fields["model"] |= TINY
    config = from_score_sde(fields)
    process, net = build.process(config), build.network(config, (16, 16, 3), None)
    x, t = normal((4, 16, 16, 3)), jnp.array([1.0, 0.9, 0.5, 0.1], jnp.float32)
    params = any_params(shapes_of(net, x, t))
    views = jax.jit(lambda t: build.denoise_fn(config, net, process, params)(x, t))(t)
    if config.process.name == "ncsn":
        label = np.array([0, 1, 5, 9])
        sigma = np.geomspace(50.0, 0.01, 10)[label]
        level = label.astype(np.float32)
    else:
        sigma = 0.01 * 5000.0 ** np.asarray(t)
        level = np.log(sigma).astype(np.float32)
    output = np.asarray(jax.jit(net.apply)(params, x, jnp.asarray(level)))
    score = -np.asarray(views.eps) / sigma[:, None, None, None]
    expected = output / sigma[:, None, None, None]
    np.testing.assert_allclose(score, expected, rtol=2e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("training", "sde", "other"),
        ("optim", "optimizer", "SGD"),
        ("optim", "weight_decay", 0.1),
        ("optim", "grad_clip", -1.0),
        ("model", "scale_by_sigma", False),
        ("model", "fourier_scale", 8),
        ("model", "embedding_type", "positional"),
        ("sampling", "method", "ode"),
        ("sampling", "predictor", "none"),
        ("sampling", "corrector", "ald"),
        ("sampling", "noise_removal", False),
        ("sampling", "probability_flow", True),
    ],
)
def test_unsupported_settings_are_refused_by_name(section, field, value):
    fields = copy.deepcopy(PUBLISHED["ve/cifar10_ncsnpp_continuous"])
    fields[section][field] = value
    with pytest.raises(InputError, match=f"{field}.* must be .* got "):
        from_score_sde(fields)


def test_likelihood_weighting_requires_continuous_times():
    fields = copy.deepcopy(PUBLISHED["vp/cifar10_ddpmpp_continuous"])
    fields["training"]["likelihood_weighting"] = True
    assert from_score_sde(fields).loss.weight == choice("likelihood_weighting")
    fields["training"]["continuous"] = False
    with pytest.raises(InputError, match=r"likelihood_weighting .* must be False, got True$"):
        from_score_sde(fields)


def test_custom_configs_come_from_a_file_and_must_be_complete(tmp_path):
    path, fields = tmp_path / "own.json", copy.deepcopy(PUBLISHED["vp/ddpm/cifar10"])
    path.write_text(json.dumps(fields))
    assert from_score_sde(read_score_sde(str(path))) == from_score_sde(fields)
    del fields["model"]["beta_max"]
    with pytest.raises(InputError, match=r"the score_sde config lacks 'beta_max'$"):
        from_score_sde(fields)
    for text, message in (
        ("{", "must be the JSON of"),
        ('{"model": {}}', "with the sections data"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_score_sde(str(path))
    with pytest.raises(
        InputError, match=r"must be a \.json file, or one of subvp/.*, got 've/cifar'; did"
    ):
        read_score_sde("ve/cifar")


@pytest.mark.slow
def test_a_checkpoint_becomes_a_run_with_its_config(tmp_path):
    torch = pytest.importorskip("torch")
    fields, state = copy.deepcopy(PUBLISHED["ve/cifar10_ncsnpp_continuous"]), ncsnpp_state()
    fields["model"] |= {"nf": 16, "ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": [8]}
    fields["data"]["image_size"] = 16
    trained = {name: torch.tensor(array) for name, array in state.items()}
    fixed = ("sigmas", "all_modules.0.W")
    shadow = [tensor + 1 for name, tensor in trained.items() if name not in fixed]
    torch.save(
        {"model": trained, "ema": {"shadow_params": shadow}, "step": 7, "optimizer": {}},
        tmp_path / "checkpoint_1.pth",
    )
    (tmp_path / "own.json").write_text(json.dumps(fields))
    done = run(
        "experiments.weights",
        f"--workdir={tmp_path / 'run'}",
        f"--read={tmp_path / 'checkpoint_1.pth'}",
        f"--score_sde_config={tmp_path / 'own.json'}",
    )
    assert done.returncode == 0, done.stderr
    loaded = recipes.load(tmp_path / "run")
    assert (loaded.step, loaded.shape) == (7, (16, 16, 3))
    assert loaded.config == from_score_sde(fields)
    bias = loaded.params["params"]["conv_in"]["bias"]
    np.testing.assert_array_equal(bias, state["all_modules.3.bias"] + 1)
