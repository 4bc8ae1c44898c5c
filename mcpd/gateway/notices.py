"""News on its way up: what changed at the backends, told to the clients it concerns and to nobody else.

Changes of the catalogue are collected for a moment, the snapshot is built anew once, and a client hears
`list_changed` only for a list that really differs. A resource's update goes to those who subscribed to it; what one
session's own backend link says outside any call goes to that session alone. A client that is
still shaking hands hears nothing: it knows no list yet that could have changed, and expects the answer to its
initialize first. A modern client hears what it listens for, and can be asked nothing outside a call. What a task has
become goes to those who watch it, under the id that they know it by.

Source: "List Changed Notification", "Subscriptions" of each version.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mcpd.backends.notifications import severity
from mcpd.backends.questions import allowed
from mcpd.errors import INTERNAL_ERROR, METHOD_NOT_FOUND, BackendError, ProtocolError, RpcError
from mcpd.gateway import tasks
from mcpd.gateway.listens import RESOURCE_UPDATED, TASK_CHANGED
from mcpd.gateway.sessions import UPDATED
from mcpd.gateway.tally import Tally
from mcpd.protocol import jsonrpc
from mcpd.protocol.capabilities import ASKED_FOR, NOTHING
from mcpd.protocol.convert import Untranslatable, down_request
from mcpd.protocol.edits import members_or_none, text
from mcpd.protocol.handshake import ServerState
from mcpd.supervisor.states import USABLE, State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcpd.backends.base import Backend
    from mcpd.events import Events
    from mcpd.gateway.catalog import Catalog
    from mcpd.gateway.listens import Listens
    from mcpd.gateway.sessions import Session, Sessions
    from mcpd.gateway.subscriptions import Subscriptions
    from mcpd.protocol.jsonrpc import Buffer
    from mcpd.types import SessionKey

log = logging.getLogger("mcpd.gateway")

NOTIFICATIONS: Final = {
    "tools": "notifications/tools/list_changed",
    "prompts": "notifications/prompts/list_changed",
    "resources": "notifications/resources/list_changed",
    "resourceTemplates": "notifications/resources/list_changed",
}


class Notices:
    """Implements `backends.base.News` for the gateway."""

    def __init__(
        self,
        sessions: Sessions,
        subscriptions: Subscriptions,
        listens: Listens,
        *,
        rebuild: Callable[[], tuple[Catalog, Catalog]],
        delay: float,
        events: Events,
        note: Callable[[str, str], None],
    ) -> None:
        self._events = events
        self.tally = Tally()
        """Who counts starts and failures; the gateway's."""
        self._note = note
        self._sessions = sessions
        self._subscriptions = subscriptions
        self._listens = listens
        self._rebuild = rebuild
        self.delay = delay
        """Seconds in which changes are collected."""
        self._dirty = trio.Event()
        self._verdicts = trio.Event()
        self._known: dict[str, str] = {}
        """Digests of the lists that clients know from an earlier run."""
        self._heirs: set[SessionKey] = set()
        """Those clients, until they are told what differs, or list again."""

    async def run(self) -> None:
        """Turn changes into notifications, for ever."""
        while True:
            await self._dirty.wait()
            await trio.sleep(self.delay)
            self.flush()

    def refresh(self) -> None:
        """Build the snapshot now, whatever changed, and tell everybody what differs."""
        self._dirty.set()
        self.flush()

    def flush(self) -> None:
        """Build the snapshot now if something changed, and tell everybody what differs."""
        if not self._dirty.is_set():
            return
        self._dirty = trio.Event()
        before, after = self._rebuild()
        methods = {NOTIFICATIONS[kind] for kind in after.changed_since(before, NOTIFICATIONS)}
        for method in sorted(methods):
            parts = jsonrpc.notification(method.encode())
            for session in self._sessions:
                if session.state is ServerState.READY and session.caller.key not in self._heirs:
                    session.deliver(method, parts)
            for listen in self._listens:
                listen.changed(method)
        if methods:
            lists = sorted(method.split("/")[1] for method in methods)
            log.info("event=catalogue_changed lists=%s", ",".join(lists))
            self._events.emit(
                "list_changed", lists=lists, sizes={kind: len(after.of(kind).raws) for kind in NOTIFICATIONS}
            )

    # ---- clients of an earlier run --------------------------------------------------------------------------

    def inherit(self, lists: dict[str, str], keys: set[SessionKey]) -> None:
        """These clients know these lists, by kind and digest: they are told what differs by `welcome`."""
        self._known, self._heirs = lists, keys

    def listed(self, key: SessionKey) -> None:
        """A client asked for a list: what it knows is this run's now."""
        self._heirs.discard(key)

    async def welcome(self, settled: Callable[[], Awaitable[None]]) -> None:
        """Tell the clients of an earlier run what differs, when the backends had time to start."""
        if self._heirs:
            await settled()
            self.flush()
            self._catch_up()

    def conclude(self) -> dict[str, str]:
        """Tell what is still to be told, and return the digests of the lists as clients know them then."""
        self.flush()
        self._catch_up()
        _, catalog = self._rebuild()
        return {kind: catalog.of(kind).digest for kind in NOTIFICATIONS}

    def _catch_up(self) -> None:
        heirs, self._heirs = self._heirs, set()
        if not heirs:
            return
        _, catalog = self._rebuild()
        differing = [kind for kind in NOTIFICATIONS if self._known.get(kind) != catalog.of(kind).digest]
        for method in sorted({NOTIFICATIONS[kind] for kind in differing}):
            for key in heirs:
                session = self._sessions.by_key(key)
                if session is not None and session.state is ServerState.READY:
                    session.deliver(method, jsonrpc.notification(method.encode()))

    async def wait_news(self) -> None:
        """Return at the next verdict about any backend."""
        await self._verdicts.wait()

    # ---- what backends say (base.News) ---------------------------------------------------------------------

    def catalogue_changed(self, backend: Backend, kinds: tuple[str, ...]) -> None:
        self._dirty.set()

    def verdict(self, backend: Backend) -> None:
        verdicts, self._verdicts = self._verdicts, trio.Event()
        verdicts.set()

    def stepped(self, backend: Backend, before: State) -> None:
        if backend.state in USABLE and before not in USABLE:
            self._note(backend.name, backend.state.value)
        if backend.state is State.STARTING:
            self.tally.starts[backend.name] += 1
        self._events.emit("state", server=backend.name, **{"from": before.value, "to": backend.state.value})

    def failed(self, backend: Backend, failure: RpcError, delay: float | None) -> None:
        why, reason = ("error", failure.message)
        if isinstance(failure, BackendError):
            why, reason = failure.kind, failure.reason
        retry = None if delay is None else round(delay, 1)
        again = "it is not tried again" if retry is None else f"it is tried again in {retry:g} s"
        self._note(backend.name, f"{reason}; {again}")
        self.tally.failed(backend.name, why)
        self._events.emit("restart", server=backend.name, why=why, reason=reason, retry_in=retry)

    def resource_updated(self, backend: Backend, params: Buffer, owner: SessionKey | None) -> None:
        try:
            uri = msgspec.json.decode(jsonrpc.members_of(params)["uri"], type=str)
        except (ProtocolError, KeyError, ValueError, RecursionError):
            log.warning("backend=%s event=bad_notification method=%s", backend.name, RESOURCE_UPDATED)
            return
        params = bytes(params)
        parts = jsonrpc.notification(RESOURCE_UPDATED.encode(), params)
        for key in self._subscriptions.holders(backend, uri):
            if owner is not None and owner != key:
                continue
            session = self._sessions.by_key(key)
            if session is not None:
                session.deliver(UPDATED + uri, parts)
            elif (listen := self._listens.by_key(key)) is not None:
                listen.updated(uri, params)

    def task_changed(self, backend: Backend, params: Buffer) -> None:
        members = members_or_none(params)
        native = text(members, "taskId")
        if native is None:
            log.warning("backend=%s event=bad_notification method=%s", backend.name, TASK_CHANGED)
            return
        id = tasks.shown(native, backend)
        members["taskId"] = msgspec.Raw(msgspec.json.encode(id))
        params = jsonrpc.encode_members(members)
        for listen in self._listens:
            listen.task_changed(id, params)

    def unrelated(self, backend: Backend, method: str, params: Buffer, owner: SessionKey | None) -> None:
        session = self._sessions.by_key(owner) if owner is not None else self._sessions.the_only_one()
        if session is None or session.state is not ServerState.READY:
            return
        level = session.caller.log_level
        if method == "notifications/message" and level is not None:
            try:
                if severity(params) < level:
                    return
            except (ProtocolError, ValueError):
                log.warning("backend=%s event=bad_notification method=%s", backend.name, method)
                return
        session.deliver("", jsonrpc.notification(method.encode(), bytes(params)))

    async def ask_owner(self, backend: Backend, owner: SessionKey | None, method: str, params: Buffer) -> Buffer:
        session = self._sessions.by_key(owner) if owner is not None else self._sessions.the_only_one()
        needed = ASKED_FOR.get(method, NOTHING)
        if session is None or not session.caller.capabilities & needed:
            raise RpcError(METHOD_NOT_FOUND, f"{method}: no client can be asked outside a call")
        allowed(method, params, session.caller.capabilities)
        try:
            params = down_request(method, params, session.caller.version)
        except Untranslatable as refusal:
            raise RpcError(METHOD_NOT_FOUND, str(refusal)) from None
        return await self._ask(backend, session, method, params)

    async def _ask(self, backend: Backend, session: Session, method: str, params: Buffer) -> Buffer:
        outlet = session.outlet
        if outlet is None:
            raise RpcError(INTERNAL_ERROR, f"{method}: the client has no open stream to be asked on")
        timeout = backend.spec.timeouts.ask
        with trio.move_on_after(timeout):
            return await session.ask(outlet.send, method, params)
        raise RpcError(INTERNAL_ERROR, f"the client did not answer {method} in {timeout:g} s")
