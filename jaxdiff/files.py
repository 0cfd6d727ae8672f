"""L0: files that are there whole or not at all, and logs that outlive a killed run.

A file is written beside its target and renamed onto it, which POSIX makes atomic: a reader sees the
old bytes or the new ones. A log grows by whole lines; what a kill leaves is one line cut short,
which the next append ends and every reader skips.
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
def telling(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let an OSError in here name a file: of a full disk Python says no more than that it is full.

    Args:
        path: of the file that is being written.

    Raises:
        OSError: as it was, about ``path`` unless it names another file.
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
        file: opened for writing.
        wait: whether to wait for another process to release it.

    Raises:
        BlockingIOError: if another process holds the lock, and ``wait`` is false.
        OSError: if the file system has no locks.
    """
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


def atomic_write(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write a file whole or not at all; missing parent folders are made.

    Args:
        path: where to; an existing file is replaced.
        data: bytes, or text to be encoded as UTF-8.

    Raises:
        OSError: naming the target, if the disk says no; it is then as it was, and nothing is left
            behind.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "figures" / "note.txt"
        >>> atomic_write(path, "σ² = 1 − α²")
        >>> path.read_text(encoding="utf-8")
        'σ² = 1 − α²'
    """
    path = Path(path)
    partial = path.with_name(f".{uuid.uuid4().hex}.partial")  # same folder: a rename, not a copy
    with telling(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(partial, "xb") as file:
                with contextlib.suppress(OSError):  # some file systems have no locks
                    lock(file)  # to tell a write at work from a leftover
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
                if fcntl is not None:
                    os.replace(partial, path)  # while it is locked
            if fcntl is None:
                os.replace(partial, path)  # Windows renames no open file
        except BaseException:  # an interrupt must leave nothing behind either
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


def check_writable(*paths: str | os.PathLike[str]) -> None:
    """Refuse what :func:`atomic_write` could not write to, and leave everything as it is.

    Results that take long are asked for their place before they are begun.

    Args:
        *paths: files to be written; missing parent folders are none too many.

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
    """Delete, here and below, what writes left that a kill ended, and nothing of those at work.

    Args:
        folder: where to look.

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
                path.unlink()  # Windows deletes no open file
            else:
                with open(path, "rb") as file:
                    lock(file, wait=False)
                    path.unlink()


def atomic_write_array(path: str | os.PathLike[str], **arrays: ArrayLike) -> None:
    """Write named arrays as one compressed ``.npz``, whole or not at all.

    Args:
        path: where to.
        **arrays: by the names they are to have.

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
    r"""Append one whole line, flushed, on a line of its own even after one that was cut short.

    Args:
        path: the log, made if missing, with its parent folders.
        text: the line, without its newline.

    Raises:
        InputError: if ``text`` has a line break in it.
        OSError: naming the log, if the disk says no.

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
    with telling(path):
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
    r"""Read a log of one JSON object per line, without what a kill or a power cut left of others.

    Objects that were cut short are passed over in silence, and other lines with a warning: a log is
    a by-product, and nothing is to fail for its sake.

    Args:
        path: a ``metrics.jsonl``.
        fields: names under which every object has a number; one that lacks them is no row.

    Returns:
        The objects, in order.

    Raises:
        InputError: if there is no such file.

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
            if not line.startswith(b"{"):  # which one cut short does
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
