"""L8: what is told to a person. That it cannot be printed stops nothing."""

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
"""What our own texts say, for a terminal that has no more than ASCII."""


class Output(io.TextIOBase):
    r"""A text stream whose writes do not fail, whatever the one below it does.

    A pipe that nobody reads, a full disk and a closed descriptor drop the text; characters that the
    encoding below lacks are spelt in ASCII.

    Args:
        stream: such as ``sys.stderr``; None, as Python has it for a closed descriptor, drops all.

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
        """That of the stream below."""
        return getattr(self._below, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write what can be written."""
        if self._below is not None:
            with contextlib.suppress(OSError, ValueError):  # the latter: it has been closed
                names = getattr(self._below, "errors", None) == "surrogateescape"
                self._below.write(spelt(text, self.encoding, names=names))
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        if self._below is not None:
            with contextlib.suppress(OSError, ValueError):
                self._below.flush()

    def isatty(self) -> bool:
        """Whether a person looks at it."""
        with contextlib.suppress(ValueError):
            return self._below is not None and self._below.isatty()
        return False

    def fileno(self) -> int:
        """The descriptor below, by which the width of a terminal is found."""
        if self._below is None:
            raise io.UnsupportedOperation("fileno")
        return self._below.fileno()


def spelt(text: str, encoding: str, *, names: bool = False) -> str:
    r"""Spell in ASCII what an encoding lacks.

    Args:
        text: any.
        encoding: of where it goes.
        names: whether bytes of file names pass, which Python reads in such a locale as surrogates.

    Returns:
        What can be encoded.

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
    """Call ``say`` for a line, and go on where it cannot be printed."""

    def told(line: str) -> None:
        with contextlib.suppress(OSError, UnicodeEncodeError):
            say(line)

    return told


@contextlib.contextmanager
def unfailing_output() -> Iterator[None]:
    """Let nothing fail for what it prints, as long as the context lasts, nor at the end of Python.

    Descriptors 0 to 2 are opened on /dev/null where they are closed: else the next file that is
    opened would have the number to which libraries report errors.
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
    """What cannot be written now would fail once more when Python ends."""
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
