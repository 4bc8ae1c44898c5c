"""What the tests of this folder share: a backend in memory, a client that calls it, and ears for its news."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from mcpd.backends.carrier import SessionLost, Wish
from mcpd.backends.link import Link
from mcpd.backends.opening import Era, EraMemory
from mcpd.backends.questions import Label
from mcpd.backends.tools import NO_FACTS
from mcpd.config.model import ServerSpec, Timeouts
from mcpd.errors import METHOD_NOT_FOUND, BackendUnavailable, RpcError
from mcpd.protocol import jsonrpc
from mcpd.protocol.calls import Call, Caller
from mcpd.protocol.capabilities import EVERYTHING, ClientCapability
from mcpd.protocol.versions import LATEST_HANDSHAKE, MODERN, Version
from mcpd.types import SessionKey
from mcpd.wire.deadlines import Deadlines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from mcpd.backends.carried import LinkState
    from mcpd.backends.waiter import Waiter
    from mcpd.supervisor.slots import Claim, StartSlots

JSON = dict[str, Any]

HELLO: JSON = {
    "protocolVersion": "2025-11-25",
    "capabilities": {
        "tools": {"listChanged": True},
        "resources": {"subscribe": True, "listChanged": True},
        "prompts": {"listChanged": True},
        "logging": {},
    },
    "serverInfo": {"name": "memory", "version": "1"},
}

DISCOVER: JSON = {
    "resultType": "complete",
    "supportedVersions": ["2026-07-28"],
    "capabilities": {
        "tools": {"listChanged": True},
        "resources": {"subscribe": True, "listChanged": True},
        "prompts": {"listChanged": True},
    },
    "instructions": "be nice",
    "ttlMs": 60000,
    "cacheScope": "public",
    "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "memory", "version": "2"}},
}
ENVELOPE = "io.modelcontextprotocol/"


def make_spec(name: str = "b", **members: Any) -> ServerSpec:
    return ServerSpec(name=name, transport="stdio", command="none", **members)


def text_of(parts: object) -> JSON:
    """A message as it went out."""
    return json.loads(b"".join(bytes(part) for part in parts))  # type: ignore[attr-defined]


class Failure(Exception):
    """A JSON-RPC error that the backend in memory answers."""

    def __init__(self, code: int, message: str, **more: Any) -> None:
        self.error = {"code": code, "message": message, **more}
        super().__init__(message)


class MemoryCarrier:
    """A backend without a process. `answers[method]` is a result, a function of the message that returns one
    (None: no answer) or raises Failure or SessionLost, or an exception of these.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self.shared = True
        self.sent: list[JSON] = []
        self.texts: list[bytes] = []
        """The same, byte for byte."""
        self.waiters: list[Waiter] = []
        self.headers: list[bytes] = []
        """What stood beside each request, where requests have headers."""
        self.forgone: list[str] = []
        self.resets = 0
        self.agreed = ""
        self.answers: dict[str, Any] = {
            "initialize": HELLO,
            "tools/list": {"tools": [{"name": "t", "inputSchema": {}}]},
            "resources/list": {"resources": []},
            "resources/templates/list": {"resourceTemplates": []},
            "prompts/list": {"prompts": []},
            "logging/setLevel": {},
            "resources/subscribe": {},
            "resources/unsubscribe": {},
            "ping": {},
            "tools/call": lambda message: {"content": [], "echo": message["params"]},
        }
        self._news = trio.Event()

    async def carry(self, waiter: Waiter, parts: Any) -> Any:
        message = self._note(parts)
        self.waiters.append(waiter)
        self.headers.append(waiter.headers)
        answer = self.answers.get(message["method"], Failure(METHOD_NOT_FOUND, "no such method"))
        try:
            if isinstance(answer, Exception):
                raise answer
            result = answer(message) if callable(answer) else answer
        except Failure as failure:
            self.say({"id": message["id"], "error": failure.error})
        else:
            if result is not None:
                self.say({"id": message["id"], "result": result})
        return await waiter.wait()

    async def post(self, parts: Any) -> None:
        self._note(parts)

    def forgo(self, waiter: Waiter) -> None:
        self.forgone.append(waiter.method)

    def opened(self, hello: Any) -> None:
        self.agreed = hello.version.text

    def reset(self) -> None:
        self.resets += 1

    def say(self, message: JSON, related: Waiter | None = None) -> None:
        """The backend says something."""
        self.link.receive(jsonrpc.decode(json.dumps({"jsonrpc": "2.0", **message}).encode()), related)

    def notify(self, method: str, params: JSON | None = None, related: Waiter | None = None) -> None:
        self.say({"method": method, **({} if params is None else {"params": params})}, related)

    def answer_to(self, request: JSON, result: JSON) -> None:
        self.say({"id": request["id"], "result": result})

    def methods(self) -> list[str]:
        return [message.get("method", "answer") for message in self.sent]

    def named(self, method: str) -> list[JSON]:
        """The messages of that method; those without one are "answer"."""
        return [message for message in self.sent if message.get("method", "answer") == method]

    async def wait_sent(self, method: str, count: int = 1) -> JSON:
        """Wait until so many messages of that method were sent in all; the last of them."""
        while len(self.named(method)) < count:
            await self._news.wait()
        return self.named(method)[count - 1]

    def _note(self, parts: Any) -> JSON:
        message = text_of(parts)
        self.sent.append(message)
        self.texts.append(b"".join(bytes(part) for part in parts))
        self._news.set()
        self._news = trio.Event()
        return message


def speak_modern(carrier: MemoryCarrier) -> None:
    """Make a backend in memory one of 2026-07-28, which acknowledges whatever is listened to."""

    def listen(message: JSON) -> None:
        acknowledge(carrier, message, message["params"]["notifications"])

    carrier.answers.update({"server/discover": DISCOVER, "subscriptions/listen": listen})
    for method in ("initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"):
        del carrier.answers[method]


def acknowledge(carrier: MemoryCarrier, listen: JSON, honoured: JSON) -> None:
    """The backend says what it will tell of."""
    params = {"notifications": honoured, "_meta": {f"{ENVELOPE}subscriptionId": listen["id"]}}
    related = None if carrier.shared else next(each for each in carrier.waiters if each.id == listen["id"])
    carrier.notify("notifications/subscriptions/acknowledged", params, related)


def lose_session_once(answer: Any) -> Callable[[JSON], Any]:
    """An answer that the first time is a refusal for an unknown session."""
    refused: list[JSON] = []

    def serve(message: JSON) -> Any:
        if not refused:
            refused.append(message)
            raise SessionLost
        return answer(message) if callable(answer) else answer

    return serve


class Heard:
    """Ears for what links and backends say of their own accord (`Listener` and `News`)."""

    def __init__(self) -> None:
        self.list_changes: list[str] = []
        self.updates: list[tuple[JSON, str | None]] = []
        self.tasks: list[JSON] = []
        self.strays: list[tuple[str, JSON, str | None]] = []
        self.catalogues: list[tuple[str, ...]] = []
        self.verdicts: list[str] = []
        self.steps: list[tuple[str, str]] = []
        self.failures: list[tuple[Any, float | None]] = []
        self.asked: list[tuple[str | None, str]] = []
        self.owner_answer: bytes | None = None
        self._news = trio.Event()

        self.tools = NO_FACTS
        self.relisted: list[str] = []

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def relist(self, kind: str) -> None:
        self.relisted.append(kind)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._news.wait()

    def list_changed(self, kind_of_notification: str) -> None:
        self.list_changes.append(kind_of_notification)
        self._tell()

    def resource_updated(self, *args: Any) -> None:
        params, owner = args[-2:]
        self.updates.append((json.loads(bytes(params)), owner))
        self._tell()

    def task_changed(self, *args: Any) -> None:
        self.tasks.append(json.loads(bytes(args[-1])))
        self._tell()

    def unrelated(self, *args: Any) -> None:
        method, params, owner = args[-3:]
        self.strays.append((method, json.loads(bytes(params)), owner))
        self._tell()

    async def ask_owner(self, *args: Any) -> bytes:
        owner, method, _params = args[-3:]
        self.asked.append((owner, method))
        self._tell()
        if self.owner_answer is None:
            raise RpcError(METHOD_NOT_FOUND, f"{method}: nobody can be asked")
        return self.owner_answer

    def catalogue_changed(self, backend: Any, kinds: tuple[str, ...]) -> None:
        self.catalogues.append(kinds)
        self._tell()

    def stepped(self, backend: Any, before: Any) -> None:
        self.steps.append((before.value, backend.state.value))

    def failed(self, backend: Any, failure: Any, delay: float | None) -> None:
        self.failures.append((failure, delay))

    def verdict(self, backend: Any) -> None:
        self.verdicts.append(backend.state.value)
        self._tell()


class Client:
    """Who calls. `answer` is what it answers to questions: bytes, an RpcError, or None for never."""

    def __init__(
        self,
        key: str = "client",
        *,
        capabilities: ClientCapability = EVERYTHING,
        version: Version = LATEST_HANDSHAKE,
        log_level: int | None = None,
        extensions: bytes | None = None,
        client_info: bytes | None = None,
        principal: str = "",
    ) -> None:
        self.caller = Caller(SessionKey(key), principal, version, capabilities, log_level, extensions, client_info)
        self.emitted: list[tuple[str, JSON]] = []
        self.asked: list[tuple[str, JSON]] = []
        self.parted = 0
        self.answer: bytes | RpcError | None = b'{"action":"decline"}'
        self.withdrawn = 0
        self.released = trio.Event()
        """Set by a test to let an answer of None go on."""
        self._news = trio.Event()

    def call(self, method: str = "tools/call", *, token: bytes | None = None, **params: Any) -> Call:
        text = json.dumps(params or {"name": "t"}).encode()
        members = jsonrpc.members_of(text)
        return Call(self.caller, method, text, members, self._emit, self._ask, self._part, token)

    def _emit(self, method: str, params: Any) -> None:
        self.emitted.append((method, json.loads(bytes(params))))
        self._tell()

    def _part(self) -> None:
        self.parted += 1

    async def _ask(self, method: str, params: Any) -> Any:
        self.asked.append((method, json.loads(bytes(params))))
        self._tell()
        if self.answer is None:
            try:
                await self.released.wait()
            except trio.Cancelled:
                self.withdrawn += 1
                raise
            return b"{}"
        if isinstance(self.answer, RpcError):
            raise self.answer
        return self.answer

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def wait_asked(self, count: int = 1) -> None:
        while len(self.asked) < count:
            await self._news.wait()


def modern_client(key: str = "modern", **members: Any) -> Client:
    """One without a session: its key stands for one call."""
    return Client(key, version=MODERN, **members)


def result_of(answer: Any) -> JSON:
    return json.loads(bytes(answer.members["result"]))


def make_link(
    nursery: trio.Nursery,
    deadlines: Deadlines,
    heard: Heard,
    *,
    owner: str | None = None,
    timeouts: Timeouts | None = None,
    era: Era = Era.LEGACY,
    label: str = "",
    capabilities: ClientCapability | Wish = EVERYTHING,
) -> tuple[Link, MemoryCarrier]:
    link = Link(
        "b",
        capabilities=capabilities,
        owner=SessionKey(owner) if owner is not None else None,
        listener=heard,
        timeouts=timeouts or Timeouts(),
        deadlines=deadlines,
        nursery=nursery,
        label=Label(label),
        era=era,
    )
    carrier = MemoryCarrier(link)
    link.attach(carrier)
    return link, carrier


@asynccontextmanager
async def linked(
    *,
    owner: str | None = None,
    timeouts: Timeouts | None = None,
    opened: bool = True,
    era: Era = Era.LEGACY,
    label: str = "",
    shared: bool = True,
    capabilities: ClientCapability | Wish = EVERYTHING,
) -> AsyncIterator[tuple[Link, MemoryCarrier, Heard]]:
    """A link to a backend in memory, open unless told otherwise. `shared`: as over a pipe, else as over HTTP."""
    heard = Heard()
    deadlines = Deadlines()
    async with trio.open_nursery() as nursery:
        await nursery.start(deadlines.run)
        link, carrier = make_link(
            nursery,
            deadlines,
            heard,
            owner=owner,
            timeouts=timeouts,
            era=era,
            label=label,
            capabilities=capabilities,
        )
        carrier.shared = shared
        if era is Era.MODERN:
            speak_modern(carrier)
        if opened:
            await link.open()
        yield link, carrier, heard
        link.fail(BackendUnavailable("b", "the test is over"))  # as a connector does, before the nursery ends
        nursery.cancel_scope.cancel()


class Outcome:
    """What a call came to, run in the background by `calling`."""

    def __init__(self) -> None:
        self.result: JSON | None = None
        self.error: BaseException | None = None
        self.done = trio.Event()
        self.scope = trio.CancelScope()


def calling(nursery: trio.Nursery, function: Callable[..., Any], *args: Any) -> Outcome:
    """Have a call run beside the test."""
    outcome = Outcome()

    async def run() -> None:
        try:
            with outcome.scope:
                outcome.result = result_of(await function(*args))
        except Exception as error:
            outcome.error = error
        finally:
            outcome.done.set()

    nursery.start_soon(run)
    return outcome


class MemoryConnector:
    """Opens links to backends in memory, as `Connector` does. `failures` come first, one for each attempt."""

    def __init__(self, spec: ServerSpec, deadlines: Deadlines) -> None:
        self.spec = spec
        self.transport = "memory"
        self.stateless = False
        self.pid: int | None = None
        self.failures: list[Exception] = []
        self.era = Era.LEGACY
        """What the backends are, and are known to be."""
        self.failing: Exception | None = None
        """What every attempt comes to, once `failures` are used up."""
        self.prepare: Callable[[MemoryCarrier], None] = lambda carrier: None
        self.attempts: list[float] = []
        self.claims: list[Claim] = []
        self.slots: StartSlots | None = None
        """What a start waits for, if for anything."""
        self.carriers: list[MemoryCarrier] = []
        self.carried: dict[SessionKey | None, LinkState] = {}
        """Links that another program opened."""
        self.eras = EraMemory()
        self.over: str | None = None
        self.farewell = 0.0
        """Seconds that the end of a link takes."""
        self.ended: list[str | None] = []
        self._deadlines = deadlines
        self._news = trio.Event()

    @asynccontextmanager
    async def connect(
        self,
        nursery: trio.Nursery,
        listener: Any,
        capabilities: ClientCapability | Wish,
        owner: SessionKey | None,
        claim: Claim,
    ) -> AsyncIterator[Link]:
        self.claims.append(claim)
        if self.slots is not None:
            (await self.slots.acquire(claim)).release()
        self.attempts.append(trio.current_time())
        self._tell()
        failure = self.failures.pop(0) if self.failures else self.failing
        if failure is not None:
            raise failure
        link, carrier = make_link(
            nursery,
            self._deadlines,
            listener,
            owner=owner,
            timeouts=self.spec.timeouts,
            era=self.era,
            capabilities=capabilities,
        )
        if self.era is Era.MODERN:
            self.stateless = True
            speak_modern(carrier)
        self.prepare(carrier)
        self.carriers.append(carrier)
        carried = self.carried.pop(owner, None)
        try:
            await link.wait_wanted()
            if carried is None or carried.hello is None:
                await link.open()
            else:
                link.resume(carried)
            self._tell()
            try:
                yield link
            finally:
                link.fail(link.reason or BackendUnavailable(self.spec.name, "its connection was ended"))
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(self.farewell)
            self.ended.append(owner)
            self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def wait_attempts(self, count: int) -> None:
        while len(self.attempts) < count:
            await self._news.wait()

    async def wait_ended(self, count: int) -> None:
        while len(self.ended) < count:
            await self._news.wait()
