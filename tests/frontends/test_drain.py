from __future__ import annotations

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.frontends.drain import ANSWER_WAIT, FAREWELL, LOOK, drain_http, drain_stdio
from mcpd.wire.http_server import SETTLE
from tests.gateway.fakes import (
    ACCEPT,
    NAME,
    AskingBackend,
    Ear,
    FakeBackend,
    ModernClient,
    asks,
    catalogue,
    join,
    make_gateway,
    response_to,
    serve,
)
from tests.wire.http_peer import TEXT, Client, post, serving

GRACE = 30.0


@pytest.fixture
def backend():
    return FakeBackend("b", catalogue(tools=["add"], resources=["x:/1"]))


@pytest.fixture
def gateway(tmp_path, backend):
    return make_gateway(tmp_path, backend)


async def answering(request) -> None:
    request.answer(200, TEXT, b"done")


class Drain:
    """A drain under way, and how long it took."""

    def __init__(self, nursery: trio.Nursery, server, gateway) -> None:
        self.begun = trio.current_time()
        self.over = trio.Event()
        self.took = 0.0
        nursery.start_soon(self._run, server, gateway)

    async def _run(self, server, gateway) -> None:
        await drain_http(server, gateway, GRACE)
        self.took = trio.current_time() - self.begun
        self.over.set()


async def test_where_nothing_is_to_be_done_it_is_over_at_once(gateway, nursery, autojump_clock):
    async with serving(answering) as at:
        drain = Drain(nursery, at.server, gateway)
        await drain.over.wait()
        await at.ended()
    assert drain.took <= LOOK


async def test_a_connection_that_was_just_answered_is_kept_for_a_moment(gateway, nursery, autojump_clock):
    async with serving(answering) as at, await at.connect() as stream:
        await stream.send_all(post(b""))
        client = Client(stream)
        await client.answer()
        drain = Drain(nursery, at.server, gateway)
        await drain.over.wait()
        assert SETTLE - 1e-9 <= drain.took <= SETTLE + 3 * LOOK
        assert await client.rest() == b""
        await at.ended()


async def test_a_call_in_flight_is_waited_for(gateway, backend, nursery, autojump_clock):
    backend.gate = trio.Event()
    nursery.start_soon(serve, gateway, join(gateway.sessions), "tools/call", {"name": "b_add"})
    await wait_all_tasks_blocked()
    async with serving(answering) as at:
        drain = Drain(nursery, at.server, gateway)
        await trio.sleep(5)
        assert not drain.over.is_set()
        backend.gate.set()
        await drain.over.wait()
    assert drain.took <= 5 + 2 * LOOK


async def test_but_not_for_ever(gateway, backend, nursery, autojump_clock):
    backend.gate = trio.Event()
    nursery.start_soon(serve, gateway, join(gateway.sessions), "tools/call", {"name": "b_add"})
    await wait_all_tasks_blocked()
    async with serving(answering) as at:
        drain = Drain(nursery, at.server, gateway)
        await drain.over.wait()
    assert GRACE <= drain.took <= GRACE + 2 * FAREWELL + 1
    assert gateway.in_flight == 1, "it is left to whoever cancels everything"
    backend.gate.set()


async def test_a_client_that_owes_an_answer_may_connect_for_it(gateway, nursery, autojump_clock):
    session, ear = join(gateway.sessions), Ear()

    async def call() -> None:
        gateway.in_flight += 1
        await session.ask(ear.send, "roots/list", b"{}")
        gateway.in_flight -= 1

    nursery.start_soon(call)
    await wait_all_tasks_blocked()
    async with serving(answering) as at:
        drain = Drain(nursery, at.server, gateway)
        await wait_all_tasks_blocked()
        async with await at.connect() as stream:
            await stream.send_all(post(b""))
            assert (await Client(stream).answer())[1][b"connection"] == b"close"
        await response_to(session, ear, b"{}")
        await drain.over.wait()
        assert at.server.statistics().accepted == 1
    assert drain.took <= SETTLE + 1


async def test_a_parked_call_is_waited_for_as_long_as_a_program_takes(tmp_path, nursery, autojump_clock):
    backend = AskingBackend("b", catalogue(tools=["add"]))
    backend.script = asks(NAME)
    gateway = make_gateway(tmp_path, backend)
    client = ModernClient(gateway, backend).use(nursery)
    turn = await client.call()
    async with serving(answering) as at:
        drain = Drain(nursery, at.server, gateway)
        await trio.sleep(1)
        assert (await client.retry(turn, {"user_name": ACCEPT})).result["resultType"] == "complete"
        await drain.over.wait()
    assert drain.took <= 2


async def test_but_nobody_waits_for_a_person(tmp_path, nursery, autojump_clock):
    backend = AskingBackend("b", catalogue(tools=["add"]))
    backend.script = asks(NAME)
    gateway = make_gateway(tmp_path, backend)
    client = ModernClient(gateway, backend).use(nursery)
    await client.call()
    async with serving(answering) as at:
        drain = Drain(nursery, at.server, gateway)
        await drain.over.wait()
    assert ANSWER_WAIT - 1 <= drain.took <= ANSWER_WAIT + FAREWELL
    assert backend.replies == [{"action": "cancel"}], "its server is told before it is stopped"
    assert gateway.inputs.parked == 0


async def test_who_listens_is_told_everything_and_then_that_this_was_all(gateway, backend, nursery, autojump_clock):
    heard = Ear()

    async def listen() -> None:
        caller = join(gateway.sessions).caller
        members = {"notifications": msgspec.Raw(b'{"toolsListChanged":true}')}
        await gateway.listens.listen(caller, b"1", members, heard)

    nursery.start_soon(listen)
    await wait_all_tasks_blocked()
    async with serving(answering) as at:
        drain = Drain(nursery, at.server, gateway)
        await drain.over.wait()
    assert drain.took <= FAREWELL
    assert heard.heard[-1]["result"]["resultType"] == "complete"


class Writer:
    """Standard output, with what its reader has not taken."""

    def __init__(self, queued: int = 0) -> None:
        self.queued = queued
        self.closed = False


async def test_stdio_answers_what_is_in_flight(gateway, backend, nursery, autojump_clock):
    backend.gate = trio.Event()
    nursery.start_soon(serve, gateway, join(gateway.sessions), "tools/call", {"name": "b_add"})
    await wait_all_tasks_blocked()
    begun, left, over = trio.current_time(), trio.Event(), trio.Event()

    async def drain() -> None:
        await drain_stdio(gateway, Writer(queued=10), left, GRACE)
        over.set()

    nursery.start_soon(drain)
    await trio.sleep(3)
    assert not over.is_set()
    backend.gate.set()
    await over.wait()
    assert 3 + FAREWELL <= trio.current_time() - begun <= 3 + FAREWELL + 1, "the answer gets a moment to be read"


async def test_stdio_does_not_wait_for_calls_whose_client_left(gateway, backend, nursery, autojump_clock):
    backend.gate = trio.Event()
    nursery.start_soon(serve, gateway, join(gateway.sessions), "tools/call", {"name": "b_add"})
    await wait_all_tasks_blocked()
    begun, left = trio.current_time(), trio.Event()
    left.set()
    await drain_stdio(gateway, Writer(), left, GRACE)
    assert trio.current_time() == begun
    backend.gate.set()
