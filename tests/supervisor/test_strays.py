# ruff: noqa: TID251 - processes that no supervisor started are what is tested here
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcpd.supervisor.registry import CHILDREN_DIR, Record, Registry, encode_records
from mcpd.supervisor.strays import FOREIGN_KEEP, Strays, find_strays
from mcpd.supervisor.tree import pipe_inodes, read_process
from tests.supervisor.processes import FIXTURES, HOSTILE, alive

DAEMON = str(FIXTURES / "small_daemon.py")


class Daemon:
    """A running small_daemon.py."""

    def __init__(self, state_dir: Path, *modes: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, DAEMON, str(state_dir), *modes],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        words = self.process.stdout.readline().split()
        assert words[:1] == [b"swept"]
        self.swept = {int(pid) for pid in words[1:]}
        self.pids: set[int] = set()
        for _ in modes:
            self.pids |= {int(word) for word in self.process.stdout.readline().split() if word.isdigit()}
        assert self.process.stdout.readline() == b"up\n"

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        code = self.process.wait()
        self.process.stdout.close()
        return code


@pytest.fixture
def daemon(tmp_path):
    """Starts small daemons on one state directory."""
    started: list[Daemon] = []

    def start(*modes: str) -> Daemon:
        started.append(Daemon(tmp_path, *modes))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.end(signal.SIGTERM)


def living(pids: set[int]) -> set[int]:
    return set(alive(*pids))


@pytest.mark.slow
async def test_what_a_killed_daemon_left_is_swept_and_a_living_ones_children_stay(daemon, tmp_path):
    modes = ("ignore_eof", "grandchildren", "daemonize", "ignore_term", "echo")
    neighbour = daemon("ignore_eof", "daemonize")
    first = daemon(*modes)
    assert len(first.pids) == 9
    first.end(signal.SIGKILL)
    strays = living(first.pids)
    assert len(strays) >= 6, "most of them notice nothing"

    second = daemon()
    assert second.swept <= strays
    assert len(second.swept) >= 6
    assert living(first.pids) == set()
    assert living(neighbour.pids) == neighbour.pids
    owners = {int(each.name.split(".")[0]) for each in (tmp_path / CHILDREN_DIR).iterdir()}
    assert owners == {neighbour.process.pid, second.process.pid}

    assert second.end(signal.SIGTERM) == 0
    assert neighbour.end(signal.SIGTERM) == 0
    assert living(neighbour.pids) == set()
    assert list((tmp_path / CHILDREN_DIR).iterdir()) == []


@pytest.mark.slow
async def test_a_daemon_that_ends_leaves_nothing(daemon):
    first = daemon("grandchildren", "daemonize", "daemonize_scrub", "wrapper")
    assert first.end(signal.SIGTERM) == 0
    assert living(first.pids) == set()


@pytest.fixture
def stray():
    """A process without a marker, in a session of its own."""
    process = subprocess.Popen(
        [sys.executable, "-ISs", HOSTILE, "grandchildren"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PATH": os.environ["PATH"]},
        start_new_session=True,
    )
    process.stdout.readline()
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def write_file(state_dir: Path, owner: str, *records: Record) -> Path:
    path = state_dir / CHILDREN_DIR / owner
    path.write_bytes(encode_records(records))
    return path


def test_a_recorded_child_without_a_marker_is_swept_with_its_session(tmp_path, stray):
    registry = Registry(tmp_path)
    path = write_file(tmp_path, "1073741824.1", Record("x", stray.pid, read_process(stray.pid).start))
    swept = Strays(registry).sweep()
    assert len(swept.killed) == 4
    assert swept.left == ()
    assert not path.exists()


def test_who_holds_a_pipe_of_a_recorded_child_is_swept_without_any_other_sign(tmp_path, stray):
    registry = Registry(tmp_path)
    (pipe,) = pipe_inodes([stray.stdout.fileno()])
    start = read_process(stray.pid).start
    write_file(tmp_path, "1073741824.1", Record("x", 1073741823, start + 1_000_000, (pipe,)))
    assert Strays(registry).sweep().killed == (), "it is older than the child whose pipe it should be"
    write_file(tmp_path, "1073741824.1", Record("x", 1073741823, start, (pipe,)))
    swept = Strays(registry).sweep()
    assert stray.pid in {info.pid for info in swept.killed}
    assert swept.left == ()


def test_a_number_that_was_used_again_is_not_touched(tmp_path, stray):
    path = write_file_after_registry(tmp_path, stray, start_offset=-1)
    assert Strays(Registry(tmp_path)).sweep().killed == ()
    assert not path.exists()
    assert stray.poll() is None


def write_file_after_registry(state_dir: Path, stray: subprocess.Popen[bytes], start_offset: int) -> Path:
    Registry(state_dir)
    start = read_process(stray.pid).start + start_offset
    return write_file(state_dir, "1073741824.1", Record("x", stray.pid, start))


def test_records_of_a_living_owner_are_not_touched(tmp_path, stray):
    registry = Registry(tmp_path)
    path = write_file(
        tmp_path,
        f"{registry.owner.pid}.{registry.owner.start}",
        Record("x", stray.pid, read_process(stray.pid).start),
    )
    assert Strays(registry).sweep().killed == ()
    assert path.exists()


def test_files_of_another_namespace_are_removed_only_when_old(tmp_path):
    registry = Registry(tmp_path)
    path = write_file(tmp_path, "1073741824.1")
    path.write_bytes(path.read_bytes().replace(b"pid:[", b"pid:[9"))
    (tmp_path / CHILDREN_DIR / "notes").write_text("not ours")
    Strays(registry).sweep()
    assert path.exists()
    long_ago = time.time() - FOREIGN_KEEP - 60
    os.utime(path, (long_ago, long_ago))
    Strays(registry).sweep()
    own = f"{registry.owner.pid}.{registry.owner.start}"
    assert {each.name for each in path.parent.iterdir()} == {"notes", own}


def test_without_a_state_directory_nothing_is_swept():
    assert Strays(Registry(None)).sweep().killed == ()


def test_markers_of_other_instances_and_namespaces_are_left_alone(tmp_path):
    me = read_process(os.getpid())
    child = subprocess.Popen(
        [sys.executable, "-ISs", HOSTILE, "polite_worker"], env={"MCPD_OWNER": "a" * 32 + ".1073741824.1.1"}
    )
    try:
        info = read_process(child.pid)
        marked = type(info)(
            info.pid,
            info.state,
            info.ppid,
            info.pgid,
            info.sid,
            start=info.start,
            marker="a" * 32 + ".1073741824.1.1",
        )
        found = {me.pid: me, child.pid: marked}

        def strays(instance: str, namespace: str) -> list[int]:
            return [each.pid for each in find_strays(found, instance=instance, recorded=(), namespace=namespace)]

        namespace = os.readlink("/proc/self/ns/pid")
        assert strays("b" * 32, namespace) == []
        assert strays("a" * 32, "pid:[1]") == []
        assert strays("a" * 32, namespace) == [child.pid]
    finally:
        child.kill()
        child.wait()
