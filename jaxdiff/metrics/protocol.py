"""L7: what a figure was measured on, which is part of it.

A Fréchet distance is comparable with another only if both state the numbers of examples, the
reference and its split, the weights of the extractor, and how images were resized; and with a
published one only if the parameters' average, solver and seed are known too. A figure over several
seeds is their mean with its standard deviation, never their minimum.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxdiff.checks import finite_array, is_count
from jaxdiff.typing import ArrayLike, InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a figure was measured; None where it does not apply.

    Attributes:
        n: number of samples.
        reference: dataset and split, as in "cifar10 train".
        n_reference: number of its examples.
        features: the extractor and its layer, as in "Inception-v3 2015-12-05, pool, 2048".
        resize: how images reached the extractor's size, as in "bilinear, in the network"; "none".
        features_sha256: of the file of the extractor's weights.
        ddof: of covariances.
        dtype: in which the metric was computed.
        k: of nearest neighbours.
        average: which parameters were sampled, as in "EMA 0.9999".
        solver: name of the solver.
        evaluations: of the network, for each sample.
        seed: of the samples.

    Raises:
        InputError: if a number is not a positive integer, a text is empty, or the hash is not one.

    Example:
        >>> print(Protocol(n=50_000, reference="cifar10 train", n_reference=50_000,
        ...     features="Inception-v3, pool", resize="bilinear", solver="heun", evaluations=35))
        n 50000, reference cifar10 train, n_reference 50000, features Inception-v3, pool,
        resize bilinear, ddof 1, dtype float64, solver heun, evaluations 35
    """

    n: int
    reference: str
    n_reference: int
    features: str
    resize: str
    features_sha256: str | None = None
    ddof: int = 1
    dtype: str = "float64"
    k: int | None = None
    average: str | None = None
    solver: str | None = None
    evaluations: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("n", "n_reference", "k", "evaluations"):
            value = getattr(self, name)
            if not is_count(value) and not (value is None and name in ("k", "evaluations")):
                raise InputError(f"{name} must be a positive integer, got {value!r}")
        for name in ("reference", "features", "resize", "dtype"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip() or "\n" in value:
                raise InputError(f"{name} must be a line of text, got {value!r}")
        digest = self.features_sha256
        if digest is not None and not re.fullmatch("[0-9a-f]{64}", digest):
            raise InputError(f"features_sha256 must be 64 hexadecimal digits, got {digest!r}")

    def as_dict(self) -> dict[str, Any]:
        """All fields by name, ready for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        """All fields that apply, on one line."""
        stated = {name: value for name, value in self.as_dict().items() if value is not None}
        return ", ".join(f"{name} {value}" for name, value in stated.items())


class Result(NamedTuple):
    """One figure with its protocol, and its standard error or standard deviation if known.

    Example:
        >>> protocol = Protocol(n=10, reference="digits test", n_reference=297,
        ...     features="pixels", resize="none")
        >>> print(Result("Fréchet distance", 12.3456, protocol, error=0.25))
        Fréchet distance 12.35 ± 0.25 (n 10, reference digits test, n_reference 297,
        features pixels, resize none, ddof 1, dtype float64)
    """

    metric: str
    value: float
    protocol: Protocol
    error: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The same with the protocol as a dict, ready for JSON."""
        return {**self._asdict(), "protocol": self.protocol.as_dict()}

    def __str__(self) -> str:
        """The figure and everything that it was measured on, on one line."""
        spread = "" if self.error is None else f" ± {self.error:.2g}"
        return f"{self.metric} {self.value:.4g}{spread} ({self.protocol})"


class OverSeeds(NamedTuple):
    """Mean and standard deviation (ddof 1) over seeds, and their number."""

    mean: float
    sd: float
    n: int


def over_seeds(values: ArrayLike | Sequence[float]) -> OverSeeds:
    """Summarise a figure that was measured with several seeds.

    The minimum of several is biased downward, the more the more are tried.

    Args:
        values: one number per seed, at least 2.

    Returns:
        ``OverSeeds(mean, sd, n)``; the standard error of the mean is sd/√n.

    Raises:
        InputError: if there are fewer than 2 values, or one is not finite.

    Example:
        >>> over_seeds([2.0, 3.0, 4.0])
        OverSeeds(mean=3.0, sd=1.0, n=3)
    """
    numbers = finite_array("values", np.asarray(values))
    if numbers.ndim != 1 or len(numbers) < 2:
        raise InputError(
            f"values must be at least 2 numbers, one per seed, got shape {numbers.shape}"
        )
    return OverSeeds(float(np.mean(numbers)), float(np.std(numbers, ddof=1)), len(numbers))
