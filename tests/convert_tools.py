"""State dicts of other systems, built from lists of their modules: random, of the right shape."""

import numpy as np
from net_tools import normal

DDPM = {
    "name": "ddpm",
    "nonlinearity": "swish",
    "resamp_with_conv": True,
    "conditional": True,
    "nf": 32,
    "ch_mult": (1,),
    "num_res_blocks": 1,
    "attn_resolutions": (16,),
    "dropout": 0.1,
    "image_size": 16,
    "centered": True,
}
NCSNPP = DDPM | {
    "name": "ncsnpp",
    "nf": 16,
    "ch_mult": (1, 2),
    "attn_resolutions": (8,),
    "fir": True,
    "fir_kernel": [1, 3, 3, 1],
    "skip_rescale": True,
    "resblock_type": "biggan",
    "progressive": "none",
    "progressive_input": "residual",
    "progressive_combine": "sum",
    "embedding_type": "fourier",
    "fourier_scale": 16,
    "centered": False,
}


UNET2D = {
    "_class_name": "UNet2DModel",
    "act_fn": "silu",
    "attention_head_dim": 4,
    "block_out_channels": [8, 16],
    "center_input_sample": True,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "downsample_padding": 0,
    "dropout": 0.25,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 1,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-4,
    "norm_num_groups": 4,
    "out_channels": 6,
    "sample_size": 8,
    "time_embedding_type": "positional",
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
}


SCHEDULER = {
    "_class_name": "DDPMScheduler",
    "num_train_timesteps": 100,
    "beta_start": 1e-3,
    "beta_end": 0.2,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "variance_type": "fixed_large",
}


def conv(inputs, outputs, width=3):
    return {"weight": (outputs, inputs, width, width), "bias": (outputs,)}


def linear(inputs, outputs):
    return {"weight": (outputs, inputs), "bias": (outputs,)}


def norm(channels):
    return {"weight": (channels,), "bias": (channels,)}


def within(**layers):
    """Tensors of the layers of one module."""
    return {f"{layer}.{name}": s for layer, own in layers.items() for name, s in own.items()}


def random_state(modules):
    """``{module: {tensor: shape}}`` as ``{module.tensor: array}``, no two tensors alike."""
    shapes = {f"{module}.{name}": s for module, own in modules.items() for name, s in own.items()}
    return {name: normal(shape, seed) for seed, (name, shape) in enumerate(shapes.items())}


def nin(inputs, outputs):
    return {"W": (inputs, outputs), "b": (outputs,)}


def residual(inputs, outputs, embedding, skip):
    layers = {
        "GroupNorm_0": norm(inputs),
        "Conv_0": conv(inputs, outputs),
        "Dense_0": linear(embedding, outputs),
        "GroupNorm_1": norm(outputs),
        "Conv_1": conv(outputs, outputs),
    }
    return within(**layers, **skip)


def attention(channels):
    return within(
        GroupNorm_0=norm(channels), **{f"NIN_{i}": nin(channels, channels) for i in range(4)}
    )


def numbered(modules):
    return {f"all_modules.{i}": shapes for i, shapes in enumerate(modules)}


def ncsnpp_modules(output="none", given="residual", resblock="biggan", fir=True):
    """models/ncsnpp.py with two levels and one block, in order.

    Args:
        output: its ``progressive``; doubling an image without a convolution is an attribute of the
            model, ``pyramid_upsample``, not one of its ``all_modules``.
        given: its ``progressive_input``, or "cat" for an "input_skip" combined by concatenation.
    """
    biggan = resblock == "biggan"
    filtered = "Conv2d_0" if fir else "Conv_0"

    def res(inputs, outputs, resample=False):
        side = {"Conv_2": conv(inputs, outputs, 1)} if biggan else {"NIN_0": nin(inputs, outputs)}
        return residual(inputs, outputs, 64, side if inputs != outputs or resample else {})

    def resample(c):
        return res(c, c, True) if biggan else within(**{filtered: conv(c, c)})

    ends = [[norm(c), conv(c, 3)] for c in (16, 32)]
    pyramid = {
        "none": [],
        "residual": [within(**{filtered: conv(3, 16)})],
        "input_skip": [within(Conv_0=conv(3, 16, 1))],
        "cat": [within(Conv_0=conv(3, 16, 1))],
    }[given]
    wide = 32 if given == "cat" else 16
    deepest = {"none": [], "output_skip": ends[1], "residual": [norm(32), conv(32, 32)]}[output]
    first = [within(**{filtered: conv(32, 16)})] if output == "residual" else []
    return [
        {"W": (16,)},
        *(linear(32, 64), linear(64, 64), conv(3, 16)),
        *(res(16, 16), resample(16), *pyramid),
        *(res(wide, 32), attention(32)),
        *(res(32, 32), attention(32), res(32, 32)),
        *(res(64, 32), res(32 + wide, 32), attention(32)),
        *deepest,
        *(resample(32), res(48, 16), res(32, 16)),
        *first,
        *ends[0],
    ]


def ncsnpp_state(**options):
    return {"sigmas": normal((1000,), 999)} | random_state(numbered(ncsnpp_modules(**options)))


def ddpm_state():
    """models/ddpm.py with one level and one block: a projected skip is a NIN there."""
    plain, joined = residual(32, 32, 128, {}), residual(64, 32, 128, {"NIN_0": nin(64, 32)})
    modules = [linear(32, 128), linear(128, 128), conv(3, 32), plain, attention(32)]
    modules += [plain, attention(32), plain]
    modules += [joined, joined, attention(32), norm(32), conv(32, 3)]
    return {"sigmas": normal((1000,), 999)} | random_state(numbered(modules))


def of_conv(tensor):
    """OIHW as HWIO."""
    return np.transpose(tensor, (2, 3, 1, 0))


def paths(params):
    """``{"part/layer/leaf": array}``."""
    flat = {}
    for part, tree in params.items():
        for key, value in tree.items():
            inner = value if isinstance(value, dict) else {"": value}
            for leaf, array in inner.items():
                flat["/".join(filter(None, (part, key, leaf)))] = np.asarray(array)
    return flat


def assert_same(got, expected):
    assert got.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(got[path], value, err_msg=path)
