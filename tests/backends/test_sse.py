from __future__ import annotations

import pytest
import trio

from mcpd.backends.replies import NotHere
from mcpd.config.model import Timeouts
from mcpd.errors import (
    BackendCrashed,
    BackendError,
    BackendMisbehaved,
    BackendTimedOut,
    BackendUnavailable,
    RpcError,
)
from tests.backends.http_parts import HELLO, Remote, connected, event_of, remote_server, sse
from tests.backends.parts import Client, calling, result_of


class OldRemote(Remote):
    """A server of 2024-11-05: one stream down, POSTs up. `answers` maps a method to a function of Seen."""

    def __init__(self, opening: str = "event: endpoint\ndata: /messages?session=1\n\n") -> None:
        super().__init__()
        self.opening = opening
        self.stream = None
        self.drop = trio.Event()
        self.early = False
        """Answer on the stream before the POST is answered."""
        self.serve["GET"] = self.open

    async def open(self, seen):
        self.stream = seen.stream(self.opening)
        await self.drop.wait()
        self.stream.end()

    async def handle(self, request):
        if request.head.method != b"POST" or request.head.target != b"/messages?session=1":
            await super().handle(request)
            return
        from tests.backends.http_parts import Seen, json

        seen = Seen(request, json.loads(request.body))
        self.seen.append(seen)
        self._news.set()
        self._news = trio.Event()
        own = self.serve.get(seen.method)
        if own is not None:
            await own(seen)
            return
        if not self.early:
            seen.answer(202, b"", b"Accepted")
        if "id" in seen.message and "method" in seen.message:
            self.say(seen.reply(HELLO if seen.method == "initialize" else {"echo": seen.message.get("params", {})}))
        if self.early:
            await trio.sleep(0.01)
            seen.answer(202)

    def say(self, message):
        self.stream.write(event_of(message).encode())


async def call(link, client=None):
    made = (client or Client()).call()
    return result_of(await link.call(made, "tools/call", made.members))


@pytest.mark.parametrize("early", [False, True])
async def test_calls(early):
    remote = OldRemote()
    remote.early = early
    async with (
        remote_server(remote),
        connected(remote.url, transport=sse, headers={"X-Key": "k"}) as (link, _, heard),
    ):
        assert (await call(link))["echo"] == {"name": "t"}
        assert (await call(link))["echo"] == {"name": "t"}
        posts = [seen for seen in remote.seen if seen.verb == "POST"]
        assert {seen.target for seen in posts} == {"/messages?session=1"}
        assert all(seen.headers[b"x-key"] == b"k" for seen in remote.seen)
        assert b"mcp-protocol-version" not in posts[0].headers
        assert posts[-1].headers[b"mcp-protocol-version"] == b"2025-11-25"
        remote.say({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
        remote.stream.write(b"data: <junk>\n\n: comment\n\nid: 1\ndata: \n\n")
        remote.say({"jsonrpc": "2.0", "id": 0, "method": "ping"})
        assert (await remote.wait_seen("answer")).message["id"] == 0
        assert heard.list_changes == ["notifications/tools/list_changed"]


@pytest.mark.parametrize(
    "opening",
    [
        "event: endpoint\ndata: messages?session=1\n\n",
        "event:endpoint\r\ndata:/messages?session=1\r\n\r\n",
        ": hello\n\nid: 0\nretry: 5\ndata: \n\nevent: endpoint\ndata: /messages?session=1 \n\n",
        "\ufeffevent: endpoint\ndata: http://127.0.0.1:PORT/messages?session=1\n\n",
    ],
)
async def test_endpoints(opening):
    remote = OldRemote()
    async with remote_server(remote):
        remote.opening = opening.replace("PORT", str(remote.port))
        async with connected(remote.url, transport=sse) as (link, _, _):
            await call(link)


@pytest.mark.parametrize(
    ("opening", "kind"),
    [
        ("event: endpoint\ndata: http://localhost:1/messages\n\n", BackendMisbehaved),
        ("event: endpoint\ndata: //evil.test/messages\n\n", BackendMisbehaved),
        ("event: endpoint\ndata: http://[/\n\n", BackendMisbehaved),
        ("event: endpoint\ndata: a b\n\n", BackendMisbehaved),
        ("event: message\ndata: {}\n\n", NotHere),
    ],
)
async def test_endpoints_that_are_not_used(opening, kind):
    remote = OldRemote(opening)
    async with remote_server(remote):
        with pytest.raises(BackendError) as caught:
            async with connected(remote.url, transport=sse):
                raise AssertionError("connected")
        assert type(caught.value) is kind
        assert [seen.verb for seen in remote.seen] == ["GET"]


@pytest.mark.parametrize(
    ("status", "headers", "kind", "attributes"),
    [
        (404, b"", NotHere, {"needs_operator": False}),
        (405, b"", NotHere, {}),
        (200, b"Content-Type: text/html\r\n", NotHere, {}),
        (401, b"", BackendUnavailable, {"needs_operator": True}),
        (403, b"", BackendUnavailable, {"needs_operator": True}),
        (410, b"", BackendUnavailable, {"needs_operator": True}),
        (503, b"Retry-After: 9\r\n", BackendUnavailable, {"retry_after": 9}),
        (307, b"Location: http://localhost:1/sse\r\n", NotHere, {}),
        (307, b"Location: /mcp\r\n", NotHere, {}),
    ],
)
async def test_a_stream_that_is_refused(status, headers, kind, attributes):
    remote = OldRemote()

    async def get(seen):
        seen.answer(status, headers)

    remote.serve["GET"] = get
    async with remote_server(remote):
        with pytest.raises(BackendError) as caught:
            async with connected(remote.url, transport=sse):
                raise AssertionError("connected")
        assert type(caught.value) is kind
        for name, value in attributes.items():
            assert getattr(caught.value, name) == value


async def test_a_redirect_inside_the_origin_is_followed():
    remote = OldRemote()

    async def get(seen):
        if seen.target == "/mcp":
            seen.answer(307, b"Location: /mcp/\r\n")
        else:
            await remote.open(seen)

    remote.serve["GET"] = get
    async with remote_server(remote), connected(remote.url, transport=sse) as (link, _, _):
        await call(link)


async def test_no_endpoint_comes():
    remote = OldRemote(": wait\n\n")
    async with remote_server(remote):
        with pytest.raises(BackendUnavailable, match=r"no endpoint event in 0.1 s"):
            async with connected(remote.url, transport=sse, timeouts=Timeouts(init=0.1)):
                raise AssertionError("connected")
    remote = OldRemote(": wait\n\n")
    remote.drop.set()
    async with remote_server(remote):
        with pytest.raises(NotHere, match="ended before the endpoint"):
            async with connected(remote.url, transport=sse):
                raise AssertionError("connected")


async def test_nobody_listens():
    async with remote_server() as remote:
        pass
    with pytest.raises(BackendUnavailable, match="connection refused"):
        async with connected(remote.url, transport=sse):
            raise AssertionError("connected")


async def test_the_end_of_the_stream_is_the_end_of_the_session():
    remote = OldRemote()

    async def accept(seen):
        seen.answer(202)

    remote.serve["tools/call"] = accept
    async with (
        remote_server(remote),
        connected(remote.url, transport=sse) as (link, _, _),
        trio.open_nursery() as nursery,
    ):
        made = Client().call()
        outcome = calling(nursery, link.call, made, "tools/call", made.members)
        await remote.wait_seen("tools/call")
        remote.drop.set()
        await outcome.done.wait()
        assert isinstance(outcome.error, BackendCrashed)
        assert "its event stream ended" in str(outcome.error)
        assert link.lost.is_set()


async def test_an_event_that_is_too_long():
    remote = OldRemote()
    async with remote_server(remote), connected(remote.url, transport=sse, message_max=1000) as (link, _, _):
        remote.say({"jsonrpc": "2.0", "method": "x" * 2000})
        await link.lost.wait()
        assert "limits.message" in str(link.reason)


async def test_a_post_that_hangs_does_not_outlast_the_deadline():
    remote = OldRemote()

    async def hang(seen):
        await trio.sleep_forever()

    remote.serve["tools/call"] = hang
    timeouts = Timeouts(init=5, call_idle=0.1)
    async with remote_server(remote), connected(remote.url, transport=sse, timeouts=timeouts) as (link, _, _):
        with pytest.raises(BackendTimedOut), trio.fail_after(20):
            await call(link)
        await remote.wait_seen("notifications/cancelled")


async def test_an_answer_overtakes_a_post_that_hangs():
    remote = OldRemote()

    async def serve(seen):
        remote.say(seen.reply({"ok": True}))
        await trio.sleep_forever()

    remote.serve["tools/call"] = serve
    async with remote_server(remote), connected(remote.url, transport=sse) as (link, _, _):
        with trio.fail_after(20):
            assert await call(link) == {"ok": True}


@pytest.mark.parametrize(("status", "lost"), [(400, False), (500, False), (404, True), (410, True)])
async def test_a_post_that_is_refused(status, lost):
    remote = OldRemote()

    async def refuse(seen):
        seen.answer(status)

    remote.serve["tools/call"] = refuse
    async with remote_server(remote), connected(remote.url, transport=sse) as (link, _, _):
        with pytest.raises(RpcError, match=f"HTTP {status} to a message"):
            await call(link)
        assert link.lost.is_set() is lost
        assert len(remote.named("tools/call")) == 1
