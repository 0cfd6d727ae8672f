"""The benchmark's reference networks compute the same as ours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from net_tools import any_params, normal, shapes_of

from experiments.benchmarks.flax_peer import PlainUNet, flattened
from experiments.benchmarks.profile import summary
from experiments.benchmarks.torch_peer import check_plain
from jaxdiff.nets import DDPM, DDPMPP, UNet
from jaxdiff.typing import InputError

NET = DDPM(channels=8, multipliers=(1, 2), blocks_per_level=1, head_dim=4, groups=2, dropout=0.0)


@pytest.mark.slow
def test_the_plain_flax_network_matches_ours():
    x, level = jnp.asarray(normal((2, 8, 8, 3))), jnp.array([0.1, 0.9])
    params = any_params(shapes_of(NET, x, level))
    fields = {name: getattr(NET, name) for name in UNet.__dataclass_fields__}
    plain = jax.jit(PlainUNet(fields).apply)({"params": flattened(params["params"])}, x, level)
    np.testing.assert_allclose(plain, jax.jit(NET.apply)(params, x, level), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("net", "name"),
    [
        (DDPMPP(), "attention_up"),
        (NET.clone(num_outputs=2), "num_outputs"),
        (NET.clone(modulation="scale_shift"), "modulation"),
    ],
)
def test_a_network_without_a_peer_is_refused(net, name):
    check_plain(NET, (8, 8, 3))
    with pytest.raises(InputError, match=f"{name} .*got"):
        check_plain(net, (8, 8, 3))


def test_the_summary_of_a_profile_counts_products_and_names_the_largest():
    text = summary({"convolution.1": 2.0, "dot_general.7": 1.0, "add_fusion": 1.0}, largest=1)
    assert text.startswith("75% of the time")
    assert text.splitlines()[1].split() == ["convolution.1", "2000.0", "ms", "50%"]
    assert len(text.splitlines()) == 2
