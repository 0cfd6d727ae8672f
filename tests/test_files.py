"""Files are complete or absent; logs survive a kill."""

import os
import stat

import pytest
from running import files_of_at_most

from jaxdiff import files
from jaxdiff.typing import InputError


@pytest.mark.parametrize(("data", "expected"), [(b"\x00\xff", b"\x00\xff"), ("σ\n", b"\xcf\x83\n")])
def test_atomic_write_writes_its_data(tmp_path, data, expected):
    path = tmp_path / "new" / "folder" / "file"
    files.atomic_write(path, data)
    assert path.read_bytes() == expected
    files.atomic_write(str(path), b"second")
    assert path.read_bytes() == b"second"
    assert os.listdir(path.parent) == ["file"]


def test_atomic_write_is_as_readable_as_any_file(tmp_path):
    files.atomic_write(tmp_path / "a", b"")
    (tmp_path / "b").write_bytes(b"")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"]
    assert modes[0] == modes[1]


def test_atomic_write_renames_within_one_folder_after_the_bytes_are_on_disk(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def spy_replace(source, target):
        assert os.path.dirname(source) == os.path.dirname(target)
        with open(source, "rb") as file:
            assert file.read() == b"all of it"
        calls.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", spy_replace)
    files.atomic_write(tmp_path / "file", b"all of it")
    assert calls == ["fsync", "replace"]


def test_unwritable_paths_are_refused_and_left_unchanged(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    files.check_writable(tmp_path / "file", tmp_path / "new" / "folder" / "file")
    with pytest.raises(InputError, match="folder must be a file, got a folder"):
        files.check_writable(tmp_path / "file", tmp_path / "folder")
    with pytest.raises(InputError, match=r"file/new must be a folder, got the file .*/file$"):
        files.check_writable(tmp_path / "file" / "new" / "a.png")
    monkeypatch.setattr(os, "access", lambda path, mode: path.name != "folder")  # root may write
    with pytest.raises(InputError, match=r"a\.png cannot be written: the folder .*folder is not"):
        files.check_writable(tmp_path / "folder" / "new" / "a.png")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("existing", [True, False])
def test_atomic_write_fails_atomically(tmp_path, monkeypatch, broken, error, existing):
    path = tmp_path / "file"
    if existing:
        path.write_bytes(b"old")

    def fail(*_):
        raise error

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(type(error)):
        files.atomic_write(path, b"new")
    assert os.listdir(tmp_path) == (["file"] if existing else [])
    assert not existing or path.read_bytes() == b"old"


def test_a_write_that_stops_half_way_leaves_nothing(tmp_path):
    """A real failure in the middle of the bytes: the file size is limited."""
    with files_of_at_most(1000), pytest.raises(OSError, match="too large") as caught:
        files.atomic_write(tmp_path / "file", b"x" * 100_000)
    assert caught.value.filename == str(tmp_path / "file")
    assert os.listdir(tmp_path) == []


def test_clearing_does_not_disturb_a_write_in_progress(tmp_path, monkeypatch):
    replace, (whole, left) = os.replace, (tmp_path / "whole", tmp_path / f".{'0' * 32}.partial")

    def cleared_before(source, target):
        files.clear_partial(tmp_path)
        replace(source, target)

    left.touch()
    monkeypatch.setattr("os.replace", cleared_before)
    files.atomic_write(whole, b"all")
    assert whole.read_bytes() == b"all"
    assert not left.exists()


def test_files_are_complete_on_systems_without_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)  # as on Windows
    files.atomic_write(tmp_path / "file", b"first")
    files.atomic_write(tmp_path / "file", b"second")
    (tmp_path / f".{'0' * 32}.partial").touch()
    files.clear_partial(tmp_path)
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"second"
    with open(tmp_path / "lock", "w") as one, open(tmp_path / "lock", "w") as other:
        files.lock(one)
        files.lock(other, wait=False)


def test_a_log_that_cannot_grow_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with files_of_at_most(30):
        files.append_line(path, '{"step": 1}')
        with pytest.raises(OSError, match="too large") as caught:
            files.append_line(path, '{"step": 2, "loss": 0.25}')
    assert caught.value.filename == str(path)
    files.append_line(path, '{"step": 3}')
    assert files.read_lines_json(path) == [{"step": 1}, {"step": 3}]


def test_append_line_and_read_back(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    for step in range(3):
        files.append_line(path, f'{{"step": {step}}}')
        assert path.read_text().count("\n") == step + 1  # on disk after each call
    assert files.read_lines_json(path) == [{"step": 0}, {"step": 1}, {"step": 2}]


def test_append_line_requires_a_single_line(tmp_path):
    with pytest.raises(InputError, match="single line, got 2 lines"):
        files.append_line(tmp_path / "log", "a\nb")
    assert os.listdir(tmp_path) == []


def test_a_log_cut_anywhere_keeps_its_complete_lines_and_continues(tmp_path):
    """Cut at every byte of the last line, one of them within the two bytes of σ."""
    path = tmp_path / "metrics.jsonl"
    first, last = b'{"step": 1, "loss": NaN}\n', '{"step": 2, "note": "σ {}"}'.encode()
    for cut in range(len(last)):
        path.write_bytes(first + last[:cut])
        assert [row["step"] for row in files.read_lines_json(path)] == [1]
        files.append_line(path, '{"step": 3}')
        assert [row["step"] for row in files.read_lines_json(path)] == [1, 3]
    path.write_bytes(first + last)  # only the newline is missing: the object is complete
    assert [row["step"] for row in files.read_lines_json(path)] == [1, 2]


def test_read_lines_json_refuses_what_is_not_a_log(tmp_path):
    with pytest.raises(InputError, match=r"none\.jsonl cannot be read: No such"):
        files.read_lines_json(tmp_path / "none.jsonl")
    (tmp_path / "empty").write_text("")
    assert files.read_lines_json(tmp_path / "empty") == []


@pytest.mark.parametrize(
    "left",
    [b"\0" * 4096, b"[1, 2]", b"3", b'"step"', b"\xff\xfe", b'{"loss": 1.0}', b'{"step": "2"}'],
    ids=["NUL bytes", "list", "number", "text", "no text", "no step", "no number"],
)
def test_a_line_that_is_not_a_row_is_skipped_with_a_warning(tmp_path, left):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + left)
    files.append_line(path, '{"step": 3}')
    with pytest.warns(UserWarning, match=r"metrics\.jsonl: skipped lines that are not rows: 2$"):
        rows = files.read_lines_json(path, fields=("step",))
    assert rows == [{"step": 1}, {"step": 3}]
