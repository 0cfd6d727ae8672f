"""L8: requests to stop, by signal, that training checks between steps."""

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
    """Catch SIGTERM and SIGINT, or only SIGTERM if several processes train together.

    A second signal has its usual effect.

    Yields:
        A function that returns the name of the received signal, or None. If several processes
        train, all must call it after every step, and all get the signal at the same step, whichever
        of them received it.
    """
    received: list[str] = []

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number).name)
        restore()

    # only the main thread may set handlers; with several processes jax itself handles SIGTERM, and
    # agrees on a step with the others
    own = jax.process_count() == 1 and threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handle) for number in SIGNALS if own}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    # Not the step: jax chooses as sync point one past the largest number passed so far, initially
    # 0, and a run resumed from step 10 would never reach 1.
    calls = itertools.count(1)

    def should_stop() -> str | None:
        if jax.process_count() == 1:
            return received[0] if received else None
        from jax.experimental import multihost_utils

        reached = multihost_utils.reached_preemption_sync_point(next(calls))
        return signal.SIGTERM.name if reached else None

    try:
        yield should_stop
    finally:
        restore()
