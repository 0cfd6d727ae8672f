"""Errors other than in flags also print one line: config files, memory, disks."""

import errno
from types import SimpleNamespace

import pytest
from jax.errors import JaxRuntimeError
from running import run

from experiments.common import cli

NO_CONFIGS = {
    "raise AssertionError": "config.py is not a config file: AssertionError",
    "raise SystemExit(3)": "config.py is not a config file: 3",
    "return {'seed': 1}": "its get_config must return a ConfigDict, got dict",
    "return [1]": "its get_config must return a ConfigDict, got list",
    "pass": "its get_config must return a ConfigDict, got NoneType",
}


@pytest.mark.parametrize("body", NO_CONFIGS)
def test_a_config_file_without_a_config_is_reported_in_one_line(tmp_path, body):
    path = tmp_path / "config.py"
    path.write_text(f"def get_config(): {body}\n")
    done = run("experiments.train", f"--config={path}", f"--workdir={tmp_path / 'new'}")
    assert done.returncode == 2, done.stderr
    (message,) = [
        line for line in done.stderr.splitlines() if "did you forget a return" not in line
    ]
    assert message.startswith(f"error: {tmp_path}")
    assert message.endswith(NO_CONFIGS[body])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "not be written: No space left on devi"),
        (MemoryError(), "out of memory: Python could not allocate any more"),
        (MemoryError("Unable to allocate 7.28 TiB"), "out of memory: Unable to allocate 7.28 TiB"),
        (
            JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.\nmore"),
            "out of memory: Out of memory allocating 8 bytes.",
        ),
    ],
    ids=["disk", "host", "array", "device"],
)
def test_lack_of_memory_or_disk_is_reported_in_one_line(capsys, error, expected):
    def main():
        raise error

    with pytest.raises(SystemExit) as end:
        cli._guarded(main, ["command"])
    assert end.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert expected in message
    assert message.count("\n") == 1


def test_leftovers_of_a_failed_checkpoint_are_not_reported():
    reported, other = [], SimpleNamespace(exc_value=RuntimeError("something else"))
    for left in (SimpleNamespace(exc_value=RuntimeError("Event loop is closed")), other):
        cli._report(left, report=reported.append)
    assert reported == [other]
