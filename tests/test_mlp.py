"""The multilayer perceptron: any event shape, its parameter count, one block in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from net_tools import any_params, count, normal, shapes_of, silu

from jaxdiff.nets import MLP
from jaxdiff.nets.embeddings import Conditioning

LEVEL = jnp.array([0.1, 0.5, 0.9])


@pytest.mark.parametrize("event", [(), (2, 3), (4, 4, 1)])
def test_mlp_accepts_events_of_any_rank_and_uses_all_of_them(event):
    net = MLP(width=8, depth=1)
    x = jnp.asarray(normal((3, *event)))
    params = any_params(shapes_of(net, x, LEVEL))

    @jax.jit
    def run(x):
        def first(x):
            out = net.apply(params, x, LEVEL)
            return out[0].sum(), out

        gradient, out = jax.grad(first, has_aux=True)(x)
        return out, net.apply(params, x.reshape(3, -1), LEVEL), gradient

    out, flat, gradient = run(x)
    assert out.shape == x.shape
    np.testing.assert_allclose(out.reshape(3, -1), flat, rtol=1e-6, atol=1e-6)
    assert np.all(np.abs(gradient[0]) > 0)
    assert np.all(gradient[1:] == 0)


@pytest.mark.parametrize(
    ("width", "depth", "dim", "classes", "embedding"),
    [(8, 1, 2, 0, "sinusoidal"), (16, 3, 5, 4, "sinusoidal"), (16, 3, 5, 4, "fourier")],
)
def test_mlp_has_as_many_parameters_as_its_diagram(width, depth, dim, classes, embedding):
    net = MLP(width, depth, classes or None, embedding=embedding)
    label = jnp.zeros(1, int) if classes else None
    shapes = shapes_of(net, jnp.zeros((1, dim)), jnp.zeros(1), label)
    w, waves = width, width if embedding == "fourier" else width // 2
    conditioning = (waves * w + w) + (w * w + w) + classes * w
    block = (2 * w * w + 2 * w) + 2 * w + 2 * (w * w + w)  # modulation, LayerNorm, two layers
    expected = conditioning + (dim * w + w) + depth * block + (w * dim + dim)
    assert count(shapes["params"]) == expected
    assert count(shapes) - expected == (width // 2 if embedding == "fourier" else 0)


def test_mlp_matches_the_published_residual_network():
    """One block in numpy: LayerNorm, modulation, SiLU, layer, SiLU, layer, plus the identity."""
    net, x = MLP(width=8, depth=1), normal((3, 2))
    params = any_params(shapes_of(net, x, LEVEL))
    p = params["params"]
    conditioning = Conditioning(8, waves=4)
    embedding = np.asarray(jax.jit(conditioning.apply)({"params": p["embedding"]}, LEVEL))

    def dense(h, name):
        return h @ p[name]["kernel"] + p[name]["bias"]

    h = dense(x, "Dense_0")
    scale, shift = np.split(dense(embedding, "Dense_1"), 2, axis=1)
    r = (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-6)
    r = r * p["LayerNorm_0"]["scale"] + p["LayerNorm_0"]["bias"]
    h = h + dense(silu(dense(silu(r * (1 + scale) + shift), "Dense_2")), "Dense_3")
    got = jax.jit(net.apply)(params, x, LEVEL)
    np.testing.assert_allclose(got, dense(silu(h), "Dense_4"), atol=1e-5)
