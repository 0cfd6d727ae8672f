"""L8: a request to end, by signal, that training hears between two steps."""

import contextlib
import itertools
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import jax

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], str | None]]:
    """Hear SIGTERM and SIGINT, or SIGTERM alone where processes train together.

    The second signal acts as if nobody had listened.

    Yields:
        A function that says which signal has come, None if none has. Of several processes, all of
        which ask after every step, all hear it at the same step, whichever of them was signalled.
    """
    heard: list[str] = []

    def hear(number: int, frame: FrameType | None) -> None:
        heard.append(signal.Signals(number).name)
        restore()

    # only a program's main thread may listen; of several processes jax itself hears SIGTERM, and
    # agrees on a step with the others
    own = jax.process_count() == 1 and threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, hear) for number in SIGNALS if own}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    # Not the step: jax makes out a time to meet at as one past the largest number it was told, 0 to
    # begin with, and a run that goes on from step 10 would never come by 1.
    turns = itertools.count(1)

    def should_stop() -> str | None:
        if jax.process_count() == 1:
            return heard[0] if heard else None
        from jax.experimental import multihost_utils

        reached = multihost_utils.reached_preemption_sync_point(next(turns))
        return signal.SIGTERM.name if reached else None

    try:
        yield should_stop
    finally:
        restore()
