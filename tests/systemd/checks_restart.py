"""Restarts under load: 16 clients with sessions, streams and slow calls, none of which is to notice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tests.e2e.restarting import LEGACY, LIMIT, MODERNS, Client, LegacyClient, ModernClient
from tests.systemd.service import TESTS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.systemd.service import Service

PYTHON = "/usr/lib/mcpd/bin/python3"
"""The package's own, with the libraries that the everything server needs."""
PROGRESS = 3
"""Calls of each client between two restarts: some done, and one in flight."""
LOOK_AGAIN = 0.05


class Unit:
    """What the clients know of mcpd."""

    port = 8080
    errors = bytearray()
    """What it logs is in the journal."""


async def under_load(service: Service, times: int, disturb: Callable[[], Awaitable[None]]) -> list[LegacyClient]:
    """Do something again and again while all clients work; raises what went wrong for any of them."""
    arguments = [f"{TESTS}/fixtures/everything.py", "--era", "legacy"]
    server = {"command": PYTHON, "args": arguments, "prefix": ""}
    await service.configure({"one": server}, streams={"hold": 0.05, "retry": 0.05})
    await service.systemctl("start", "mcpd.service")
    await service.until_property("StatusText", "1 ready")
    legacy = [LegacyClient(number, Unit()) for number in range(LEGACY)]
    clients: list[Client] = [*legacy, *(ModernClient(number, Unit()) for number in range(MODERNS))]
    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(client.run)
        for time in range(times + 1):
            goal = {id(client): client.calls + PROGRESS for client in clients}
            with trio.fail_after(LIMIT):
                while any(client.calls < goal[id(client)] for client in clients):  # noqa: ASYNC110
                    await trio.sleep(LOOK_AGAIN)
            if time < times:
                await disturb()
        for client in clients:
            client.stop.set()
    for client in legacy:
        numbers = client.numbers
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "every event once, in order"
    return legacy


async def restarts_under_load_without_loss(service: Service) -> None:
    pids = set()

    async def restart() -> None:
        pids.add(await service.pid())
        await service.systemctl("restart", "mcpd.service")

    legacy = await under_load(service, service.rounds, restart)
    assert len(pids | {await service.pid()}) == service.rounds + 1
    assert all(client.streams > service.rounds for client in legacy), "its stream was ended each time"
    entries = [entry["MESSAGE"] for entry in await service.journal("--priority=warning", "_TRANSPORT=journal")]
    assert not any("Traceback" in entry for entry in entries), entries
    assert await service.show("NRestarts") == "0", "systemd did not have to help"


CHECKS = (restarts_under_load_without_loss,)
