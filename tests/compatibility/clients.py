"""One face for clients of both eras, so that a row of the table is written once.

`request` and `call` return an `Outcome`, whatever came of it; what the server asks meanwhile is answered by `callbacks`
and noted in `asked`. `began` is a call that goes on in the background, `listening` the news of lists and resources.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from tests.fixtures.everything_modern_http import STATUS
from tests.fixtures.peer import (
    JSON,
    LATEST,
    Closed,
    HttpPeer,
    ModernHttpPeer,
    Outcome,
    SsePeer,
    StdioPeer,
    WebSocketPeer,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.fixtures.peer import Listening, ModernPeer, Peer
    from tests.fixtures.peer_running import Running

EXTENSION = "io.modelcontextprotocol/tasks"
ROOT_URI = "file:///home/bob"
SAID = "Paris"
"""What the client's model says, always."""
PROGRESS = "notifications/progress"


def capabilities(version: str) -> JSON:
    """All that a client of this version can be asked."""
    declared: JSON = {"sampling": {}, "roots": {"listChanged": True} if version <= LATEST else {}}
    if version >= "2025-06-18":
        declared["elicitation"] = {} if version < LATEST else {"form": {}, "url": {}}
    return declared


def answer(method: str, params: JSON) -> JSON:
    """What the user, the model and the client's settings say."""
    if method == "sampling/createMessage":
        return {"role": "assistant", "content": {"type": "text", "text": SAID}, "model": "test"}
    if method == "roots/list":
        return {"roots": [{"uri": ROOT_URI, "name": "home"}]}
    if params.get("mode") == "url":
        return {"action": "accept"}
    properties = params["requestedSchema"]["properties"]
    return {"action": "accept", "content": {name: entered(field) for name, field in properties.items()}}


def entered(field: JSON) -> object:
    """What the user puts into a field of a form."""
    if "enum" in field:
        return field["enum"][0]
    if "oneOf" in field:
        return field["oneOf"][0]["const"]
    if field["type"] == "array":
        return [entered({"oneOf": field["items"].get("anyOf"), **field["items"]})]
    return {"string": "bob", "integer": 7, "number": 7, "boolean": True}[field["type"]]


class Client:
    """What both have in common. `asked` is method and params of every question so far."""

    era = ""

    def __init__(self, version: str) -> None:
        self.version = version
        self.asked: list[tuple[str, JSON]] = []
        self.callbacks: dict[str, Any] = {}
        """In place of the usual answers: method → function of params; PeerError refuses."""

    async def call(self, tool: str, arguments: JSON | None = None, **options: Any) -> Outcome:
        """tools/call."""
        return await self.request("tools/call", {"name": tool, "arguments": arguments or {}}, **options)

    async def text(self, tool: str, arguments: JSON | None = None, **options: Any) -> str:
        """The text that a tool answers. Raises: PeerError."""
        return (await self.call(tool, arguments, **options)).text

    async def data(self, tool: str, arguments: JSON | None = None, **options: Any) -> Any:
        """The same, read as JSON."""
        return json.loads(await self.text(tool, arguments, **options))

    async def all_of(self, method: str, member: str) -> list[JSON]:
        """All pages of a list."""
        entries: list[JSON] = []
        params: JSON = {}
        while True:
            page = (await self.request(method, params)).result
            entries += page[member]
            if "nextCursor" not in page:
                return entries
            params = {"cursor": page["nextCursor"]}

    async def request(self, method: str, params: JSON | None = None, **options: Any) -> Outcome:
        """One request and what came of it. Options: `token` for progress, `level` for log lines."""
        raise NotImplementedError

    def answering(self) -> dict[str, Any]:
        """The callbacks for a peer: the usual answers or those of `callbacks`, noted in `asked`."""
        methods = ("sampling/createMessage", "elicitation/create", "roots/list")
        return {method: partial(self._answer, method) for method in methods}

    def _answer(self, method: str, params: JSON) -> Any:
        self.asked.append((method, params))
        given = self.callbacks.get(method)
        return answer(method, params) if given is None else given(params)


class LegacyClient(Client):
    """A session of a handshake version."""

    era = "legacy"

    def __init__(self, peer: Peer) -> None:
        super().__init__(peer.version)
        self.peer = peer
        peer.callbacks |= self.answering()

    async def request(
        self,
        method: str,
        params: JSON | None = None,
        *,
        token: object = None,
        level: str | None = None,
        meta: JSON | None = None,
        request_id: object = None,
    ) -> Outcome:
        if level is not None:
            await self.peer.request("logging/setLevel", {"level": level})
        params = with_meta(params, token, meta)
        first = len(self.peer.received)
        outcome = Outcome({"method": method, "params": params})
        outcome.answer = await self.peer.exchange(method, params, request_id=request_id)
        outcome.notifications = [m for m in self.peer.received[first:] if "method" in m and "id" not in m]
        return outcome

    @asynccontextmanager
    async def began(self, tool: str, arguments: JSON) -> AsyncIterator[LegacyCall]:
        async with trio.open_nursery() as nursery:
            call = LegacyCall(self.peer, f"began-{len(self.peer.received)}")
            nursery.start_soon(call.run, with_meta({"name": tool, "arguments": arguments}, call.id, None))
            try:
                yield call
            finally:
                nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def listening(self, *kinds: str, uris: Sequence[str] = ()) -> AsyncIterator[LegacyNews]:
        """`kinds` need not be asked for."""
        for uri in uris:
            await self.peer.request("resources/subscribe", {"uri": uri})
        yield LegacyNews(self.peer)
        for uri in uris:
            await self.peer.request("resources/unsubscribe", {"uri": uri})


class LegacyCall:
    """A call in the background."""

    def __init__(self, peer: Peer, name: str) -> None:
        self.id = name
        self.answer: JSON = {}
        self.ended = trio.Event()
        self._peer = peer
        self._scope = trio.CancelScope()

    async def run(self, params: JSON) -> None:
        try:
            with self._scope:
                self.answer = await self._peer.exchange("tools/call", params, request_id=self.id)
        except Closed:
            pass  # no answer, as it may be
        self.ended.set()

    async def working(self) -> None:
        """Waits until the tool has reported progress."""
        await self._peer.wait_until(
            lambda: any(each["progressToken"] == self.id for each in self._peer.notifications(PROGRESS))
        )

    async def cancel(self) -> None:
        """Takes it back, as the protocol has it."""
        await self._peer.cancel(self.id)

    async def lose(self) -> None:
        """The connection breaks."""
        if isinstance(self._peer, HttpPeer):
            self._scope.cancel()
            await self.ended.wait()
        else:
            await hang_up(self._peer)


class LegacyNews:
    """What the session was told since."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._seen: dict[str, int] = {}
        for each in peer.received:
            self._seen[each.get("method", "")] = self._seen.get(each.get("method", ""), 0) + 1

    async def wait(self, method: str) -> JSON:
        """The next notification of that method."""
        count = self._seen.get(method, 0) + 1
        found = await self._peer.wait_notifications(method, count)
        self._seen[method] = count
        return found[count - 1]


class ModernClient(Client):
    """Requests that stand alone, all with these capabilities."""

    era = "modern"

    def __init__(self, peer: ModernPeer, declared: JSON, version: str) -> None:
        super().__init__(version)
        self.peer = peer
        self.declared = declared

    async def request(
        self,
        method: str,
        params: JSON | None = None,
        *,
        token: object = None,
        level: str | None = None,
        **options: Any,
    ) -> Outcome:
        self.peer.callbacks = self.answering()
        options.setdefault("capabilities", self.declared)
        return with_status(await self.peer.request(method, params, token=token, log_level=level, **options))

    async def exchange(self, method: str, params: JSON | None = None, **options: Any) -> Outcome:
        """The same, but nothing that is asked is answered."""
        options.setdefault("capabilities", self.declared)
        return with_status(await self.peer.exchange(method, params, **options))

    async def notify(self, method: str) -> None:
        """A notification, which must be taken."""
        if isinstance(self.peer, ModernHttpPeer):
            message = self.peer.message(method)
            headers = self.peer.headers_of(message)
            del message["id"]
            assert (await self.peer.post(json.dumps(message).encode(), headers)).status == 202
        else:
            await self.peer.pipe.notify(method)  # type: ignore[attr-defined]

    @asynccontextmanager
    async def began(self, tool: str, arguments: JSON) -> AsyncIterator[ModernCall]:
        params = {"name": tool, "arguments": arguments}
        async with self.peer.begin("tools/call", params, capabilities=self.declared, token="began") as running:
            yield ModernCall(self.peer, running)

    @asynccontextmanager
    async def listening(self, *kinds: str, uris: Sequence[str] = ()) -> AsyncIterator[ModernNews]:
        async with self.peer.listen(*kinds, uris=uris, capabilities=self.declared) as listening:
            yield ModernNews(listening)
            listening.assert_tagged()


class ModernCall:
    """A call in the background."""

    def __init__(self, peer: ModernPeer, running: Running) -> None:
        self._peer = peer
        self._running = running

    @property
    def answer(self) -> JSON:
        return self._running.outcome.answer

    @property
    def ended(self) -> trio.Event:
        return self._running.ended

    async def working(self) -> None:
        await self._running.wait_notifications(PROGRESS)

    async def cancel(self) -> None:
        await self._running.cancel()

    async def lose(self) -> None:
        if isinstance(self._peer, ModernHttpPeer):
            await self._running.cancel()
        else:
            await hang_up(self._peer.pipe)  # type: ignore[attr-defined]


class ModernNews:
    """What came on a listening request."""

    def __init__(self, listening: Listening) -> None:
        self.acknowledged = listening.acknowledged
        self._listening = listening
        self._seen = 0

    async def wait(self, method: str) -> JSON:
        """The next message, which must be of that method."""
        self._seen += 1
        message = (await self._listening.wait_news(self._seen))[self._seen - 1]
        assert message["method"] == method, message
        return dict(message["params"])


def with_status(outcome: Outcome) -> Outcome:
    """The outcome, whose HTTP status must fit the error that it is, if it is one and not part of a stream."""
    if "error" in outcome.answer and outcome.headers.get("content-type") == "application/json":
        assert outcome.status == STATUS.get(outcome.error.code, 200), outcome.answer
    return outcome


def with_meta(params: JSON | None, token: object, meta: JSON | None) -> JSON:
    """The params with a progress token and other keys in their `_meta`."""
    params = dict(params or {})
    added = {**(meta or {}), **({} if token is None else {"progressToken": token})}
    return {**params, "_meta": {**params.get("_meta", {}), **added}} if added else params


async def hang_up(peer: Peer) -> None:
    """Ends the connection of a client, as far as that is ours to do."""
    if isinstance(peer, StdioPeer):
        await peer.close_stdin()
    else:
        assert isinstance(peer, WebSocketPeer | SsePeer)
        await peer.hang_up()
