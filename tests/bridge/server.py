"""A backend in memory, of either era, on one shared channel or with a stream for each request.

Its one tool does what the arguments say: waits, reports progress, asks questions that bear the call's mark, and answers
with the mark and what it was told. What it was told to do and did is counted, so that nothing is lost unseen.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from mcpd.backends.link import Link
from mcpd.backends.opening import Era
from mcpd.errors import BackendCrashed
from mcpd.protocol import jsonrpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mcpd.backends.waiter import Waiter
    from mcpd.config.model import ServerSpec
    from mcpd.wire.deadlines import Deadlines

JSON = dict[str, Any]

TOOL: JSON = {"name": "work", "description": "does as it is told", "inputSchema": {"type": "object"}}
CAPABILITIES: JSON = {"tools": {"listChanged": True}, "logging": {}}
FORM: JSON = {"type": "object", "properties": {"answer": {"type": "string"}}}


class World:
    """What all backends count together."""

    def __init__(self) -> None:
        self.finished: list[str] = []
        """The marks of the calls whose results were sent."""
        self.refused: list[str] = []
        """What questions were refused with."""
        self.alive = 0
        """Calls that are being worked on."""


class MemoryServer:
    """One link's far end. Implements `Carrier`; its tasks run in the link's nursery."""

    def __init__(self, world: World, link: Link, modern: bool, shared: bool) -> None:
        self.shared = shared
        self._world = world
        self._link = link
        self._modern = modern
        self._questions: dict[int, tuple[trio.Event, list[JSON]]] = {}
        self._works: dict[int, trio.CancelScope] = {}
        self._last = 0

    # ---- Carrier

    async def carry(self, waiter: Waiter, parts: Any) -> Any:
        message = json.loads(b"".join(bytes(part) for part in parts))
        self._link.nursery.start_soon(self._serve, message, None if self.shared else waiter)
        try:
            return await waiter.wait()
        finally:
            if self._modern and not self.shared:
                self._stop(message["id"])  # the end of its stream is the end of a request

    async def post(self, parts: Any) -> None:
        message = json.loads(b"".join(bytes(part) for part in parts))
        await trio.sleep(0.001)
        if message.get("method") == "notifications/cancelled":
            self._stop(message["params"]["requestId"])
        elif "method" not in message and message["id"] in self._questions:
            answered, answers = self._questions[message["id"]]
            answers.append(message)
            answered.set()

    def forgo(self, waiter: Waiter) -> None:
        pass

    def opened(self, hello: Any) -> None:
        pass

    def reset(self) -> None:
        pass

    # ---- the server

    def _stop(self, id: int) -> None:
        scope = self._works.get(id)
        if scope is not None:
            scope.cancel()

    def _say(self, message: JSON, related: Waiter | None) -> None:
        if not self._link.lost.is_set():
            self._link.receive(jsonrpc.decode(json.dumps({"jsonrpc": "2.0", **message}).encode()), related)

    def _answer(self, message: JSON, related: Waiter | None, **outcome: Any) -> None:
        answer = {"jsonrpc": "2.0", "id": message["id"], **outcome}
        if related is None:
            self._say(answer, None)
        elif not self._link.lost.is_set():
            related.settle(jsonrpc.decode(json.dumps(answer).encode()))

    async def _serve(self, message: JSON, related: Waiter | None) -> None:
        method, params = message["method"], message.get("params", {})
        await trio.sleep(0.001)
        if method == "tools/call":
            with trio.CancelScope() as scope:
                self._works[message["id"]] = scope
                self._world.alive += 1
                try:
                    await self._work(message, params, related)
                finally:
                    self._world.alive -= 1
                    del self._works[message["id"]]
            return
        if method == "subscriptions/listen":
            meta = {"io.modelcontextprotocol/subscriptionId": message["id"]}
            notice = {"notifications": params["notifications"], "_meta": meta}
            self._say({"method": "notifications/subscriptions/acknowledged", "params": notice}, related)
            return
        result = self._result(method)
        if result is None:
            self._answer(message, related, error={"code": -32601, "message": "no such method"})
        else:
            self._answer(message, related, result=result)

    def _result(self, method: str) -> JSON | None:
        more: JSON = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"} if self._modern else {}
        if method == "tools/list":
            return {"tools": [TOOL], **more}
        if method == "server/discover" and self._modern:
            return {"supportedVersions": ["2026-07-28"], "capabilities": CAPABILITIES, **more}
        if method == "initialize" and not self._modern:
            info = {"name": "memory", "version": "1"}
            return {"protocolVersion": "2025-11-25", "capabilities": CAPABILITIES, "serverInfo": info}
        return {} if method in ("ping", "logging/setLevel") and not self._modern else None

    async def _work(self, message: JSON, params: JSON, related: Waiter | None) -> None:
        told = params["arguments"]
        mark = told["mark"]
        token = params.get("_meta", {}).get("progressToken")
        await trio.sleep(told["before"])
        if token is not None:
            for step in range(told["progress"]):
                notice = {"progressToken": token, "progress": step + 1, "message": mark}
                self._say({"method": "notifications/progress", "params": notice}, related)
        asks = [f"{mark}/{number}" for number in range(told["asks"])]
        if not self._modern:
            answers = await self._ask_all(asks, related)
        elif asks and "inputResponses" not in params:
            requests = {
                f"q{at}": {"method": "elicitation/create", "params": {"message": text, "requestedSchema": FORM}}
                for at, text in enumerate(asks)
            }
            result = {"resultType": "input_required", "inputRequests": requests, "requestState": f"state of {mark}"}
            self._answer(message, related, result=result)
            return
        else:
            if asks and params.get("requestState") != f"state of {mark}":
                self._answer(message, related, error={"code": -32602, "message": "foreign state"})
                return
            given = params.get("inputResponses", {})
            answers = [given.get(f"q{at}", {}) for at in range(len(asks))]
        await trio.sleep(told["after"])
        text = json.dumps({"mark": mark, "answers": answers})
        more: JSON = {"resultType": "complete"} if self._modern else {}
        self._world.finished.append(mark)
        self._answer(message, related, result={"content": [{"type": "text", "text": text}], **more})

    async def _ask_all(self, asks: list[str], related: Waiter | None) -> list[JSON]:
        answers: dict[str, JSON] = {}

        async def ask(text: str) -> None:
            self._last += 1
            id, answered, got = self._last, trio.Event(), list[JSON]()
            self._questions[id] = (answered, got)
            params = {"mode": "form", "message": text, "requestedSchema": FORM}
            try:
                self._say({"id": id, "method": "elicitation/create", "params": params}, related)
                await answered.wait()
                answers[text] = got[0].get("result") or {"refused": got[0]["error"]["message"]}
                if "error" in got[0]:
                    self._world.refused.append(got[0]["error"]["message"])
            finally:
                del self._questions[id]

        async with trio.open_nursery() as nursery:
            for text in asks:
                nursery.start_soon(ask, text)
        return [answers[text] for text in asks]


class MemoryConnector:
    """Opens links to a server in memory. Stands in for `backends.connector.Connector`."""

    def __init__(self, world: World, spec: ServerSpec, deadlines: Deadlines, *, modern: bool, shared: bool) -> None:
        self.spec = spec
        self.transport = "stdio" if shared else "streamable-http"
        self.stateless = modern and not shared
        self.pid: int | None = None
        self.over: str | None = None
        self.links: set[Link] = set()
        self._world = world
        self._deadlines = deadlines
        self._modern = modern
        self._shared = shared

    def stirs(self) -> bool:
        return False

    @asynccontextmanager
    async def connect(
        self, nursery: trio.Nursery, listener: Any, capabilities: Any, owner: Any, claim: Any
    ) -> AsyncIterator[Link]:
        link = Link(
            self.spec.name,
            capabilities=capabilities,
            owner=owner,
            listener=listener,
            timeouts=self.spec.timeouts,
            deadlines=self._deadlines,
            nursery=nursery,
            era=Era.UNKNOWN,
        )
        link.attach(MemoryServer(self._world, link, self._modern, self._shared))
        self.links.add(link)
        try:
            await link.wait_wanted()
            await link.open()
            yield link
        finally:
            self.links.discard(link)
            link.fail(link.reason or BackendCrashed(self.spec.name, "its connection was ended"))

    def crash(self) -> None:
        """The server ends, with every connection to it."""
        for link in list(self.links):
            link.fail(BackendCrashed(self.spec.name, "it was killed"))
