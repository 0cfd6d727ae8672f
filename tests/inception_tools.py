"""Inception-v3 of the FID, written out once more: its tensors, and the order of its operations.

The operations themselves are arguments, so that one description serves NumPy and torch. A layer is
``(inputs, outputs, (h, w), stride, (pad_h, pad_w))``, under torchvision's names.
"""

import numpy as np

NORM = ("weight", "bias", "running_mean", "running_var")


def layer(inputs, outputs, size=(1, 1), stride=1, pad=None):
    return inputs, outputs, size, stride, pad or (0, 0)


def mixed_5(inputs, pooled):
    return {
        "branch1x1": layer(inputs, 64),
        "branch5x5_1": layer(inputs, 48),
        "branch5x5_2": layer(48, 64, (5, 5), pad=(2, 2)),
        "branch3x3dbl_1": layer(inputs, 64),
        "branch3x3dbl_2": layer(64, 96, (3, 3), pad=(1, 1)),
        "branch3x3dbl_3": layer(96, 96, (3, 3), pad=(1, 1)),
        "branch_pool": layer(inputs, pooled),
    }


def mixed_6a(inputs):
    return {
        "branch3x3": layer(inputs, 384, (3, 3), 2),
        "branch3x3dbl_1": layer(inputs, 64),
        "branch3x3dbl_2": layer(64, 96, (3, 3), pad=(1, 1)),
        "branch3x3dbl_3": layer(96, 96, (3, 3), 2),
    }


def mixed_6(inputs, c):
    return {
        "branch1x1": layer(inputs, 192),
        "branch7x7_1": layer(inputs, c),
        "branch7x7_2": layer(c, c, (1, 7), pad=(0, 3)),
        "branch7x7_3": layer(c, 192, (7, 1), pad=(3, 0)),
        "branch7x7dbl_1": layer(inputs, c),
        "branch7x7dbl_2": layer(c, c, (7, 1), pad=(3, 0)),
        "branch7x7dbl_3": layer(c, c, (1, 7), pad=(0, 3)),
        "branch7x7dbl_4": layer(c, c, (7, 1), pad=(3, 0)),
        "branch7x7dbl_5": layer(c, 192, (1, 7), pad=(0, 3)),
        "branch_pool": layer(inputs, 192),
    }


def mixed_7a(inputs):
    return {
        "branch3x3_1": layer(inputs, 192),
        "branch3x3_2": layer(192, 320, (3, 3), 2),
        "branch7x7x3_1": layer(inputs, 192),
        "branch7x7x3_2": layer(192, 192, (1, 7), pad=(0, 3)),
        "branch7x7x3_3": layer(192, 192, (7, 1), pad=(3, 0)),
        "branch7x7x3_4": layer(192, 192, (3, 3), 2),
    }


def mixed_7(inputs):
    return {
        "branch1x1": layer(inputs, 320),
        "branch3x3_1": layer(inputs, 384),
        "branch3x3_2a": layer(384, 384, (1, 3), pad=(0, 1)),
        "branch3x3_2b": layer(384, 384, (3, 1), pad=(1, 0)),
        "branch3x3dbl_1": layer(inputs, 448),
        "branch3x3dbl_2": layer(448, 384, (3, 3), pad=(1, 1)),
        "branch3x3dbl_3a": layer(384, 384, (1, 3), pad=(0, 1)),
        "branch3x3dbl_3b": layer(384, 384, (3, 1), pad=(1, 0)),
        "branch_pool": layer(inputs, 192),
    }


STEM = {
    "Conv2d_1a_3x3": layer(3, 32, (3, 3), 2),
    "Conv2d_2a_3x3": layer(32, 32, (3, 3)),
    "Conv2d_2b_3x3": layer(32, 64, (3, 3), pad=(1, 1)),
    "Conv2d_3b_1x1": layer(64, 80),
    "Conv2d_4a_3x3": layer(80, 192, (3, 3)),
}
BLOCKS = {
    "Mixed_5b": mixed_5(192, 32),
    "Mixed_5c": mixed_5(256, 64),
    "Mixed_5d": mixed_5(288, 64),
    "Mixed_6a": mixed_6a(288),
    "Mixed_6b": mixed_6(768, 128),
    "Mixed_6c": mixed_6(768, 160),
    "Mixed_6d": mixed_6(768, 160),
    "Mixed_6e": mixed_6(768, 192),
    "Mixed_7a": mixed_7a(768),
    "Mixed_7b": mixed_7(1280),
    "Mixed_7c": mixed_7(2048),
}
LAYERS = STEM | {f"{block}.{name}": v for block, own in BLOCKS.items() for name, v in own.items()}


def shapes(layers):
    """Shapes of the tensors of layers, by name."""
    found = {}
    for name, (inputs, outputs, size, _, _) in layers.items():
        found[f"{name}.conv.weight"] = (outputs, inputs, *size)
        found |= {f"{name}.bn.{leaf}": (outputs,) for leaf in NORM}
    return found


TENSORS = shapes(LAYERS) | {"fc.weight": (1008, 2048), "fc.bias": (1008,)}
"""All tensors of the published file, and their shapes."""


def random_state(tensors, seed=0):
    """Tensors with which activations keep their size, no two alike."""
    rng = np.random.default_rng(seed)
    ranges = dict(zip(NORM, ((0.8, 1.2), (-0.1, 0.2), (-0.2, 0.2), (0.7, 1.3)), strict=True))

    def draw(name, shape):
        if len(shape) > 1:
            gain = 2 if "conv" in name else 1
            scale = (gain / np.prod(shape[1:])) ** 0.5
            return rng.standard_normal(shape, np.float32) * np.float32(scale)
        return rng.uniform(*ranges[name.rpartition(".")[2]], shape).astype(np.float32)

    return {name: draw(name, shape) for name, shape in tensors.items()}


def chain(conv, block, x, *names):
    for name in names:
        x = conv(f"{block}.{name}", x)
    return x


def run_block(block, x, conv, pools):
    """Outputs of the branches of one block; ``pools`` has halve, average and max."""
    if block.startswith("Mixed_5"):
        return [
            conv(f"{block}.branch1x1", x),
            chain(conv, block, x, "branch5x5_1", "branch5x5_2"),
            chain(conv, block, x, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
            conv(f"{block}.branch_pool", pools["average"](x)),
        ]
    if block == "Mixed_6a":
        return [
            conv(f"{block}.branch3x3", x),
            chain(conv, block, x, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
            pools["halve"](x),
        ]
    if block.startswith("Mixed_6"):
        return [
            conv(f"{block}.branch1x1", x),
            chain(conv, block, x, *(f"branch7x7_{i}" for i in (1, 2, 3))),
            chain(conv, block, x, *(f"branch7x7dbl_{i}" for i in (1, 2, 3, 4, 5))),
            conv(f"{block}.branch_pool", pools["average"](x)),
        ]
    if block == "Mixed_7a":
        return [
            chain(conv, block, x, "branch3x3_1", "branch3x3_2"),
            chain(conv, block, x, *(f"branch7x7x3_{i}" for i in (1, 2, 3, 4))),
            pools["halve"](x),
        ]
    three = conv(f"{block}.branch3x3_1", x)
    double = chain(conv, block, x, "branch3x3dbl_1", "branch3x3dbl_2")
    pooled = pools["max" if block == "Mixed_7c" else "average"](x)
    return [
        conv(f"{block}.branch1x1", x),
        *(conv(f"{block}.branch3x3_2{side}", three) for side in "ab"),
        *(conv(f"{block}.branch3x3dbl_3{side}", double) for side in "ab"),
        conv(f"{block}.branch_pool", pooled),
    ]


def run_stem(x, conv, pools):
    for name in ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"):
        x = conv(name, x)
    x = pools["halve"](x)
    for name in ("Conv2d_3b_1x1", "Conv2d_4a_3x3"):
        x = conv(name, x)
    return pools["halve"](x)


def run(x, conv, pools, concatenate):
    """``(last, spatial)``: the output of the last block, and that of ``Mixed_6d``."""
    x = run_stem(x, conv, pools)
    for block in BLOCKS:
        x = concatenate(run_block(block, x, conv, pools))
        if block == "Mixed_6d":
            spatial = x
    return x, spatial


def windows(x, size, stride):
    """Each pixel of all windows of ``x [n, h, w, c]``, one after another."""
    height, width = ((n - k) // stride + 1 for n, k in zip(x.shape[1:3], size, strict=True))
    for i, j in np.ndindex(*size):
        rows = slice(i, i + stride * (height - 1) + 1, stride)
        columns = slice(j, j + stride * (width - 1) + 1, stride)
        yield (i, j), x[:, rows, columns]


def padded(x, pad, value=0.0):
    return np.pad(x, [(0, 0), *((p, p) for p in pad), (0, 0)], constant_values=value)


def numpy_conv(state, layers):
    """Convolution, normalisation and ReLU, one offset of the kernel after another."""

    def conv(name, x):
        _, _, size, stride, pad = layers[name]
        w = state[f"{name}.conv.weight"].astype(x.dtype)
        total = sum(
            (p.reshape(-1, p.shape[-1]) @ w[:, :, i, j].T).reshape(*p.shape[:-1], -1)  # one product
            for (i, j), p in windows(padded(x, pad), size, stride)
        )
        gamma, beta, mean, variance = (state[f"{name}.bn.{leaf}"].astype(x.dtype) for leaf in NORM)
        return np.maximum(gamma * (total - mean) / np.sqrt(variance + 1e-3) + beta, 0)

    return conv


def numpy_average(x):
    """Mean over the pixels of a window that exist."""
    total, number = (
        sum(p for _, p in windows(padded(y, (1, 1)), (3, 3), 1)) for y in (x, np.ones_like(x))
    )
    return total / number


NUMPY_POOLS = {
    "halve": lambda x: np.max([p for _, p in windows(x, (3, 3), 2)], axis=0),
    "average": numpy_average,
    "max": lambda x: np.max([p for _, p in windows(padded(x, (1, 1), -np.inf), (3, 3), 1)], axis=0),
}


def numpy_features(state, x):
    """``(pool, spatial, logits)`` of ``x [n, h, w, 3]``."""
    conv = numpy_conv(state, LAYERS)
    last, spatial = run(x, conv, NUMPY_POOLS, lambda parts: np.concatenate(parts, axis=-1))
    pool = last.mean(axis=(1, 2))
    return pool, spatial[..., :7], pool @ state["fc.weight"].T
