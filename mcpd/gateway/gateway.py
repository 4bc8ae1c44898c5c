"""The walk: one request of a client, from its facts to a result.

`dispatch` looks the method up in one table, for clients of either era; `serve` puts on top what only a session has, and
`modern.Modern` what only clients without one have. What mcpd answers itself never waits for a backend (but for the
first moments after the start); what a backend answers is one nested await: route, validate, call, convert for the
client's version. Every failure is an RpcError, which the frontend turns into bytes.
"""

from __future__ import annotations

import logging
from time import perf_counter
from typing import TYPE_CHECKING, Final, TypeAlias

import trio

from mcpd.errors import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, ProtocolError, RpcError
from mcpd.events import Events
from mcpd.gateway import local, relay, succession
from mcpd.gateway.catalog import STALE, Catalog, build, hint_of
from mcpd.gateway.gate import Gate
from mcpd.gateway.inputs import Inputs
from mcpd.gateway.ledger import KINDS, Ledger
from mcpd.gateway.levels import Levels
from mcpd.gateway.listens import Listens
from mcpd.gateway.modern import Modern
from mcpd.gateway.notices import Notices
from mcpd.gateway.patience import FIRST_WAIT, Patience
from mcpd.gateway.routing import Router
from mcpd.gateway.subscriptions import Subscriptions
from mcpd.protocol import handshake, jsonrpc
from mcpd.protocol.calls import Ask, Call, Caller, Emit, Part
from mcpd.protocol.capabilities import ClientCapability
from mcpd.protocol.meta import progress_token
from mcpd.supervisor.logs import Logs
from mcpd.types import IMPLEMENTATION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mcpd.backends.base import Backend
    from mcpd.config.model import Config
    from mcpd.gateway.catalog import Route
    from mcpd.gateway.sessions import Session, Sessions
    from mcpd.gateway.succession import Succession
    from mcpd.protocol.jsonrpc import Buffer, Members, Message
    from mcpd.protocol.versions import Version
    from mcpd.supervisor.usage import Usage
    from mcpd.types import SessionKey

log = logging.getLogger("mcpd.gateway")

Answer: TypeAlias = "tuple[Buffer, Members | None]"
"""A result and the members beside it."""

INSTRUCTIONS_WAIT: Final = 3.0
"""Seconds after the start in which initialize waits for the instructions of servers that are starting: a client never
asks for them again, and its first list, which comes next, waits for the same servers and for longer."""

NOTES_LOGGED: Final = 100
"""New notes about names that are logged one by one; of more only the number is."""


class Gateway:
    """Many backends as one server."""

    def __init__(self, config: Config, *, sessions: Sessions, logs: Logs | None = None) -> None:
        self.config = config
        self.backends: Sequence[Backend] = ()
        self.sessions = sessions
        self.events = sessions.events = Events()
        self.logs = logs or Logs()
        """What servers said."""
        self.usage: Callable[[], Awaitable[dict[str, Usage]]] = _nothing_used
        """What processes of servers use now, by the server's name."""
        self.secrets = config.secrets
        """What operators are not shown: also what was secret in a former configuration that is still in use."""
        self.ledger = Ledger(self.events, config.audit)
        self.catalog: Catalog = build((), config.naming)
        self.subscriptions = Subscriptions(config.limits.subscriptions)
        self.listens = Listens(
            config.limits,
            self.subscriptions,
            owner=self.resource,
            backends=lambda: self.backends,
            forget=self._forget_key,
        )
        self.notices = Notices(
            sessions,
            self.subscriptions,
            self.listens,
            rebuild=self._rebuild,
            delay=config.streams.list_changed_delay,
            events=self.events,
            note=lambda server, text: self.logs.voice(server, self._redact).note(text),
        )
        self.tally = self.notices.tally = self.ledger.tally
        self.levels = Levels(sessions)
        self.gate = Gate()
        self.router = Router(())
        self.inputs = Inputs(config.limits, sessions.states, clock=sessions.clock, ask_time=self._ask_time)
        self.modern = Modern(self, self.inputs)
        self.list_ttl = int(config.caching.list_ttl * 1000)
        """Milliseconds for which clients may keep a list at most."""
        self.in_flight = 0  # calls that were begun and have not ended, parked ones too
        self.patience = Patience(config.naming.separator, self.notices.wait_news)

        # Verdicts are waited for by tasks of `run`, also about backends that come later.
        self.nursery: trio.Nursery | None = None

    def _redact(self, text: str) -> str:
        return self.secrets.redact(text)

    def use(self, backends: Sequence[Backend], config: Config | None = None) -> Succession:
        """Take these backends, in the order of the configuration, and its settings; at any time."""
        return succession.take(self, backends, config)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch the backends for as long as the daemon runs."""
        self.patience.start(self.backends)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.notices.run)
            nursery.start_soon(self.notices.welcome, self.settled)
            nursery.start_soon(self.levels.run)
            nursery.start_soon(self.inputs.run)
            nursery.start_soon(self.ledger.run)
            self.nursery = nursery
            for backend in self.backends:
                nursery.start_soon(self.note_verdict, backend)
            task_status.started()

    def part(self) -> None:
        """Have streams to operators end: mcpd is about to stop, or to become another program."""
        self.events.part()
        self.logs.tell()

    def close(self) -> None:
        """mcpd is about to stop: who listens is told so, and calls that wait for input are given up. Their tasks need a
        moment then, before they are cancelled."""
        self.inputs.close()
        self.listens.close()
        self.part()

    async def note_verdict(self, backend: Backend) -> None:
        """Wait for a backend's first verdict, and let everybody know."""
        await backend.wait_verdict()
        self.patience.judged(backend)
        self.router.recount()
        self.notices.verdict(backend)

    @property
    def all_judged(self) -> bool:
        """Whether every backend has had its first verdict, ready or failed."""
        return self.patience.all_judged

    def _rebuild(self) -> tuple[Catalog, Catalog]:
        before = self.catalog
        self.catalog = build(self.backends, self.config.naming, before)
        self.router.use(self.catalog)
        known = set(before.notes)
        new = [note for note in self.catalog.notes if note not in known]
        for note in new[:NOTES_LOGGED]:
            log.warning("event=name %s", note)
        if len(new) > NOTES_LOGGED:
            log.warning("event=name and %d more", len(new) - NOTES_LOGGED)
        return before, self.catalog

    async def settled(self, limit: float = FIRST_WAIT) -> None:
        """Wait for backends that are starting, but not for one that hangs; then bring the snapshot up to date."""
        if not self.patience.all_judged:
            await self.patience.settle(limit)
        self.notices.flush()

    async def named(self, kind: str, name: str) -> Route:
        """The route of a tool or prompt, which may be about to become known. Raises: UnknownName."""

        def known() -> bool:
            self.notices.flush()
            return name in self.catalog.of(kind).routes

        if name not in self.catalog.of(kind).routes and not known() and not self.patience.all_judged:
            await self.patience.for_name(name, known)
        return self.router.named(kind, name)

    async def resource(self, uri: str) -> Backend:
        """Whose resource a URI is, which may be about to become known. Raises: UnknownName."""

        def known() -> bool:
            self.notices.flush()
            return self.router.owner(uri) is not None

        if self.router.owner(uri) is None and not known() and not self.patience.all_judged:
            await self.patience.for_resource(known)
        return self.router.resource(uri)

    async def backend_for(self, method: str, members: Members) -> Backend:
        """Which backend answers a tools/call, prompts/get or resources/read. Raises: RpcError INVALID_PARAMS."""
        if method == "resources/read":
            return await self.resource(local.string(members, "uri"))
        kind = "tools" if method == "tools/call" else "prompts"
        return (await self.named(kind, local.string(members, "name"))).backend

    def _ask_time(self, method: str, members: Members) -> float:
        """Seconds that a question during such a call may take."""
        try:
            if method == "resources/read":
                return self.router.resource(local.string(members, "uri")).spec.timeouts.ask
            kind = "tools" if method == "tools/call" else "prompts"
            return self.router.named(kind, local.string(members, "name")).backend.spec.timeouts.ask
        except RpcError:
            return self.config.limits.park_time  # it is not listed any more

    # ---- the walk ------------------------------------------------------------------------------------------

    async def initialize(self, version: Version) -> bytes:
        """The result of initialize for a client of this version, with the instructions known within
        INSTRUCTIONS_WAIT."""
        await self.settled(INSTRUCTIONS_WAIT)
        text = local.instructions(self.config.instructions, self.backends)
        return handshake.initialize_result(version, IMPLEMENTATION, text)

    def serve(self, session: Session, message: Message, emit: Emit, ask: Ask, part: Part) -> Awaitable[Answer]:
        """Answer one request of a session: what this returns does, when it is awaited.

        Raises: RpcError, here and there. Cancellation: the backend that works on it is told."""
        method = message.method
        assert method is not None
        of_session = _OF_SESSION.get(method)
        if of_session is None and method not in _HANDLERS:
            raise RpcError(METHOD_NOT_FOUND, f"Method not found: {method}")
        params: Buffer = message.params if message.params is not None else b"{}"
        try:
            members = jsonrpc.members_of(params)
        except (ProtocolError, ValueError):
            if bytes(params) != b"null":
                raise RpcError(INVALID_PARAMS, "params is a JSON object") from None
            members = {}  # JSON-RPC has no null here, some clients do
        call = Call(session.caller, method, params, members, emit, ask, part, progress_token(members))
        if of_session is None:
            return self.dispatch(call)
        if self.in_flight >= self.config.limits.calls and (full := self._full()):
            raise full
        return self._counted(of_session(self, session, call))

    def dispatch(self, call: Call) -> Awaitable[Answer]:
        """`serve` for clients of either era, without what only sessions have."""
        handler = _HANDLERS.get(call.method)
        if handler is None:
            raise RpcError(METHOD_NOT_FOUND, f"Method not found: {call.method}")
        if self.in_flight >= self.config.limits.calls and (full := self._full()):
            self._refuse(call, full)
            raise full
        if handler is relay.call_tool:
            return relay.call_tool(self, call)  # counts itself: nearly every request is one frame shorter
        return self._counted(handler(self, call))

    def relay(self, backend: Backend, call: Call) -> Awaitable[Answer]:
        """Have a call that names its backend itself carried out there. Raises: RpcError, here and there."""
        if self.in_flight >= self.config.limits.calls and (full := self._full()):
            raise full
        return self._counted(relay.relay(backend, call))

    def refuse(self, caller: Caller, message: Message, error: RpcError) -> None:
        """Take down a request that did not get as far as `dispatch`, for this reason."""
        if message.method in KINDS:
            params: Buffer = message.params or b"{}"
            try:
                members = jsonrpc.members_of(params)
            except (ProtocolError, ValueError):
                members = {}
            self._refuse(Call(caller, message.method, params, members, _unheard, _unasked, _kept), error)

    def _refuse(self, call: Call, error: RpcError) -> None:
        if call.method in KINDS:
            exposed = bytes(call.members.get("uri" if call.method == "resources/read" else "name", b""))
            self.ledger.ended(call, exposed, "", "", perf_counter(), error, sent=False)

    def _full(self) -> RpcError | None:
        """Why no more calls are taken, if so. Parked ones wait for people: they have a bound of their own."""
        limit = self.config.limits.calls
        if self.in_flight - self.inputs.parked < limit:
            return None
        return RpcError(INTERNAL_ERROR, f"more than {limit} calls in flight (limits.calls); try later", http_status=503)

    async def _counted(self, work: Awaitable[Answer]) -> Answer:
        self.in_flight += 1
        try:
            return await work
        finally:
            self.in_flight -= 1

    async def _ping(self, session: Session, call: Call) -> Answer:
        return b"{}", None

    async def _list(self, kind: str, call: Call) -> Answer:
        await self.settled()
        self.notices.listed(call.caller.key)
        hint = hint_of(kind, self.backends, self.list_ttl) if call.caller.stateless else STALE
        return local.list_page(self.catalog.of(kind), call.members, call.caller.version, hint), None

    async def _subscribe(self, session: Session, call: Call) -> Answer:
        uri = local.string(call.members, "uri")
        await self.subscriptions.add(session, call, uri, await self.resource(uri), call.members)
        return b"{}", None

    async def _unsubscribe(self, session: Session, call: Call) -> Answer:
        await self.subscriptions.remove(session, local.string(call.members, "uri"))
        return b"{}", None

    async def _set_level(self, session: Session, call: Call) -> Answer:
        await self.levels.set(session, local.log_level(call.members))
        return b"{}", None

    # ---- the end of a session ------------------------------------------------------------------------------

    def forget(self, session: Session) -> None:
        """A session ended or left memory: what was held for it at the backends is given back."""
        for backend, uri in self.subscriptions.last_of(session):
            backend.drop_subscription(uri)
        self.levels.left(session)
        self._forget_key(session.caller.key)

    def _forget_key(self, key: SessionKey) -> None:
        for backend in self.backends:
            backend.forget(key)

    def roots_changed(self, caller: Caller) -> None:
        """A client's roots changed; backends that were told of roots hear of it."""
        if not caller.capabilities & ClientCapability.ROOTS:
            return
        for backend in self.backends:
            backend.roots_changed(caller.key)


async def _nothing_used() -> dict[str, Usage]:
    return {}  # nobody has processes


def _unheard(method: str, params: Buffer) -> None:
    """A call that was refused says nothing,"""


async def _unasked(method: str, params: Buffer) -> Buffer:
    raise RpcError(INTERNAL_ERROR, f"{method}: the call was refused")


def _kept() -> None:
    """and has nobody who could be let go."""


Handler: TypeAlias = "Callable[[Gateway, Call], Awaitable[Answer]]"
OfSession: TypeAlias = "Callable[[Gateway, Session, Call], Awaitable[Answer]]"

_HANDLERS: Final[dict[str, Handler]] = {
    "tools/call": relay.call_tool,
    "tools/list": lambda gateway, call: gateway._list("tools", call),
    "prompts/list": lambda gateway, call: gateway._list("prompts", call),
    "prompts/get": relay.get_prompt,
    "resources/list": lambda gateway, call: gateway._list("resources", call),
    "resources/templates/list": lambda gateway, call: gateway._list("resourceTemplates", call),
    "resources/read": relay.read_resource,
    "completion/complete": relay.complete,
}
"""The methods of both eras."""

_OF_SESSION: Final[dict[str, OfSession]] = {
    "ping": Gateway._ping,
    "resources/subscribe": Gateway._subscribe,
    "resources/unsubscribe": Gateway._unsubscribe,
    "logging/setLevel": Gateway._set_level,
}
