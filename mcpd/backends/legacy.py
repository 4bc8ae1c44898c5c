"""A session with a backend of the handshake versions: `initialize`, requests, and what the backend says unasked.

Rules.
1. A request that was refused for its session was not executed: the session is opened anew, level and
   subscriptions are set again, and the request is sent once more. Nothing else is ever sent twice.
2. A session is opened anew once for all who were refused, in a task of the link: a client that leaves
   meanwhile harms nobody. If it cannot be opened, the link is lost.
3. A modern client's call is answered in its own form, and fails for a capability only if the backend was refused one
   and then gave up: only then was it indispensable.

Source: "Lifecycle", "Cancellation", "Logging" of 2024-11-05 to 2025-11-25.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mcpd.backends import tasks
from mcpd.backends.carrier import SessionLost
from mcpd.backends.catalogue import announced
from mcpd.backends.notifications import LIST_CHANGES, Notifications
from mcpd.backends.questions import Questions, elicitations_of
from mcpd.errors import (
    INVALID_PARAMS,
    URL_ELICITATION_REQUIRED,
    BackendError,
    BackendMisbehaved,
    BackendTimedOut,
    BackendUnavailable,
    MissingCapability,
    ProtocolError,
    RpcError,
)
from mcpd.protocol import handshake, jsonrpc
from mcpd.protocol.calls import LOG_LEVELS
from mcpd.protocol.capabilities import encode_client_capabilities
from mcpd.protocol.envelope import drop_envelope
from mcpd.protocol.meta import with_progress_token
from mcpd.protocol.modern import complete
from mcpd.protocol.versions import COMPLETION_CONTEXT, MODERN, TASKS, has
from mcpd.types import IMPLEMENTATION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcpd.backends.link import Link
    from mcpd.backends.waiter import Waiter
    from mcpd.protocol.calls import Call
    from mcpd.protocol.jsonrpc import Buffer, Members, Message
    from mcpd.protocol.versions import Feature

log = logging.getLogger("mcpd.backends")

FIRST: Final = frozenset({"initialize", "server/discover"})
"""What opens a connection. It has its own time, and is never cancelled: the specification forbids it for the one, and a
server that does not know the other would not know what is cancelled either."""

RESTING: Final = LOG_LEVELS.index("info")
"""Most servers start at this level: one that nobody has set a level for is not made to say less than this."""


class Legacy:
    """The dialect of the versions that begin with a handshake. Implements `link.Dialect`."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._state = handshake.ClientState.NEW
        self._renewal: trio.Event | None = None
        self.questions = Questions(
            link.name,
            peer=link.peer,
            owner=link.owner,
            asker=link.listener,
            timeout=link.timeouts.ask,
            label=link.label,
        )
        self._notifications = Notifications(
            link.peer, owner=link.owner, listener=link.listener, questions=self.questions
        )

    async def open(self) -> handshake.ServerHello:
        """Do the whole handshake. Raises: BackendError when the backend refuses or does not answer it."""
        hello = await self.offer()
        await self.agree(hello)
        return hello

    def resume(self) -> None:
        """The session was opened by another program."""
        self._state = handshake.ClientState.READY

    async def offer(self) -> handshake.ServerHello:
        """The first half: ask what the backend agrees to. Nothing is agreed yet. Raises: BackendError."""
        link = self._link
        self._state = handshake.offer(handshake.ClientState.NEW, handshake.Event.INITIALIZE)
        params = handshake.initialize_params(link.capabilities, IMPLEMENTATION)
        waiter = link.waiter("initialize", None, link.timeouts.init, link.timeouts.init)
        try:
            answer = await link.once(waiter, jsonrpc.members_of(params))
            hello = handshake.read_initialize_result(answer.members["result"])
        except BackendError:
            raise
        except (ProtocolError, UnicodeDecodeError) as error:
            raise BackendMisbehaved(link.name, str(error), remedy="check that this is an MCP server") from None
        except RpcError as error:
            self._state = handshake.offer(self._state, handshake.Event.ERROR)
            raise RefusedInitialize(link.name, error) from None
        self._state = handshake.offer(self._state, handshake.Event.RESULT)
        return hello

    async def agree(self, hello: handshake.ServerHello) -> None:
        """The second half: the session begins. Raises: BackendError."""
        link = self._link
        link.hello = hello
        link.carrier.opened(hello)
        await link.carrier.post(jsonrpc.notification(b"notifications/initialized"))
        self._state = handshake.offer(self._state, handshake.Event.INITIALIZED)

    # ---- what mcpd sends -----------------------------------------------------------------------------------

    def call(self, call: Call, method: str, members: Members) -> Awaitable[Message]:
        link = self._link
        as_task = False
        if method == "tools/call":
            as_tasks = link.listener.tools.as_tasks
            as_task = bool(as_tasks) and bytes(members["name"]) in as_tasks and self._has(TASKS)
        elif method == "completion/complete" and not self._has(COMPLETION_CONTEXT):
            members.pop("context", None)
        if as_task or call.caller.stateless:
            return self._for_caller(call, method, members, as_task=as_task)
        timeouts = link.timeouts
        return self._request(link.waiter(method, call, timeouts.call_idle, timeouts.call_max), members)

    def _has(self, feature: Feature) -> bool:
        hello = self._link.hello
        return hello is not None and has(hello.version, feature)

    async def _for_caller(self, call: Call, method: str, members: Members, *, as_task: bool) -> Message:
        """A call that takes more than one request, or whose result must be put into the caller's form."""
        link = self._link
        caller = call.caller
        if caller.stateless:
            drop_envelope(members)  # it is between the client and mcpd
        level = caller.log_level
        if caller.stateless and level is not None and (link.level is None or LOG_LEVELS.index(link.level) > level):
            await link.set_level(LOG_LEVELS[level if link.level is not None else min(level, RESTING)])
        waiter = link.waiter(method, call, link.timeouts.call_idle, link.timeouts.call_max)
        try:
            if as_task:
                answer = await tasks.carry_out(link, self._request, waiter, members)
            else:
                answer = await self._request(waiter, members)
        except BackendError:
            raise
        except RpcError as error:
            if caller.stateless and waiter.refused:
                needed = encode_client_capabilities(waiter.refused, MODERN)
                raise MissingCapability(needed, f"the backend gave up without it: {error.message}") from None
            raise
        if caller.stateless:
            try:
                result = complete(answer.members["result"], IMPLEMENTATION, method=method)
            except ProtocolError:
                raise BackendMisbehaved(link.name, f"its result of {method} is not a JSON object") from None
            answer.members["result"] = msgspec.Raw(result)
        return answer

    def request(self, method: str, members: Members, timeout: float) -> Awaitable[Message]:
        return self._request(self._link.waiter(method, None, timeout, timeout), members)

    async def _request(self, waiter: Waiter, members: Members) -> Message:
        link = self._link
        if waiter.call is not None:
            link.last_used = waiter.begun
        if self._renewal is not None:
            await self._renewal.wait()
        generation = link.generation
        try:
            return await link.once(waiter, members)
        except SessionLost:
            await self.renewed(generation)
        waiter.again()
        try:
            return await link.once(waiter, members)
        except SessionLost:
            raise BackendUnavailable(
                link.name, "it loses every session at once", remedy="look at the server's own session handling"
            ) from None

    def params(self, waiter: Waiter, members: Members) -> Buffer | None:
        call = waiter.call
        if call is not None and call.token is not None and call.method == waiter.method:
            members = with_progress_token(members, waiter.id)
        return jsonrpc.encode_members(members) if members else None

    def refused(self, waiter: Waiter, error: RpcError) -> None:
        if error.code == URL_ELICITATION_REQUIRED and error.raw is not None and waiter.call is not None:
            for elicitation in elicitations_of(error.raw):
                self.questions.remember(waiter.call, elicitation)

    def cancel(self, waiter: Waiter, reason: str) -> None:
        if waiter.method in FIRST:
            return
        if waiter.questions:
            self.questions.withdraw(waiter)
        link = self._link
        link.carrier.forgo(waiter)
        params = msgspec.json.encode({"requestId": waiter.id, "reason": reason})
        link.notify("notifications/cancelled", params)

    async def set_level(self, level: str) -> None:
        await self._set_level(level, self._request)

    async def subscribe(self, call: Call, uri: str, members: Members) -> None:
        link = self._link
        timeouts = link.timeouts
        waiter = link.waiter("resources/subscribe", call, timeouts.call_idle, timeouts.call_max)
        await self._request(waiter, members)
        link.subscriptions[uri] = members

    async def unsubscribe(self, uri: str, members: Members) -> None:
        await self._request(self._link.own("resources/unsubscribe"), members)

    async def watch(self, task: str) -> None:
        raise RpcError(INVALID_PARAMS, f"backend '{self._link.name}' has no tasks to be watched")

    async def unwatch(self) -> None:
        """Nothing is watched."""

    def announces(self, kind: str) -> bool:
        hello = self._link.hello
        return hello is not None and announced(kind, hello.capabilities)

    def roots_changed(self) -> None:
        self._link.notify("notifications/roots/list_changed")

    def check(self) -> None:
        self._link.request_quietly("ping", {})

    # ---- a session that was lost ---------------------------------------------------------------------------

    async def renewed(self, generation: int) -> None:
        """Open a new session in place of the lost one of that generation, unless somebody does or did (rule 2).

        Raises: BackendError: it cannot be opened, and the link is lost.
        """
        link = self._link
        if link.reason is None and generation == link.generation:
            if self._renewal is None:
                self._renewal = trio.Event()
                link.nursery.start_soon(self._renew, self._renewal)
            await self._renewal.wait()
        if link.reason is not None:
            raise link.reason.with_traceback(None)

    async def wait_settled(self) -> None:
        """Return when no session is just being opened anew."""
        if self._renewal is not None:
            await self._renewal.wait()

    async def _renew(self, done: trio.Event) -> None:
        link = self._link
        log.info("backend=%s event=session_lost action=initialize", link.name)
        failure: BackendError | None = None
        try:
            link.carrier.reset()
            with trio.fail_after(link.timeouts.init):
                await self.open()
                await self._replay(link.once)
            link.generation += 1
        except trio.TooSlowError:
            failure = BackendTimedOut(
                link.name,
                f"no new session in {link.timeouts.init:g} s",
                remedy=f"servers.{link.name}.timeouts.init",
            )
        except SessionLost:
            failure = BackendUnavailable(
                link.name,
                "it loses every session at once",
                remedy="look at the server's own session handling",
            )
        except BackendError as error:
            failure = error
        finally:
            self._renewal = None
            if failure is not None:
                link.fail(failure)
            done.set()
        if failure is None and link.owner is None:
            # Most often it was restarted, perhaps as a newer version: whatever it lists now counts.
            for method in LIST_CHANGES:
                link.listener.list_changed(method)

    async def replay(self) -> None:
        await self._replay(self._request)

    async def _replay(self, send: Callable[[Waiter, Members], Awaitable[Message]]) -> None:
        link = self._link
        if link.level is not None:
            await self._set_level(link.level, send)
        for uri, members in list(link.subscriptions.items()):
            try:
                await send(link.own("resources/subscribe"), members)
            except RpcError as error:
                log.warning("backend=%s event=resubscribe_failed uri=%s reason=%s", link.name, uri, error)

    async def _set_level(self, level: str, send: Callable[[Waiter, Members], Awaitable[Message]]) -> None:
        link = self._link
        if link.hello is None or not link.hello.capabilities.logging:
            return
        try:
            await send(link.own("logging/setLevel"), {"level": msgspec.Raw(msgspec.json.encode(level))})
        except RpcError as error:
            log.warning("backend=%s event=set_level_failed reason=%s", link.name, error)

    # ---- what the backend sends ----------------------------------------------------------------------------

    def notification(self, message: Message, related: Waiter | None) -> None:
        self._notifications.take(message, related)

    def question(self, message: Message, related: Waiter | None) -> None:
        assert message.id is not None
        link = self._link
        if message.method == "ping":
            link.errands.start(link.post, jsonrpc.result(message.id, b"{}"))
        else:
            link.errands.start(self._answer, message, related)

    async def _answer(self, message: Message, related: Waiter | None) -> None:
        reply = await self.questions.answer(message, related)
        if reply is not None:
            await self._link.post(reply)


class RefusedInitialize(BackendUnavailable):
    """The backend answered initialize with an error. `error` is that."""

    def __init__(self, backend: str, error: RpcError) -> None:
        super().__init__(backend, f"it refused initialize: {error.message}", remedy="see the server's own log")
        self.error = error
