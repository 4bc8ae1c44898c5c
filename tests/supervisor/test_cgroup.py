# ruff: noqa: TID251 - daemons, and processes that are no children of one
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mcpd.supervisor.cgroup import DAEMON, Cgroup, CgroupUnusable, Leaf, Limits, find_delegated, in_words, locate
from mcpd.supervisor.exits import Exit, SpawnFailed
from mcpd.supervisor.process import Child, ChildSpec, StopLadder, Surroundings, spawn
from mcpd.supervisor.registry import Registry
from mcpd.supervisor.supervisor import Supervisor
from mcpd.supervisor.tree import become_subreaper, read_process
from tests.supervisor.cgroups import delegated_cgroup, enter, leaves
from tests.supervisor.processes import HOSTILE, alive

if TYPE_CHECKING:
    import trio

QUICK = StopLadder(eof=0.05, term=0.05, kill=10)
PATIENT = StopLadder(eof=20, term=20, kill=20)
MOUNT = "41 31 0:38 {root} {point} rw,relatime shared:9 - {kind} none rw\n"


def make(mode: str, *arguments: str, stop: StopLadder = QUICK, **rest) -> ChildSpec:
    argv = (sys.executable, "-ISs", HOSTILE, mode, *arguments)
    return ChildSpec(name=mode, argv=argv, env={"PATH": os.environ["PATH"]}, stop=stop, **rest)


@pytest.fixture
def base():
    with delegated_cgroup() as path:
        yield path


@pytest.fixture
def around(base, tmp_path):
    become_subreaper()
    around = Surroundings.of(Registry(tmp_path))
    around.cgroup = Cgroup(base)
    yield around
    assert leaves(base) == [], "each leaf is gone with its child"


async def start(spec: ChildSpec, around: Surroundings, nursery: trio.Nursery) -> tuple[Child, list[int]]:
    """The child and the processes that it named."""
    child = await spawn(spec, around=around)
    nursery.start_soon(child.run)
    data = b""
    while not data.endswith(b"\n"):
        more = await child.stdout.receive_some()
        assert more, f"the child ended: {child.stderr.tail()}"
        data += more
    return child, [int(word) for word in data.split()[1:]]


# --- where it is, and what is written into it ---


@pytest.mark.parametrize(
    ("own", "mounts", "path"),
    [
        ("0::/a/b\n", MOUNT.format(root="/", point="/sys/fs/cgroup", kind="cgroup2"), "/sys/fs/cgroup/a/b"),
        ("0::/\n", MOUNT.format(root="/", point="/sys/fs/cgroup", kind="cgroup2"), "/sys/fs/cgroup"),
        ("1:cpu:/x\n0::/a\n", MOUNT.format(root="/", point="/u", kind="cgroup2"), "/u/a"),
        ("0::/a/b\n", MOUNT.format(root="/a", point="/c", kind="cgroup2"), "/c/b"),
        ("0::/a\n", MOUNT.format(root="/a", point="/c", kind="cgroup2"), "/c"),
        ("0::/ab\n", MOUNT.format(root="/a", point="/c", kind="cgroup2"), None),
        ("0::/a\n", MOUNT.format(root="/", point="/with\\040space", kind="cgroup2"), "/with space/a"),
        ("0::/a\n", MOUNT.format(root="/", point="/c", kind="cgroup"), None),
        ("1:cpu:/x\n", MOUNT.format(root="/", point="/c", kind="cgroup2"), None),
        ("", "", None),
    ],
)
def test_where_a_cgroup_is(own, mounts, path):
    assert locate(own, "22 1 0:21 / /proc rw - proc proc rw\n" + mounts) == (Path(path) if path else None)


def test_limits_as_the_kernel_writes_them():
    assert Limits().by_controller() == {}
    assert Limits(memory_max=64 << 20, pids_max=32, cpu_max=0.2).by_controller() == {
        "memory": "67108864",
        "pids": "32",
        "cpu": "20000 100000",
    }
    assert Limits(cpu_max=2).by_controller() == {"cpu": "200000 100000"}
    assert Limits(cpu_max=0.001).by_controller() == {"cpu": "1000 100000"}, "the kernel takes no less"


@pytest.mark.parametrize(
    ("size", "words"), [(64 << 20, "64 MiB"), (3 << 29, "1.5 GiB"), (1 << 30, "1 GiB"), (1000, "1000 bytes")]
)
def test_sizes_in_words(size, words):
    assert in_words(size) == words


def test_why_the_kernel_was_short_of_memory(tmp_path):
    leaf = Leaf(tmp_path)
    assert leaf.out_of_memory() == "", "no memory controller"
    events = tmp_path / "memory.events"
    events.write_text("low 0\nhigh 0\nmax 17\noom 1\noom_kill 0\n")
    assert leaf.out_of_memory() == ""
    events.write_text("low 0\nhigh 0\nmax 17\noom 1\noom_kill 2\n")
    assert (leaf.oom_kills(), leaf.out_of_memory()) == (2, "what mcpd's own service, or the machine, has left")
    leaf.memory_max = 64 << 20
    assert leaf.out_of_memory() == "its memory_max of 64 MiB"
    events.write_text("low 0\nhigh 0\nmax 0\noom 0\noom_kill 1\n")
    assert leaf.out_of_memory() == "what mcpd's own service, or the machine, has left", "its own limit was not reached"


def proc(folder: Path, point: Path) -> Path:
    (folder / "cgroup").write_text("0::/a\n")
    (folder / "mountinfo").write_text(MOUNT.format(root="/a", point=point, kind="cgroup2"))
    return folder


def test_what_was_not_delegated_is_not_used(tmp_path):
    with pytest.raises(CgroupUnusable, match="cannot be read"):
        find_delegated(tmp_path)
    with pytest.raises(CgroupUnusable, match="was not delegated to mcpd; under systemd, set Delegate=yes"):
        find_delegated(proc(tmp_path, tmp_path))
    (tmp_path / "cgroup").write_text("5:memory:/x\n")
    with pytest.raises(CgroupUnusable, match="no cgroup v2 is mounted here"):
        find_delegated(tmp_path)


def test_what_was_delegated_is_found_also_from_the_leaf_of_the_daemon(base, tmp_path):
    assert find_delegated(proc(tmp_path, base)).path == base
    (base / DAEMON).mkdir()
    assert find_delegated(proc(tmp_path, base / DAEMON)).path == base
    os.removexattr(base, "user.delegate")
    with pytest.raises(CgroupUnusable, match="not delegated"):
        find_delegated(proc(tmp_path, base / DAEMON))


# --- leaves ---


def test_names_of_leaves_are_safe_and_never_the_same(base):
    cgroup = Cgroup(base)
    (base / "a_b.2").mkdir()
    made = [cgroup.make_leaf(name, Limits()).path.name for name in ("cgroup.procs", "a.b", "x" * 100)]
    assert made == ["cgroup_procs.1", "a_b.3", "x" * 64 + ".4"]


async def test_a_child_is_in_its_leaf_before_it_can_fork(around, nursery, base):
    child, pids = await start(make("grandchildren", stop=PATIENT), around, nursery)
    assert child.leaf.path.parent == base
    assert {info.pid for info in child.leaf.members()} == {child.pid, *pids}
    assert child.leaf.populated
    await child.stop()
    assert alive(*pids) == []
    assert not child.leaf.path.exists()


@pytest.mark.parametrize("mode", ["daemonize", "daemonize_scrub"])
async def test_who_shook_off_every_other_sign_is_ended(around, nursery, mode):
    child, pids = await start(make(mode, stop=StopLadder(eof=20, term=0.05, kill=10)), around, nursery)
    assert alive(*pids) == pids
    assert await child.stop() == Exit(code=0)
    assert alive(*pids) == []


async def test_sigterm_comes_before_cgroup_kill(around, nursery):
    child, _ = await start(make("note_term", stop=StopLadder(eof=0, term=20, kill=20)), around, nursery)
    assert await child.stop() == Exit(code=7)
    child, (worker,) = await start(make("polite_wrapper", stop=PATIENT), around, nursery)
    await child.gone()
    assert alive(worker) == []
    await child.stop()


@pytest.mark.parametrize("mode", ["ignore_term", "fork_at_exit", "stop_self", "fork_for_ever"])
async def test_hostile_children_end_and_leave_nothing(around, nursery, mode):
    child, _ = await start(make(mode), around, nursery)
    await child.stop()
    assert child.exit is not None
    assert not child.exit.alive


async def test_a_cgroup_that_cannot_be_made_is_not_taken_for_a_missing_command(tmp_path):
    around = Surroundings.of(Registry(tmp_path))
    around.cgroup = Cgroup(tmp_path / "gone")
    with pytest.raises(SpawnFailed, match=r"no cgroup can be made for it in .*gone: No such file"):
        await spawn(make("echo"), around=around)


async def test_a_cgroup_made_by_the_child_itself_goes_too(around, nursery):
    child, pids = await start(make("grandchildren", stop=StopLadder(eof=20, term=0.05, kill=10)), around, nursery)
    inner = child.leaf.path / "inner"
    inner.mkdir()
    (inner / "cgroup.procs").write_text(str(pids[0]))
    assert {info.pid for info in child.leaf.members()} == {child.pid, *pids}
    assert await child.stop() == Exit(code=0)
    assert alive(*pids) == []


async def test_kill_now(around, nursery):
    child, pids = await start(make("daemonize_scrub"), around, nursery)
    child.kill_now()
    assert await child.wait() == Exit(signal=signal.SIGKILL)
    await child.gone()
    assert alive(*pids) == []
    child.close()


def test_a_sweep_spares_what_it_is_told_to(base):
    cgroup = Cgroup(base)
    kept, swept, empty = (cgroup.make_leaf(name, Limits()) for name in ("kept", "swept", "empty"))
    (base / DAEMON).mkdir()
    processes = [
        subprocess.Popen(enter(leaf.path, "/bin/sh", "-c", "echo; exec sleep 600"), stdout=subprocess.PIPE)
        for leaf in (kept, swept)
    ]
    for process in processes:
        process.stdout.readline()
    killed, left = cgroup.sweep(keep={kept.path.name})
    assert ([info.pid for info in killed], left) == ([processes[1].pid], [])
    assert processes[1].wait() == -signal.SIGKILL
    assert processes[0].poll() is None
    assert leaves(base) == [DAEMON, kept.path.name]
    assert not empty.path.exists()
    kept.kill()
    assert processes[0].wait() == -signal.SIGKILL
    for process in processes:
        process.stdout.close()


# --- a daemon in it ---

ENTER = """
import json, os
from mcpd.supervisor.cgroup import CgroupUnusable, find_delegated
try:
    cgroup = find_delegated()
    cgroup.enter()
    cgroup.enter()
    print(json.dumps([str(cgroup.path), sorted(cgroup.controllers)]), flush=True)
except CgroupUnusable as error:
    print(json.dumps(str(error)), flush=True)
os.read(0, 1)
"""


def run_in(base: Path) -> subprocess.Popen[str]:
    argv = enter(base, sys.executable, "-c", ENTER)
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_the_daemon_moves_into_a_leaf_and_a_second_one_leaves_it_alone(base):
    with run_in(base) as first:
        path, controllers = json.loads(first.stdout.readline())
        assert path == str(base)
        assert set(controllers) == set((base / "cgroup.controllers").read_text().split()) & {"memory", "pids", "cpu"}
        assert [info.pid for info in Leaf(base / DAEMON).members()] == [first.pid]
        with run_in(base) as second:
            words = json.loads(second.stdout.readline())
            assert words == f"{base} is divided up by process {first.pid} already"
            second.stdin.close()
        first.stdin.close()


def small_daemon(base: Path, state: Path, *modes: str) -> subprocess.Popen[str]:
    script = Path(HOSTILE).with_name("small_daemon.py")
    argv = enter(base, sys.executable, str(script), str(state), *modes)
    # Before what is there: in the virtual machine of `make test-cgroups` the libraries come that way, too.
    path = os.pathsep.join(filter(None, (os.getcwd(), os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path})


def test_what_a_killed_daemon_left_is_swept_by_its_cgroup(base, tmp_path):
    with small_daemon(base, tmp_path, "daemonize_scrub", "ignore_term") as first:
        assert first.stdout.readline() == "swept\n"
        pid, _, worker = (int(word) for word in first.stdout.readline().replace("ready", "0").split())
        stubborn = int(first.stdout.readline().split()[0])
        assert first.stdout.readline() == "up\n"
        assert leaves(base) == ["daemon", "daemonize_scrub.1", "ignore_term.2"]
        first.kill()
    assert stubborn in alive(pid, worker, stubborn)
    assert worker in alive(worker), "it has no sign of anybody any more"
    with small_daemon(base, tmp_path, "echo") as second:
        assert {worker, stubborn} <= {int(word) for word in second.stdout.readline().split()[1:]}
        assert alive(pid, worker, stubborn) == []
        second.stdout.readline()
        assert second.stdout.readline() == "up\n"
        assert leaves(base) == ["daemon", "echo.1"]
        second.terminate()
    assert leaves(base) == ["daemon"]
    assert second.returncode == 0


UPGRADE = """
import os, sys
import msgspec, trio
from pathlib import Path
from mcpd.supervisor.adoption import SupervisorState
from mcpd.supervisor.process import ChildSpec
from mcpd.supervisor.supervisor import Supervisor

async def main():
    supervisor = Supervisor(None)
    spec = ChildSpec("cat", ("cat",), {"PATH": "/usr/bin:/bin"})
    state = None
    if len(sys.argv) > 1:
        state = msgspec.json.decode(sys.argv[1], type=SupervisorState)
        supervisor.inherit(state, {child.pid for child in state.children})
    async with trio.open_nursery() as nursery:
        swept = await nursery.start(supervisor.run)
        if state is None:
            child = await supervisor.spawn(spec)
            state = supervisor.capture()
            for fd in state.descriptors():
                os.set_inheritable(fd, True)
            os.execv(sys.executable, [sys.executable, "-c", os.environ["SCRIPT"], msgspec.json.encode(state).decode()])
        child = supervisor.adopt(state.children[0].pid, spec)
        child.stdin.write(b"x")
        said = (await child.stdout.receive_some()).decode()
        print(len(swept.killed), said, child.leaf.path.name, sorted(os.listdir(child.leaf.path.parent)).count("cat.1"))
        print((await child.stop()).code, child.leaf.path.exists())
        nursery.cancel_scope.cancel()

trio.run(main)
"""


def test_a_program_that_takes_anothers_place_keeps_its_cgroups(base):
    argv = enter(base, sys.executable, "-c", UPGRADE)
    done = subprocess.run(argv, env={**os.environ, "SCRIPT": UPGRADE}, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["0", "x", "cat.1", "1", "0", "False"], done.stderr
    assert leaves(base) == ["daemon"]


async def test_without_a_cgroup_it_is_said_why(nursery):
    supervisor = Supervisor(None)
    await nursery.start(supervisor.run)
    assert supervisor.cgroup is None
    assert supervisor.cgroup_missing
    child = await supervisor.spawn(make("echo", stop=PATIENT))
    assert child.leaf is None
    assert await child.stop() == Exit(code=0)
    assert read_process(child.pid) is None


def test_what_cannot_be_killed_at_once_is_no_error(tmp_path):
    (tmp_path / "cgroup.kill").mkdir()  # stands for EOPNOTSUPP
    Leaf(tmp_path).kill()
    Leaf(tmp_path / "none").kill()
