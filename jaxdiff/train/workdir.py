"""L7: the folder of a run: what lies where, and whose it is."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from jaxdiff.files import atomic_write, clear_partial, lock
from jaxdiff.train.config import Config
from jaxdiff.train.parsing import differences, from_dict
from jaxdiff.train.resuming import refused_changes
from jaxdiff.typing import InputError

CONFIG_FILE, METRICS_FILE = "config.json", "metrics.jsonl"
LOSS_FILE, SAMPLES_FILE = "loss.png", "samples.png"
CHECKPOINTS, DAMAGED = "checkpoints", "damaged"
LOCK_FILE, TENSORBOARD, PROFILE, AVERAGES = ".lock", "tensorboard", "profile", "averages"


@contextlib.contextmanager
def claimed(
    workdir: Path, config: Config, shape: tuple[int, ...], num_classes: int | None
) -> Iterator[None]:
    """Own the workdir of a run, for as long as this process lives or the context lasts.

    First other processes are kept out of it; then the configuration is written into a new one, or
    checked to be one that the run there can go on with (:func:`go_on_with` writes it down when
    nothing else can refuse it), and what a kill left half written is deleted.

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
        _claim(workdir, config, shape, num_classes)
        clear_partial(workdir)
        yield


def _claim(workdir: Path, config: Config, shape: tuple[int, ...], num_classes: int | None) -> None:
    if (workdir / CONFIG_FILE).exists():
        stored, stored_shape, stored_classes = read_config(workdir)
        if (stored_shape, stored_classes) != (shape, num_classes):
            raise InputError(
                f"{workdir} was trained on examples of shape {stored_shape} with {stored_classes} "
                f"classes, got shape {shape} with {num_classes}: {config.data.name} has changed"
            )
        differing = refused_changes(stored, config)
        if differing:
            raise InputError(
                f"{workdir} holds a run of another config, which is left as it is; give another "
                f"workdir, or these fields as they were ({'; '.join(differing)})"
            )
        newest = _newest_step(workdir)
        if config.training.num_steps < newest:
            raise InputError(
                f"config.training.num_steps must be at least {newest}, the step of the newest "
                f"checkpoint in {workdir}, got {config.training.num_steps}"
            )
    elif (workdir / CHECKPOINTS).exists():
        raise InputError(
            f"{workdir} holds checkpoints but no {CONFIG_FILE} that says of what; give another "
            "workdir, or put the file back"
        )
    else:
        write_config(workdir, config, shape, num_classes)


def _newest_step(workdir: Path) -> int:
    names = (path.name for path in (workdir / CHECKPOINTS).glob("*"))
    return max((int(name) for name in names if name.isdigit()), default=0)


def go_on_with(workdir: Path, config: Config) -> list[str]:
    """Write into ``config.json`` what has changed since the run there was begun or last gone on.

    Args:
        workdir: that this process owns.
        config: that :func:`claimed` has accepted.

    Returns:
        What has changed, as ``config.a.b: old -> new``.
    """
    path = workdir / CONFIG_FILE
    changed = differences(read_config(workdir)[0], config)
    if changed:
        stored = json.loads(path.read_text())
        atomic_write(path, json.dumps(stored | {"config": config.as_dict()}, indent=2) + "\n")
    return changed


def read_config(workdir: Path) -> tuple[Config, tuple[int, ...], int | None]:
    """Read back what :func:`write_config` wrote: the config, an example's shape, the classes.

    Raises:
        InputError: if it is missing or is not what was written.
    """
    try:
        stored = json.loads((workdir / CONFIG_FILE).read_text())
        example = stored["example"]
        return from_dict(stored["config"]), tuple(example["shape"]), example["num_classes"]
    except FileNotFoundError:
        raise InputError(f"{workdir} holds no run: there is no {CONFIG_FILE} in it") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{workdir / CONFIG_FILE} is not the configuration of a run: {error}"
        ) from error


def write_config(
    workdir: Path, config: Config, shape: tuple[int, ...], num_classes: int | None
) -> None:
    """Write the configuration, and what an example looks like, to ``config.json``."""
    stored = {
        "config": config.as_dict(),
        "example": {"shape": list(shape), "num_classes": num_classes},
    }
    atomic_write(workdir / CONFIG_FILE, json.dumps(stored, indent=2) + "\n")
