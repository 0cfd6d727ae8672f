"""L0: files that are written completely or not at all, and logs that survive a killed run.

A file is written beside its target and then renamed, which is atomic under POSIX: a reader sees the
old bytes or the new ones. A log grows by whole lines; a kill leaves at most one truncated line,
which the next append terminates and every reader skips.
"""

import contextlib
import io
import json
import os
import uuid
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from jaxdiff.typing import ArrayLike, InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def errors_naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Make an OSError raised inside name a file: the one for a full disk names none.

    Args:
        path: the file that is being written.

    Raises:
        OSError: the same error, with ``path`` as its file unless it names another.
    """
    try:
        yield
    except OSError as error:
        named = error.filename is not None and not str(error.filename).endswith(".partial")
        if error.errno is not None and not named:
            error.filename, error.filename2 = str(path), None
        raise


def lock(file: IO[Any], *, wait: bool = True) -> None:
    """Lock an open file against other processes, until it is closed or this process ends.

    Windows has no such locks; there this function does nothing.

    Args:
        file: a file opened for writing.
        wait: whether to wait for another process to release it.

    Raises:
        BlockingIOError: if another process holds the lock, and ``wait`` is false.
        OSError: if the file system has no locks.
    """
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


def atomic_write(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write a file completely or not at all; missing parent folders are created.

    Args:
        path: the target; an existing file is replaced.
        data: bytes, or text to be encoded as UTF-8.

    Raises:
        OSError: naming the target, if it cannot be written; the target is then unchanged, and
            nothing is left behind.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "figures" / "note.txt"
        >>> atomic_write(path, "σ² = 1 − α²")
        >>> path.read_text(encoding="utf-8")
        'σ² = 1 − α²'
    """
    path = Path(path)
    partial = path.with_name(f".{uuid.uuid4().hex}.partial")  # same folder: a rename, not a copy
    with errors_naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(partial, "xb") as file:
                with contextlib.suppress(OSError):  # some file systems have no locks
                    lock(file)  # distinguishes a write in progress from a leftover
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
                if fcntl is not None:
                    os.replace(partial, path)  # while it is locked
            if fcntl is None:
                os.replace(partial, path)  # Windows cannot rename an open file
        except BaseException:  # an interrupt must leave nothing behind either
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


def check_writable(*paths: str | os.PathLike[str]) -> None:
    """Check that :func:`atomic_write` could write to paths, without changing anything.

    Long computations call this before they start.

    Args:
        *paths: files to be written; their parent folders may be missing.

    Raises:
        InputError: if one is a folder, or its own folder is a file or not writable.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "new" / "note.txt"
        >>> check_writable(path)
        >>> path.parent.exists()
        False
    """
    for path in map(Path, paths):
        if path.is_dir():
            raise InputError(f"{path} must be a file, got a folder")
        folder = next(p for p in path.absolute().parents if os.path.lexists(p))
        if not folder.is_dir():
            raise InputError(f"{path.parent} must be a folder, got the file {folder}")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f"{path} cannot be written: the folder {folder} is not writable")


def clear_partial(folder: str | os.PathLike[str]) -> None:
    """Delete the partial files of killed writes in a folder and below, but not those in progress.

    Args:
        folder: the folder to search.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / f".{uuid.uuid4().hex}.partial").touch()
        >>> clear_partial(folder)
        >>> list(folder.iterdir())
        []
    """
    for path in Path(folder).rglob(f".{'[0-9a-f]' * 32}.partial"):
        with contextlib.suppress(OSError):
            if fcntl is None:
                path.unlink()  # Windows cannot delete an open file
            else:
                with open(path, "rb") as file:
                    lock(file, wait=False)
                    path.unlink()


def atomic_write_array(path: str | os.PathLike[str], **arrays: ArrayLike) -> None:
    """Write named arrays as one compressed ``.npz``, completely or not at all.

    Args:
        path: the target.
        **arrays: arrays by name.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "x.npz"
        >>> atomic_write_array(path, x=np.arange(3))
        >>> np.load(path)["x"]
        array([0, 1, 2])
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **{k: np.asarray(a) for k, a in arrays.items()})
    atomic_write(path, buffer.getvalue())


def append_line(path: str | os.PathLike[str], text: str) -> None:
    r"""Append one line and flush it; a truncated last line is terminated first.

    Args:
        path: the log, created with its parent folders if missing.
        text: the line, without its newline.

    Raises:
        InputError: if ``text`` contains a line break.
        OSError: naming the log, if it cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "metrics.jsonl"
        >>> append_line(path, '{"step": 1}')
        >>> append_line(path, '{"step": 2}')
        >>> path.read_text()
        '{"step": 1}\n{"step": 2}\n'
    """
    if "\n" in text:
        raise InputError(f"text must be a single line, got {text.count(chr(10)) + 1} lines")
    path = Path(path)
    with errors_naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    text = "\n" + text
            file.write(f"{text}\n".encode())  # closing flushes: one write, at the end


def read_lines_json(
    path: str | os.PathLike[str], *, fields: Sequence[str] = ()
) -> list[dict[str, Any]]:
    r"""Read a log of one JSON object per line, skipping lines that a kill or power cut truncated.

    Truncated objects are skipped silently, and other malformed lines with a warning: a log is a
    by-product, and must not make anything fail.

    Args:
        path: a ``metrics.jsonl``.
        fields: names under which every object must have a number; one that lacks them is skipped.

    Returns:
        The objects, in order.

    Raises:
        InputError: if the file cannot be read.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "metrics.jsonl"
        >>> path.write_text('{"step": 1}\n{"step": 2}\n{"st')
        28
        >>> read_lines_json(path)
        [{'step': 1}, {'step': 2}]
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    rows, foreign = [], []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            if not line.startswith(b"{"):  # a truncated object does
                foreign.append(number)
            continue
        if isinstance(row, dict) and all(_is_number(row.get(name)) for name in fields):
            rows.append(row)
        else:
            foreign.append(number)
    if foreign:
        warnings.warn(f"{path}: skipped lines that are not rows: {_listed(foreign)}", stacklevel=2)
    return rows


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _listed(numbers: Sequence[int], most: int = 5) -> str:
    more = f" and {len(numbers) - most} more" if len(numbers) > most else ""
    return ", ".join(map(str, numbers[:most])) + more
