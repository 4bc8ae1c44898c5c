"""What servers may use, as the kernel enforces it. See the docstring of this folder for where."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.e2e.backends import QUICK_STOP, new_token, processes_with, wait_state, wait_until
from tests.fixtures.peer import ROOT, HttpPeer, PeerError, start_daemon
from tests.fixtures.peer_process import READY, start_process
from tests.supervisor.cgroups import delegated_cgroup, enter, leaves

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.fixtures.peer import Running

HUNGRY = str(Path(__file__).with_name("hungry.py"))
MIB = 1 << 20
SLICE = Path("/sys/fs/cgroup/system.slice")


@pytest.fixture
def base():
    """A cgroup for mcpd in which everything can be limited."""
    with delegated_cgroup() as path:
        missing = {"memory", "pids", "cpu"} - set((path / "cgroup.controllers").read_text().split())
        if missing:
            pytest.skip(f"{path.parent} has no controller for {', '.join(sorted(missing))}: run make test-cgroups")
        yield path


def hungry(token: str = "hungry", **resources: Any) -> dict[str, Any]:
    return {
        "command": sys.executable,
        "args": ["-ISs", HUNGRY, token],
        "stop": QUICK_STOP,
        "resources": resources,
    }


@asynccontextmanager
async def running(base: Path, *, state: str = "", **servers: Any) -> AsyncIterator[tuple[Running, HttpPeer]]:
    # What another daemon left may keep the only processor busy until this one has swept it.
    options = {"state_dir": state, "through": enter(base), "wait": 60}
    async with start_daemon({"mcpServers": servers}, **options) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        yield daemon, peer


async def call(peer: HttpPeer, name: str, **arguments: Any) -> Any:
    return json.loads(await peer.call_text(name, arguments))


@pytest.mark.parametrize("who", ["eat", "let_eat"])
async def test_memory_max_ends_the_whole_tree_and_the_call_says_so(base, who):
    token = new_token()
    async with running(base, a=hungry(token, memory_max="64MiB"), b=hungry()) as (daemon, peer):
        first = await call(peer, "a_pid")
        with pytest.raises(PeerError) as caught:
            await call(peer, f"a_{who}")
        message = caught.value.message
        assert "backend 'a': was killed by SIGKILL: out of memory: over its memory_max of 64 MiB" in message
        assert "raise its memory limit" in message
        assert await call(peer, "a_pid") != first, "it was started again"
        assert await call(peer, "b_pid")
        assert len(processes_with(token)) == 1
        assert daemon.stderr.count("event=not_enforced") == 0


async def test_a_server_that_cannot_even_start_in_its_memory_says_so(base):
    async with running(base, a=hungry(memory_max=2 * MIB)) as (daemon, peer):
        about = await wait_state(peer, daemon, "a", "backing-off", limit=60)
        assert "out of memory: over its memory_max of 2 MiB" in about["error"]


async def test_pids_max_is_all_that_a_server_gets(base):
    async with running(base, a=hungry(pids_max=12), b=hungry()) as (_, peer):
        count, why = await call(peer, "a_fork")
        assert (count, why) == (11, "Resource temporarily unavailable")
        assert await call(peer, "b_pid"), "and the others are not concerned"


async def test_cpu_max_is_a_share_of_a_processor(base):
    async with running(base, a=hungry(cpu_max=0.2), b=hungry()) as (_, peer):
        assert await call(peer, "a_spin", seconds=4) < 0.3
        assert (base / next(name for name in leaves(base) if name.startswith("a.")) / "cpu.max").read_text() == (
            "20000 100000\n"
        )
        assert await call(peer, "b_spin", seconds=1) > 0.3, "it is not the machine that is slow"


async def test_a_tree_that_breeds_without_end_is_ended(base):
    async with running(base, a=hungry(pids_max=64)) as (daemon, peer):
        await call(peer, "a_breed")
        leaf = base / next(name for name in leaves(base) if name.startswith("a."))
        daemon.process.terminate()
        with trio.fail_after(30):
            assert await daemon.process.wait() == 0
        assert not leaf.exists()
        assert leaves(base) == ["daemon"]


async def test_nothing_is_left_of_it_when_mcpd_was_killed_and_started_again(base, tmp_path):
    token, state = new_token(), str(tmp_path / "state")
    async with running(base, state=state, a=hungry(token, pids_max=64)) as (daemon, peer):
        await call(peer, "a_breed")
        old = await call(peer, "a_pid")
        daemon.process.kill()
        await daemon.process.wait()
    async with running(base, state=state, a=hungry(token, pids_max=64)) as (daemon, peer):
        new = await call(peer, "a_pid")
        assert new != old
        await wait_until(lambda: processes_with(token) == [new], limit=30)
        assert len(leaves(base)) == 2
        daemon.process.terminate()
        assert await daemon.process.wait() == 0
    assert leaves(base) == ["daemon"]
    assert processes_with(token) == []


@pytest.fixture
def unit():
    """The name of a transient service, which is stopped at the end, and whose cgroup is gone then."""
    if not Path("/run/systemd/system").is_dir():
        pytest.skip("no systemd runs here: run make test-cgroups")
    name = f"mcpd-test-{new_token()[-8:]}"
    yield name
    subprocess.run(["systemctl", "stop", f"{name}.service"], check=False, capture_output=True)
    assert not (SLICE / f"{name}.service").exists()


@pytest.fixture
def config(unit):
    """A configuration that every user can read."""
    folder = Path("/run") / unit
    folder.mkdir(mode=0o755)
    servers = {"a": hungry(memory_max="64MiB"), "b": hungry(pids_max=12)}
    (folder / "mcpd.json").write_text(json.dumps({"mcpServers": servers}))
    yield str(folder / "mcpd.json")
    shutil.rmtree(folder)


async def test_a_unit_with_delegate_of_a_user_without_any_privilege(unit, config):
    properties = ("Delegate=yes", "DynamicUser=yes", f"StateDirectory={unit}", "ProtectSystem=strict")
    options = [word for each in properties for word in ("-p", each)]
    argv = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--unit={unit}", *options]
    argv += ["--setenv=PYTHONPATH", f"--working-directory={ROOT}"]
    argv += [sys.executable, "-m", "mcpd", "--config", config, "--port", "0"]
    async with start_process(argv, ready=READY, wait=60) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        assert f"event=cgroup path={SLICE}/{unit}.service controllers=cpu,memory,pids" in daemon.stderr
        with pytest.raises(PeerError, match="over its memory_max of 64 MiB"):
            await call(peer, "a_eat")
        assert (await call(peer, "b_fork"))[0] == 11
        assert await call(peer, "a_pid")
        assert leaves(SLICE / f"{unit}.service")[-1] == "daemon"
