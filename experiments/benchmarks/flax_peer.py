"""The same network as most JAX code writes it, and a sampler that loops in Python.

Flax's own GroupNorm, einsums for attention, ``jax.image.resize`` before a convolution, and one
compiled call for every step of sampling. It uses the same parameters as ours.
"""

import functools
import itertools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks.contender import SAMPLING_STEPS, Contender
from jaxdiff.nets import UNet
from jaxdiff.nets.embeddings import sinusoidal
from jaxdiff.nets.norm import num_groups
from jaxdiff.typing import Array, Params


class PlainUNet(nn.Module):
    """The U-Net of DDPM, layer after layer; fields as in ours.

    Args:
        of: our network, of the kind of ddpm.
    """

    of: Mapping[str, Any]

    @nn.compact
    def __call__(self, x: Array, level: Array) -> Array:
        """Predict from ``x [batch, h, w, c]`` and ``level [batch]``."""
        of = self.of
        widths = [of["channels"] * multiplier for multiplier in of["multipliers"]]
        waves = sinusoidal(level, of["channels"], scale=of["noise_cond_scale"])
        hidden = nn.Dense(4 * of["channels"], name="dense_0")(waves)
        embedding = nn.silu(nn.Dense(4 * of["channels"], name="dense_1")(nn.silu(hidden)))

        def norm(h: Array, name: str) -> Array:
            groups = of["groups"] or num_groups(h.shape[-1])
            return nn.GroupNorm(groups, epsilon=of["epsilon"], name=name)(h)

        def conv(width: int, name: str, strides: int = 1) -> nn.Conv:
            return nn.Conv(width, (3, 3), strides=strides, name=name)

        def block(h: Array, width: int, name: str) -> Array:
            skip = h
            h = conv(width, f"{name}_conv_0")(nn.silu(norm(h, f"{name}_norm_0")))
            h += nn.Dense(width, name=f"{name}_modulation")(embedding)[:, None, None]
            h = conv(width, f"{name}_conv_1")(nn.silu(norm(h, f"{name}_norm_1")))
            if skip.shape[-1] != width:
                skip = nn.Dense(width, name=f"{name}_skip")(skip)
            return skip + h

        def attention(h: Array, name: str) -> Array:
            batch, height, width, channels = h.shape
            heads = channels // (of["head_dim"] or channels)
            split = (batch, height * width, heads, channels // heads)
            tokens = norm(h, f"{name}_norm").reshape(batch, height * width, channels)
            q, k, v = jnp.split(nn.Dense(3 * channels, name=f"{name}_qkv")(tokens), 3, axis=-1)
            q, k, v = (a.reshape(split) for a in (q, k, v))
            weights = nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) / split[-1] ** 0.5)
            mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(tokens.shape)
            return h + nn.Dense(channels, name=f"{name}_out")(mixed).reshape(h.shape)

        h = conv(widths[0], "conv_in")(x)
        skips, last = [h], len(widths) - 1
        for depth, width in enumerate(widths):
            for i in range(of["blocks_per_level"]):
                h = block(h, width, f"down_{depth}_block_{i}")
                if depth in of["attention_levels"]:
                    h = attention(h, f"down_{depth}_attention_{i}")
                skips.append(h)
            if depth < last:
                h = conv(width, f"down_{depth}_resample", strides=2)(h)
                skips.append(h)
        h = block(h, widths[-1], "middle_block_0")
        h = attention(h, "middle_attention") if of["attention_levels"] else h
        h = block(h, widths[-1], "middle_block_1")
        for depth, width in reversed(list(enumerate(widths))):
            for i in range(of["blocks_per_level"] + 1):
                skip = skips.pop()
                h = block(jnp.concatenate([h, skip], -1), width, f"up_{depth}_block_{i}")
                if depth in of["attention_levels"]:
                    h = attention(h, f"up_{depth}_attention_{i}")
            if depth > 0:
                shape = (h.shape[0], 2 * h.shape[1], 2 * h.shape[2], width)
                h = conv(width, f"up_{depth}_resample")(jax.image.resize(h, shape, "nearest"))
        return conv(x.shape[-1], "out_0_conv")(nn.silu(norm(h, "out_0_norm")))


def flax_peer(net: UNet, variables: Params, x: np.ndarray) -> Contender:
    """Build the usual implementation, with the same parameters as ours.

    Args:
        net: our network, of the kind of ddpm.
        variables: its parameters.
        x: the batch.
    """
    fields = {name: getattr(net, name) for name in UNet.__dataclass_fields__}
    plain = PlainUNet(fields)
    params = {"params": flattened(variables["params"])}
    batch, level = jnp.asarray(x), jnp.full(len(x), 500.0)
    call = jax.jit(plain.apply)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(2e-4))
    alphas = jnp.sqrt(jnp.cumprod(1 - jnp.linspace(1e-4, 0.02, 1000)))

    @functools.partial(jax.jit, donate_argnums=(0, 1, 2))
    def update(params: Params, average: Params, opt_state: Any, key: Any) -> Any:
        noise_key, step_key = jax.random.split(key)
        noise = jax.random.normal(noise_key, batch.shape)
        steps = jax.random.randint(step_key, (len(batch),), 0, 1000)
        alpha = alphas[steps][:, None, None, None]
        noisy = alpha * batch + jnp.sqrt(1 - alpha**2) * noise

        def loss(params: Params) -> Array:
            eps: Any = plain.apply(params, noisy, steps.astype(jnp.float32))
            return jnp.mean((eps - noise) ** 2)

        value, grads = jax.value_and_grad(loss)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        average = optax.incremental_update(params, average, 1e-4)
        return params, average, opt_state, value

    @jax.jit
    def start(params: Params) -> Any:
        copies = [jax.tree.map(jnp.copy, params) for _ in range(2)]
        return *copies, optimizer.init(params)

    states = [start(params)]

    def step(index: int) -> Any:
        *state, value = update(*states.pop(), jax.random.key(index))
        states.append(tuple(state))
        return value

    def sample(index: int) -> Any:
        h = jax.random.normal(jax.random.key(index), batch.shape)
        grid = np.linspace(999, 0, SAMPLING_STEPS + 1).astype(int)
        for now, then in itertools.pairwise(grid):
            eps = call(params, h, jnp.full(len(h), float(now)))
            x0 = (h - jnp.sqrt(1 - alphas[now] ** 2) * eps) / alphas[now]
            h = alphas[then] * x0 + jnp.sqrt(1 - alphas[then] ** 2) * eps
        return h

    return Contender("usual flax", lambda index: call(params, batch, level), step, sample)


def flattened(params: Mapping[str, Any]) -> dict[str, Any]:
    """Our parameters under the names used here, one level flatter: part and layer in one name."""
    flat: dict[str, Any] = {}
    for part, layers in params.items():
        if part == "embedding":
            flat |= layers
        elif "kernel" in layers or "scale" in layers:
            flat[part] = layers
        elif set(layers) == {"conv"}:
            flat[part] = layers["conv"]
        else:
            flat |= {f"{part}_{layer}": leaves for layer, leaves in layers.items()}
    return flat
