"""No cross-talk: clients that use the same ids and progress tokens at the same time, on one shared backend.

The gateway, the sessions and the link are the real ones; only the server behind the link is a script that
Hypothesis writes. Each step is followed by waiting until nothing moves any more, and what every side must
have heard by then is known from a model that has nothing in common with the code under test.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import msgspec
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from trio._core import _run as scheduler

from mcpd.backends.link import Link
from mcpd.backends.tools import NO_FACTS
from mcpd.config.model import Timeouts
from mcpd.errors import ProtocolError, RpcError
from mcpd.protocol import jsonrpc
from mcpd.protocol.capabilities import EVERYTHING, ClientCapability
from mcpd.protocol.versions import Version
from mcpd.wire.deadlines import Deadlines
from tests.gateway.fakes import FakeBackend, catalogue, join, make_gateway

# Trio shuffles tasks; with Hypothesis in charge of the shuffling an example can be repeated.
scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True
hypothesis.register_random(scheduler._r)

ASKS = {
    "sampling/createMessage": ClientCapability.SAMPLING,
    "elicitation/create": ClientCapability.ELICITATION_FORM,
    "roots/list": ClientCapability.ROOTS,
}
REMEDY = "set servers.shared.instances to leased or per-session"
HELLO = msgspec.json.encode(
    {
        "protocolVersion": "2025-11-25",
        "capabilities": {"tools": {}, "logging": {}},
        "serverInfo": {"name": "s"},
    }
)
FORM = {"message": "?", "requestedSchema": {"type": "object", "properties": {}}}


@dataclass
class Server:
    """The script behind the link. Implements `Carrier`."""

    link: Any = None
    calls: dict[str, int] = field(default_factory=dict)
    """The wire id of each call by its marker."""
    tokens: dict[str, object] = field(default_factory=dict)
    cancelled: list[int] = field(default_factory=list)
    replies: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    async def carry(self, waiter, parts):
        request = msgspec.json.decode(b"".join(parts))
        if request["method"] == "initialize":
            self.say(id=request["id"], result=msgspec.Raw(HELLO))
        else:
            marker = request["params"]["arguments"]["marker"]
            assert request["params"]["name"] == "work"
            assert marker not in self.calls, "a call was sent twice"
            self.calls[marker] = request["id"]
            self.tokens[marker] = request["params"].get("_meta", {}).get("progressToken")
        return await waiter.wait()

    async def post(self, parts):
        said = msgspec.json.decode(b"".join(parts))
        if said.get("method") == "notifications/cancelled":
            self.cancelled.append(said["params"]["requestId"])
        elif "method" not in said:
            self.replies.setdefault(said["id"], []).append(said)

    def forgo(self, waiter): ...

    def opened(self, hello): ...

    def reset(self): ...

    def say(self, **members):
        self.link.receive(jsonrpc.decode(msgspec.json.encode({"jsonrpc": "2.0", **members})))

    def notify(self, method, **params):
        self.say(method=f"notifications/{method}", params=params)


class SharedBackend(FakeBackend):
    """One link for everybody. Also the link's listener."""

    link: Link
    tools = NO_FACTS

    async def call(self, call, method, members):
        return await self.link.call(call, method, members)

    def list_changed(self, kind_of_notification): ...

    def resource_updated(self, params, owner):
        self.news.resource_updated(self, params, owner)

    def unrelated(self, method, params, owner):
        self.news.unrelated(self, method, params, owner)

    async def ask_owner(self, owner, method, params):
        return await self.news.ask_owner(self, owner, method, params)


@dataclass
class ClientCall:
    """One call of a client: what it heard about it, and what it should have."""

    id: bytes
    token: bytes | None
    marker: str
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    progress: list[bytes] = field(default_factory=list)
    outcome: list[object] = field(default_factory=list)
    expected_progress: list[bytes] = field(default_factory=list)
    expected_outcome: list[object] = field(default_factory=list)

    def cancel(self) -> None:
        self.scope.cancel()


class Client:
    """One client: a session of the gateway and what arrives at it."""

    def __init__(self, gateway, number: int, capabilities: ClientCapability, version: Version) -> None:
        self.gateway = gateway
        self.number = number
        self.session = join(gateway.sessions, version, capabilities)
        self.session.listen(self)
        self.logs: list[str] = []
        self.expected_logs: list[str] = []
        self.questions: list[dict[str, Any]] = []
        self.taken_back: list[int] = []
        self.unexpected: list[dict[str, Any]] = []

    def send(self, parts) -> bool:
        said = msgspec.json.decode(b"".join(parts))
        if said.get("method") in ASKS:
            self.questions.append(said)
        elif said.get("method") == "notifications/cancelled":
            self.taken_back.append(said["params"]["requestId"])
        else:
            self.unexpected.append(said)
        return True

    async def call(self, call: ClientCall) -> None:
        meta = b',"_meta":{"progressToken":%b}' % call.token if call.token is not None else b""
        request = jsonrpc.decode_from_client(
            b'{"jsonrpc":"2.0","id":%b,"method":"tools/call","params":{"name":"shared_work","arguments":{"marker":"%b"}%b}}'
            % (call.id, call.marker.encode(), meta)
        )

        def emit(method, params):
            if method == "notifications/progress":
                call.progress.append(bytes(params))
            else:
                self.logs.append(msgspec.json.decode(params)["data"])

        async def ask(method, params):
            return await self.session.ask(self.send, method, params)

        try:
            with call.scope:
                result, _ = await self.gateway.serve(self.session, request, emit, ask, lambda: None)
                call.outcome.append(msgspec.json.decode(bytes(result)))
        except RpcError as error:
            call.outcome.append(msgspec.json.decode(error.encode()))
        finally:
            del self.session.calls[call.id]


@dataclass
class Asked:
    """A question of the server, and what must become of it."""

    id: int
    marker: str
    client: Client | None
    call: ClientCall
    answered: bool = False
    taken_back: bool = False
    withdrawn: bool = False


class World:
    """Everything, and the model of what must be."""

    def __init__(self, gateway, backend: SharedBackend, server: Server, nursery: trio.Nursery) -> None:
        self.gateway = gateway
        self.backend = backend
        self.server = server
        self.nursery = nursery
        self.clients: list[Client] = []
        self.flying: list[tuple[Client, ClientCall]] = []
        self.landed: list[tuple[Client, ClientCall]] = []
        self.asked: list[Asked] = []
        self.expected_cancelled: list[int] = []
        self.count = 0

    def marker(self) -> str:
        self.count += 1
        return f"m{self.count}"

    async def quiet(self) -> None:
        await trio.testing.wait_all_tasks_blocked()

    async def step(self, step: tuple[Any, ...]) -> None:
        name, *arguments = step
        await getattr(self, name)(*arguments)
        await self.quiet()
        self.check()

    # ---- what clients do

    async def call(self, which: int, id: bytes, token: bytes | None) -> None:
        client = self.clients[which % len(self.clients)]
        call = ClientCall(id, token, self.marker())
        taken = any(other is client and one.id == id for other, one in self.flying)
        try:
            client.session.register(id, call, 100)
        except ProtocolError:
            assert taken
            return
        assert not taken
        self.flying.append((client, call))
        self.nursery.start_soon(client.call, call)

    async def cancel(self, which: int) -> None:
        if not self.flying:
            return
        client, call = self.flying.pop(which % len(self.flying))
        self.landed.append((client, call))
        self.expected_cancelled.append(self.server.calls[call.marker])
        for asked in self.asked:
            if asked.call is call and asked.client is not None and not asked.answered and not asked.taken_back:
                asked.withdrawn = True
        client.session.cancel(call.id)

    async def answer(self, which: int) -> None:
        open_ones = [asked for asked in self.asked if asked.client and not asked.answered]
        if not open_ones:
            return
        asked = open_ones[which % len(open_ones)]
        assert asked.client is not None
        asked.answered = True
        question = next(q for q in asked.client.questions if q["params"]["marker"] == asked.marker)
        taken = asked.client.session.answer(
            jsonrpc.decode(
                msgspec.json.encode(
                    {
                        "jsonrpc": "2.0",
                        "id": question["id"],
                        "result": {"from": asked.client.number, "on": asked.marker},
                    }
                )
            )
        )
        assert taken == (not asked.taken_back and not asked.withdrawn)
        # Nobody else can answer it.
        for other in self.clients:
            assert not other.session.answer(jsonrpc.decode(b'{"jsonrpc":"2.0","id":%d,"result":{}}' % question["id"]))

    # ---- what the server does

    async def progress(self, which: int, as_text: bool) -> None:
        if not self.flying:
            return
        _client, call = self.flying[which % len(self.flying)]
        if call.token is None:
            return
        token = self.server.tokens[call.marker]
        number = self.count = self.count + 1
        self.server.notify("progress", progressToken=str(token) if as_text else token, progress=number, vendor=1)
        call.expected_progress.append(b'{"progressToken":%b,"progress":%d,"vendor":1}' % (call.token, number))

    async def stray_progress(self, which: int) -> None:
        """Of a call that is over, or of tokens that clients chose: nobody's."""
        for token in ("a", "", None, -1, 10**30, {"x": 1}):
            self.server.notify("progress", progressToken=token, progress=1)
        if self.landed:
            _client, call = self.landed[which % len(self.landed)]
            self.server.notify("progress", progressToken=self.server.calls[call.marker], progress=1)

    async def log(self) -> None:
        line = self.marker()
        self.server.notify("message", level="info", data=line)
        clients = {client.number: client for client, _call in self.flying}
        if len(clients) == 1:
            next(iter(clients.values())).expected_logs.append(line)

    async def ask(self, which: int, method: str) -> None:
        able = list(self.flying)
        if not able:
            return
        client, call = able[which % len(able)]
        alone = all(other is client for other, _call in able)
        if alone and not client.session.caller.capabilities & ASKS[method]:
            return  # refused for another reason: see the tests of questions
        asked = Asked(len(self.asked) + 1, self.marker(), client if alone else None, call)
        if alone:
            # Which of its calls it was nothing tells; that it is the newest is what the link takes.
            asked.call = able[-1][1]
        self.asked.append(asked)
        params = {**(FORM if method == "elicitation/create" else {}), "marker": asked.marker}
        if method == "sampling/createMessage":
            params |= {"messages": [], "maxTokens": 1}
        self.server.say(id=asked.id, method=method, params=params)

    async def take_back(self, which: int) -> None:
        open_ones = [a for a in self.asked if a.client and not a.answered and not a.withdrawn and not a.taken_back]
        if not open_ones:
            return
        asked = open_ones[which % len(open_ones)]
        asked.taken_back = True
        self.server.notify("cancelled", requestId=asked.id)

    async def finish(self, which: int, well: bool) -> None:
        if not self.flying:
            return
        client, call = self.flying.pop(which % len(self.flying))
        self.landed.append((client, call))
        if well:
            outcome: dict[str, Any] = {"content": [], "marker": call.marker}
            self.server.say(id=self.server.calls[call.marker], result=outcome)
        else:
            outcome = {"code": -32000, "message": call.marker, "data": {"marker": call.marker}}
            self.server.say(id=self.server.calls[call.marker], error=outcome)
        call.expected_outcome.append(outcome)

    async def late(self, which: int) -> None:
        """An answer to a call that is over: nobody's."""
        if self.landed:
            _client, call = self.landed[which % len(self.landed)]
            self.server.say(id=self.server.calls[call.marker], result={"content": [], "late": True})

    # ---- what must be

    def check(self) -> None:
        for _client, call in (*self.flying, *self.landed):
            assert call.progress == call.expected_progress
            assert call.outcome == call.expected_outcome
        for client in self.clients:
            assert client.logs == client.expected_logs
            assert client.unexpected == []
            mine = [asked for asked in self.asked if asked.client is client]
            assert [question["params"]["marker"] for question in client.questions] == [a.marker for a in mine]
            gone = {a.marker for a in mine if a.taken_back or a.withdrawn}
            ids = {question["id"] for question in client.questions if question["params"]["marker"] in gone}
            assert set(client.taken_back) == ids
        assert self.server.cancelled == self.expected_cancelled
        for asked in self.asked:
            replies = self.server.replies.get(asked.id, [])
            if asked.client is None:
                assert len(replies) == 1
                assert REMEDY in replies[0]["error"]["message"]
            elif asked.taken_back:
                assert replies == []
            elif asked.withdrawn:
                assert len(replies) == 1
                assert "error" in replies[0]
            elif asked.answered:
                assert [reply["result"] for reply in replies] == [{"from": asked.client.number, "on": asked.marker}]
            else:
                assert replies == []
        assert self.gateway.in_flight == len(self.flying) == self.backend.link.in_flight

    async def close(self) -> None:
        while self.flying:
            await self.step(("finish", 0, True))
        while any(asked.client and not asked.answered for asked in self.asked):
            await self.step(("answer", 0))
        for client in self.clients:
            assert client.session.calls == {}
            client.session.outlet = None
            assert client.session.idle


async def live(clients: list[tuple[ClientCapability, Version]], steps: list[tuple[Any, ...]], directory: Path) -> None:
    backend = SharedBackend("shared", catalogue(tools=["work"]))
    gateway = make_gateway(directory, backend)
    server = Server()
    async with trio.open_nursery() as nursery:
        link = server.link = backend.link = Link(
            "shared",
            capabilities=EVERYTHING,
            owner=None,
            listener=backend,
            timeouts=Timeouts(),
            deadlines=Deadlines(),
            nursery=nursery,
        )
        link.attach(server)
        await link.open()
        world = World(gateway, backend, server, nursery)
        for number, (capabilities, version) in enumerate(clients):
            world.clients.append(Client(gateway, number, capabilities, version))
        for step in steps:
            await world.step(step)
        await world.close()
        nursery.cancel_scope.cancel()


def run(clients, steps) -> None:
    with tempfile.TemporaryDirectory() as directory:
        trio.run(
            live,
            clients,
            steps,
            Path(directory),
            clock=trio.testing.MockClock(autojump_threshold=0),
            strict_exception_groups=True,
        )


WHICH = st.integers(0, 7)
IDS = st.sampled_from([b"1", b'"1"', b"2", b'"a"', b"0", b'""'])
TOKENS = st.sampled_from([b"1", b'"1"', b"2", b'"a"', b"1.0", None])
STEPS = st.one_of(
    st.tuples(st.just("call"), WHICH, IDS, TOKENS),
    st.tuples(st.just("call"), WHICH, IDS, TOKENS),
    st.tuples(st.just("cancel"), WHICH),
    st.tuples(st.just("answer"), WHICH),
    st.tuples(st.just("progress"), WHICH, st.booleans()),
    st.tuples(st.just("stray_progress"), WHICH),
    st.tuples(st.just("log")),
    st.tuples(st.just("ask"), WHICH, st.sampled_from(sorted(ASKS))),
    st.tuples(st.just("ask"), WHICH, st.sampled_from(sorted(ASKS))),
    st.tuples(st.just("take_back"), WHICH),
    st.tuples(st.just("finish"), WHICH, st.booleans()),
    st.tuples(st.just("late"), WHICH),
)
# Who is asked is decided by the method, before the mode is looked at: URL mode never comes without forms
# here.
CAPABILITIES = st.integers(0, int(EVERYTHING & ~ClientCapability.ELICITATION_URL)).map(ClientCapability)
CLIENTS = st.lists(
    st.tuples(CAPABILITIES, st.sampled_from([Version.V2025_06_18, Version.V2025_11_25])),
    min_size=2,
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(CLIENTS, st.lists(STEPS, max_size=40))
def test_nobody_hears_what_is_anothers(clients, steps):
    run(clients, steps)


ABLE = (EVERYTHING, Version.V2025_11_25)
UNABLE = (ClientCapability(0), Version.V2025_11_25)


def test_the_same_ids_and_tokens_answered_out_of_order():
    calls = [("call", client, b"1", b'"a"') for client in range(4)]
    progress = [("progress", which, text) for which in (3, 1, 0, 2) for text in (False, True)]
    run([ABLE] * 4, [*calls, *progress, ("finish", 2, True), ("finish", 0, False), ("progress", 0, False)])


def test_a_cancellation_hits_one_call_only():
    calls = [("call", client, b"1", b"1") for client in range(4)]
    run([ABLE] * 4, [*calls, ("cancel", 2), ("progress", 2, False), ("late", 0), ("stray_progress", 0)])


def test_a_question_of_one_of_many_is_refused_with_the_remedy():
    calls = [("call", client, b"1", None) for client in range(2)]
    run([ABLE, ABLE], [*calls, ("ask", 0, "roots/list"), ("finish", 0, True), ("ask", 0, "roots/list")])


def test_a_client_that_cannot_be_asked_may_have_caused_the_question_all_the_same():
    calls = [("call", client, b"1", None) for client in range(2)]
    run([ABLE, UNABLE], [*calls, ("ask", 0, "elicitation/create"), ("answer", 0)])


def test_a_question_ends_with_its_call():
    run(
        [ABLE, ABLE],
        [("call", 0, b"1", None), ("ask", 0, "sampling/createMessage"), ("cancel", 0), ("answer", 0)],
    )


def test_two_calls_of_one_client_are_not_ambiguous():
    calls = [("call", 0, id, b"1") for id in (b"1", b"2")]
    run([ABLE, ABLE], [*calls, ("ask", 0, "roots/list"), ("log",), ("answer", 0)])
