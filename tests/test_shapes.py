"""The shapes in annotations: every public function of L1 to L5 has them, and they are checked."""

import importlib
import inspect
import pkgutil
import typing

import jax
import jax.numpy as jnp
import pytest
import shape_checks
from jaxtyping import Array, ArrayLike, Float

import jaxdiff
from jaxdiff import losses, predictions, processes, schedules, solvers
from jaxdiff.predictions import Denoised, Estimate
from jaxdiff.processes import VP, DiscreteVP
from jaxdiff.typing import InputError

MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(jaxdiff.__path__, "jaxdiff.")
    if info.name.split(".")[1] in shape_checks.LAYERS
)
BATCH = jnp.ones((3, 2))
KEY = jax.random.key(0)


@pytest.mark.parametrize("name", MODULES)
def test_every_array_of_a_public_function_has_a_shape(name):
    module = importlib.import_module(name)
    own = [f for f in vars(module).values() if getattr(f, "__module__", None) == name]
    functions = [f for f in own if inspect.isfunction(f)]
    functions += [f for cls in own if inspect.isclass(cls) for f in vars(cls).values()]
    for fn in filter(inspect.isfunction, functions):
        if not fn.__name__.startswith("_"):
            for hint in typing.get_type_hints(fn, include_extras=True).values():
                assert hint not in (Array, ArrayLike), f"{fn.__qualname__} in {name}"


@pytest.mark.parametrize(
    ("fn", "args", "kwargs"),
    [
        (processes.perturb, (KEY, VP(), BATCH, jnp.ones(2)), {}),
        (processes.prior_log_prob, (VP(), jnp.ones(())), {}),
        (schedules.time_at_log_snr, (VP(), jnp.array([True])), {}),
        (predictions.to_denoised, (BATCH, BATCH[:, :1], 0.8, 0.6), {"kind": "v"}),
        (predictions.from_denoised, (Denoised(BATCH, BATCH[:1]), BATCH, 0.8, 0.6), {"kind": "v"}),
        (losses.denoising, (KEY, None, VP(), BATCH, jnp.ones(2)), {}),
        (losses.bits_per_dim, (jnp.ones(2), BATCH), {}),
    ],
)
def test_a_wrong_shape_is_refused(fn, args, kwargs):
    with pytest.raises(shape_checks.ShapeError):
        fn(*args, **kwargs)


def test_a_result_must_have_the_requested_length():
    def grid(num_steps: int) -> Float[Array, "{num_steps}+1"]:  # noqa: F821
        return jnp.zeros(4)

    assert shape_checks.checked(grid)(3).shape == (4,)
    with pytest.raises(shape_checks.ShapeError):
        shape_checks.checked(grid)(4)


def test_the_parts_of_a_result_share_axes_with_the_arguments():
    def estimate(x: Float[Array, "batch *event"], rows: int) -> Estimate:  # noqa: F821
        return Denoised(x, x[:rows])

    assert shape_checks.checked(estimate)(BATCH, 3).eps.shape == (3, 2)
    with pytest.raises(shape_checks.ShapeError):
        shape_checks.checked(estimate)(BATCH, 1)


def test_errors_of_the_library_take_precedence():
    with pytest.raises(InputError, match="betas must be a vector"):
        DiscreteVP.from_betas(jnp.full((2, 2), 0.1))
    with pytest.raises(InputError, match="vector of at least two times"):
        jaxdiff.sample(KEY, solvers.ddim(None, VP()), BATCH, jnp.ones((2, 2)))


def test_a_process_may_hold_placeholders():
    process = VP()
    leaves, treedef = jax.tree.flatten(process)
    assert len(leaves) == 2
    for placeholder in (None, object(), jnp.zeros(7)):
        rebuilt = jax.tree.unflatten(treedef, [placeholder] * 2)
        assert rebuilt.beta_max is placeholder
