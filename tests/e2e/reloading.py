"""A configuration that changes again and again under a load of clients, by files and by operators.

`python -m tests.e2e.reloading 50` changes it fifty times, and says what came of it.
"""

from __future__ import annotations

import sys
import time
from itertools import cycle, islice
from typing import TYPE_CHECKING

import trio

from tests.e2e.backends import mini, wait_until
from tests.e2e.test_control import controlled, mcpctl
from tests.e2e.test_reload import UNKNOWN, clients, write
from tests.fixtures.peer import HttpPeer

if TYPE_CHECKING:
    from pathlib import Path

LEGACY, MODERN = 12, 4
STEPS = ("add", "change", "remove", "file adds", "reload", "file removes")
KEEP = {"keep": mini()}


async def step(what: str, daemon, path: Path) -> int:
    """One change; returns how many lists of tools are other ones by it."""
    extra = mini("more" if what == "change" else "")
    command = ["--", extra["command"], *extra["args"]]
    match what:
        case "add":
            done = await mcpctl(path, "add-server", "extra", *command)
        case "change":
            done = await mcpctl(path, "add-server", "extra", "--replace", *command)
        case "remove":
            done = await mcpctl(path, "remove-server", "extra")
        case "file adds":
            write(daemon, {**KEEP, "filed": mini()})
            done = await mcpctl(path, "reload")
        case "reload":
            done = await mcpctl(path, "reload")
        case "file removes":
            write(daemon, KEEP)
            done = await mcpctl(path, "reload")
    assert done.returncode == 0, done.stderr.decode()
    return int(what != "reload")


async def reloads(count: int) -> dict[str, float]:
    """So many changes under load. Raises: AssertionError, when a client notices what it should not, or does not notice
    what it should."""
    async with controlled({"mcpServers": KEEP}) as (daemon, path), HttpPeer(daemon.url) as peer:
        await peer.initialize()
        pid = await peer.call_text("keep_pid")
        tools = ["keep_echo", "extra_echo", "filed_echo"]
        async with clients(daemon, tools, legacy=LEGACY, modern=MODERN) as (heard, callers):
            assert len(heard) == LEGACY + MODERN
            changes, began = 0, time.monotonic()
            for what in islice(cycle(STEPS), count):
                changes += await step(what, daemon, path)
                await wait_until(lambda changes=changes: min(each() for each in heard) >= changes)
                for caller in callers["keep_echo"]:
                    await caller.go_on()
                # Not earlier, since what comes too often comes soon after what is right.
                assert [each() for each in heard] == [changes] * len(heard), what
            seconds = time.monotonic() - began
            assert [caller.errors for caller in callers["keep_echo"] if caller.errors] == []
            for name in ("extra", "filed"):
                errors = {error for caller in callers[f"{name}_echo"] for error in caller.errors}
                assert errors <= {(UNKNOWN, f"Unknown tool: {name}_echo")}, errors
            calls = {tool: sum(caller.answers for caller in each) for tool, each in callers.items()}
        assert await peer.call_text("keep_pid") == pid
        return {"changes": changes, "seconds": seconds, **calls}


def main() -> None:
    count = int(sys.argv[1])
    found = trio.run(reloads, count, strict_exception_groups=True)
    calls = ", ".join(f"{found[tool]:.0f} of {tool}" for tool in found if tool.endswith("_echo"))
    sys.stdout.write(
        f"{count} changes under {LEGACY + MODERN} clients in {found['seconds']:.1f} s: no call failed that should not, "
        f"{found['changes']} list_changed at each client; calls: {calls}\n"
    )


if __name__ == "__main__":
    main()
