"""L8: settings of the loop: how long, how often, and what is kept."""

import dataclasses

from jaxdiff import fields


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How long, how often, and which averages of the parameters.

    The EMA at ``ema_decay`` is used for sampling. Further ones are kept at ``other_ema_decays``,
    and for the power profiles ``ema_stds``, stored with every checkpoint, from which an average of
    any length can be reconstructed after training. After ``max_skipped`` consecutive updates that
    were not finite, training ends.
    """

    num_steps: int = fields.positive(10_000)
    batch_size: int = fields.positive(128)
    ema_decay: float = fields.fraction(0.9999)
    other_ema_decays: tuple = fields.numbers(0.0, 1.0)
    ema_stds: tuple = fields.numbers(0.0, 0.2886)
    log_every: int = fields.positive(50)
    sample_every: int = fields.positive(1000)
    checkpoint_every: int = fields.positive(1000)
    keep_checkpoints: int = fields.positive(2)
    keep_every: int = fields.non_negative(0)
    keep_best: int = fields.non_negative(0)
    eval_every: int = fields.non_negative(0)
    max_skipped: int = fields.positive(10)

    @property
    def ema_decays(self) -> tuple[float, ...]:
        """All decays that are kept, first the one used for sampling."""
        return (self.ema_decay, *self.other_ema_decays)
