"""Where calls wait; for what they wait is shown in `test_backend`."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.backends.lobby import WAIT_FOR_ATTEMPT, Lobby
from mcpd.supervisor.slots import StartSlots, Urgency

LINK = object()


class Server:
    """What a call looks at."""

    def __init__(self) -> None:
        self.link = None
        self.held = False
        self.looks = 0

    def look(self):
        self.looks += 1
        return self.link

    async def wait(self, lobby):
        return await lobby.wait(self.look, lambda: self.held)


async def test_a_link_that_is_there_is_not_waited_for(autojump_clock):
    server = Server()
    server.link = LINK
    assert await server.wait(Lobby()) is LINK
    assert server.looks == 1


@pytest.mark.parametrize("patience", [WAIT_FOR_ATTEMPT, 45.0])
async def test_nobody_waits_longer_than_the_attempt_is_worth(patience, autojump_clock):
    lobby = Lobby()
    lobby.begin(patience)
    assert await Server().wait(lobby) is None
    assert trio.current_time() == patience
    assert len(lobby) == 0


async def test_neither_the_line_nor_what_comes_before_it_counts(nursery, autojump_clock):
    lobby, server, slots = Lobby(), Server(), StartSlots(1, hold=1000)
    server.held = True
    over = []

    async def wait():
        over.append((await server.wait(lobby), trio.current_time()))

    nursery.start_soon(wait)
    await trio.sleep(100)
    slot = await slots.acquire()
    nursery.start_soon(slots.acquire, lobby.claim)
    await wait_all_tasks_blocked()
    server.held = False
    lobby.tell()
    await trio.sleep(100)
    assert over == []
    slot.release()
    await trio.sleep(100)
    assert over == [(None, 200 + WAIT_FOR_ATTEMPT)]


async def test_a_start_that_somebody_waits_for_is_urgent(nursery, autojump_clock):
    lobby, server = Lobby(), Server()
    assert lobby.claim.urgency is Urgency.BACKGROUND
    nursery.start_soon(server.wait, lobby)
    await wait_all_tasks_blocked()
    assert (len(lobby), lobby.claim.urgency) == (1, Urgency.CALL)
    lobby.begin()
    assert lobby.claim.urgency is Urgency.CALL
    server.link = LINK
    lobby.tell()
    await wait_all_tasks_blocked()
    lobby.begin()
    assert (len(lobby), lobby.claim.urgency) == (0, Urgency.BACKGROUND)


async def test_what_a_look_raises_ends_the_wait(autojump_clock):
    lobby = Lobby()

    def look():
        raise KeyError

    with pytest.raises(KeyError):
        await lobby.wait(look, lambda: False)
    assert len(lobby) == 0
