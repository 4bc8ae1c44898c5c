"""The overlay's file, whatever becomes of whoever writes it."""

from __future__ import annotations

import ast
import fcntl
import inspect
import os
import resource
import signal
import stat
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from mcpd.config import store
from mcpd.config.origins import Provenance
from mcpd.config.overlay import ChangeRefused, Entry, Overlay, encode
from mcpd.config.sources import Sources
from mcpd.config.store import ASIDE_MAX, Store
from tests.config import killed

if TYPE_CHECKING:
    from pathlib import Path

ADDED = Provenance(at="2026-11-28T10:00:00Z", by="alice", how="mcpctl")
OLD = encode(Overlay({"old": Entry({"command": "x"}, ADDED)}))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "overlay.json"
    path.write_bytes(OLD)
    path.chmod(0o600)
    return path


def names(path: Path) -> list[str]:
    """The servers that the next start finds. It must find no problem."""
    config = (
        Sources(None, built_in=("c.json", "{}"), overlay=path, environ={}).read(lenient=True, set_aside=True).config
    )
    assert config.problems == ()
    return [spec.name for spec in config.servers]


def run(path: Path, point: str, **options) -> subprocess.CompletedProcess:
    argv = [sys.executable, "-m", "tests.config.killed", str(path), point]
    return subprocess.run(argv, capture_output=True, text=True, check=False, **options)


def test_it_is_replaced_as_a_whole_and_for_its_owner_only(file):
    before = os.umask(0)
    try:
        assert Store(file).replace(OLD, b"new")
    finally:
        os.umask(before)
    assert file.read_bytes() == b"new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["overlay.json"]
    assert Store(file).read() == b"new"


def test_there_need_not_be_one(tmp_path):
    store = Store(tmp_path / "overlay.json")
    assert store.read() is None
    assert store.replace(None, b"first")
    assert store.read() == b"first"


WHOLE = ["unlink", "open", "write", "fsync", "close", "rename", "fsync", "close"]
"""What a change does to the disk: the data is there before it has the name, and the name before it is called done."""


@pytest.mark.slow
def test_killed_at_every_point_it_leaves_the_old_or_the_new(file):
    done = run(file, "0")
    calls = done.stdout.split()
    assert done.returncode == 0, done.stderr
    assert calls == ["open", "open", *WHOLE], "the directory, what there is, and the change"
    assert names(file) == ["old", "new"]
    renamed = len(calls) - calls[::-1].index("rename")
    points = [str(number) for number in range(1, len(calls) + 1)]
    points += [f"{number}/2" for number, call in enumerate(calls, 1) if call == "write"]
    for point in points:
        file.write_bytes(OLD)
        assert run(file, point).returncode == -signal.SIGKILL, point
        dead_at = int(point.partition("/")[0])
        assert names(file) == (["old"] if dead_at <= renamed else ["old", "new"]), point
        # What it left is no obstacle to the next one, which loses nothing either.
        if dead_at <= renamed:
            assert run(file, "0").returncode == 0, point
            assert names(file) == ["old", "new"], point


def test_every_call_to_the_disk_is_one_that_is_tried():
    used = {
        node.attr
        for node in ast.walk(ast.parse(inspect.getsource(store)))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "os" and node.attr.islower()
    }
    assert used - {"fstat", "path"} == set(killed.CALLS)


@contextmanager
def small_disk(path: Path, size: str):
    """A file system of its own, so small that it can be filled."""
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"only who may mount can fill a disk; RLIMIT_FSIZE is tried in any case: {done.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(directory: Path) -> Path:
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return filler


def test_on_a_full_disk_nothing_changes_and_it_says_so(tmp_path):
    with small_disk(tmp_path / "disk", "64k") as disk:
        file = disk / "overlay.json"
        file.write_bytes(OLD)
        filler = fill(disk)
        with pytest.raises(ChangeRefused, match="No space left on device; nothing was changed") as caught:
            Store(file).replace(OLD, b"y" * 8192)
        assert (caught.value.code, "make room" in caught.value.remedy) == ("not_written", True)
        assert file.read_bytes() == OLD
        assert sorted(path.name for path in disk.iterdir()) == ["filler", "overlay.json"]
        filler.unlink()
        assert Store(file).replace(OLD, b"new")


def test_a_file_that_may_not_grow_changes_nothing(file):
    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    done = run(file, "0", preexec_fn=limited)
    assert "File too large; nothing was changed" in done.stderr
    assert file.read_bytes() == OLD
    assert [path.name for path in file.parent.iterdir()] == ["overlay.json"]


def test_what_another_one_wrote_meanwhile_is_not_lost(file):
    for before in (None, b"what it was long ago"):
        with pytest.raises(ChangeRefused) as caught:
            Store(file).replace(before, b"mine")
        assert caught.value.code == "changed_elsewhere"
    lock = os.open(file.parent, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(ChangeRefused) as caught:
        Store(file).replace(OLD, b"mine")
    assert caught.value.code == "changed_elsewhere"
    os.close(lock)
    assert file.read_bytes() == OLD
    assert Store(file).replace(OLD, b"mine")


def test_a_directory_that_cannot_be_synced_is_told_and_the_change_counts(file, monkeypatch):
    real = os.fsync

    def fsync(fd):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(5, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    assert Store(file).replace(OLD, b"new") is False
    assert file.read_bytes() == b"new"


def test_a_place_that_is_none_is_told(tmp_path, file):
    with pytest.raises(ChangeRefused, match="No such file or directory"):
        Store(tmp_path / "none" / "overlay.json").replace(None, b"x")
    with pytest.raises(ChangeRefused) as caught:
        Store(file).replace(OLD, b"x" * (store.MAX_OVERLAY + 1))
    assert caught.value.code == "too_large"
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="not a regular file"):
        Store(tmp_path / "fifo").read()


def test_what_is_set_aside_is_kept(file):
    store = Store(file)
    for number in range(ASIDE_MAX + 1):
        file.write_text(f"{number}")
        store.set_aside()
        assert not file.exists()
    kept = store.aside()
    assert [path.name for path in kept[:2]] == ["overlay.json.broken", "overlay.json.broken.2"]
    assert [path.read_text() for path in kept] == [*map(str, range(ASIDE_MAX - 1)), str(ASIDE_MAX)]
