"""Streamable HTTP on a real port, with a scripted gateway behind it."""

from __future__ import annotations

import json
import time

import pytest
import trio

from mcpd.config.model import Config, Limits
from mcpd.config.model import Streams as Times
from mcpd.errors import INTERNAL_ERROR, RpcError
from tests.fixtures.peer import Closed, HttpPeer, Reply, open_request
from tests.frontends.rig import Front, envelope, serve_front, until

POST = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t"}}


async def empty(talk) -> bytes:
    return b"{}"


class Held:
    """A call that says something and then waits until it is let go."""

    def __init__(self) -> None:
        self.said = trio.Event()
        self.let_go = trio.Event()
        self.talk = None

    async def __call__(self, talk) -> bytes:
        self.talk = talk
        talk.notify("notifications/progress", progress=1)
        self.said.set()
        await self.let_go.wait()
        talk.notify("notifications/progress", progress=2)
        return b'{"done":true}'


async def post(peer: HttpPeer, body=CALL, **headers: str) -> Reply:
    return await peer.raw("POST", headers={**POST, **peer.session_headers(), **headers}, body=body)


async def cut(peer: HttpPeer, front: Front, held: Held) -> str:
    """POSTs a call, reads its first event and hangs up; returns that event's id."""
    headers = {**POST, **peer.session_headers()}
    async with open_request("POST", peer.url, headers, json.dumps(CALL).encode()) as exchange:
        while True:
            event = await exchange.next_event()
            if event.data:
                return event.id


# ---- heads and bodies


@pytest.mark.parametrize("method", ["PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "QUERY"])
async def test_other_methods_are_405(tmp_path, method):
    async with serve_front(tmp_path) as front, open_request(method, front.url, {}) as exchange:
        assert exchange.status == 405
        assert exchange.headers["allow"] == "POST, GET, DELETE"


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        (None, 200),
        ("*/*", 200),
        ("application/*, text/*", 200),
        ("Application/JSON;q=0.5,TEXT/event-stream ; q=1", 200),
        ("application/json", 406),
        ("text/event-stream", 406),
        ("text/html", 406),
        ("application/json, text/event-stream;q=0", 406),
        ("", 406),
    ],
)
async def test_accept(tmp_path, accept, status):
    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer:
        front.gateway.scripts["tools/call"] = empty
        await peer.initialize()
        headers = {**POST, **peer.session_headers()}
        del headers["Accept"]
        if accept is not None:
            headers["Accept"] = accept
        assert (await peer.raw("POST", headers=headers, body=CALL)).status == status


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("APPLICATION/JSON; charset=utf-8", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/json, text/plain", 415),
    ],
)
async def test_content_type(tmp_path, content_type, status):
    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer:
        front.gateway.scripts["tools/call"] = empty
        await peer.initialize()
        assert (await post(peer, **{"Content-Type": content_type})).status == status


async def test_get_needs_an_accept_that_fits(tmp_path):
    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer:
        await peer.initialize()
        headers = {**peer.session_headers(), "Accept": "application/json"}
        assert (await peer.raw("GET", headers=headers)).status == 406


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"  ", -32700),
        (b"{", -32700),
        (b"nonsense", -32700),
        (b"\xff", -32700),
        (b"7", -32600),
        (b"{}", -32600),
        (b"[]", -32600),
        (b'{"jsonrpc":"2.0","id":{},"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","m\\u0065thod":"x"}', -32600),
        (b'{"jsonrpc":"2.0","id":"%b","method":"ping"}' % (b"x" * 2000), -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":%b}' % (b"[" * 50_000), -32700),
    ],
)
async def test_a_bad_body_is_400_with_or_without_a_session(tmp_path, body, code):
    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer:
        assert (await post(peer, body)).json()["error"]["code"] == code
        await peer.initialize()
        reply = await post(peer, body)
        assert (reply.status, reply.json()["id"], reply.json()["error"]["code"]) == (400, None, code)


@pytest.mark.parametrize("id", [0, "", -1, 1.5, "ü", 1 << 70, "a\nb"])
async def test_any_id_comes_back_as_it_was(tmp_path, id):
    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer:
        front.gateway.scripts["tools/call"] = empty
        await peer.initialize()
        answer = (await post(peer, {**CALL, "id": id})).json()["id"]
        assert (type(answer), answer) == (type(id), id)


# ---- which era a message belongs to

BARE = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t"}}
MODERN = {**BARE, "params": {"name": "t", "_meta": envelope()}}
HALF = {**BARE, "params": {"name": "t", "_meta": envelope(clientCapabilities=None)}}
OPENING = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}},
}
NEWS = {"jsonrpc": "2.0", "method": "notifications/initialized"}
MODERN_NEWS = {**NEWS, "params": {"_meta": envelope()}}
RESPONSE = {"jsonrpc": "2.0", "id": 1, "result": {"_meta": envelope()}}
LEGACY, NEW, ODD = "2025-11-25", "2026-07-28", "v999"


@pytest.mark.parametrize(
    ("body", "version", "session", "status", "said"),
    [
        # The envelope makes a message modern, whatever the head says of versions and sessions.
        (MODERN, NEW, None, 200, "modern"),
        (MODERN, NEW, "mine", 200, "modern"),
        (MODERN, NEW, "stale", 200, "modern"),
        (MODERN, LEGACY, "mine", 400, -32020),
        (MODERN, None, "mine", 400, -32020),
        (HALF, NEW, None, 400, -32602),
        (HALF, LEGACY, "mine", 400, -32602),
        (MODERN_NEWS, NEW, None, 202, None),
        (MODERN_NEWS, LEGACY, "mine", 202, None),
        # Without it, a session or its opening makes it a legacy one.
        (BARE, LEGACY, "mine", 200, "legacy"),
        (BARE, None, "mine", 200, "legacy"),
        (BARE, NEW, "mine", 400, -32600),
        (BARE, ODD, "mine", 400, -32600),
        (OPENING, None, None, 200, "opened"),
        (OPENING, LEGACY, None, 200, "opened"),
        (OPENING, NEW, None, 200, "opened"),
        (OPENING, ODD, "stale", 200, "opened"),
        (NEWS, LEGACY, "mine", 202, None),
        # Else the header decides; a version with a handshake, or none, wants a session.
        (BARE, NEW, None, 400, -32602),
        (BARE, ODD, None, 400, -32602),
        (BARE, NEW, "stale", 400, -32602),
        (BARE, LEGACY, None, 400, -32600),
        (BARE, None, None, 400, -32600),
        (BARE, LEGACY, "stale", 404, -32600),
        (NEWS, NEW, None, 202, None),
        (NEWS, LEGACY, None, 400, -32600),
        # Arrays and responses are of legacy only.
        ([MODERN], NEW, None, 400, -32600),
        ([BARE, MODERN], NEW, None, 400, -32600),
        ([MODERN], LEGACY, "mine", 400, -32600),
        ([BARE], NEW, None, 400, -32600),
        (RESPONSE, NEW, None, 400, -32600),
        (RESPONSE, LEGACY, "mine", 202, None),
    ],
)
async def test_the_era_of_a_message(tmp_path, body, version, session, status, said):
    async def legacy(talk) -> bytes:
        return b'{"era":"legacy"}'

    async def modern(round) -> bytes:
        return b'{"era":"modern"}'

    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer:
        front.gateway.scripts["tools/call"] = legacy
        front.gateway.modern.scripts["tools/call"] = modern
        await peer.initialize()
        headers = {**POST, "Mcp-Method": "tools/call", "Mcp-Name": "t"}
        if version is not None:
            headers["MCP-Protocol-Version"] = version
        if session is not None:
            headers["Mcp-Session-Id"] = peer.session_id if session == "mine" else "stale"
        reply = await peer.raw("POST", headers=headers, body=body)
        assert reply.status == status
        if said is None:
            assert reply.body == b""
        elif isinstance(said, int):
            assert reply.json()["error"]["code"] == said
            if said in (-32602, -32020):
                assert reply.json()["id"] == 1
        elif said == "opened":
            assert reply.headers["mcp-session-id"] not in ("", peer.session_id)
        else:
            assert reply.json()["result"] == {"era": said}


async def test_a_batch_with_a_modern_element_is_refused_whole(tmp_path):
    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer:
        front.gateway.scripts["tools/call"] = empty
        await peer.initialize("2025-03-26")
        assert (await post(peer, [CALL])).status == 200
        reply = await post(peer, [{**CALL, "id": 2}, MODERN])
        assert (reply.status, reply.json()["id"], reply.json()["error"]["code"]) == (400, None, -32600)
        assert not front.gateway.modern.rounds


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_other_methods_are_for_sessions_whatever_the_version(tmp_path, method):
    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer:
        headers = {"Accept": "text/event-stream", "MCP-Protocol-Version": NEW}
        assert (await peer.raw(method, headers=headers)).status == 400
        await peer.initialize()
        assert (await peer.raw(method, headers={**headers, "Mcp-Session-Id": peer.session_id})).status == 400


async def test_memory_full_of_sessions_in_use_does_not_concern_modern_requests(tmp_path, nursery):
    config = Config(limits=Limits(sessions=1))
    async with serve_front(tmp_path, config) as front, HttpPeer(front.url) as peer, HttpPeer(front.url) as other:
        held = front.gateway.scripts["tools/call"] = Held()
        await other.initialize()
        evicted = other.session_id
        await peer.initialize()
        nursery.start_soon(post, peer)
        await held.said.wait()
        headers = {**POST, "Mcp-Session-Id": evicted, "MCP-Protocol-Version": NEW, "Mcp-Method": "ping"}
        assert (await peer.raw("POST", headers=headers, body=BARE)).status == 503
        body = {**MODERN, "method": "ping"}
        assert (await peer.raw("POST", headers=headers, body=body)).status == 404
        held.let_go.set()


# ---- sessions


async def test_the_session_header(tmp_path):
    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer, HttpPeer(front.url) as other:
        front.gateway.scripts["tools/call"] = empty
        await peer.initialize()
        mine = peer.session_id
        assert mine.isascii()
        assert mine.isprintable()
        for method in ("POST", "GET", "DELETE"):
            headers = {**POST, "MCP-Protocol-Version": "2025-11-25"}
            assert (await peer.raw(method, headers=headers, body=CALL)).status == 400
            for wrong in (mine[:-1] + ("A" if mine[-1] != "A" else "B"), mine[1:], "x", mine * 9, "\xff"):
                reply = await peer.raw(method, headers={**headers, "Mcp-Session-Id": wrong}, body=CALL)
                assert reply.status == 404
        assert (await post(peer)).status == 200
        await other.initialize()
        assert other.session_id != mine
        assert (await peer.delete()).status == 200
        peer.session_id = mine
        for method in ("POST", "GET", "DELETE"):
            reply = await peer.raw(method, headers={**POST, **peer.session_headers()}, body=CALL)
            assert reply.status == 404
        assert (await post(other)).status == 200


@pytest.mark.parametrize(
    ("version", "status"),
    [
        (None, 200),
        ("2025-06-18", 200),
        ("2024-11-05", 200),
        ("2026-07-28", 400),
        ("1999-01-01", 400),
        ("x", 400),
    ],
)
async def test_the_version_header(tmp_path, version, status):
    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer:
        front.gateway.scripts["tools/call"] = empty
        await peer.initialize()
        headers = {**POST, "Mcp-Session-Id": peer.session_id}
        if version is not None:
            headers["MCP-Protocol-Version"] = version
        assert (await peer.raw("POST", headers=headers, body=CALL)).status == status


async def test_initialize_may_carry_more_headers_than_it_needs(tmp_path):
    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer:
        peer.headers = {
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": "initialize",
            "Mcp-Session-Id": "stale",
        }
        await peer.initialize()
        assert peer.session_id


@pytest.mark.parametrize("params", [None, {}, {"protocolVersion": 7}, [], "x"])
async def test_a_bad_initialize_opens_nothing(tmp_path, params):
    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer:
        reply = await post(peer, {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
        assert reply.json()["error"]["code"] in (-32600, -32602)
        assert "mcp-session-id" not in reply.headers
        assert not front.sessions


async def test_notifications_and_responses_are_202(tmp_path):
    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer:
        await peer.initialize()
        for body in (
            {"jsonrpc": "2.0", "method": "notifications/unheard_of"},
            {"jsonrpc": "2.0", "method": "initialize"},
            {"jsonrpc": "2.0", "id": 5, "result": {}},
            {"jsonrpc": "2.0", "id": None, "error": {"code": 1, "message": "m"}},
            {"jsonrpc": "2.0", "id": "server-error", "error": {"code": 1, "message": "m"}},
        ):
            reply = await post(peer, body)
            assert (reply.status, reply.body) == (202, b"")


async def test_there_is_no_session_beyond_the_limit_but_idle_ones_make_room(tmp_path):
    config = Config(limits=Limits(sessions=2))
    async with serve_front(tmp_path, config) as front:
        async with HttpPeer(front.url) as busy, HttpPeer(front.url) as idle, HttpPeer(front.url) as third:
            front.gateway.scripts["tools/call"] = empty
            await busy.initialize()
            await busy.open_stream()
            await idle.initialize()
            await third.initialize()
            assert len(front.sessions) == 2
            await third.open_stream()
            for reply in (
                await post(HttpPeer(front.url), {**CALL, "method": "initialize", "params": {"protocolVersion": "x"}}),
                await post(idle),
            ):
                assert reply.status == 503, "also for one that would have to be resurrected"
                assert reply.headers["retry-after"]
                assert "limits.sessions" in reply.json()["error"]["message"]
        await until(lambda: not front.patience.statistics().entries)


# ---- answers


async def test_errors_of_a_call_are_answers_and_overload_is_503(tmp_path, caplog):
    async def refuse(talk) -> bytes:
        raise RpcError(-32602, "no", data=b'{"x":1.0}')

    async def overload(talk) -> bytes:
        raise RpcError(INTERNAL_ERROR, "too many", http_status=503)

    async def broken(talk) -> bytes:
        raise KeyError("secret detail")

    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer:
        await peer.initialize()
        for script, status, code in ((refuse, 200, -32602), (overload, 503, -32603), (broken, 200, -32603)):
            front.gateway.scripts["tools/call"] = script
            reply = await post(peer)
            assert (reply.status, reply.json()["error"]["code"], reply.json()["id"]) == (status, code, 1)
            assert b"secret" not in reply.body
        assert "secret detail" in caplog.text
        front.gateway.scripts["tools/call"] = refuse
        assert b'"data":{"x":1.0}' in (await post(peer)).body
        assert (await post(peer, {**CALL, "method": "no/such"})).json()["error"]["code"] == -32601
        assert not front.patience.statistics().entries


async def test_an_id_in_use_is_refused_and_the_call_goes_on(tmp_path, nursery):
    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer:
        held = front.gateway.scripts["tools/call"] = Held()
        await peer.initialize()
        replies = []

        async def call() -> None:
            replies.append(await post(peer))

        nursery.start_soon(call)
        await held.said.wait()
        reply = await post(peer)
        assert (reply.status, reply.json()["error"]["code"]) == (400, -32600)
        [(method, reason)] = front.gateway.refused
        assert method == "tools/call"
        assert "already in use" in reason, "it is taken down as any other call"
        held.let_go.set()
        await until(lambda: replies)
        assert replies[0].message()["result"] == {"done": True}
        assert (await post(peer)).status == 200, "and it is free again"


async def test_more_calls_than_a_session_may_have(tmp_path, nursery):
    config = Config(limits=Limits(calls_per_session=1))
    async with (
        serve_front(tmp_path, config) as front,
        HttpPeer(front.url) as peer,
        HttpPeer(front.url) as other,
    ):
        held = front.gateway.scripts["tools/call"] = Held()
        front.gateway.scripts["ping"] = empty
        await peer.initialize()
        await other.initialize()
        nursery.start_soon(post, peer)
        await held.said.wait()
        reply = await post(peer, {**CALL, "id": 2, "method": "ping"})
        assert (reply.status, reply.json()["id"]) == (503, 2)
        assert (await post(other, {**CALL, "method": "ping"})).status == 200
        held.let_go.set()


async def test_cancelling_one_of_two(tmp_path, nursery):
    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer, HttpPeer(front.url) as other:
        held = front.gateway.scripts["tools/call"] = Held()
        await peer.initialize()
        await other.initialize()
        answers = {}

        async def call(who: HttpPeer, id: int) -> None:
            answers[who, id] = (await post(who, {**CALL, "id": id})).message()

        for who, id in ((peer, 1), (peer, 2), (other, 1)):
            nursery.start_soon(call, who, id)
        await until(lambda: sum(len(session.calls) for session in front.sessions) == 3)
        await peer.cancel(1)
        await until(lambda: answers)
        assert answers[peer, 1]["error"]["code"] == -32800, "so that the stream does not dangle"
        assert front.gateway.cancelled == ["1"]
        held.let_go.set()
        await until(lambda: len(answers) == 3)
        assert answers[peer, 2]["result"] == answers[other, 1]["result"] == {"done": True}
        await peer.cancel(2)
        await peer.cancel("unknown")


async def test_a_lost_connection_is_no_cancellation(tmp_path):
    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer:
        held = front.gateway.scripts["tools/call"] = Held()
        await peer.initialize()
        last = await cut(peer, front, held)
        held.let_go.set()
        events = await peer.resume(last)
        assert [json.loads(event.data).get("id") for event in events] == [None, 1]
        assert not front.gateway.cancelled
        assert [json.loads(event.data).get("id") for event in await peer.resume(events[0].id)] == [1]
        assert await peer.resume(events[1].id) == []


async def test_the_end_of_a_session_ends_everything_of_it(tmp_path, nursery):
    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer:
        held = front.gateway.scripts["tools/call"] = Held()
        await peer.initialize()
        await peer.open_stream()
        last = await cut(peer, front, held)
        headers = peer.session_headers()
        watched = []

        async def watch() -> None:
            fields = {**headers, "Accept": "text/event-stream", "Last-Event-ID": last}
            watched.append(await peer.raw("GET", headers=fields))

        nursery.start_soon(watch)
        [session] = front.sessions
        await until(lambda: any(e._request is not e.handler for e in session.streams.exchanges.values()))
        assert (await peer.delete()).status == 200
        await peer.wait_closed()
        await until(lambda: watched)
        assert watched[0].message()["error"]["code"] == -32800
        assert front.gateway.cancelled == ["1"]
        assert not front.sessions
        assert not front.patience.statistics().entries
        assert front.streamable._terms.kept.size == 0


# ---- GET


async def test_a_second_get_replaces_the_first_and_the_connection_lives_on(tmp_path):
    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer:
        await peer.initialize()
        headers = {**peer.session_headers(), "Accept": "text/event-stream"}
        [session] = front.sessions
        async with open_request("GET", front.url, headers) as first:
            session.deliver("k", (b'{"n":1}',))
            assert (await first.next_event()).data == '{"n":1}'
            async with open_request("GET", front.url, headers) as second:
                assert second.status == 200
                assert await first.next_event() is None
                session.deliver("k", (b'{"n":2}',))
                assert (await second.next_event()).data == '{"n":2}'
                # The first ended in order, so its connection serves the next request.
                head = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "localhost", **headers}.items())
                await first._stream.send_all(f"DELETE /mcp HTTP/1.1\r\n{head}\r\n".encode())
                assert (await first._stream.receive_some()).startswith(b"HTTP/1.1 200 ")
                assert await second.next_event() is None


async def test_news_waits_for_a_stream_and_is_resumed(tmp_path):
    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer:
        await peer.initialize()
        [session] = front.sessions
        session.deliver("a", (b'{"n":0}',))
        headers = {**peer.session_headers(), "Accept": "text/event-stream"}
        async with open_request("GET", front.url, headers) as exchange:
            assert (await exchange.next_event()).data == '{"n":0}'
            for n in (1, 2):
                session.deliver("b", (b'{"n":%d}' % n,))
            one, two = await exchange.next_event(), await exchange.next_event()
        await until(lambda: session.outlet is None)
        session.deliver("c", (b'{"n":3}',))
        again = {**headers, "Last-Event-ID": one.id}
        async with open_request("GET", front.url, again) as exchange:
            events = [await exchange.next_event() for _ in range(2)]
        assert [json.loads(event.data)["n"] for event in events] == [2, 3]
        assert events[0].id == two.id


@pytest.mark.parametrize("id", ["", "x", "0-x", "-", "9" * 50 + "-1", "0-99999999999999999"])
async def test_a_last_event_id_that_says_nothing_opens_the_stream(tmp_path, id):
    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer:
        await peer.initialize()
        assert await peer.open_stream(id) == 200


async def test_what_is_not_kept_cannot_be_resumed(tmp_path):
    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer:
        await peer.initialize()
        for id in ("1-0", f"{int(time.time() * 1000)}-0"):
            headers = {**peer.session_headers(), "Accept": "text/event-stream", "Last-Event-ID": id}
            reply = await peer.raw("GET", headers=headers)
            assert reply.status == 400
            assert "Last-Event-ID" in reply.json()["error"]["message"]


async def test_streams_belong_to_their_session(tmp_path):
    async with serve_front(tmp_path) as front, HttpPeer(front.url) as peer, HttpPeer(front.url) as other:
        held = front.gateway.scripts["tools/call"] = Held()
        await peer.initialize()
        await other.initialize()
        last = await cut(peer, front, held)
        headers = {**other.session_headers(), "Accept": "text/event-stream", "Last-Event-ID": last}
        assert (await other.raw("GET", headers=headers)).status == 400
        held.let_go.set()
        assert len(await peer.resume(last)) == 2


async def test_polling(tmp_path):
    config = Config(streams=Times(hold=0.01, poll_after=0.05, retry=0.01))
    async with serve_front(tmp_path, config) as front, HttpPeer(front.url) as peer:

        async def slow(talk) -> bytes:
            for n in range(20):
                talk.notify("notifications/progress", progress=n)
                await trio.sleep(0.01)
            return b"{}"

        front.gateway.scripts["tools/call"] = slow
        await peer.initialize()
        peer.resume_lost = False
        with pytest.raises(Closed):
            await peer.request("tools/call")
        assert peer.retry == 0.01
        heard = len(peer.received)
        peer.resume_lost = True
        assert await peer.request("tools/call") == {}
        steps = [each["params"]["progress"] for each in peer.received[heard:] if "method" in each]
        assert steps == list(range(20)), "each once, in order, over all streams"
        await peer.initialize("2025-06-18")
        peer.resume_lost = False
        assert await peer.request("tools/call") == {}, "older clients keep their stream"


async def test_keep_alive_comments_come_on_every_kind_of_stream(tmp_path):
    config = Config(streams=Times(hold=0.01, keepalive=0.02))
    async with serve_front(tmp_path, config) as front, HttpPeer(front.url) as peer:
        held = front.gateway.scripts["tools/call"] = Held()
        await peer.initialize()
        last = await cut(peer, front, held)
        headers = {**peer.session_headers(), "Accept": "text/event-stream"}
        for fields in (headers, {**headers, "Last-Event-ID": last}):
            async with open_request("GET", front.url, fields) as exchange:
                data = b""
                while data.count(b": keep-alive") < 3:
                    data += await exchange.next_chunk()
        held.let_go.set()


async def test_a_slow_reader_loses_its_stream_and_nobody_else_does(tmp_path):
    config = Config(limits=Limits(stream_queue=256 * 1024, replay_bytes=1024))
    async with (
        serve_front(tmp_path, config) as front,
        HttpPeer(front.url) as peer,
        HttpPeer(front.url) as good,
    ):
        flooded = trio.Event()

        async def flood(talk) -> bytes:
            for _ in range(400):
                talk.notify("notifications/message", level="info", data="x" * 50_000)
                await trio.lowlevel.checkpoint()
            flooded.set()
            return b'{"end":true}'

        front.gateway.scripts |= {"tools/call": flood, "ping": empty}
        await peer.initialize()
        await good.initialize()
        headers = {**POST, **peer.session_headers()}
        async with open_request("POST", peer.url, headers, json.dumps(CALL).encode()) as exchange:
            first = await exchange.next_event()
            await flooded.wait()
            assert await good.request("ping") == {}
            while await exchange.next_event():
                pass
        events = await peer.resume(first.id)
        assert json.loads(events[-1].data)["result"] == {"end": True}, "and it can ask for the rest"
