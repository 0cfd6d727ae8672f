"""L9: how a configuration draws its times, and the history that this needs."""

import functools
from collections.abc import Callable
from typing import NamedTuple

from jaxdiff.losses import loss_aware
from jaxdiff.losses.times import TimeSample
from jaxdiff.processes import Process
from jaxdiff.recipes import names
from jaxdiff.recipes.config import Config
from jaxdiff.typing import Array, InputError, Key, PyTree, WeightFn


class TimeSampler(NamedTuple):
    """How the times of a batch are drawn.

    Args:
        draw: ``(key, n, history) -> TimeSample``.
        history: before the first step; ``()`` if none is kept.
        record: ``(history, t, losses) -> history``, of losses without importance weights; None if
            no history is kept.
    """

    draw: Callable[[Key, int, PyTree], TimeSample]
    history: PyTree = ()
    record: Callable[[PyTree, Array, Array], PyTree] | None = None


def time_sampler(config: Config, forward: Process, weight_fn: WeightFn) -> TimeSampler:
    """Build the time sampler of a configuration.

    Args:
        config: of the run.
        forward: its process.
        weight_fn: λ on ε, in proportion to which "importance" draws.

    Raises:
        InputError: if "loss_aware" is chosen and the process is not a chain.
    """
    settings = config.loss
    reserved = ("t_min", "t_max", "num_steps")
    make = names.resolve(
        names.TIME_SAMPLERS, settings.times, "config.loss.times", reserved=reserved
    )
    if settings.times.name == "loss_aware":
        if forward.num_steps is None:
            raise InputError(
                "config.process must be a chain for the loss_aware config.loss.times, got "
                f"{config.process.name}"
            )
        length, uniform_share = make()
        draw = functools.partial(loss_aware.sample, uniform_share=uniform_share)
        return TimeSampler(
            draw, loss_aware.start(forward.num_steps, length=length), loss_aware.record
        )

    def independent(key: Key, n: int, history: PyTree) -> TimeSample:
        sample: TimeSample = make(
            key, n, forward, weight_fn, t_min=settings.t_min, num_steps=forward.num_steps
        )
        return sample

    return TimeSampler(independent)
