"""L7: the typed configuration of a run.

The dataclasses are frozen and hashable, so that a compiled function can depend on one. The range of
a field stands beside its default; ``train/parsing.py`` holds every configuration to it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxdiff.data.resizing import RESIZES
from jaxdiff.losses.weights import TARGETS
from jaxdiff.predictions import KINDS


def _field(
    default: Any,
    takes: str,
    ok: Callable[[Any], bool],
    *,
    names: tuple[str, ...] = (),
    wide: bool = False,
) -> Any:
    """A field with a range: ``takes`` completes the sentence "<field> takes …".

    Of several names the nearest to what was given is suggested; ``wide`` lets integers pass that
    are beyond 31 bits.
    """
    metadata = {"takes": takes, "ok": ok, "names": names, "wide": wide}
    return dataclasses.field(default=default, metadata=metadata)


def _positive(default: Any) -> Any:
    return _field(default, "a number above 0", lambda v: v > 0)


def _non_negative(default: Any) -> Any:
    return _field(default, "a number of at least 0", lambda v: v >= 0)


def _share(default: float) -> Any:
    return _field(default, "a number in [0, 1)", lambda v: 0 <= v < 1)


def _numbers(low: float, high: float) -> Any:
    return _field(
        (),
        f"a list of numbers in ({low}, {high})",
        lambda v: all(isinstance(x, float) and low < x < high for x in v),
    )


def _one_of(default: str, *names: str) -> Any:
    return _field(default, "one of " + ", ".join(names), lambda v: v in names, names=names)


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of several things, by name, with its options; ``train/names.py`` knows them all.

    Example:
        >>> choice("vp", beta_max=10.0).as_dict()
        {'name': 'vp', 'beta_max': 10.0}
    """

    name: str
    options: tuple[tuple[str, Any], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Name and options as one flat dict."""
        return {"name": self.name, **dict(self.options)}


def frozen(value: Any) -> Any:
    """Turn lists into tuples, all the way down."""
    return tuple(frozen(v) for v in value) if isinstance(value, (list, tuple)) else value


def choice(name: str, **options: Any) -> Choice:
    """Name a thing and its options; see :class:`Choice`."""
    return Choice(name, tuple((key, frozen(value)) for key, value in options.items()))


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which data, and how pixels become numbers.

    With a ``size`` images become squares of so many pixels a side, as ``resize`` says; with 0 they
    stay as they are.
    """

    name: str = "digits"
    data_dir: str = ""
    size: int = _non_negative(0)
    resize: str = _one_of("crop", *RESIZES)
    low: float = -1.0
    high: float = 1.0
    flip: bool = False
    dequantize: bool = False


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """How the network is used: what it predicts, and what it is told.

    With ``label_dropout`` that share of the labels is withheld in training, so that one network
    learns both the conditional and the unconditional model, for classifier-free guidance.
    """

    kind: str = _one_of("edm", *KINDS)
    noise_cond: str = _one_of(
        "time", "time", "log_sigma", "log_snr", "index", "fourier", "edm", "none"
    )
    data_std: float = _positive(0.5)
    scale_input: bool = True
    learned_variance: bool = False
    class_conditional: bool = False
    label_dropout: float = _share(0.0)


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """What is minimised: ``vlb_weight`` adds that much of the bound, for a learned variance.

    Without ``importance_weights`` the loss is averaged over the distribution that times are drawn
    from, instead of uniform times. ``reduction`` "mean" averages over the dimensions of an example,
    "sum" takes half their sum (score_sde: ``reduce_mean=False``); under Adam this affects clipping
    only. Both multiply the weight: score_sde's ``likelihood_weighting``, g² times either, is the
    weight of that name, and twice ``likelihood``, which already contains the ½.
    """

    target: str = _one_of("eps", *TARGETS)
    weight: Choice = Choice("eps")
    times: Choice = Choice("stratified")
    importance_weights: bool = True
    vlb_weight: float = _non_negative(0.0)
    reduction: str = _one_of("mean", "mean", "sum")
    t_min: float = _share(1e-3)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The optax chain: clip, then Adam or AdamW, with a learning rate that warms up."""

    name: str = _one_of("adam", "adam", "adamw")
    learning_rate: float = _positive(2e-4)
    schedule: str = _one_of("constant", "constant", "cosine")
    warmup_steps: int = _non_negative(0)
    b1: float = _share(0.9)
    b2: float = _share(0.999)
    epsilon: float = _positive(1e-8)
    weight_decay: float = _non_negative(0.0)
    clip_norm: float = _positive(1.0)


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How long, how often, and which averages of the parameters.

    The average at ``ema_decay`` samples. Beside it are kept those at ``other_ema_decays``, and
    those of the power profiles ``ema_stds``, stored with every checkpoint, from which an average
    of any length is put together after training. After ``max_skipped`` updates in a row that were
    not finite, training ends.
    """

    num_steps: int = _positive(10_000)
    batch_size: int = _positive(128)
    ema_decay: float = _share(0.9999)
    other_ema_decays: tuple = _numbers(0.0, 1.0)
    ema_stds: tuple = _numbers(0.0, 0.2886)
    log_every: int = _positive(50)
    sample_every: int = _positive(1000)
    checkpoint_every: int = _positive(1000)
    keep_checkpoints: int = _positive(2)
    keep_every: int = _non_negative(0)
    keep_best: int = _non_negative(0)
    eval_every: int = _non_negative(0)
    max_skipped: int = _positive(10)

    @property
    def ema_decays(self) -> tuple[float, ...]:
        """All that are kept, the one that samples first."""
        return (self.ema_decay, *self.other_ema_decays)


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How samples are drawn where nothing else is asked for.

    DEIS of order 0 is of the order that suits the number of steps.
    """

    solver: Choice = Choice("deis", (("order", 0),))
    times: Choice = Choice("logistic", (("rho", 2.0),))
    num_steps: int = _positive(20)
    t_min: float = _share(1e-3)
    denoise: bool = True
    num_images: int = _positive(64)


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that a run depends on, the seed included."""

    seed: int = _field(0, "a whole number in [0, 2^32)", lambda v: 0 <= v < 2**32, wide=True)
    data: DataConfig = DataConfig()
    process: Choice = Choice("vp", (("beta_min", 0.1), ("beta_max", 20.0)))
    network: Choice = Choice("unet")
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    sampling: SamplingConfig = SamplingConfig()

    def as_dict(self) -> dict[str, Any]:
        """Nested plain dicts, tuples and numbers, as they stand in ``config.json``."""
        return _plain(self)


def _plain(value: Any) -> Any:
    if isinstance(value, Choice):
        return {key: _plain(v) for key, v in value.as_dict().items()}
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return value
