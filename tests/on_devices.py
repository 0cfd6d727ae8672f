"""The same training under several layouts of 8 simulated devices, with the results as JSON.

A separate program, to be started by ``running.forked(..., devices=8)``, since the number of devices
is fixed when jax starts.
"""

import dataclasses
import functools
import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import small_nets
import toy_tasks
from jax.flatten_util import ravel_pytree
from jax.sharding import PartitionSpec
from net_tools import count
from players import player_of, quiet, shapes
from tiny import tiny_config

from jaxdiff import data
from jaxdiff.compiling import compiler_options
from jaxdiff.nets import attention
from jaxdiff.recipes import Run, bits_per_dim, choice, ode_bits_per_dim
from jaxdiff.recipes.diffusion import algorithm, assemble, batch_spec, fresh_state
from jaxdiff.train import compiled, exchange, sharding
from jaxdiff.train.fingerprint import fingerprint

STEPS, BATCH = 8, 32
LAYOUTS = {"8×1": 1, "2×4": 4}
COLLECTIVE = re.compile(
    r"= \(?(\S.*?)\)? (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)\("
)


def small_run(network, shape):
    config = tiny_config(num_steps=100, network=network)
    settings = dataclasses.replace(config.training, batch_size=BATCH)
    return Run(assemble(dataclasses.replace(config, training=settings), shape, None))


def of_attention(mesh):
    """The exchanges between devices of networks with attention, as they train and sample."""
    attention.CACHED = 0  # as if the batch were large
    found = {}
    for network in ("dit", "ddpm"):
        run = Run(small_nets.small(network))
        state = shapes(run.model)
        params = player_of(state).params

        def draw(key, params, run=run):
            moved = dataclasses.replace(run, params=params)
            return moved.sample(key, BATCH, solver="ddim", num_steps=2, mesh=mesh)

        whole, rows = sharding.replicated(mesh), sharding.batch_sharding(mesh)
        sampler = jax.jit(draw, in_shardings=whole, out_shardings=rows)
        sampler = sampler.lower(jax.random.key(0), params).compile(compiler_options())
        found[network] = {
            "training": collectives(compiled_on(run, state, mesh).as_text()),
            "sampling": collectives(sampler.as_text()),
            "parameters": count(params),
        }
    return found


def of_pieces(mesh):
    """The largest errors of leaves gathered and gradients averaged in several pieces."""
    shapes = [(64, 32), (3, 1024), (5,), (8, 4, 128)]
    keys = jax.random.split(jax.random.key(0), len(shapes))
    leaves = [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]
    leaves.append(leaves[0].astype(jnp.bfloat16))
    how = exchange.plan(mesh, leaves, piece=5 * 4096)
    layout = [leaf.spec for leaf in sharding.state_shardings(mesh, leaves)]

    def of_device(shards):
        whole = exchange.gather(how, shards)
        factor = 1 + jax.lax.axis_index(sharding.AXES)  # gradients are 1 to 8 times the leaves
        return whole, exchange.average(how, [(factor * leaf).astype(leaf.dtype) for leaf in whole])

    specs = {"in_specs": (layout,), "out_specs": (PartitionSpec(), layout), "check_vma": False}
    whole, mean = jax.jit(jax.shard_map(of_device, mesh=mesh, **specs))(leaves)
    return {
        "pieces": [[leaves[number].shape for number, _ in piece] for piece in how.pieces],
        "gathered": max(error(*pair) for pair in zip(whole, leaves, strict=True)),
        "averaged": max(error(a, 4.5 * b) for a, b in zip(mean, leaves, strict=True)),
    }


def error(got, expected):
    return float(jnp.max(jnp.abs(got - expected)) / jnp.max(jnp.abs(expected)))


def compiled_on(run, state, mesh):
    layout = compiled.on_mesh(functools.partial(algorithm, run.model), mesh)
    return compiled.compile_step(layout, state, batch_spec(run.model), mesh, say=quiet)


def collectives(text):
    """Kind and size, in 32-bit words, of every exchange in a compiled program."""
    found = []
    for line in text.splitlines():
        match = COLLECTIVE.search(line)
        if match:
            shapes = re.findall(r"[fsu]32\[([\d,]*)\]", match[1])
            words = sum(int(np.prod([int(n) for n in s.split(",") if n])) for s in shapes)
            found.append((match[2], words))
    return found


def on_mesh(run, state, batches, mesh):
    state = jax.device_put(state, sharding.state_shardings(mesh, state))
    program = compiled_on(run, state, mesh)
    for batch in batches:
        state, metrics = program(state, sharding.put_batch(batch, mesh), ())
    return state, metrics, program


def copies(state, n):
    """One copy per device, laid out as a pmapped step returns them, so that it compiles once."""
    as_mapped = jax.pmap(lambda _, state: state, axis_name="data", in_axes=(0, None))
    return as_mapped(np.arange(n), state)


def on_pmap(run, state, batches, n):
    step = algorithm(run.model, axis_name="data").step
    mapped = jax.pmap(step, axis_name="data", donate_argnums=0)
    state = copies(state, n)
    for batch in batches:
        parts = jax.tree.map(lambda leaf: leaf.reshape(n, -1, *leaf.shape[1:]), batch)
        state, metrics = mapped(state, parts, ())
    return jax.tree.map(lambda leaf: np.asarray(leaf)[0], (player_of(state).params, metrics))


def of_toys(mesh, n):
    """Final distance of the toy tasks' players, carry and metrics from those of one device."""
    far = {}
    for name, toy in toy_tasks.TASKS.items():
        make, frozen = toy()
        steps = {
            "one": jax.jit(make().step),
            "mesh": jax.jit(compiled.on_mesh(make, mesh).step),
            "pmap": jax.pmap(make(axis_name="data").step, axis_name="data", in_axes=(0, 0, None)),
        }
        fresh, ends = jax.jit(make().init)(jax.random.key(3)), {}
        for layout, step in steps.items():
            state = fresh
            if layout == "mesh":
                state = jax.device_put(state, sharding.state_shardings(mesh, state))
            elif layout == "pmap":
                state = copies(state, n)
            for k in range(3):
                batch = toy_tasks.batch_of(k)
                if layout == "mesh":
                    batch = sharding.put_batch(batch, mesh)
                elif layout == "pmap":
                    batch = batch.reshape(n, -1, 2)
                state, metrics = step(state, batch, frozen)
            end = jax.device_get((state.players, state.carry, metrics))
            end = jax.tree.map(lambda leaf: leaf[0], end) if layout == "pmap" else end
            ends[layout] = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(end)])
        for layout in ("mesh", "pmap"):
            error = np.linalg.norm(ends[layout] - ends["one"]) / np.linalg.norm(ends["one"])
            far[f"{name} {layout}"] = float(error)
    return far


@jax.jit
def summed(state):
    """The fingerprints of leaves of each kind and layout."""
    return fingerprint((player_of(state).params, state.key, state.step))


def bounds_of_points():
    """Bits per dimension, by the bound and by the ODE, of a number of points no mesh divides."""
    run = small_run(choice("mlp", width=16, depth=1), (2,))
    params = jax.tree.map(lambda leaf: leaf + 0.01, fresh_state(run.model).players["model"].params)
    run = dataclasses.replace(run, params=params)
    x, label = data.take_all(data.load("toy:moons").test, limit=21)
    return [
        bits_per_dim(run, x, label, draws=2, seed=0).bits,
        ode_bits_per_dim(run, x, label, draws=1, rtol=1e-4, seed=0).bits,
    ]


def main():
    run = small_run(choice("mlp", width=64, depth=1), (2,))
    endless = data.batches(data.load("toy:moons").train, batch_size=BATCH, seed=0)
    batches = [next(endless) for _ in range(STEPS)]
    meshes = {name: sharding.mesh(fsdp=fsdp) for name, fsdp in LAYOUTS.items()}
    meshes["1×1"] = sharding.mesh(devices=jax.devices()[:1])

    make = jax.jit(lambda: fresh_state(run.model))

    found, flat = {}, {}
    for name, mesh in meshes.items():
        state, metrics, program = on_mesh(run, make(), batches, mesh)
        key, moved = jax.random.key(5), run.at(jax.device_get(state))
        flat[name] = (
            ravel_pytree(jax.device_get(player_of(state).params))[0],
            np.asarray(moved.sample(key, 16, mesh=mesh)),
            float(metrics["loss"]),
        )
        found[name] = {
            "flops": program.cost_analysis()["flops"],
            "collectives": collectives(program.as_text()),
            "fingerprint": int(summed(state)),
            "on_one": int(summed(jax.device_get(state))),
            "largest_share": max(
                leaf.addressable_shards[0].data.size / leaf.size
                for leaf in jax.tree.leaves(player_of(state).params)
                if leaf.size >= 4096
            ),
        }
    params, metrics = on_pmap(run, make(), batches, 8)
    x = flat["1×1"][1]
    flat["pmap"] = (ravel_pytree(params)[0], x, float(metrics["loss"]))
    found["pmap"] = {}

    params, x, loss = flat["1×1"]
    for name, (own, samples, own_loss) in flat.items():
        found[name]["params"] = float(jnp.linalg.norm(own - params) / jnp.linalg.norm(params))
        found[name]["samples"] = float(np.max(np.abs(samples - x)))
        found[name]["loss"] = abs(own_loss / loss - 1)
    found["parameters"] = params.size
    found["bounds"] = bounds_of_points()
    found["toys"] = of_toys(meshes["8×1"], 8)
    found["pieces"] = of_pieces(meshes["2×4"])
    found["attention"] = of_attention(meshes["8×1"])
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
