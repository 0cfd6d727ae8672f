"""L9: the typed configuration of a run.

The dataclasses are frozen and hashable, so that a compiled function can depend on one. The range of
a field is declared with its default; ``recipes/parsing.py`` checks every configuration against it.
"""

import dataclasses
from typing import Any, Literal

from jaxdiff import fields
from jaxdiff.data.resizing import HowToResize
from jaxdiff.divergence import Probe
from jaxdiff.losses.weights import Target
from jaxdiff.predictions import Kind
from jaxdiff.train.settings import TrainingConfig

NoiseCondName = Literal["time", "log_sigma", "log_snr", "index", "fourier", "edm", "none"]
LossName = Literal[
    "denoising", "vlb", "hybrid", "dsm", "ism", "ssm", "ssm_vr", "fd_ssm", "elbo", "girsanov"
]


Precision = Literal["default", "high", "highest"]
"""Of products of float32 numbers, as ``jax.default_matmul_precision`` names them."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of several alternatives, by name, with its options; ``recipes/names.py`` lists them.

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
    """Turn lists into tuples, recursively."""
    return tuple(frozen(v) for v in value) if isinstance(value, (list, tuple)) else value


def choice(name: str, **options: Any) -> Choice:
    """Make a :class:`Choice` from a name and options."""
    return Choice(name, tuple((key, frozen(value)) for key, value in options.items()))


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which data, and how pixels become numbers.

    With a ``size``, images are resized to squares of that many pixels a side by the method
    ``resize``; with 0 they keep their size.
    """

    name: str = "digits"
    data_dir: str = ""
    size: int = fields.non_negative(0)
    resize: HowToResize = "crop"
    low: float = -1.0
    high: float = 1.0
    flip: bool = False
    dequantize: bool = False


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """How the network is used: what it predicts, and what it is conditioned on.

    With ``label_dropout``, that fraction of the labels is dropped in training, so that one network
    learns both the conditional and the unconditional model, for classifier-free guidance.

    ``matmul_precision`` is that of the network's products of float32 numbers. By "default" a TPU
    rounds their factors to bfloat16, and a GPU may round them to TF32; "high" is closer to float32,
    and "highest" is float32 itself. Likelihoods are always computed in the highest.
    """

    kind: Kind = "edm"
    noise_cond: NoiseCondName = "time"
    data_std: float = fields.positive(0.5)
    scale_input: bool = True
    learned_variance: bool = False
    class_conditional: bool = False
    label_dropout: float = fields.fraction(0.0)
    matmul_precision: Precision = "default"


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """What is minimised: the loss, its times, and its weight at each of them.

    ============== ================================================================================
    ``denoising``  λ ‖target − target̂‖²: DDPM, NCSN, EDM, every weighting
    ``vlb``        one term of a chain's bound, with a learned variance or without
    ``hybrid``     ‖ε − ε̂‖² plus ``vlb_weight`` times the bound, which trains only the variance
    ``dsm``        ½ λ ‖s + ε/σ‖²
    ``ism``        ½ λ (‖s‖² + 2 ∇·s) of noisy data, whose noise need not be known
    ``ssm``        the same, sliced along a random direction
    ``ssm_vr``     the same, with the norm in closed form
    ``fd_ssm``     the same as ``ssm_vr``, by finite differences
    ``elbo``       the bound in continuous time, including both ends (VDM)
    ``girsanov``   the bound in Girsanov's form on the data at ``t_min``
    ============== ================================================================================

    For the score losses, ``weight`` is the weight on ε̂, so that λ = σ² corresponds to 1. ``ism``
    and ``girsanov`` use a ``divergence``, which "hutchinson" estimates along a random ``probe``.

    Without ``importance_weights``, the loss is averaged over the distribution from which times are
    drawn, instead of uniform times. ``reduction`` "mean" averages over an example's dimensions,
    "sum" takes half their sum (score_sde: ``reduce_mean=False``); under Adam this affects clipping
    only. Both multiply the weight: score_sde's ``likelihood_weighting``, g² times either, is the
    weight of that name, and twice ``likelihood``, which already contains the ½.
    """

    name: LossName = "denoising"
    target: Target = "eps"
    weight: Choice = Choice("eps")
    times: Choice = Choice("stratified")
    importance_weights: bool = True
    vlb_weight: float = fields.non_negative(0.0)
    divergence: Literal["exact", "hutchinson"] = "exact"
    probe: Probe = "rademacher"
    reduction: Literal["mean", "sum"] = "mean"
    t_min: float = fields.fraction(1e-3)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The optax chain: clip, then Adam or AdamW, with a learning rate that warms up.

    The parameters of a learned process are trained by Adam at their own rate, without decay.
    """

    name: Literal["adam", "adamw"] = "adam"
    learning_rate: float = fields.positive(2e-4)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = fields.non_negative(0)
    b1: float = fields.fraction(0.9)
    b2: float = fields.fraction(0.999)
    epsilon: float = fields.positive(1e-8)
    weight_decay: float = fields.non_negative(0.0)
    clip_norm: float = fields.positive(1.0)
    process_learning_rate: float = fields.positive(1e-3)


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How samples are drawn by default.

    DEIS of order 0 uses the order that suits the number of steps.
    """

    solver: Choice = Choice("deis", (("order", 0),))
    times: Choice = Choice("logistic", (("rho", 2.0),))
    num_steps: int = fields.positive(20)
    t_min: float = fields.fraction(1e-3)
    denoise: bool = True
    num_images: int = fields.positive(64)


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that a run depends on, including the seed."""

    seed: int = fields.ranged(0, "an integer in [0, 2^32)", lambda v: 0 <= v < 2**32, wide=True)
    data: DataConfig = DataConfig()
    process: Choice = Choice("vp", (("beta_min", 0.1), ("beta_max", 20.0)))
    network: Choice = Choice("unet")
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    sampling: SamplingConfig = SamplingConfig()

    def as_dict(self) -> dict[str, Any]:
        """Nested plain dicts, tuples and numbers, as in ``config.json``."""
        return _plain(self)


def _plain(value: Any) -> Any:
    if isinstance(value, Choice):
        return {key: _plain(v) for key, v in value.as_dict().items()}
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return value
