"""How the service lives: installed, started, reached, stopped, killed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.systemd.service import GROUP, UNITS, mini

if TYPE_CHECKING:
    from tests.systemd.service import Service


LISTENING = re.compile(r":1F90 \S+ 0A ")
"""A line of /proc/net/tcp: local port 8080, any peer, state LISTEN."""


async def starts_nothing_when_installed(service: Service) -> None:
    for unit in UNITS:
        assert await service.show("ActiveState", unit) == "inactive", unit
        assert (await service.box.ask("systemctl", "is-enabled", unit)).stdout.strip() == "disabled", unit
    listening = await service.box.run("cat", "/proc/net/tcp")
    assert not LISTENING.search(listening), "something listens on 8080"


async def starts_and_says_how_its_servers_do(service: Service) -> None:
    await service.configure({"mini": mini(), "gone": {"command": "/nonexistent"}})
    await service.systemctl("start", "mcpd")
    assert await service.show("ActiveState") == "active", "start returns when it is ready"
    assert await service.call("echo", text="hi") == "hi"
    await service.until_property("StatusText", "1 ready, 1 needs operator: gone")
    status = await service.systemctl("status", "--no-pager", "mcpd")
    assert 'Status: "1 ready, 1 needs operator: gone"' in status, status
    for unit in UNITS[1:]:
        assert await service.show("ActiveState", unit) == "active", unit


async def is_confined_and_its_server_with_it(service: Service) -> None:
    await service.systemctl("start", "mcpd")
    child = await service.call("pid")
    for pid in (str(await service.pid()), child):
        status = dict(line.split(":\t", 1) for line in (await service.box.read(f"/proc/{pid}/status")).splitlines())
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        assert status["Uid"].split()[0] == (await service.box.run("id", "-u", "mcpd")).strip()
        groups = await service.box.read(f"/proc/{pid}/cgroup")
        assert "\n0::/system.slice/mcpd.service" in f"\n{groups}", groups
    environ = (await service.box.read(f"/proc/{child}/environ")).split("\0")
    names = {line.partition("=")[0] for line in environ}
    assert not {name for name in names if name.startswith(("NOTIFY_", "LISTEN_", "WATCHDOG_", "CREDENTIALS_"))}
    assert "HOME=/var/lib/mcpd/home" in environ
    assert "XDG_CACHE_HOME=/var/cache/mcpd" in environ
    write = ["nsenter", "-t", child, "-m", "touch"]
    for place in ("/var/lib/mcpd/home/x", "/var/cache/mcpd/x", "/tmp/x"):
        await service.box.run(*write, place)
    for place in ("/etc/x", "/usr/x", "/var/lib/x"):
        assert (await service.box.ask(*write, place)).returncode, place


async def starts_when_a_client_comes(service: Service) -> None:
    await service.systemctl("start", *UNITS[1:])
    assert await service.show("ActiveState") == "inactive"
    assert await service.call("echo", text="first") == "first"
    await service.systemctl("stop", "mcpd.service")
    assert await service.show("ActiveState") == "inactive"
    assert await service.call("echo", text="again") == "again", "the socket outlives the service"


async def ends_with_everything_it_started(service: Service) -> None:
    await service.systemctl("start", "mcpd")
    child = int(await service.call("pid"))
    worker = int(await service.call("spawn"))  # ignores SIGTERM
    assert {child, worker} <= set(await service.processes())
    await service.systemctl("stop", *reversed(UNITS))
    assert await service.show("Result") == "success"
    assert (await service.box.ask("ls", GROUP)).returncode, "the control group is gone"
    for pid in (child, worker):
        assert (await service.box.ask("ls", f"/proc/{pid}")).returncode, f"process {pid} is gone"
    assert (await service.box.ask("ls", "/run/mcpd/control.sock")).returncode


async def is_started_again_when_killed_and_leaves_no_strays(service: Service) -> None:
    await service.systemctl("start", "mcpd")
    for _ in range(3):
        old = await service.pid()
        await service.call("spawn")  # a worker that ignores SIGTERM, and the end of its input
        before = set(await service.processes())
        await service.box.run("kill", "-KILL", str(old))
        assert await service.call("echo", text="hi") == "hi", "the socket waits for the next one"
        new = await service.until_new(old)
        after = await service.processes()
        assert before.isdisjoint(after), f"left behind: {after}"
        assert new in after


async def is_killed_when_its_main_loop_hangs(service: Service) -> None:
    await service.drop_in("[Service]\nWatchdogSec=8s\n")
    await service.systemctl("start", "mcpd")
    old = await service.pid()
    for _ in range(4):  # three signs of life in each interval
        last = await service.show("WatchdogTimestampMonotonic")
        await service.until_other("WatchdogTimestampMonotonic", last)
    assert await service.pid() == old
    assert await service.show("NRestarts") == "0"
    before = set(await service.processes())
    await service.box.run("kill", "-STOP", str(old))
    await service.until_new(old)
    texts = [str(entry.get("MESSAGE")) for entry in await service.journal()]
    assert any("Watchdog timeout" in text for text in texts), texts[-20:]
    assert any("Fatal Python error: Aborted" in text for text in texts), "it says where the loop was"
    assert await service.call("echo", text="hi") == "hi"
    assert before.isdisjoint(await service.processes())


async def writes_to_the_journal_in_fields(service: Service) -> None:
    await service.configure({"mini": mini(env={"TOKEN": "s3cret-of-mini"})})
    await service.systemctl("start", "mcpd")
    await service.call("words", text="the token is s3cret-of-mini")
    await service.until_property("StatusText", "1 ready")
    (started, *_) = reversed(await service.journal("MCPD_SERVER=mini", "MCPD_EVENT=started"))
    assert started["PRIORITY"] == "6"
    assert started["_PID"] == str(await service.pid())
    assert started["_TRANSPORT"] == "journal"
    assert started["CODE_FILE"].endswith(".py")
    assert started["MESSAGE"].startswith("backend=mini event=started pid=")
    (words, *_) = reversed(await service.journal("MCPD_SERVER=mini", "MCPD_EVENT=stderr"))
    assert words["MESSAGE"] == "backend=mini stderr=the token is ***"
    await service.systemctl("stop", *reversed(UNITS))
    await service.configure(nonsense=1)
    await service.box.ask("systemctl", "start", "mcpd.service")
    texts = [entry["MESSAGE"] for entry in await service.journal("--priority=err", "_TRANSPORT=stdout")]
    assert any("nonsense" in text for text in texts), "why it does not start is an error"


CHECKS = (
    starts_nothing_when_installed,
    starts_and_says_how_its_servers_do,
    is_confined_and_its_server_with_it,
    starts_when_a_client_comes,
    ends_with_everything_it_started,
    is_started_again_when_killed_and_leaves_no_strays,
    is_killed_when_its_main_loop_hangs,
    writes_to_the_journal_in_fields,
)
