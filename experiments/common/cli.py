"""The command line: parses flags; usage errors print one line and exit with status 2.

So do errors such as a full disk. Output that cannot be printed is dropped, without an error.
"""

import errno
import functools
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from jaxdiff.train.output import unfailing_output
from jaxdiff.typing import InputError, nearest

USAGE_ERROR = 2
INTERRUPTED = 130
MAX_SEED = 2**32 - 1
TOO_LITTLE = "out of memory"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LEFTOVERS = ("Event loop is closed", "sys.meta_path is None")


def run(main: Callable[[], None]) -> None:
    """Parse the flags and call ``main``; on a usage error print one line and exit with 2."""
    sys.unraisablehook = _report  # to the very end of the process
    with unfailing_output():
        app.run(functools.partial(_guarded, main), flags_parser=_parse)


def _report(
    left: "sys.UnraisableHookArgs",
    hidden: tuple[str, ...] = LEFTOVERS,
    report: Callable[["sys.UnraisableHookArgs"], Any] = sys.__unraisablehook__,
) -> None:
    """Report errors that can no longer be caught, except the leftovers of a failed checkpoint.

    Its unwritten parts raise one error each, before and after the one line that gives the reason,
    even after module globals are gone: hence the defaults.
    """
    if not str(left.exc_value).startswith(hidden):
        report(left)


def _guarded(main: Callable[[], None], argv: Sequence[str]) -> None:
    if len(argv) > 1:
        _refuse(f"all arguments must be flags, got {argv[1]!r}")
    try:
        main()
    except InputError as error:
        _refuse(str(error))
    except jax.errors.JaxRuntimeError as error:  # what an InputError becomes in compiled code
        found = re.search(rf"\b({InputError.__name__}|RESOURCE_EXHAUSTED): (.*)", str(error))
        if found is None:
            raise
        _refuse(found[2] if found[1] == InputError.__name__ else f"{TOO_LITTLE}: {found[2]}")
    except MemoryError as error:
        _refuse(f"{TOO_LITTLE}: {str(error) or 'Python could not allocate any more'}")
    except OSError as error:
        if error.filename is None and error.errno not in FULL:  # not about a file of the user's
            raise
        _refuse(f"{error.filename or 'a file could not be written'}: {error.strerror}")
    except KeyboardInterrupt:
        print("interrupted; training resumes from its last checkpoint", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _parse(argv: Sequence[str]) -> list[str]:
    """Parse as absl does, but report every failure in one line."""
    # orbax and grain log every file through absl, and the whole context of every failure
    logging.set_verbosity(logging.FATAL)
    try:
        if any(arg.startswith(("--config", "-config")) for arg in argv):
            _check_config_flags(argv)
        left = flags.FLAGS(argv)
        _check_finite_flags()
        return left
    except InputError as error:
        _refuse(str(error))
    except flags.IllegalFlagValueError as error:
        # "flag --config.a.b=x: could not convert string to float: 'x'"
        _refuse(str(error).splitlines()[0].removeprefix("flag --"))
    except flags.Error as error:
        _refuse(str(error).splitlines()[0])


def _check_finite_flags() -> None:
    """Refuse infinities and NaN, which bounds do not exclude; not in config fields."""
    for name in flags.FLAGS:
        value = flags.FLAGS[name].value
        if isinstance(value, float) and not math.isfinite(value) and "." not in name:
            raise InputError(f"--{name} must be a finite number, got {value}")


def _check_config_flags(argv: Sequence[str]) -> None:
    """Find usage errors that ml_collections would report by a traceback.

    Raises:
        InputError: if the file is missing, broken or given twice, or an override names no field.
    """
    pairs = [re.match(r"--?config((?:\.\w+)*)(?:=(.*))?$", arg, re.DOTALL) for arg in argv]
    paths = [
        pair[2] if pair[2] is not None else "".join(argv[index + 1 : index + 2])
        for index, pair in enumerate(pairs)
        if pair and not pair[1]
    ]
    if len(paths) > 1:
        raise InputError(f"--config must be given once, got {' and '.join(paths)}")
    path = "".join(paths)
    if not Path(path).is_file():
        raise InputError(f"--config must be the path of a config file, got {path!r}")
    try:
        config = _load(path)
    except (Exception, SystemExit) as error:
        *_, reason = [type(error).__name__, *str(error).strip().splitlines()]
        raise InputError(f"{path} is not a config file: {reason}") from error
    if not isinstance(config, ConfigDict):
        raise InputError(
            f"{path} is not a config file: its get_config must return a ConfigDict, got "
            f"{type(config).__name__}"
        )
    for pair in pairs:
        if pair and pair[1]:
            _check_field(config, pair[1][1:].split("."))


def _load(path: str) -> Any:
    """Load a config file without applying overrides."""
    values, argv = flags.FlagValues(), ["", f"--config={path}"]
    config = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    values(argv)
    return config.value


def _check_field(config: Mapping[str, Any], names: Sequence[str]) -> None:
    inside, path = config, "config"
    for name in names:
        if not hasattr(inside, "keys") or name not in inside:
            known = list(inside) if hasattr(inside, "keys") else []
            listed = (", ".join(known) or "no fields") + nearest(name, known)
            raise InputError(f"{path}.{name} does not exist; {path} has {listed}")
        inside, path = inside[name], f"{path}.{name}"
    if hasattr(inside, "keys"):
        fields = ", ".join(f"{path}.{field}" for field in inside)
        raise InputError(f"{path} must be set field by field ({fields})")


def _refuse(sentence: str) -> NoReturn:
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(USAGE_ERROR)
