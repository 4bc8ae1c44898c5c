"""mcpd as the service of a box: its units, configuration, processes and journal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import trio

from tests.fixtures.peer import HttpPeer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.systemd.box import Box

BASE = "http://127.0.0.1:8080"
URL = f"{BASE}/mcp"
TESTS = "/opt/tests"
"""Where boxes have the folder `tests`."""
UNITS = ("mcpd.service", "mcpd.socket", "mcpd-control.socket")
GROUP = "/sys/fs/cgroup/system.slice/mcpd.service"
DROP_INS = "/run/systemd/system"
WAIT = 60.0
"""Seconds for something to come true; only a failure takes them."""
LOOK_AGAIN = 0.05


def mini(token: str = "t", **members: Any) -> dict[str, Any]:
    """A small server, run by the box's own Python."""
    return {"command": "/usr/bin/python3", "args": [f"{TESTS}/e2e/mini_server.py", token], "prefix": "", **members}


class Service:
    """Drives one."""

    def __init__(self, box: Box, *, rounds: int = 2) -> None:
        self.box = box
        self.rounds = rounds
        """How often a check does again what must go well each time."""

    async def systemctl(self, *arguments: str) -> str:
        """Raises: CommandFailed."""
        return await self.box.run("systemctl", *arguments)

    async def show(self, name: str, unit: str = "mcpd.service") -> str:
        """One property of a unit."""
        return (await self.systemctl("show", "--value", f"--property={name}", unit)).strip()

    async def pid(self) -> int:
        """Of mcpd, inside; 0 when it does not run."""
        return int(await self.show("MainPID"))

    async def configure(self, servers: dict[str, Any] | None = None, **settings: Any) -> None:
        """Write the configuration, as an operator does: the file's owner and mode stay."""
        text = json.dumps({"mcpServers": {"mini": mini()} if servers is None else servers, **settings})
        await self.box.run("sh", "-c", "cat > /etc/mcpd/mcpd.yaml", stdin=text)

    async def drop_in(self, text: str, unit: str = "mcpd.service") -> None:
        """Change a unit until `fresh`."""
        await self.box.write(f"{DROP_INS}/{unit}.d/test.conf", text)
        await self.systemctl("daemon-reload")

    async def fresh(self) -> None:
        """As after the installation: everything stopped, nothing changed, one small server configured."""
        await self.systemctl("stop", *reversed(UNITS))
        await self.box.run("rm", "-rf", *(f"{DROP_INS}/{unit}.d" for unit in UNITS))
        await self.box.ask("systemctl", "unmask", "--runtime", *UNITS)
        await self.systemctl("daemon-reload")
        await self.box.ask("systemctl", "reset-failed", *UNITS)
        await self.configure()

    async def processes(self) -> dict[int, str]:
        """pid → command line of everything in the service's control group."""
        script = (
            f"[ -d {GROUP} ] || exit 0; for pid in $(find {GROUP} -name cgroup.procs -exec cat {{}} +); do "
            'echo "$pid $(tr "\\0" " " < /proc/$pid/cmdline)"; done 2>/dev/null'
        )
        lines = (await self.box.run("sh", "-c", script)).splitlines()
        return {int(pid): command.strip() for pid, _, command in (line.partition(" ") for line in lines)}

    async def journal(self, *matches: str, since: str = "") -> list[dict[str, Any]]:
        """Entries of the unit, oldest first. `since` is a cursor of one before."""
        await self.box.run("journalctl", "--sync")
        after = [f"--after-cursor={since}"] if since else []
        out = await self.box.run("journalctl", "--unit=mcpd.service", "--output=json", "--all", *after, *matches)
        return [json.loads(line) for line in out.splitlines() if line.startswith("{")]

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait for something that cannot be heard of. Raises: AssertionError, saying what."""
        with trio.move_on_after(WAIT):
            while not await condition():  # noqa: ASYNC110 - it happens in another machine
                await trio.sleep(LOOK_AGAIN)
            return
        status = (await self.box.ask("systemctl", "status", "--no-pager", "--lines=20", *UNITS)).stdout
        raise AssertionError(f"not within {WAIT:g} s: {what}\n{status}")

    async def until_property(self, name: str, *values: str) -> None:
        """Wait until a property of the service is one of these."""

        async def reached() -> bool:
            return await self.show(name) in values

        await self.until(reached, f"{name} is {' or '.join(values)}")

    async def until_other(self, name: str, value: str) -> None:
        """Wait until a property of the service is not this any more."""

        async def reached() -> bool:
            return await self.show(name) != value

        await self.until(reached, f"{name} is not {value}")

    async def until_new(self, old: int) -> int:
        """Wait until another process than `old` is up and ready; returns its pid."""

        async def there() -> bool:
            return await self.show("ActiveState") == "active" and await self.pid() not in (0, old)

        await self.until(there, f"another mcpd than process {old} is ready")
        return await self.pid()

    async def call(self, tool: str, **arguments: Any) -> str:
        """One call by a client of its own; waits for as long as it takes the socket to be served."""
        async with HttpPeer(URL) as peer:
            await peer.initialize()
            return await peer.call_text(tool, arguments)
