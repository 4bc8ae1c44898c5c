from __future__ import annotations

import itertools
import json

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.backends.listening import PASSING
from mcpd.config.model import Timeouts
from mcpd.errors import BackendUnavailable
from tests.backends.http_parts import HELLO, Remote, connected, event_of, remote_server
from tests.backends.parts import Client, calling, modern_client

CHANGED = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
SOON = "retry: 100\n\n"


async def test_news_comes_up_and_the_stream_is_opened_again_where_it_ended():
    remote = Remote()

    async def get(seen):
        last = seen.headers.get(b"last-event-id")
        stream = seen.stream(SOON, event_of(CHANGED, f"e{len(remote.named('GET'))}"), "data: <junk>\n\n")
        if last == b"e2":
            await trio.sleep_forever()
        stream.end()

    remote.serve["GET"] = get
    async with remote_server(remote), connected(remote.url, owner="s") as (_, _, heard):
        await heard.wait_until(lambda: len(heard.list_changes) == 3)
        assert [seen.headers.get(b"last-event-id") for seen in remote.named("GET")] == [None, b"e1", b"e2"]
        assert heard.list_changes == ["notifications/tools/list_changed"] * 3


async def test_a_session_is_not_used_before_its_stream_is_open():
    remote = Remote()
    opened = []

    async def get(seen):
        await wait_all_tasks_blocked()
        opened.append(remote.named("tools/list"))
        seen.stream()
        await trio.sleep_forever()

    remote.serve["GET"] = get
    async with remote_server(remote), connected(remote.url) as (link, _, _):
        await link.request("tools/list", {}, 5)
        assert opened == [[]]


async def test_a_server_that_never_answers_the_get_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("mcpd.backends.http.STREAM_WAIT", 0.01)
    remote = Remote()

    async def get(seen):
        await trio.sleep_forever()

    remote.serve["GET"] = get
    async with remote_server(remote), connected(remote.url) as (link, _, _):
        assert await link.request("tools/list", {}, 5)


async def test_a_question_on_it_is_answered():
    remote = Remote()

    async def get(seen):
        seen.stream({"jsonrpc": "2.0", "id": 0, "method": "ping"}, {"jsonrpc": "2.0", "id": 1, "method": "roots/list"})
        await trio.sleep_forever()

    remote.serve["GET"] = get
    async with remote_server(remote), connected(remote.url):
        first = (await remote.wait_seen("answer", 1)).message
        second = (await remote.wait_seen("answer", 2)).message
        by_id = {first["id"]: first, second["id"]: second}
        assert by_id[0]["result"] == {}
        assert by_id[1]["error"]["code"] == -32601


@pytest.mark.parametrize("status", [405, 406, 401, 403, 410, 501, 200, 202, 302])
async def test_a_server_without_the_stream_is_not_asked_again(status):
    remote = Remote()

    async def get(seen):
        seen.answer(status)

    remote.serve["GET"] = get
    async with remote_server(remote), connected(remote.url) as (link, _, _):
        await remote.wait_seen("GET")
        await link.request("tools/list", {}, 5)
        await trio.sleep(0.02)
        assert len(remote.named("GET")) == 1
        assert not link.lost.is_set()


@pytest.mark.parametrize("status", sorted(PASSING))
async def test_a_refusal_that_passes_is_asked_again_with_growing_pauses(status, monkeypatch):
    monkeypatch.setattr("mcpd.protocol.exchange_client.DEFAULT_RETRY", 0.01)
    remote = Remote()
    times = []

    async def get(seen):
        times.append(trio.current_time())
        if len(times) < 5:
            seen.answer(status)
        else:
            seen.stream(CHANGED)
            await trio.sleep_forever()

    remote.serve["GET"] = get
    async with remote_server(remote), connected(remote.url) as (_, _, heard):
        await heard.wait_until(lambda: bool(heard.list_changes))
        pauses = [after - before for before, after in itertools.pairwise(times)]
        assert len(pauses) == 4
        assert all(pause >= 0.01 * 2**number for number, pause in enumerate(pauses))


@pytest.mark.parametrize("status", [400, 404])
async def test_a_place_that_the_server_does_not_know_is_forgotten_first(status):
    remote = Remote()

    async def get(seen):
        if b"last-event-id" in seen.headers:
            seen.answer(status)
        elif len(remote.named("GET")) == 1:
            seen.stream(SOON, event_of(CHANGED, "e1")).end()
        else:
            seen.stream(CHANGED)
            await trio.sleep_forever()

    remote.serve["GET"] = get
    async with remote_server(remote), connected(remote.url) as (_, _, heard):
        await heard.wait_until(lambda: len(heard.list_changes) == 2)
        assert len(remote.named("initialize")) == 1, "the session is not to blame"


@pytest.mark.parametrize("status", [400, 404])
async def test_a_lost_session_is_noticed_and_opened_anew_without_any_call(status):
    remote = Remote()

    async def get(seen):
        session = seen.headers[b"mcp-session-id"].decode()
        if session != remote.session:
            seen.answer(status)
        elif session == "s1":
            remote.session = "s2"
            seen.stream(SOON).end()
        else:
            assert b"last-event-id" not in seen.headers
            seen.stream(CHANGED)
            await trio.sleep_forever()

    async def guarded(seen):
        if seen.headers[b"mcp-session-id"].decode() == remote.session:
            seen.result({})
        else:
            seen.answer(status)

    remote.serve.update({"GET": get, "ping": guarded})
    async with remote_server(remote), connected(remote.url) as (link, _, heard):
        await heard.wait_until(lambda: len(heard.list_changes) == 4)  # three after the loss, one on the new stream
        assert link.generation == 1
        assert len(remote.named("initialize")) == 2


async def test_a_session_that_cannot_be_opened_anew_loses_the_link():
    remote = Remote()

    async def get(seen):
        seen.answer(404)

    async def ping(seen):
        seen.answer(404)

    async def initialize(seen):
        if len(remote.named("initialize")) == 1:
            seen.result(HELLO, b"Mcp-Session-Id: s1\r\n")
        else:
            seen.answer(500)

    remote.serve.update({"GET": get, "ping": ping, "initialize": initialize})
    async with remote_server(remote), connected(remote.url) as (link, _, _):
        await link.lost.wait()
        assert "HTTP 500" in str(link.reason)


@pytest.mark.parametrize("status", [400, 404])
async def test_4xx_from_a_server_that_knows_the_session_is_no_stream(status):
    """404 is what many a framework answers to GET where only POST is routed; it is asked once, and not again."""
    remote = Remote()

    async def get(seen):
        seen.answer(status)

    remote.serve["GET"] = get
    async with remote_server(remote), connected(remote.url) as (link, _, _):
        await remote.wait_seen("ping")
        await link.request("tools/list", {}, 5)
        await trio.sleep(0.02)
        assert len(remote.named("GET")) == 1
        assert len(remote.named("initialize")) == 1


async def run_until(stop, remote, up):
    async with remote_server(remote):
        up.set()
        await stop.wait()


async def test_a_remote_that_goes_away_loses_an_idle_link():
    remote = Remote()

    async def get(seen):
        seen.stream(SOON)
        await trio.sleep_forever()

    remote.serve["GET"] = get
    stop, up = trio.Event(), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_until, stop, remote, up)
        await up.wait()
        async with connected(remote.url) as (link, _, _):
            await remote.wait_seen("GET")
            stop.set()
            with trio.fail_after(30):
                await link.lost.wait()
            assert isinstance(link.reason, BackendUnavailable)
            assert "connection refused" in str(link.reason)


async def test_calls_in_flight_are_not_failed_by_it():
    remote = Remote()
    holding = trio.Event()

    async def get(seen):
        seen.stream(SOON).end()

    async def hold(seen):
        seen.stream(": working\n\n")
        await holding.wait()

    remote.serve.update({"GET": get, "tools/call": hold})
    async with (
        remote_server(remote),
        connected(remote.url, timeouts=Timeouts(init=5)) as (link, carrier, _),
        trio.open_nursery() as nursery,
    ):
        made = Client().call()
        outcome = calling(nursery, link.call, made, "tools/call", made.members)
        await remote.wait_seen("tools/call")
        real, carrier.get = carrier.get, refuse_connection
        with trio.move_on_after(0.3):
            await link.lost.wait()
        assert not link.lost.is_set()
        assert not outcome.done.is_set()
        carrier.get = real
        outcome.scope.cancel()


async def refuse_connection(more, handle=None):
    from mcpd.errors import ConnectFailed

    raise ConnectFailed("no connection became free")


async def test_a_question_on_it_is_of_the_only_call_in_flight():
    """It should have come on the call's own stream; some servers put it here."""
    remote = Remote()
    begun, answered = trio.Event(), trio.Event()

    async def get(seen):
        stream = seen.stream(SOON)
        await begun.wait()
        stream.write(event_of({"jsonrpc": "2.0", "id": 7, "method": "roots/list"}).encode())
        await trio.sleep_forever()

    async def serve(seen):
        begun.set()
        await answered.wait()
        seen.result({"ok": True})

    async def answer(seen):
        seen.answer(202)
        answered.set()

    remote.serve.update({"GET": get, "tools/call": serve, "answer": answer})
    for client in (Client(), modern_client()):
        begun, answered = trio.Event(), trio.Event()
        client.answer = b'{"roots":[]}'
        async with remote_server(remote), connected(remote.url) as (link, _, heard):
            made = client.call()
            result = await link.call(made, "tools/call", made.members)
            assert json.loads(bytes(result.members["result"]))["ok"]
            assert client.asked == [("roots/list", {})]
            assert remote.named("answer")[-1].message["result"] == {"roots": []}
            assert heard.asked == []


async def test_of_several_clients_calls_none_is_asked(nursery):
    remote = Remote()
    begun = trio.Event()

    async def get(seen):
        stream = seen.stream(SOON)
        await begun.wait()
        stream.write(event_of({"jsonrpc": "2.0", "id": 7, "method": "roots/list"}).encode())
        await trio.sleep_forever()

    async def serve(seen):
        if len(remote.named("tools/call")) == 2:
            begun.set()
        await trio.sleep_forever()

    remote.serve.update({"GET": get, "tools/call": serve})
    async with remote_server(remote), connected(remote.url) as (link, _, _):
        clients = [Client("1"), Client("2")]
        for client in clients:
            made = client.call()
            calling(nursery, link.call, made, "tools/call", made.members)
        refusal = (await remote.wait_seen("answer")).message["error"]["message"]
        assert "servers.b.instances to leased or per-session" in refusal
        assert [client.asked for client in clients] == [[], []]
