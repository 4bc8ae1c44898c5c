"""Servers with limits and a sandbox, behind the daemon as it is run. What needs controllers of a cgroup is in
tests/cgroups."""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path

import pytest

from tests.e2e.backends import MINI, mini, new_token, processes_with, wait_state, wait_until
from tests.fixtures.peer import HttpPeer, PeerError, start_daemon
from tests.supervisor.cgroups import delegated_cgroup, enter, leaves
from tests.supervisor.trampolines import needs_landlock


def status(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split(":")[1].strip() for line in lines if line.startswith(name + ":"))


async def test_what_is_set_holds_in_the_child_and_what_is_not_is_as_ever():
    servers = {
        "free": mini(),
        "tight": mini(
            umask="0027", nice=5, resources={"limit_nofile": 77, "limit_core": 0}, sandbox={"no_new_privileges": True}
        ),
    }
    async with start_daemon({"mcpServers": servers}) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        free, tight = [int(await peer.call_text(f"{name}_pid")) for name in servers]
        assert resource.prlimit(tight, resource.RLIMIT_NOFILE) == (77, 77)
        assert resource.prlimit(tight, resource.RLIMIT_CORE) == (0, 0)
        assert resource.prlimit(free, resource.RLIMIT_NOFILE) == resource.prlimit(0, resource.RLIMIT_NOFILE)
        assert status(tight, "Umask") == "0027"
        assert status(free, "Umask") == status(os.getpid(), "Umask")
        assert os.getpriority(os.PRIO_PROCESS, tight) == 5
        assert [status(pid, "NoNewPrivs") for pid in (daemon.process.pid, free, tight)] == ["1", "1", "1"]


async def test_a_server_that_needs_privileges_may_have_them_and_the_others_not():
    if status(os.getpid(), "NoNewPrivs") == "1":
        pytest.skip("the tests themselves run without new privileges")
    servers = {"sudo": mini(sandbox={"no_new_privileges": False}), "other": mini()}
    async with start_daemon({"mcpServers": servers}) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        pids = [daemon.process.pid, *[int(await peer.call_text(f"{name}_pid")) for name in servers]]
        assert [status(pid, "NoNewPrivs") for pid in pids] == ["0", "0", "1"]


async def test_a_server_whose_files_are_out_of_its_reach(tmp_path):
    needs_landlock()
    secret = tmp_path.resolve() / "secret"
    secret.mkdir()
    script = shutil.copy(MINI, secret / "server.py")
    hidden = {"sandbox": {"read_only_paths": ["/"], "inaccessible_paths": [str(secret)]}}
    arguments = ["-ISs", str(script), "mini"]
    servers = {
        "open": mini(args=arguments, sandbox={"read_only_paths": ["/"]}),
        "shut": mini(args=arguments, **hidden),
        "lost": mini(sandbox={"read_only_paths": ["/"], "read_write_paths": ["/mcpd/no/such"]}),
    }
    async with start_daemon({"mcpServers": servers}) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        assert await peer.call_text("open_echo", {"text": "x"}) == "x"
        shut = await wait_state(peer, daemon, "shut", "backing-off")
        assert "Permission denied" in shut["error"]
        lost = await wait_state(peer, daemon, "lost", "needs-operator")
        assert "it cannot have its view of the file system: '/mcpd/no/such': No such file or directory" in lost["error"]
        assert "correct the path, or drop it" in lost["error"]


async def test_what_cannot_be_had_is_said_and_not_passed_over():
    servers = {
        "unknown": mini(user="mcpd-no-such-user"),
        "greedy": mini(resources={"limit_nofile": 1 << 30}),
        "limited": mini(resources={"memory_max": "64MiB", "pids_max": 32}),
    }
    async with start_daemon({"mcpServers": servers}) as daemon, HttpPeer(daemon.url) as peer:
        await peer.initialize()
        unknown = await wait_state(peer, daemon, "unknown", "needs-operator")
        assert "user 'mcpd-no-such-user' does not exist" in unknown["error"]
        greedy = await wait_state(peer, daemon, "greedy", "needs-operator")
        assert "it cannot have limit_nofile" in greedy["error"]
        assert "LimitNOFILE=" in greedy["error"]
        assert await peer.call_text("limited_echo", {"text": "x"}) == "x", "limits guard against mishaps: it is started"
        for name in ("memory", "pids"):
            line = f"backend=limited event=not_enforced resources.{name}_max is not enforced: "
            assert daemon.stderr.count(line) == 1, daemon.stderr


async def test_no_cgroup_is_left_after_sigterm_nor_after_sigkill_and_a_new_start(tmp_path):
    token = new_token()
    config = {"mcpServers": {"a": mini("stubborn", token=token), "b.c": mini(token=token, prefix="b_")}}
    options = {"state_dir": str(tmp_path / "state")}
    with delegated_cgroup() as base:
        async with start_daemon(config, **options, through=enter(base)) as daemon, HttpPeer(daemon.url) as peer:
            await peer.initialize()
            for name in "ab":
                await peer.call_text(f"{name}_spawn")
            assert leaves(base) == ["a.1", "b_c.2", "daemon"] or leaves(base) == ["a.2", "b_c.1", "daemon"]
            daemon.process.kill()
            await daemon.process.wait()
        assert len(processes_with(token)) >= 3
        async with start_daemon(config, **options, through=enter(base)) as daemon, HttpPeer(daemon.url) as peer:
            await peer.initialize()
            pids = {int(await peer.call_text(f"{name}_pid")) for name in "ab"}
            assert set(processes_with(token)) == pids
            assert len(leaves(base)) == 3
            with pytest.raises(PeerError, match="exited with status 7"):
                await peer.call("b_exit", {"code": 7})
            assert await peer.call_text("b_echo", {"text": "again"}) == "again"
            await wait_until(lambda: len(leaves(base)) == 3)
            with pytest.raises(PeerError, match="exited with status 0"):
                await peer.call("b_exit", {"code": 0})
            daemon.process.terminate()
            assert await daemon.process.wait() == 0
        assert leaves(base) == ["daemon"]
        assert processes_with(token) == []
