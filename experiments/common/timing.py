"""Honest timings on a noisy machine: things take turns, and the best of the rounds counts."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

ONCE = 20.0
"""Seconds beyond which a run is timed only once."""


def best_times(runs: Mapping[str, Callable[[int], Any]], *, rounds: int) -> dict[str, float]:
    """Seconds of each run, the best of several, taken in turn so that a slow spell slows all alike.

    Args:
        runs: functions of the number of the round, compiled before.
        rounds: timings of each.

    Returns:
        Seconds by name, in the order of ``runs``.
    """
    best = dict.fromkeys(runs, math.inf)
    for index in range(rounds):
        for name, run in runs.items():
            if best[name] > ONCE and index:
                continue
            started = time.perf_counter()
            jax.block_until_ready(run(index))
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def timed(job: Callable[[], Any]) -> tuple[Any, float]:
    """What a job returns, and its seconds."""
    started = time.perf_counter()
    return job(), time.perf_counter() - started
