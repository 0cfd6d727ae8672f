"""L7: the typed configuration of a run, and the one place where it is checked.

A configuration file returns a mutable ``ConfigDict`` (so that flags can override any field); it
becomes a frozen :class:`Config` here, field by field. Whatever does not fit is one sentence that
names the field, what it got and what it takes.
"""

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from jaxdiff.typing import InputError

T = TypeVar("T")


def _field(default: Any, takes: str, ok: Callable[[Any], bool]) -> Any:
    """A field with a range: ``takes`` completes the sentence "<field> takes …"."""
    return dataclasses.field(default=default, metadata={"takes": takes, "ok": ok})


def _positive(default: Any) -> Any:
    return _field(default, "a number above 0", lambda v: v > 0)


def _non_negative(default: Any) -> Any:
    return _field(default, "a number of at least 0", lambda v: v >= 0)


def _share(default: float) -> Any:
    return _field(default, "a number in [0, 1)", lambda v: 0 <= v < 1)


def _one_of(default: str, *names: str) -> Any:
    return _field(default, "one of " + ", ".join(names), lambda v: v in names)


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of several things, by name, with its options; ``train/build.py`` knows them all.

    Example:
        >>> choice("vp", beta_max=10.0).as_dict()
        {'name': 'vp', 'beta_max': 10.0}
    """

    name: str
    options: tuple[tuple[str, Any], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Name and options as one flat dict."""
        return {"name": self.name, **dict(self.options)}


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, (list, tuple)) else value


def choice(name: str, **options: Any) -> Choice:
    """Name a thing and its options; see :class:`Choice`."""
    return Choice(name, tuple((key, _frozen(value)) for key, value in options.items()))


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which data, and how pixels become numbers."""

    name: str = "digits"
    data_dir: str = ""
    low: float = -1.0
    high: float = 1.0
    flip: bool = False
    dequantize: bool = False


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """How the network is used: what it predicts, and what it is told."""

    kind: str = _one_of("edm", "eps", "x0", "v", "score", "edm")
    level: str = _one_of("time", "time", "log_sigma", "log_snr")
    data_std: float = _positive(0.5)
    scale_input: bool = True
    class_conditional: bool = False


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """What is minimised."""

    target: str = _one_of("eps", "eps", "x0", "v", "score")
    weight: Choice = Choice("eps")
    times: str = _one_of("stratified", "uniform", "stratified")
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
    """How long, how often."""

    num_steps: int = _positive(10_000)
    batch_size: int = _positive(128)
    ema_decay: float = _share(0.9999)
    log_every: int = _positive(50)
    sample_every: int = _positive(1000)
    checkpoint_every: int = _positive(1000)
    keep_checkpoints: int = _positive(2)


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How samples are drawn where nothing else is asked for."""

    solver: Choice = Choice("ddim", (("eta", 0.0),))
    times: Choice = Choice("uniform")
    num_steps: int = _positive(50)
    t_min: float = _share(1e-3)
    denoise: bool = True
    num_images: int = _positive(64)


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that a run depends on, the seed included."""

    seed: int = _non_negative(0)
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


def from_dict(values: Mapping[str, Any]) -> Config:
    """Check a nested mapping, as read from a file or overridden by flags, and freeze it.

    Args:
        values: fields of :class:`Config`; those that are missing keep their defaults.

    Returns:
        The configuration.

    Raises:
        InputError: for the first field that is unknown, of the wrong type, or out of range.

    Example:
        >>> from_dict({"optimizer": {"learning_rate": -1.0}})
        Traceback (most recent call last):
        ...
        jaxdiff.typing.InputError: config.optimizer.learning_rate takes a number above 0, got -1.0
    """
    return _parse(Config, values, "config")


def check_options(
    signature: Mapping[str, type], options: Mapping[str, Any], path: str
) -> dict[str, Any]:
    """Check the options of a :class:`Choice` against the names and types that its thing takes.

    Raises:
        InputError: for the first option that is unknown or of the wrong type.
    """
    for name in options:
        if name not in signature:
            takes = ", ".join(signature) or "no options"
            raise InputError(f"{path}.{name} does not exist; {path} takes {takes}")
    return {name: _convert(signature[name], v, f"{path}.{name}") for name, v in options.items()}


def differences(old: Config, new: Config) -> list[str]:
    """Name the fields in which two configurations differ, as ``config.a.b: old -> new``."""
    old_leaves, new_leaves = dict(_leaves(old.as_dict())), dict(_leaves(new.as_dict()))
    names = [*old_leaves, *(name for name in new_leaves if name not in old_leaves)]
    return [
        f"{name}: {old_leaves.get(name, 'absent')} -> {new_leaves.get(name, 'absent')}"
        for name in names
        if old_leaves.get(name) != new_leaves.get(name)
    ]


def _parse(cls: type[T], values: Any, path: str) -> T:
    if not isinstance(values, Mapping):
        raise InputError(f"{path} takes a mapping of fields, got {values!r}")
    hints = typing.get_type_hints(cls)
    for name in values:
        if name not in hints:
            raise InputError(f"{path}.{name} does not exist; {path} takes {', '.join(hints)}")
    parsed = {name: _convert(hints[name], v, f"{path}.{name}") for name, v in values.items()}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name in parsed and "ok" in field.metadata:
            value = parsed[field.name]
            if not field.metadata["ok"](value):
                takes = field.metadata["takes"]
                raise InputError(f"{path}.{field.name} takes {takes}, got {value!r}")
    return cls(**parsed)


def _convert(hint: Any, value: Any, path: str) -> Any:
    """Bring a value to its declared type where nothing is lost, or say why it cannot be."""
    if hint is Choice:
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            raise InputError(f"{path} takes a name and its options, got {value!r}")
        return choice(value["name"], **{k: v for k, v in value.items() if k != "name"})
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _parse(hint, value, path)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is tuple and isinstance(value, (list, tuple)):
        return _frozen(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise InputError(f"{path} takes {_name_of(hint)}, got {value!r}")
    return value


def _name_of(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}
    if isinstance(hint, types.UnionType):
        return " or ".join(_name_of(h) for h in typing.get_args(hint) if h is not types.NoneType)
    return names.get(hint, "a list")


def _plain(value: Any) -> Any:
    if isinstance(value, Choice):
        return {key: _plain(v) for key, v in value.as_dict().items()}
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return value


def _leaves(values: Mapping[str, Any], path: str = "config") -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for name, value in values.items():
        nested = isinstance(value, Mapping)
        leaves += _leaves(value, f"{path}.{name}") if nested else [(f"{path}.{name}", value)]
    return leaves
