"""L8: the folder of a run: its files, and which process owns it."""

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
    """Own the workdir of a run, while this process lives and the context lasts.

    First the workdir is locked; then the content of the identity is written into a new one, or the
    run there is checked to be one that can be resumed (:func:`go_on_with` records what has changed
    once nothing else can fail), and partly written files of a killed process are deleted.

    Args:
        workdir: of the run, made if missing.
        identity: of the run.
        num_steps: up to which it is to be trained; 0 if it is not.

    Raises:
        InputError: if another process owns it, or naming what differs; nothing is overwritten.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with open(workdir / LOCK_FILE, "w") as file:  # the system releases the lock if we die
        try:
            lock(file, wait=False)
        except BlockingIOError:
            raise InputError(
                f"{workdir} is in use by another process; wait for it to end, or use another "
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
                f"{workdir} holds a run with another config, which was not changed; use another "
                f"workdir, or restore these fields ({'; '.join(differing)})"
            )
        newest = _newest_step(workdir)
        if 0 < num_steps < newest:
            raise InputError(
                f"config.training.num_steps must be at least {newest}, the step of the newest "
                f"checkpoint in {workdir}, got {num_steps}"
            )
    elif (workdir / CHECKPOINTS).exists():
        raise InputError(
            f"{workdir} holds checkpoints but no {CONFIG_FILE} that describes them; use another "
            "workdir, or restore the file"
        )
    else:
        write_content(workdir, identity.content)


def _newest_step(workdir: Path) -> int:
    names = (path.name for path in (workdir / CHECKPOINTS).glob("*"))
    return max((int(name) for name in names if name.isdigit()), default=0)


def go_on_with(workdir: Path, identity: Identity) -> list[str]:
    """Record in ``config.json`` what has changed since the run was started or last resumed.

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
    """Reraise errors of reading ``config.json`` as one that names the file.

    Raises:
        InputError: if anything is missing or of another type.
    """
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{workdir / CONFIG_FILE} is not the configuration of a run: {error}"
        ) from error


def write_content(workdir: Path, content: Content) -> None:
    """Write the content of a run's identity to ``config.json``."""
    atomic_write(workdir / CONFIG_FILE, json.dumps(content, indent=2) + "\n")
