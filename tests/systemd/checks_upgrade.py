"""Upgrades in place under load: the same process, the same servers, and no client notices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import trio

from tests.e2e.upgrading import CLIENTS, load
from tests.systemd.service import BASE, TESTS, URL

if TYPE_CHECKING:
    from tests.fixtures.peer import Running
    from tests.systemd.service import Service

PYTHON = "/usr/lib/mcpd/bin/python3"
"""The package's own, with the libraries that the everything server needs."""
ERAS = ("legacy", "modern")
LIMIT = 100.0
"""Seconds for one upgrade; a few are usual."""
LOOK_AGAIN = 0.2


class There:
    """What the clients know of mcpd."""

    url = URL
    base = BASE


def everything(era: str) -> dict[str, Any]:
    arguments = [f"{TESTS}/fixtures/everything.py", "--name", era]
    return {"command": PYTHON, "args": arguments, "prefix": f"{era}_", "era": era}


async def upgrades_in_place_under_load(service: Service) -> None:
    await service.configure({era: everything(era) for era in ERAS})
    await service.systemctl("start", "mcpd.service")
    await service.until_property("StatusText", "2 ready")
    before = await service.processes()

    async def events(name: str) -> int:
        return len(await service.journal(f"MCPD_EVENT={name}", f"_SYSTEMD_INVOCATION_ID={invocation}"))

    invocation = await service.show("InvocationID")
    prefixes = tuple(f"{era}_" for era in ERAS)
    async with load(cast("Running", There()), CLIENTS, prefixes=prefixes) as state:
        await state.more(CLIENTS)
        for done in range(service.rounds):
            await service.box.run("kill", "-USR2", str(await service.pid()))
            with trio.fail_after(LIMIT):
                while await events("upgraded") == done:
                    assert await events("upgrade_refused") == 0, await service.journal("--priority=err")
                    await trio.sleep(LOOK_AGAIN)
            await state.more(CLIENTS)
    state.verify()
    assert set(await service.processes()) == set(before), "every process is the one it was"
    assert await service.show("NRestarts") == "0"
    assert await service.show("ActiveState") == "active"
    await service.systemctl("restart", "mcpd.service")
    assert await service.show("ActiveState") == "active", "what came of it is a service like any other"


CHECKS = (upgrades_in_place_under_load,)
