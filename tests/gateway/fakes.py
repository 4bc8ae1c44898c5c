"""Backends that do as they are told, and the gateway around them. Nothing here stands in for the gateway
itself."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import trio
from msgspec import Raw

from mcpd.backends.base import KINDS, Catalogue, Entry
from mcpd.config.model import Config, Limits, ServerSpec
from mcpd.errors import RpcError
from mcpd.gateway.gateway import Gateway
from mcpd.gateway.rounds import ASK_WINDOW
from mcpd.gateway.sessions import Sessions
from mcpd.gateway.vault import Vault
from mcpd.protocol import jsonrpc
from mcpd.protocol.calls import Call, Caller
from mcpd.protocol.capabilities import EVERYTHING, ServerCapabilities
from mcpd.protocol.handshake import ClientHello, Event, ServerHello
from mcpd.protocol.versions import LATEST_HANDSHAKE, MODERN
from mcpd.supervisor.states import State
from mcpd.types import SessionKey

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from mcpd.gateway.sessions import Session

ALL = ServerCapabilities(
    tools=True,
    tools_list_changed=True,
    resources=True,
    resources_subscribe=True,
    resources_list_changed=True,
    prompts=True,
    prompts_list_changed=True,
    completions=True,
    logging=True,
)
KEY_OF = {"tools": "name", "prompts": "name", "resources": "uri", "resourceTemplates": "uriTemplate"}
NOW = 1_800_000_000.0


def entries(kind: str, *keys: str, **members: object) -> tuple[Entry, ...]:
    """What a backend lists: one object for each key, each with the same further members."""
    return tuple(Entry(key, msgspec.json.encode({KEY_OF[kind]: key, **members})) for key in keys)


def catalogue(**keys: tuple[str, ...] | list[str]) -> Catalogue:
    """A catalogue by kind: `catalogue(tools=["add"])`."""
    made = Catalogue()
    for kind, names in keys.items():
        made = made.with_kind(kind, entries(kind, *names))
    return made


def hello(capabilities: ServerCapabilities = ALL, version=LATEST_HANDSHAKE, instructions: str = "") -> ServerHello:
    return ServerHello(version, capabilities, b"{}", instructions)


@dataclass
class Asked:
    """One request that reached a backend."""

    caller: str
    method: str
    params: dict[str, Any]


class FakeBackend:
    """A backend that is ready from the start, unless `takes` says after how many seconds, or never (inf)."""

    def __init__(self, name: str, listed: Catalogue | None = None, *, takes: float = 0.0, **spec: Any) -> None:
        self.name = name
        self.spec = ServerSpec(name=name, transport="stdio", command="true", **spec)
        self.takes = takes
        self.fails = False
        self.works = False
        self.listed = listed or Catalogue()
        self.ready_hello: ServerHello = hello()
        self.hello: ServerHello | None = None
        self.catalogue = Catalogue()
        self.state = State.STARTING
        self.asleep = False
        self.asked: list[Asked] = []
        self.answer: Callable[[Any, str, dict[str, Any]], Awaitable[bytes]] | None = None
        self.error: Exception | None = None
        self.result = b'{"content":[]}'
        self.envelope: dict[str, bytes] = {}
        self.levels: list[tuple[str, str, str]] = []
        self.level_gate: trio.Event | None = None
        self.gate: trio.Event | None = None
        self.subscribed: dict[str, int] = {}
        self.dropped: list[str] = []
        self.resubscribed: list[tuple[Caller, str, Any]] = []
        self.unsubscribed: list[tuple[str, str]] = []
        self.subscribe_members: list[dict[str, Any]] = []
        self.watched: Counter[str] = Counter()
        self.forgotten: list[str] = []
        self.roots: list[str] = []
        self.news: Any = None
        if takes == 0.0:
            self.become_ready()

    def stirs(self) -> bool:
        return self.works

    def become_ready(self) -> None:
        self.hello, self.catalogue, self.state = self.ready_hello, self.listed, State.READY

    async def call(self, call, method, members):
        params = {name: msgspec.json.decode(raw) for name, raw in members.items()}
        self.asked.append(Asked(call.caller.key, method, params))
        if self.gate is not None:
            await self.gate.wait()
        else:
            await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        result = self.result if self.answer is None else await self.answer(call, method, params)
        raws = {"jsonrpc": Raw(b'"2.0"'), "id": Raw(b"1"), "result": Raw(result)}
        return jsonrpc.Message({**raws, **{k: Raw(v) for k, v in self.envelope.items()}}, b"1", None)

    async def set_level(self, level, key, own):
        if self.level_gate is not None:
            await self.level_gate.wait()
        self.levels.append((level, key, own))

    async def subscribe(self, call, uri, members):
        self.subscribe_members.append(
            {
                name: msgspec.json.decode(raw)
                for name, raw in jsonrpc.members_of(jsonrpc.encode_members(members)).items()
            }
        )
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.subscribed[uri] = self.subscribed.get(uri, 0) + 1

    async def unsubscribe(self, key, uri):
        if self.gate is not None:
            await self.gate.wait()
        self.unsubscribed.append((key, uri))
        self.subscribed[uri] -= 1

    def resubscribe(self, caller, uri, members):
        self.resubscribed.append((caller, uri, members))

    def drop_subscription(self, uri):
        self.dropped.append(uri)
        self.subscribed[uri] -= 1

    async def watch_task(self, id):
        self.watched[id] += 1
        try:
            if self.gate is not None:
                await self.gate.wait()
            if self.error is not None:
                raise self.error
        except BaseException:
            self.watched[id] -= 1
            raise

    def unwatch_task(self, id):
        assert self.watched[id] > 0, "each watch ends once"
        self.watched[id] -= 1

    def roots_changed(self, key):
        self.roots.append(key)

    def forget(self, key):
        self.forgotten.append(key)

    async def wait_verdict(self):
        await trio.sleep(self.takes)
        if self.fails:
            self.state = State.BACKING_OFF
        elif self.hello is None:
            self.become_ready()
            self.news.catalogue_changed(self, KINDS)
        self.news.verdict(self)

    def describe(self):
        return {"name": self.name, "state": self.state.value}


class AskingBackend(FakeBackend):
    """A legacy backend that asks during its calls, in tasks of its own like the link of a real one.

    `script` is what it does with a call; `ask` is given to it. What became of the call is in `cancelled`, of each
    question in `replies`: the client's result, or the code of an error."""

    def __init__(self, name: str, listed: Catalogue | None = None, **spec: Any) -> None:
        super().__init__(name, listed, **spec)
        self.nursery: trio.Nursery | None = None
        self.script: Callable[[Call, Callable[..., Question]], Awaitable[bytes]] | None = None
        self.replies: list[Any] = []
        self.cancelled: list[list[Any]] = []
        """One entry for each call that was cancelled: the replies there were by then."""

    async def call(self, call, method, members):
        params = {name: msgspec.json.decode(raw) for name, raw in members.items()}
        self.asked.append(Asked(call.caller.key, method, params))

        def ask(method: str, params: object = None) -> Question:
            question = Question(self, call, method, b"{}" if params is None else msgspec.json.encode(params))
            self.nursery.start_soon(question.run)
            return question

        try:
            result = await self.script(call, ask)
        except trio.Cancelled:
            self.cancelled.append(list(self.replies))
            raise
        return jsonrpc.Message({"result": Raw(result)}, b"1", None)


class Question:
    """One question of an AskingBackend."""

    def __init__(self, backend: AskingBackend, call: Call, method: str, params: bytes) -> None:
        self.backend, self.call, self.method, self.params = backend, call, method, params
        self.scope = trio.CancelScope()
        self.answered = trio.Event()
        self.reply: Any = None

    async def run(self) -> None:
        with self.scope:
            try:
                self.reply = msgspec.json.decode(bytes(await self.call.ask(self.method, self.params)))
            except RpcError as error:
                self.reply = error.code
            self.backend.replies.append(self.reply)
        self.answered.set()

    def take_back(self) -> None:
        self.scope.cancel()

    async def answer(self) -> Any:
        await self.answered.wait()
        return self.reply


class FakeTurn:
    """One exchange of a modern client, and what it heard."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.outcome: Any = None
        self.scope = trio.CancelScope()
        self.settled_at: float | None = None

    def notify(self, method, params) -> None:
        assert self.outcome is None, "nothing is said of an exchange that was settled"
        self.heard.append((method, msgspec.json.decode(bytes(params))))

    def settle(self, outcome) -> None:
        assert self.outcome is None, "an exchange is settled once"
        self.outcome = outcome
        self.settled_at = trio.current_time()

    def cancel(self) -> None:
        self.scope.cancel()

    @property
    def result(self) -> Any:
        """The decoded result it was settled with."""
        assert isinstance(self.outcome, tuple), self.outcome
        return msgspec.json.decode(bytes(self.outcome[0]))

    @property
    def state(self) -> str:
        """The state it was given, when it needs input."""
        assert self.result["resultType"] == "input_required"
        return self.result["requestState"]

    @property
    def error(self) -> Any:
        """The error it was settled with."""
        assert isinstance(self.outcome, RpcError), self.outcome
        return self.outcome


def modern_caller(capabilities=EVERYTHING, principal: str = "", **facts: Any) -> Caller:
    """A client of one request."""
    return Caller(SessionKey(f"m{next(_callers)}"), principal, MODERN, capabilities, **facts)


_callers = itertools.count(1)


async def exchange(
    gateway: Gateway, turn: FakeTurn, method: str, params: object = None, caller: Caller | None = None
) -> FakeTurn:
    """Serve one request of a modern client until its task is done, or was cancelled."""
    request = message(method, params)
    members = jsonrpc.members_of(request.params) if request.params is not None else {}
    with turn.scope:
        await gateway.modern.serve(caller or modern_caller(), request, members, turn)
    return turn


@dataclass
class Ear:
    """A client's open stream: what was sent to it."""

    heard: list[dict[str, Any]] = field(default_factory=list)
    open: bool = True
    queued: int = 0

    def send(self, parts) -> bool:
        if self.open:
            self.heard.append(msgspec.json.decode(b"".join(parts)))
        return self.open

    def methods(self) -> list[str]:
        return [message["method"] for message in self.heard]


class Clock:
    """The time of day, which tests move."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def make_sessions(directory: Path, limits: Limits | None = None, clock: Clock | None = None) -> Sessions:
    limits, clock = limits or Limits(), clock or Clock()
    vault = Vault(directory, now=clock.now, session_age=limits.session_age)
    return Sessions(vault, limits, clock=clock, first_serial=1)


def make_gateway(directory: Path, *backends: FakeBackend, config: Config | None = None) -> Gateway:
    config = config or Config()
    gateway = Gateway(config, sessions=make_sessions(directory, config.limits))
    gateway.sessions.forget = gateway.forget
    gateway.use(backends)
    for backend in backends:
        backend.news = gateway.notices
    return gateway


def join(sessions: Sessions, version=LATEST_HANDSHAKE, capabilities=EVERYTHING, principal: str = "") -> Session:
    """A client that has shaken hands."""
    session = sessions.begin(ClientHello(version, capabilities, "test"), principal)
    session.handshake(Event.INITIALIZED)
    return session


def message(method: str, params: object = None, id: int = 1) -> jsonrpc.Message:
    body: dict[str, object] = {"jsonrpc": "2.0", "id": id, "method": method}
    if params is not None:
        body["params"] = Raw(params) if isinstance(params, bytes) else params
    return jsonrpc.decode_from_client(msgspec.json.encode(body))


def no_emit(method, params) -> None:
    raise AssertionError(f"nobody expects {method}")


async def no_ask(method, params):
    raise AssertionError(f"nobody expects {method}")


async def serve(gateway: Gateway, session: Session, method: str, params: object = None) -> Any:
    """The decoded result of one request."""
    result, _ = await gateway.serve(session, message(method, params), no_emit, no_ask, lambda: None)
    return msgspec.json.decode(bytes(result))


def subscribe_call(session: Session, uri: str, **meta: object) -> Any:
    """A `resources/subscribe` as the walk hands it on."""
    params: dict[str, object] = {"uri": uri}
    if meta:
        params["_meta"] = meta
    raw = msgspec.json.encode(params)
    members = jsonrpc.members_of(raw)
    return Call(session.caller, "resources/subscribe", raw, members, no_emit, no_ask, lambda: None)


async def response_to(session: Session, ear: Ear, result: bytes) -> None:
    """Answer the newest question that was heard, as soon as it is there."""
    await trio.testing.wait_all_tasks_blocked()
    id = ear.heard[-1]["id"]
    assert session.answer(jsonrpc.decode(b'{"jsonrpc":"2.0","id":%d,"result":%b}' % (id, result)))


# ---- calls of modern clients that need input

CALL = {"name": "b_add", "arguments": {"a": 1}}
ACCEPT = {"action": "accept", "content": {"name": "bob"}}
SAMPLE = {"role": "assistant", "content": {"type": "text", "text": "Paris"}, "model": "m"}
ROOTS = {"roots": [{"uri": "file:///w"}]}
MESSAGES = {"messages": [], "maxTokens": 9}
DONE = b'{"resultType":"complete","content":[]}'


def form(*fields: str, message: str = "?") -> dict[str, object]:
    """The params of an elicitation with these fields."""
    properties = {field: {"type": "string"} for field in fields}
    return {"message": message, "requestedSchema": {"type": "object", "properties": properties}}


NAME = ("elicitation/create", form("name"))
"""A question whose key is user_name."""


def asks(*questions: Any) -> Any:
    """A script that asks these at once, and completes when all are answered."""

    async def script(call, ask):
        open_questions = [ask(*question) for question in questions]
        for question in open_questions:
            await question.answer()
        return DONE

    return script


class ModernClient:
    """A client that makes one exchange after the other, each in a task of its own."""

    def __init__(self, gateway: Gateway, backend: AskingBackend) -> None:
        self.gateway = gateway
        self.backend = backend
        self.nursery: Any = None

    def use(self, nursery: trio.Nursery) -> ModernClient:
        """Run everything in this nursery."""
        self.nursery = self.backend.nursery = nursery
        return self

    async def start(self, params: Any = CALL, method: str = "tools/call", **caller: Any) -> FakeTurn:
        """An exchange that is under way."""
        turn = FakeTurn()
        self.nursery.start_soon(exchange, self.gateway, turn, method, params, modern_caller(**caller))
        await trio.testing.wait_all_tasks_blocked()
        return turn

    async def call(self, params: Any = CALL, **options: Any) -> FakeTurn:
        """An exchange, up to the end of a window for questions."""
        turn = await self.start(params, **options)
        await trio.sleep(ASK_WINDOW)
        await trio.testing.wait_all_tasks_blocked()
        return turn

    async def retry(self, turn: FakeTurn | str, answers: object, params: Any = CALL, **options: Any) -> FakeTurn:
        """The next exchange after `turn`, or with that state."""
        state = turn if isinstance(turn, str) else turn.state
        return await self.call({**params, "inputResponses": answers, "requestState": state}, **options)


def at_rest(gateway: Gateway) -> bool:
    """Whether no call has left anything but an outcome that may be asked for again."""
    inputs = gateway.inputs
    return (gateway.in_flight, inputs.parked, len(inputs), inputs._shares) == (0, 0, 0, {})
