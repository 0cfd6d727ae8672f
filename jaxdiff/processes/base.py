"""The interface of a forward process: two functions of time, from which all else is derived.

A process specifies how the data fade and how the noise grows,

    x_t = α(t) x_0 + σ(t) ε,    ε ~ N(0, I),    t = 0 is data, t = 1 is noise.

A subclass defines log α(t) and σ²(t), both smooth on the whole of [0, 1]; the logarithm because α
underflows long before log α does, the variance because σ has an infinite slope where it leaves
zero. Its parameters are pytree leaves: changing one does not recompile, and all can be vmapped
over and differentiated. Everything else is derived once, in :mod:`jaxdiff.processes.algebra`.
A chain also defines its length; the defaults of the base class are those of continuous time.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, dataclass_transform

import jax
import jax.numpy as jnp

from jaxdiff.arrays import VARIANCE_FLOOR, std_of
from jaxdiff.typing import Array, ArrayLike, Float, InputError, Real


@dataclass_transform(frozen_default=True, eq_default=False)
class Process(ABC):
    """A Gaussian forward process; subclasses define :meth:`log_alpha` and :meth:`variance`.

    Each subclass becomes a frozen dataclass and a pytree whose leaves are its fields. The pytree is
    registered by hand because JAX compares two of its own dataclass nodes without their classes:
    ``jit`` could then reuse for a VE the code it had compiled for a VP.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclasses.dataclass(frozen=True, eq=False)(cls)
        names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]

        def unflatten(_: None, leaves: Iterable[Any]) -> "Process":
            process = object.__new__(cls)  # unchecked: the leaves may be tangents or shapes
            for name, leaf in zip(names, leaves, strict=True):
                object.__setattr__(process, name, leaf)
            return process

        jax.tree_util.register_pytree_with_keys(
            cls,
            lambda p: ([(jax.tree_util.GetAttrKey(n), getattr(p, n)) for n in names], None),
            unflatten,
        )

    @abstractmethod
    def log_alpha(self, t: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """Log of the signal scale, log α(t) ≤ 0, non-increasing."""

    @abstractmethod
    def variance(self, t: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """Variance of the noise, σ²(t) ≥ 0, in data units squared."""

    @property
    def num_steps(self) -> int | None:
        """Length T of a chain, whose nodes are i/T; None in continuous time."""
        return None

    @property
    def ends_without_signal(self) -> bool:
        """Whether α(1) is known to be 0, to rounding: x_1 is pure noise."""
        return False

    @property
    def starts_without_noise(self) -> bool:
        """Whether σ(0) is 0, so that x at t = 0 is the data and log SNR diverges there."""
        return True

    def index(self, t: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """Index of the chain's step at t, as published networks take it.

        Raises:
            InputError: in continuous time.
        """
        raise InputError(
            "process must be a chain for its step index to be the noise level, "
            f"got {type(self).__name__}"
        )

    def alpha(self, t: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """Signal scale α(t) (DDPM's √ᾱ)."""
        return jnp.exp(self.log_alpha(t))

    def sigma(self, t: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """Noise scale σ(t) = √σ², at least 1e-15 so that 1/σ is finite."""
        return std_of(self.variance(t))

    def log_snr(self, t: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """Log signal-to-noise ratio, log(α²/σ²), strictly decreasing."""
        return 2 * self.log_alpha(t) - jnp.log(self.variance(t) + VARIANCE_FLOOR)


def chain_length(process: Process) -> int:
    """Length T of a process that must be a chain.

    Args:
        process: the forward process.

    Raises:
        InputError: if the process is not a chain.

    Example:
        >>> from jaxdiff.processes import DiscreteVP
        >>> chain_length(DiscreteVP.from_betas(jnp.array([0.1, 0.2])))
        2
    """
    if process.num_steps is None:
        raise InputError(f"process must be a chain, got {type(process).__name__}")
    return process.num_steps
