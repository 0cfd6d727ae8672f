"""L8: the folder of a run: what lies where, and whose it is."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxdiff.files import atomic_write, clear_partial, lock
from jaxdiff.train.identity import Content, Identity
from jaxdiff.typing import InputError

CONFIG_FILE, METRICS_FILE = "config.json", "metrics.jsonl"
SAMPLES_FILE = "samples.png"
CHECKPOINTS, DAMAGED = "checkpoints", "damaged"
LOCK_FILE, TENSORBOARD, PROFILE, AVERAGES = ".lock", "tensorboard", "profile", "averages"


@contextlib.contextmanager
def owned(workdir: Path, identity: Identity, *, num_steps: int = 0) -> Iterator[None]:
    """Own the workdir of a run, for as long as this process lives or the context lasts.

    First other processes are kept out of it; then the content of the identity is written into a new
    one, or the run there is checked to be one that can go on (:func:`go_on_with` writes down what
    has changed when nothing else can refuse it), and what a kill left half written is deleted.

    Args:
        workdir: of the run, made if missing.
        identity: of the run.
        num_steps: up to which it is to be trained; 0 if it is not.

    Raises:
        InputError: if another process owns it, or naming what differs; nothing is overwritten.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with open(workdir / LOCK_FILE, "w") as file:  # the lock is the system's: it dies with us
        try:
            lock(file, wait=False)
        except BlockingIOError:
            raise InputError(
                f"{workdir} is being trained in by another process; let it end, or give another "
                "workdir"
            ) from None
        _take_over(workdir, identity, num_steps)
        clear_partial(workdir)
        yield


def _take_over(workdir: Path, identity: Identity, num_steps: int) -> None:
    if (workdir / CONFIG_FILE).exists():
        stored = read_content(workdir)
        with as_config(workdir):
            differing = identity.refused(stored)
        if differing:
            raise InputError(
                f"{workdir} holds a run of another config, which is left as it is; give another "
                f"workdir, or these fields as they were ({'; '.join(differing)})"
            )
        newest = _newest_step(workdir)
        if 0 < num_steps < newest:
            raise InputError(
                f"config.training.num_steps must be at least {newest}, the step of the newest "
                f"checkpoint in {workdir}, got {num_steps}"
            )
    elif (workdir / CHECKPOINTS).exists():
        raise InputError(
            f"{workdir} holds checkpoints but no {CONFIG_FILE} that says of what; give another "
            "workdir, or put the file back"
        )
    else:
        write_content(workdir, identity.content)


def _newest_step(workdir: Path) -> int:
    names = (path.name for path in (workdir / CHECKPOINTS).glob("*"))
    return max((int(name) for name in names if name.isdigit()), default=0)


def go_on_with(workdir: Path, identity: Identity) -> list[str]:
    """Write into ``config.json`` what has changed since the run there was begun or last gone on.

    Args:
        workdir: that this process owns.
        identity: that :func:`owned` has accepted.

    Returns:
        What has changed, as ``config.a.b: old -> new``.
    """
    stored = read_content(workdir)
    with as_config(workdir):
        changed = identity.changed(stored)
    if changed:
        write_content(workdir, identity.content)
    return changed


def read_content(workdir: Path) -> dict[str, Any]:
    """Read what :func:`write_content` wrote.

    Raises:
        InputError: if it is missing or is not JSON.
    """
    try:
        text = (workdir / CONFIG_FILE).read_text()
    except FileNotFoundError:
        raise InputError(f"{workdir} holds no run: there is no {CONFIG_FILE} in it") from None
    with as_config(workdir):
        return dict(json.loads(text))


@contextlib.contextmanager
def as_config(workdir: Path) -> Iterator[None]:
    """Read out of ``config.json`` what ought to be there.

    Raises:
        InputError: naming the file, for whatever is missing or is something else.
    """
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{workdir / CONFIG_FILE} is not the configuration of a run: {error}"
        ) from error


def write_content(workdir: Path, content: Content) -> None:
    """Write to ``config.json`` what tells this run from others."""
    atomic_write(workdir / CONFIG_FILE, json.dumps(content, indent=2) + "\n")
