"""The edge: flags become a typed config, a caller's mistake one sentence and exit code 2.

So does a disk that is full. What cannot be printed is dropped, and the command goes on.
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
TOO_LITTLE = "memory does not suffice"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LEFTOVERS = ("Event loop is closed", "sys.meta_path is None")


def run(main: Callable[[], None]) -> None:
    """Parse the flags, call ``main``, and exit with 2 and one sentence on a caller's mistake."""
    sys.unraisablehook = _report  # to the very end of the process
    with unfailing_output():
        app.run(functools.partial(_guarded, main), flags_parser=_parse)


def _report(
    left: "sys.UnraisableHookArgs",
    unsaid: tuple[str, ...] = LEFTOVERS,
    report: Callable[["sys.UnraisableHookArgs"], Any] = sys.__unraisablehook__,
) -> None:
    """Report what nobody can catch any more, but what is left of a checkpoint that failed.

    Its parts that were still to be written are told one by one, above and below the one sentence
    that says why, as late as when names of modules are gone: hence the defaults.
    """
    if not str(left.exc_value).startswith(unsaid):
        report(left)


def _guarded(main: Callable[[], None], argv: Sequence[str]) -> None:
    if len(argv) > 1:
        _refuse(f"everything is a flag here, got the argument {argv[1]!r}")
    try:
        main()
    except InputError as error:
        _refuse(str(error))
    except jax.errors.JaxRuntimeError as error:  # what compiled code makes of an InputError
        told = re.search(rf"\b({InputError.__name__}|RESOURCE_EXHAUSTED): (.*)", str(error))
        if told is None:
            raise
        _refuse(told[2] if told[1] == InputError.__name__ else f"{TOO_LITTLE}: {told[2]}")
    except MemoryError as error:
        _refuse(f"{TOO_LITTLE}: {str(error) or 'Python could allocate no more'}")
    except OSError as error:
        if error.filename is None and error.errno not in FULL:  # not about a file of the caller's
            raise
        _refuse(f"{error.filename or 'a file could not be written'}: {error.strerror}")
    except KeyboardInterrupt:
        print("interrupted; training goes on from its last checkpoint", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _parse(argv: Sequence[str]) -> list[str]:
    """Parse as absl does, with every failure told in one sentence."""
    # orbax and grain tell absl's log about every file, and of a failure all that stood around it
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
    """Refuse infinities, and NaN, which no bound keeps out; the fields of a config are others'."""
    for name in flags.FLAGS:
        value = flags.FLAGS[name].value
        if isinstance(value, float) and not math.isfinite(value) and "." not in name:
            raise InputError(f"--{name} must be a finite number, got {value}")


def _check_config_flags(argv: Sequence[str]) -> None:
    """Find the mistakes that ml_collections would tell by a traceback.

    Raises:
        InputError: if the file is missing, broken or one of two, or an override names no field.
    """
    pairs = [re.match(r"--?config((?:\.\w+)*)(?:=(.*))?$", arg, re.DOTALL) for arg in argv]
    paths = [
        pair[2] if pair[2] is not None else "".join(argv[index + 1 : index + 2])
        for index, pair in enumerate(pairs)
        if pair and not pair[1]
    ]
    if len(paths) > 1:
        raise InputError(f"--config takes one config file, got {' and '.join(paths)}")
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
    """Load a config file by itself, with no override applied."""
    values, argv = flags.FlagValues(), ["", f"--config={path}"]
    config = config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    values(argv)
    return config.value


def _check_field(config: Mapping[str, Any], names: Sequence[str]) -> None:
    inside, path = config, "config"
    for name in names:
        if not hasattr(inside, "keys") or name not in inside:
            known = list(inside) if hasattr(inside, "keys") else []
            takes = (", ".join(known) or "no fields") + nearest(name, known)
            raise InputError(f"{path}.{name} does not exist; {path} takes {takes}")
        inside, path = inside[name], f"{path}.{name}"
    if hasattr(inside, "keys"):
        fields = ", ".join(f"{path}.{field}" for field in inside)
        raise InputError(f"{path} takes its fields one by one ({fields})")


def _refuse(sentence: str) -> NoReturn:
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(USAGE_ERROR)
