from __future__ import annotations

import json

import pytest
import trio

from mcpd.backends.legacy import RefusedInitialize
from mcpd.backends.opening import Era
from mcpd.backends.replies import NotHere
from mcpd.backends.tools import ToolFacts
from mcpd.config.model import Timeouts
from mcpd.errors import (
    BackendCrashed,
    BackendError,
    BackendMisbehaved,
    BackendTimedOut,
    BackendUnavailable,
    RpcError,
)
from mcpd.protocol.mirror import Parameters
from mcpd.protocol.versions import Version
from tests.backends.http_parts import HELLO, Remote, connected, event_of, remote_server
from tests.backends.parts import DISCOVER, ENVELOPE, Client, calling, modern_client, result_of

SHORT = Timeouts(init=5, call_idle=0.2, call_max=5, list=5)


async def call(link, client=None, **params):
    made = (client or Client()).call(**params)
    return result_of(await link.call(made, "tools/call", made.members))


def later(*tasks):
    """A handler that does these one after another, one for each request."""
    left = list(tasks)

    async def serve(seen):
        await left.pop(0)(seen) if len(left) > 1 else await left[0](seen)

    return serve


# ---- the handshake


async def test_session_and_version_go_with_everything_after_the_handshake():
    async with remote_server() as remote:
        async with connected(remote.url, headers={"Authorization": "Bearer x"}) as (link, carrier, _):
            assert link.hello is not None
            assert carrier.has_session
            await call(link)
            link.notify("notifications/roots/list_changed")
            await remote.wait_seen("notifications/roots/list_changed")
            await remote.wait_seen("GET")
        first, *rest = remote.seen
        assert first.method == "initialize"
        assert b"mcp-session-id" not in first.headers
        assert b"mcp-protocol-version" not in first.headers
        assert {seen.verb for seen in rest} == {"POST", "GET", "DELETE"}
        for seen in rest:
            assert seen.headers[b"mcp-session-id"] == b"s1"
            assert seen.headers[b"mcp-protocol-version"] == b"2025-11-25"
        for seen in remote.seen:
            assert seen.headers[b"authorization"] == b"Bearer x"
            if seen.verb == "POST":
                assert seen.headers[b"accept"] == b"application/json, text/event-stream"
                assert seen.headers[b"content-type"] == b"application/json"


async def test_a_server_without_sessions():
    remote = Remote()
    remote.session = None
    async with remote_server(remote):
        async with connected(remote.url) as (link, carrier, _):
            assert not carrier.has_session
            assert (await call(link))["echo"] == {"name": "t"}
        assert remote.named("DELETE") == []
        assert all(b"mcp-session-id" not in seen.headers for seen in remote.seen)


async def test_the_handshake_as_a_stream():
    remote = Remote()

    async def initialize(seen):
        seen.stream(
            {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": 1}},
            seen.reply({**HELLO, "protocolVersion": "2025-03-26"}),
            headers=b"Mcp-Session-Id: s2\r\n",
        ).end()

    remote.serve["initialize"] = initialize
    async with remote_server(remote), connected(remote.url) as (link, carrier, heard):
        assert link.hello.version is Version.V2025_03_26
        assert carrier.has_session
        assert heard.strays[0][0] == "notifications/message"


REFUSALS = {
    "not here": (404, b"", b"", NotHere, {"needs_operator": False}),
    "method not allowed": (405, b"", b"", NotHere, {}),
    "bad request": (400, b"", b"go away", NotHere, {}),
    "credentials": (401, b"", b"", BackendUnavailable, {"needs_operator": True}),
    "credentials, in JSON-RPC": (401, b"", "error", BackendUnavailable, {"needs_operator": True}),
    "forbidden": (403, b"", b"", BackendUnavailable, {"needs_operator": True}),
    "gone": (410, b"", b"", BackendUnavailable, {"needs_operator": True}),
    "busy": (
        429,
        b"Retry-After: 77\r\n",
        b"",
        BackendUnavailable,
        {"retry_after": 77, "needs_operator": False},
    ),
    "unavailable": (503, b"Retry-After: 5\r\n", "error", BackendUnavailable, {"retry_after": 5}),
    "broken": (500, b"", b"Oops", BackendUnavailable, {"needs_operator": False}),
    "refused": (400, b"", "error", RefusedInitialize, {}),
    "a page": (200, b"Content-Type: text/html\r\n", b"<h1>", BackendMisbehaved, {}),
    "accepted": (202, b"", b"", BackendMisbehaved, {}),
    "empty": (200, b"Content-Type: application/json\r\n", b"", BackendMisbehaved, {}),
    "not JSON-RPC": (200, b"Content-Type: application/json\r\n", b"{}", BackendMisbehaved, {}),
    "another origin": (307, b"Location: http://localhost:1/mcp\r\n", b"", BackendUnavailable, {}),
    "see other": (303, b"Location: /else\r\n", b"", BackendUnavailable, {}),
    "in circles": (308, b"Location: /mcp\r\n", b"", BackendUnavailable, {}),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_handshake_that_is_refused(name):
    status, headers, body, kind, attributes = REFUSALS[name]
    remote = Remote()

    async def initialize(seen):
        seen.answer(status, headers, seen.error(-32602, "not with you", None) if body == "error" else body)

    remote.serve["initialize"] = initialize
    async with remote_server(remote):
        with pytest.raises(BackendError) as caught:
            async with connected(remote.url):
                raise AssertionError("connected")
        assert type(caught.value) is kind, caught.value
        for attribute, value in attributes.items():
            assert getattr(caught.value, attribute) == value
        if name == "refused":
            assert "it refused initialize: not with you" in str(caught.value)
        assert all(seen.target == "/mcp" for seen in remote.seen), "nothing goes elsewhere"
        assert caught.value.remedy


async def test_nobody_listens():
    async with remote_server() as remote:
        pass
    with pytest.raises(BackendUnavailable, match="connection refused"):
        async with connected(remote.url):
            raise AssertionError("connected")


async def test_a_handshake_without_answer():
    remote = Remote()

    async def never(seen):
        await trio.sleep_forever()

    remote.serve["initialize"] = never
    async with remote_server(remote):
        with pytest.raises(BackendError, match=r"it did not say what it is in 0.1 s"):
            async with connected(remote.url, timeouts=Timeouts(init=0.1)):
                raise AssertionError("connected")


async def test_redirects_inside_the_origin_are_followed_once_and_remembered():
    remote = Remote()

    async def move(seen):
        if seen.target == "/mcp":
            seen.answer(307, b"Location: /mcp/\r\n")
        else:
            seen.result(HELLO, b"Mcp-Session-Id: s1\r\n")

    remote.serve["initialize"] = move
    async with remote_server(remote), connected(remote.url, headers={"X-Key": "k"}) as (link, _, _):
        await call(link)
        assert [seen.target for seen in remote.seen if seen.verb == "POST"] == [
            "/mcp",
            "/mcp/",
            "/mcp/",
            "/mcp/",
        ]
        assert remote.seen[1].headers[b"x-key"] == b"k"


async def test_credentials_never_go_to_another_origin():
    thief = Remote()
    async with remote_server(thief):
        remote = Remote()

        async def initialize(seen):
            seen.answer(308, f"Location: {thief.url}\r\n".encode())

        remote.serve["initialize"] = initialize
        async with remote_server(remote):
            with pytest.raises(BackendUnavailable, match="redirects to another origin"):
                async with connected(remote.url, headers={"Authorization": "Bearer x"}):
                    raise AssertionError("connected")
        assert thief.seen == []


# ---- answers


async def test_a_stream_of_news_and_the_answer():
    remote = Remote()

    async def serve(seen):
        token = seen.message["params"]["_meta"]["progressToken"]
        stream = seen.stream(
            ": hello\n\n",
            "id: 1\nretry: 10\ndata: \n\n",
            {
                "jsonrpc": "2.0",
                "method": "notifications/progress",
                "params": {"progressToken": token, "progress": 1},
            },
            "data: <junk>\n\n",
            {"jsonrpc": "2.0", "id": 4711, "result": {"not": "yours"}},
            seen.reply({"ok": True}),
        )
        stream.end()

    remote.serve["tools/call"] = serve
    async with remote_server(remote), connected(remote.url) as (link, _, _):
        client = Client()
        made = client.call(token=b'"x"', name="t")
        assert result_of(await link.call(made, "tools/call", made.members)) == {"ok": True}
        assert client.emitted == [("notifications/progress", {"progressToken": "x", "progress": 1})]


async def test_a_question_on_the_calls_own_stream():
    remote = Remote()
    answered = trio.Event()

    async def answer(seen):
        assert seen.message == {"jsonrpc": "2.0", "id": 0, "result": {"roots": []}}
        seen.answer(202)
        answered.set()

    async def serve(seen):
        stream = seen.stream({"jsonrpc": "2.0", "id": 0, "method": "roots/list"})
        await answered.wait()
        stream.write(event_of(seen.reply({"ok": True})).encode())
        stream.end()

    remote.serve.update({"tools/call": serve, "answer": answer})
    async with remote_server(remote), connected(remote.url) as (link, _, _):
        client = Client()
        client.answer = b'{"roots":[]}'
        assert await call(link, client) == {"ok": True}


async def test_batched_answers():
    remote = Remote()

    async def batch(seen):
        news = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": 1}}
        seen.answer(200, b"", [news, seen.reply({"ok": seen.message["params"]["name"]})])

    async def stream(seen):
        seen.stream(
            f"data: [{seen.request.body.decode()}]\n\n".replace("method", "odd").replace("params", "result")
        ).end()

    remote.serve["tools/call"] = later(batch, stream)
    async with remote_server(remote), connected(remote.url) as (link, _, _):
        client = Client()
        assert await call(link, client) == {"ok": "t"}
        assert client.emitted[0][0] == "notifications/message"
        assert await call(link, client) == {"name": "t"}


async def test_a_stream_left_open_after_the_answer_does_not_hold_the_call():
    remote = Remote()

    async def serve(seen):
        seen.stream(seen.reply({"ok": True}))
        await trio.sleep_forever()

    remote.serve["tools/call"] = serve
    async with remote_server(remote), connected(remote.url) as (link, _, _):
        with trio.fail_after(20):
            assert await call(link) == {"ok": True}


REPLIES = {
    # name: (status, headers, body, kind of error, words); body "null" and "text" are JSON-RPC errors with
    # such an id
    "202 to a request": (202, b"", b"", BackendMisbehaved, "HTTP 202"),
    "204": (204, b"", b"", BackendMisbehaved, "HTTP 204"),
    "a page": (200, b"Content-Type: text/html\r\n", b"<h1>", BackendMisbehaved, "text/html"),
    "no type": (200, b"", b"{}", BackendMisbehaved, "nothing"),
    "empty": (200, b"Content-Type: application/json\r\n", b"", BackendMisbehaved, "not JSON-RPC"),
    "a notification": (
        200,
        b"",
        {"jsonrpc": "2.0", "method": "x"},
        BackendMisbehaved,
        "no response to the request",
    ),
    "another's result": (
        200,
        b"",
        {"jsonrpc": "2.0", "id": "other", "result": {}},
        BackendMisbehaved,
        "no response",
    ),
    "an error of its own": (200, b"", "own", RpcError, "tripped"),
    "an error without id": (200, b"", "null", RpcError, "tripped"),
    "400 with the id": (400, b"", "own", RpcError, "tripped"),
    "400 without id": (400, b"", "null", RpcError, "tripped"),
    "400 with a word": (400, b"Mcp-Session-Id: other\r\n", "text", RpcError, "tripped"),
    "400 in words": (400, b"", b"no", BackendUnavailable, "HTTP 400 to tools/call"),
    "401": (401, b"WWW-Authenticate: Bearer\r\n", b"", BackendUnavailable, "it wants credentials"),
    "403": (403, b"", b"", BackendUnavailable, "it wants credentials"),
    "403 with an error": (403, b"", "own", RpcError, "tripped"),
    "405": (405, b"", b"", BackendUnavailable, "HTTP 405"),
    "410": (410, b"", b"", BackendUnavailable, "gone for good"),
    "429": (429, b"Retry-After: 3\r\n", b"slow down", BackendUnavailable, "it is busy"),
    "500": (500, b"", b"Oops", BackendUnavailable, "HTTP 500 to tools/call"),
    "500 with an error": (500, b"", "null", RpcError, "tripped"),
    "503": (503, b"", b"", BackendUnavailable, "it is busy"),
    "too long": (
        200,
        b"Content-Type: application/json\r\n",
        b"x" * (1 << 20 | 1),
        BackendMisbehaved,
        "limits.message",
    ),
}


@pytest.mark.parametrize("name", REPLIES)
async def test_replies_that_are_no_results(name):
    status, headers, body, kind, words = REPLIES[name]
    remote = Remote()
    remote.serve["ping"] = later(answer_404_to_nobody)

    async def serve(seen):
        ids = {"own": seen.message["id"], "null": None, "text": "server-error"}
        seen.answer(status, headers, seen.error(-32600, "tripped", ids[body]) if body in ids else body) if isinstance(
            body, str
        ) else seen.answer(status, headers, body)

    remote.serve["tools/call"] = serve
    async with remote_server(remote), connected(remote.url) as (link, carrier, _):
        with pytest.raises(RpcError, match=words) as caught:
            await call(link)
        assert type(caught.value) is kind
        if kind is RpcError:
            assert caught.value.raw is not None, "relayed as it came"
        assert len(remote.named("tools/call")) == 1, "never sent twice"
        assert not link.lost.is_set()
        assert carrier.has_session
        assert result_of(await link.request("tools/list", {}, 5))["echo"] == {}
        assert remote.seen[-1].headers[b"mcp-session-id"] == b"s1", "its own session id"


async def answer_404_to_nobody(seen):
    seen.result({})


async def test_an_event_that_is_too_long():
    remote = Remote()

    async def serve(seen):
        seen.stream(seen.reply({"text": "x" * (1 << 20)})).end()

    remote.serve["tools/call"] = serve
    async with remote_server(remote), connected(remote.url) as (link, _, _):
        with pytest.raises(BackendMisbehaved, match=r"limits.message"):
            await call(link)


async def test_a_connection_that_breaks_in_mid_answer():
    remote = Remote()

    async def serve(seen):
        seen.stream("data: {")
        seen.request.cancel()
        await trio.sleep_forever()

    remote.serve["tools/call"] = serve
    async with remote_server(remote), connected(remote.url) as (link, _, _):
        with pytest.raises(BackendCrashed, match="may have been executed"):
            await call(link)
        assert len(remote.named("tools/call")) == 1


# ---- the session is lost


@pytest.mark.parametrize("status", [404, 400])
async def test_a_lost_session_is_replaced_and_the_refused_call_sent_again(status):
    remote = Remote()
    known = ["s1"]

    async def guarded(seen):
        if seen.headers.get(b"mcp-session-id", b"").decode() not in known:
            seen.answer(status, b"", seen.error(-32000, "Bad Request: No valid session ID provided", None))
        else:
            seen.result({"session": seen.headers[b"mcp-session-id"].decode()})

    remote.serve.update({"tools/call": guarded, "ping": guarded, "tools/list": guarded})
    async with remote_server(remote), connected(remote.url) as (link, _, heard):
        assert await call(link) == {"session": "s1"}
        known[:] = ["s2"]
        remote.session = "s2"
        assert await call(link) == {"session": "s2"}
        assert len(remote.named("initialize")) == 2
        assert b"mcp-session-id" not in remote.named("initialize")[1].headers
        assert len(remote.named("tools/call")) == 3
        assert len(heard.list_changes) == 3
    assert remote.seen[-1].verb == "DELETE"
    assert remote.seen[-1].headers[b"mcp-session-id"] == b"s2"


async def test_concurrent_calls_on_a_lost_session():
    remote = Remote()
    known = ["s1"]

    async def guarded(seen):
        await trio.lowlevel.checkpoint()
        if seen.headers.get(b"mcp-session-id", b"").decode() in known:
            seen.result({"n": seen.message["params"]["n"]})
        else:
            seen.answer(404, b"", seen.error(-32001, "Session not found", None))

    remote.serve["tools/call"] = guarded
    async with remote_server(remote), connected(remote.url) as (link, _, _), trio.open_nursery() as nursery:
        known[:] = [remote.session] = ["s2"]
        calls = [Client(f"c{n}").call(n=n) for n in range(20)]
        outcomes = [calling(nursery, link.call, made, "tools/call", made.members) for made in calls]
        for n, outcome in enumerate(outcomes):
            await outcome.done.wait()
            assert outcome.result == {"n": n}, outcome.error
        assert len(remote.named("initialize")) == 2


async def test_a_remote_that_answers_404_to_everything_now():
    remote = Remote()

    async def nothing(seen):
        seen.answer(404)

    async with remote_server(remote), connected(remote.url) as (link, _, _):
        remote.serve.update({"tools/call": nothing, "initialize": nothing})
        with pytest.raises(NotHere) as caught:
            await call(link)
        assert not caught.value.needs_operator
        assert link.lost.is_set()


# ---- broken streams are resumed


def progress_of(seen, n):
    token = seen.message["params"]["_meta"]["progressToken"]
    return {
        "jsonrpc": "2.0",
        "method": "notifications/progress",
        "params": {"progressToken": token, "progress": n},
    }


async def test_a_stream_that_ends_is_resumed_by_its_last_id():
    remote = Remote()
    asked = []

    async def serve(seen):
        asked.append(seen)
        seen.stream("id: a1\nretry: 100\ndata: \n\n", event_of(progress_of(seen, 1), "a2")).end()

    async def resume(seen):
        last = seen.headers.get(b"last-event-id")
        if last is None:
            seen.answer(405)
        elif last == b"a2":
            seen.stream(event_of(progress_of(asked[0], 2), "a3")).end()
        elif last == b"a3" and len(remote.named("GET")) < 5:
            seen.answer(503)
        else:
            seen.stream(event_of(asked[0].reply({"ok": True}), "a4")).end()

    remote.serve.update({"tools/call": serve, "GET": resume})
    async with remote_server(remote), connected(remote.url) as (link, _, _):
        client = Client()
        made = client.call(token=b"5", name="t")
        begun = trio.current_time()
        assert result_of(await link.call(made, "tools/call", made.members)) == {"ok": True}
        assert trio.current_time() - begun >= 0.2
        assert [params["progress"] for _, params in client.emitted] == [1, 2]
        assert client.parted >= 1
        assert len(remote.named("tools/call")) == 1


@pytest.mark.parametrize("status", [404, 400, 405, 200])
async def test_a_stream_that_cannot_be_resumed(status):
    remote = Remote()

    async def serve(seen):
        seen.stream("id: a1\nretry: 100\ndata: \n\n").end()

    async def resume(seen):
        seen.answer(405 if b"last-event-id" not in seen.headers else status)

    remote.serve.update({"tools/call": serve, "GET": resume})
    async with remote_server(remote), connected(remote.url) as (link, _, _):
        with pytest.raises(BackendCrashed, match=f"resuming it was answered with HTTP {status}"):
            await call(link)


async def test_a_stream_without_ids_that_ends_is_not_asked_for_again():
    remote = Remote()

    async def serve(seen):
        seen.stream(": nothing\n\n").end()

    remote.serve["tools/call"] = serve
    async with remote_server(remote), connected(remote.url) as (link, _, _):
        with pytest.raises(BackendCrashed, match="ended without the response"):
            await call(link)
        assert [seen for seen in remote.named("GET") if b"last-event-id" in seen.headers] == []


# ---- deadlines and the ends of calls


@pytest.mark.parametrize("where", ["head", "stream", "json", "pause"])
async def test_a_deadline_ends_the_call_wherever_it_is(where):
    remote = Remote()

    async def serve(seen):
        if where == "stream":
            seen.stream(": working\n\n")
        elif where == "json":
            seen.request.open_stream(200, b"Content-Type: application/json\r\n").write(b"{")
        elif where == "pause":
            seen.stream("id: 1\nretry: 20000\ndata: \n\n").end()
            return
        await trio.sleep_forever()

    remote.serve["tools/call"] = serve
    async with remote_server(remote), connected(remote.url, timeouts=SHORT) as (link, _, _):
        with pytest.raises(BackendTimedOut, match=r"timeouts.call_idle"), trio.fail_after(20):
            await call(link)
        cancelled = await remote.wait_seen("notifications/cancelled")
        assert cancelled.message["params"]["requestId"] == remote.named("tools/call")[0].message["id"]
        assert (await link.request("tools/list", {}, 5)).members


async def test_a_cancelled_call_is_cancelled_at_the_backend_and_others_go_on():
    remote = Remote()
    proceed = trio.Event()

    async def serve(seen):
        stream = seen.stream(": working\n\n")
        await proceed.wait()
        stream.write(event_of(seen.reply({"n": seen.message["params"]["n"]})).encode())
        stream.end()

    remote.serve["tools/call"] = serve
    async with remote_server(remote), connected(remote.url) as (link, _, _), trio.open_nursery() as nursery:
        one, two = Client("1").call(n=1), Client("2").call(n=2)
        first = calling(nursery, link.call, one, "tools/call", one.members)
        second = calling(nursery, link.call, two, "tools/call", two.members)
        await remote.wait_seen("tools/call", 2)
        first.scope.cancel()
        cancelled = await remote.wait_seen("notifications/cancelled")
        assert cancelled.message["params"]["requestId"] in [s.message["id"] for s in remote.named("tools/call")]
        proceed.set()
        await second.done.wait()
        assert second.result == {"n": 2}


async def test_an_answer_that_comes_on_another_stream_ends_the_call():
    """Some servers answer on the GET stream; the call's own POST is broken off."""
    remote = Remote()
    listening = []

    async def get(seen):
        listening.append(seen.stream(": here\n\n"))
        await trio.sleep_forever()

    async def serve(seen):
        listening[0].write(event_of(seen.reply({"ok": True})).encode())
        await trio.sleep_forever()

    remote.serve.update({"tools/call": serve, "GET": get})
    async with remote_server(remote), connected(remote.url) as (link, _, _):
        await remote.wait_seen("GET")
        with trio.fail_after(20):
            assert await call(link) == {"ok": True}


async def test_an_end_of_the_link_ends_its_calls():
    remote = Remote()

    async def serve(seen):
        seen.stream(": working\n\n")
        await trio.sleep_forever()

    remote.serve["tools/call"] = serve
    async with remote_server(remote), trio.open_nursery() as nursery:
        async with connected(remote.url) as (link, _, _):
            made = Client().call()
            outcome = calling(nursery, link.call, made, "tools/call", made.members)
            await remote.wait_seen("tools/call")
        await outcome.done.wait()
        assert "the test is over" in str(outcome.error)
        assert remote.named("DELETE")


async def test_a_remote_that_went_away_loses_an_idle_link():
    async with trio.open_nursery() as nursery:
        stop = trio.Event()
        remote = Remote()
        up = trio.Event()

        async def serve():
            async with remote_server(remote):
                up.set()
                await stop.wait()

        nursery.start_soon(serve)
        await up.wait()
        async with connected(remote.url) as (link, _, _):
            await call(link)
            stop.set()
            while not link.lost.is_set():
                try:
                    await call(link)
                except BackendError:
                    pass
            assert isinstance(link.reason, BackendUnavailable)
            assert "cannot connect" in str(link.reason)


async def test_notifications_that_are_refused_harm_nothing():
    remote = Remote()

    async def refuse(seen):
        seen.answer(400, b"", seen.error(-32600, "cannot", None))

    async def stream(seen):
        seen.stream(": for ever\n\n")
        await trio.sleep_forever()

    remote.serve["notifications/roots/list_changed"] = refuse
    remote.serve["notifications/cancelled"] = stream
    async with remote_server(remote), connected(remote.url) as (link, _, _):
        link.notify("notifications/roots/list_changed")
        link.notify("notifications/cancelled", b'{"requestId":1}')
        await remote.wait_seen("notifications/cancelled")
        assert (await call(link))["echo"] == {"name": "t"}


@pytest.mark.parametrize("status", [200, 405, 404, 500])
async def test_the_end_of_a_session_is_said_and_not_waited_for(status):
    remote = Remote()

    async def delete(seen):
        seen.answer(status)

    remote.serve["DELETE"] = delete
    async with remote_server(remote):
        async with connected(remote.url):
            pass
        assert len(remote.named("DELETE")) == 1


async def test_large_arguments_and_results():
    remote = Remote()
    async with remote_server(remote), connected(remote.url, message_max=1 << 26) as (link, _, _):
        text = "x" * (10 << 20)
        assert (await call(link, name=text))["echo"]["name"] == text


# ---- a modern server: each request stands alone


def modern_remote(**serve):
    remote = Remote()

    async def discover(seen):
        seen.result(DISCOVER, b"Mcp-Session-Id: never\r\n")

    remote.serve.update({"server/discover": discover, **serve})
    return remote


def modern(remote, **members):
    return connected(remote.url, era=Era.UNKNOWN, **members)


async def asked(link, client, method, **params):
    made = client.call(method, **params)
    return result_of(await link.call(made, method, made.members))


NAMES = {
    "a tool": ("tools/call", {"name": "say"}, b"say"),
    "a tool in other letters": ("tools/call", {"name": "größe"}, b"=?base64?Z3LDtsOfZQ==?="),
    "a name with a space before it": ("tools/call", {"name": " x"}, b"=?base64?IHg=?="),
    "a name that looks encoded": ("tools/call", {"name": "=?base64?x?="}, b"=?base64?PT9iYXNlNjQ/eD89?="),
    "a prompt": ("prompts/get", {"name": "greet"}, b"greet"),
    "a resource": ("resources/read", {"uri": "file:///a b"}, b"file:///a b"),
    "a completion": ("completion/complete", {"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {}}, None),
}


@pytest.mark.parametrize("name", NAMES)
async def test_headers_say_what_a_modern_request_is_about(name):
    method, params, header = NAMES[name]
    remote = modern_remote()
    async with remote_server(remote), modern(remote, headers={"X-Key": "k"}) as (link, _, _):
        await asked(link, modern_client(), method, **params)
    (seen,) = remote.named(method)
    assert seen.headers[b"mcp-protocol-version"] == b"2026-07-28"
    assert seen.headers[b"mcp-method"] == method.encode()
    assert seen.headers.get(b"mcp-name") == header
    assert seen.headers[b"x-key"] == b"k"
    assert seen.headers[b"accept"] == b"application/json, text/event-stream"
    assert b"mcp-session-id" not in seen.headers
    assert {seen.verb for seen in remote.seen} == {"POST"}


async def test_arguments_that_the_schema_marks_are_headers_too():
    remote = modern_remote()
    schema = {
        "properties": {
            "region": {"type": "string", "x-mcp-header": "Region"},
            "count": {"type": "integer", "x-mcp-header": "Count"},
            "fast": {"type": "boolean", "x-mcp-header": "Fast"},
            "note": {"type": "string"},
        }
    }
    arguments = {"region": "Zürich", "count": 7, "fast": None, "note": "n"}
    async with remote_server(remote), modern(remote) as (link, _, heard):
        heard.tools = ToolFacts(parameters={b'"t"': Parameters.read(json.dumps(schema).encode())})
        await asked(link, Client(), "tools/call", name="t", arguments=arguments)
    (seen,) = remote.named("tools/call")
    assert seen.headers[b"mcp-param-region"] == b"=?base64?WsO8cmljaA==?="
    assert seen.headers[b"mcp-param-count"] == b"7"
    assert {name for name in seen.headers if name.startswith(b"mcp-param")} == {b"mcp-param-region", b"mcp-param-count"}
    assert seen.message["params"]["arguments"] == arguments


async def test_a_stream_of_progress_logs_and_the_answer():
    async def serve(seen):
        token = seen.message["params"]["_meta"]["progressToken"]
        seen.stream(
            event_of({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token}}),
            event_of({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "error", "data": 1}}),
            ": ping\n\n",
            seen.reply({"resultType": "complete", "ok": True}),
        ).end()

    remote = modern_remote(**{"tools/call": serve})
    async with remote_server(remote), modern(remote) as (link, _, _):
        client = modern_client(log_level=4)
        made = client.call(token=b'"mine"', name="t")
        assert result_of(await link.call(made, "tools/call", made.members))["ok"]
        assert client.emitted == [
            ("notifications/progress", {"progressToken": "mine"}),
            ("notifications/message", {"level": "error", "data": 1}),
        ]


@pytest.mark.parametrize("streaming", [True, False])
async def test_cancelling_a_modern_call_closes_its_stream(streaming, nursery):
    begun, gone = trio.Event(), trio.Event()

    async def serve(seen):
        if streaming:
            seen.stream(": hello\n\n")
        begun.set()
        await seen.request.wait_gone()
        gone.set()

    remote = modern_remote(**{"tools/call": serve})
    async with remote_server(remote), modern(remote) as (link, _, _):
        made = modern_client().call()
        outcome = calling(nursery, link.call, made, "tools/call", made.members)
        await begun.wait()
        outcome.scope.cancel()
        with trio.fail_after(30):
            await gone.wait()
        assert await asked(link, modern_client(), "prompts/get", name="p"), "others go on"
        assert "notifications/cancelled" not in {seen.method for seen in remote.seen}


async def test_a_modern_call_that_takes_too_long_closes_its_stream():
    gone = trio.Event()

    async def serve(seen):
        seen.stream(": hello\n\n")
        await seen.request.wait_gone()
        gone.set()

    remote = modern_remote(**{"tools/call": serve})
    async with remote_server(remote), modern(remote, timeouts=SHORT) as (link, _, _):
        with pytest.raises(BackendTimedOut, match="call_idle"):
            await asked(link, modern_client(), "tools/call", name="t")
        with trio.fail_after(30):
            await gone.wait()


MODERN_ERRORS = {
    "400": (400, -32602, "own"),
    "400 without id": (400, -32021, "null"),
    "404": (404, -32601, "own"),
    "200": (200, -32603, "own"),
    "500": (500, -32603, "null"),
    "503": (503, -32603, "own"),
}


@pytest.mark.parametrize("name", MODERN_ERRORS)
async def test_errors_of_a_modern_server_whatever_their_status(name):
    status, code, id = MODERN_ERRORS[name]

    async def serve(seen):
        error = seen.error(code, "tripped", seen.message["id"] if id == "own" else None)
        error["error"]["data"] = {"requiredCapabilities": {"sampling": {}}}
        seen.answer(status, b"", error)

    remote = modern_remote(**{"tools/call": serve})
    async with remote_server(remote), modern(remote) as (link, _, _):
        with pytest.raises(RpcError, match="tripped") as caught:
            await asked(link, modern_client(), "tools/call", name="t")
        assert caught.value.code == code
        assert json.loads(caught.value.encode())["data"] == {"requiredCapabilities": {"sampling": {}}}
        assert len(remote.named("tools/call")) == 1
        assert not link.lost.is_set()


async def test_a_refusal_for_its_headers_is_sent_again_after_the_tools_were_listed():
    async def serve(seen):
        if len(remote.named("tools/call")) == 1:
            seen.answer(400, b"", seen.error(-32020, "Mcp-Param-Region header is missing"))
        else:
            seen.result({"resultType": "complete", "ok": True})

    remote = modern_remote(**{"tools/call": serve})
    async with remote_server(remote), modern(remote) as (link, _, heard):
        assert (await asked(link, modern_client(), "tools/call", name="t"))["ok"]
        assert heard.relisted == ["tools"]


async def test_a_modern_stream_that_breaks_is_not_taken_up_again():
    async def serve(seen):
        seen.stream("id: 1\nretry: 10\ndata: \n\n").end()

    remote = modern_remote(**{"tools/call": serve})
    async with remote_server(remote), modern(remote) as (link, _, _):
        with pytest.raises(BackendCrashed, match="ended without the response"):
            await asked(link, modern_client(), "tools/call", name="t")
        assert remote.named("GET") == []
        assert len(remote.named("tools/call")) == 1


async def test_news_of_a_modern_server():
    closed = trio.Event()

    async def listen(seen):
        params = seen.message["params"]
        meta = {f"{ENVELOPE}subscriptionId": seen.message["id"]}
        uris = params["notifications"].get("resourceSubscriptions", ())
        seen.stream(
            notice("subscriptions/acknowledged", notifications=params["notifications"], _meta=meta),
            notice("tools/list_changed", _meta=meta),
            *(notice("resources/updated", uri=uri, _meta=meta) for uri in uris),
        )
        await seen.request.wait_gone()
        if not uris:
            closed.set()

    remote = modern_remote(**{"subscriptions/listen": listen})
    async with remote_server(remote), modern(remote) as (link, _, heard):
        await link.replay()
        (seen,) = remote.named("subscriptions/listen")
        assert seen.headers[b"mcp-method"] == b"subscriptions/listen"
        await heard.wait_until(lambda: heard.list_changes == ["notifications/tools/list_changed"])
        assert link.dialect.announces("tools")
        assert link.in_flight == 0
        made = Client().call("resources/subscribe", uri="x:/1")
        await link.subscribe(made, "x:/1", made.members)
        await heard.wait_until(lambda: heard.updates == [({"uri": "x:/1"}, None)])
        with trio.fail_after(30):
            await closed.wait()
        assert (await asked(link, modern_client(), "tools/call", name="t"))["echo"]["name"] == "t"


def notice(method, **params):
    return {"jsonrpc": "2.0", "method": f"notifications/{method}", "params": params}


async def test_a_modern_server_that_goes_away_is_noticed_without_a_call(nursery, monkeypatch):
    monkeypatch.setattr("mcpd.backends.listens.AGAIN", 0.01)
    alive = trio.CancelScope()

    async def listen(seen):
        params = seen.message["params"]["notifications"]
        meta = {f"{ENVELOPE}subscriptionId": seen.message["id"]}
        seen.stream(notice("subscriptions/acknowledged", notifications=params, _meta=meta))
        await seen.request.wait_gone()

    remote = modern_remote(**{"subscriptions/listen": listen})

    async def serve(task_status):
        with alive:
            async with remote_server(remote):
                task_status.started()
                await trio.sleep_forever()

    await nursery.start(serve)
    async with modern(remote) as (link, _, _):
        await link.replay()
        alive.cancel()
        with trio.fail_after(30):
            await link.lost.wait()
        assert "connection refused" in str(link.reason)
