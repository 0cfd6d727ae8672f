"""L8: output to the terminal. Failing to print stops nothing."""

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

ASCII = str.maketrans(
    {"±": "+/-", "−": "-", "×": "x", "·": "*", "∇": "grad", "‖": "|", "√": "sqrt", "≥": ">=",
     "≤": "<=", "→": "->", "…": "...", "σ": "sigma", "α": "alpha", "β": "beta"}
)  # fmt: skip
"""ASCII spellings of the characters in our own messages."""


class Output(io.TextIOBase):
    r"""A text stream whose writes never fail, even if those of the underlying stream do.

    Text is dropped at a broken pipe, a full disk or a closed descriptor; characters that the
    underlying encoding lacks are spelt in ASCII.

    Args:
        stream: such as ``sys.stderr``; None, Python's value for a closed descriptor, drops all.

    Example:
        >>> below = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        >>> print("3 ± 1", file=Output(below), flush=True)
        >>> below.buffer.getvalue()
        b'3 +/- 1\n'
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._below = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Encoding of the underlying stream."""
        return getattr(self._below, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write what can be written."""
        if self._below is not None:
            with contextlib.suppress(OSError, ValueError):  # ValueError: it has been closed
                names = getattr(self._below, "errors", None) == "surrogateescape"
                self._below.write(spelt(text, self.encoding, names=names))
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        if self._below is not None:
            with contextlib.suppress(OSError, ValueError):
                self._below.flush()

    def isatty(self) -> bool:
        """Whether the underlying stream is a terminal."""
        with contextlib.suppress(ValueError):
            return self._below is not None and self._below.isatty()
        return False

    def fileno(self) -> int:
        """The underlying descriptor, needed for the width of a terminal."""
        if self._below is None:
            raise io.UnsupportedOperation("fileno")
        return self._below.fileno()


def spelt(text: str, encoding: str, *, names: bool = False) -> str:
    r"""Spell in ASCII the characters that an encoding lacks.

    Args:
        text: any text.
        encoding: of the destination.
        names: whether to keep bytes of file names, which Python reads as surrogates.

    Returns:
        Text that can be encoded.

    Example:
        >>> spelt("0.5 ± 0.1 of Ω", "ascii"), spelt("0.5 ± 0.1", "latin-1")
        ('0.5 +/- 0.1 of \\u03a9', '0.5 ± 0.1')
    """
    errors = "surrogateescape" if names else "strict"
    try:
        text.encode(encoding, errors)
        return text
    except UnicodeEncodeError:
        plain = text.translate(ASCII)
        return plain.encode(encoding, "backslashreplace").decode(encoding)


def unfailing(say: Callable[[str], Any]) -> Callable[[str], None]:
    """Wrap ``say`` so that a line that cannot be printed is dropped."""

    def safe(line: str) -> None:
        with contextlib.suppress(OSError, UnicodeEncodeError):
            say(line)

    return safe


@contextlib.contextmanager
def unfailing_output() -> Iterator[None]:
    """Keep failing output from raising errors, within the context and when Python exits.

    Closed descriptors among 0 to 2 are opened on /dev/null: otherwise the next file that is opened
    would get the number to which libraries report errors.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    own = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(Output, own)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = own
        for stream in own:
            _drop_unwritten(stream)


def _drop_unwritten(stream: TextIO | None) -> None:
    """Discard what cannot be written, which would fail again when Python exits."""
    try:
        if stream is not None:
            stream.flush()
    except ValueError:  # closed
        pass
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())  # type: ignore[union-attr]
        os.close(null)
        stream.flush()  # type: ignore[union-attr]
