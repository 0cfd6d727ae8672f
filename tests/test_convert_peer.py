"""UNet2DModels with random weights, against diffusers itself where it is installed."""

import jax
import numpy as np
import pytest
from net_tools import normal
from test_pipelines import tiny_run

from jaxdiff import recipes, sample, schedules, solvers
from jaxdiff.nets.convert import diffusers_network, load_diffusers
from jaxdiff.recipes import choice
from jaxdiff.recipes.diffusers_pipeline import save_pipeline

pytest.importorskip("diffusers", reason="diffusers is an extra: pip install -e '.[bench]'")

SMALL = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": 4,
    "norm_num_groups": 4,
}
RESNETS = {
    "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "upsample_type": "resnet",
}
KINDS = {
    "as diffusers has it": {},
    "as ddpm has it": {"downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1},
    "scale and shift, resnets between": {"resnet_time_scale_shift": "scale_shift"} | RESNETS,
    "a norm in the middle": {"resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 4},
    "no attention in the middle": {"add_attention": False},
    "labels": {"num_class_embeds": 3},
    "fourier": {"time_embedding_type": "fourier", "center_input_sample": True},
    "learned variance": {"out_channels": 6, "attention_head_dim": None},
}


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def randomised(torch, model):
    """Randomise all parameters, many of which start at zero or one."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            shape = parameter.shape
            parameter.copy_(torch.randn(shape, generator=generator) / max(1, shape[-1]) ** 0.5)
    return model.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_a_unet2d_reproduces_its_output_in_diffusers(torch, tmp_path, kind):
    from diffusers import UNet2DModel

    model = randomised(torch, UNet2DModel(**SMALL | KINDS[kind]))
    model.save_pretrained(tmp_path)
    net, variables = load_diffusers(tmp_path)
    assert net == diffusers_network(model.config)
    x, level = normal((2, 8, 8, 3)), np.array([3.0, 700.0], np.float32)
    label = np.array([0, 2]) if "num_class_embeds" in KINDS[kind] else None
    with torch.no_grad():
        expected = model(
            torch.tensor(np.moveaxis(x, -1, 1)),
            torch.tensor(level),
            class_labels=None if label is None else torch.tensor(label),
        ).sample
    expected = np.moveaxis(expected.numpy(), 1, -1)
    fourier = kind == "fourier"
    got = jax.jit(net.apply)(variables, x, np.log(level) if fourier else level, label)
    got = np.asarray(got) / (level[:, None, None, None] if fourier else 1)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("level", ["index", "time"])
def test_diffusers_loads_our_pipeline_and_draws_the_same_samples(torch, tmp_path, level):
    """No tensor is misnamed, or it would be random, with a warning; ten steps of DDIM."""
    from diffusers import DDIMScheduler, DiffusionPipeline, UNet2DModel

    process = choice("ddpm") if level == "index" else choice("vp")
    model = recipes.ModelConfig(kind="eps", noise_cond=level, scale_input=False)
    run = tiny_run(process=process, model=model)
    save_pipeline(tmp_path, run)
    _, loading = UNet2DModel.from_pretrained(tmp_path / "unet", output_loading_info=True)
    assert not any(loading[kind] for kind in ("missing_keys", "unexpected_keys"))
    pipeline = DiffusionPipeline.from_pretrained(tmp_path)
    unet = pipeline.unet.eval()

    x, steps = normal((2, 8, 8, 3)), 1000 if level == "index" else 999
    theirs = torch.tensor(np.moveaxis(x, -1, 1))
    with torch.no_grad():
        output = unet(theirs, torch.tensor([10, 700])).sample
    t = np.float32((np.array([10, 700]) + 1) / steps)
    got = jax.jit(lambda t: run.denoise_fn(x, t).eps)(t)
    expected = np.moveaxis(output.numpy(), 1, -1)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())

    count = 10 if level == "index" else 9  # a divisor of 999
    scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    scheduler.set_timesteps(count)
    for step in scheduler.timesteps:
        with torch.no_grad():
            theirs = scheduler.step(unet(theirs, step).sample, step, theirs).prev_sample
    draw = jax.jit(
        lambda x: sample(
            jax.random.key(0),
            solvers.ddim(run.denoise_fn, run.process),
            x,
            schedules.uniform_times(count),
        )
    )
    expected = np.moveaxis(theirs.numpy(), 1, -1)
    np.testing.assert_allclose(draw(x), expected, rtol=0, atol=1e-4 * np.abs(expected).max())
