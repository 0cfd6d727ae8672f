"""Networks of score_sde_pytorch and diffusers, converted, reproduce their original outputs."""

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quickly import first_is_quick

from jaxdiff.nets import convert


def answer(name):
    """Our output for the stored input, and theirs."""
    config, x, label, expected, state = golden.read(name)
    if name.startswith("diffusers"):
        net = convert.diffusers_network(config)
        variables = convert.from_diffusers(state, net)
    else:
        net = convert.score_sde_network(config)
        variables = convert.from_score_sde(state, net)
    # a Fourier network of score_sde takes σ, and computes its logarithm
    level = np.log(label) if net.embedding == "fourier" else label
    got = jax.jit(net.apply)(variables, jnp.asarray(x), jnp.asarray(level, jnp.float32))
    if config.get("scale_by_sigma"):
        got = got / label[:, None, None, None]
    return np.asarray(got), expected


@pytest.mark.parametrize(
    "name",
    first_is_quick(
        ["score_sde_ddpmpp_vp_tiny", "score_sde_ncsnpp_ve_tiny", "diffusers_unet2d_ddpm_tiny"]
    ),
)
def test_a_converted_network_reproduces_its_original_output(name):
    got, expected = answer(name)
    assert got.shape == expected.shape
    # float32 on both sides: some 30 layers of some 300 terms, at √(30·300)·2⁻²⁴ ≈ 10⁻⁵ each way
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
