"""One configured server, kept running: connected, its catalogue known, calls sent to the right link.

Theory of operation. `run` is a loop round the table of `supervisor.states`: connect the link that fetches
the catalogue, load it, be ready until the link is lost, wait as the restart policy says, again. Calls go to
that link when it is shared, or to the session's own. What the backend lists is fetched anew when it says so,
and reported only if it differs. A server that nobody uses may be put to sleep: stopped until a call needs it.

Rules.
1. Ready means usable: handshake done, catalogue loaded, log level and subscriptions set again.
2. The last catalogue stays valid while the server is away: lists do not shrink because a process restarts.
3. A call to a server that is away waits for the attempt under way, or makes one happen, and fails with the reason.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Final

import trio

from mcpd.backends.description import Description
from mcpd.backends.ears import Ears
from mcpd.backends.idle import Sleep, wait_answered
from mcpd.backends.inheritance import Inheritance
from mcpd.backends.instances import Instances
from mcpd.backends.interests import Interests
from mcpd.backends.kept import LastKnown
from mcpd.backends.leases import Leases
from mcpd.backends.lists import Lists
from mcpd.backends.lobby import WAIT_FOR_ATTEMPT, Lobby
from mcpd.backends.pace import Pace
from mcpd.backends.shelf import may_be_asked
from mcpd.backends.stdio import ChildEnded
from mcpd.backends.tenure import Tenure
from mcpd.errors import BackendUnavailable, RpcError
from mcpd.protocol.capabilities import EVERYTHING
from mcpd.supervisor.restart import RestartPolicy
from mcpd.supervisor.states import STARTABLE, USABLE, Event, State, step

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from mcpd.backends.base import Catalogue, News
    from mcpd.backends.carried import BackendState
    from mcpd.backends.connector import Connector
    from mcpd.backends.kept import KeptCatalogues
    from mcpd.backends.link import Link
    from mcpd.config.model import ServerSpec
    from mcpd.protocol.calls import Call, Caller
    from mcpd.protocol.handshake import ServerHello
    from mcpd.protocol.jsonrpc import Members, Message
    from mcpd.types import SessionKey

log = logging.getLogger("mcpd.backends")

AT_REST: Final = frozenset({State.STOPPED, State.DRAINING, State.STOPPING})
"""States in which waiting for a link is waiting for an operator."""


class ManagedBackend:
    """Implements `base.Backend`."""

    def __init__(self, spec: ServerSpec, connector: Connector, news: News, kept: KeptCatalogues | None = None) -> None:
        self.name = spec.name
        self.spec = spec
        self.state = State.STOPPED
        self._kept = kept
        known = kept.load(spec) if kept is not None else None
        self.hello: ServerHello | None = known.hello if known else None
        self._connector = connector
        self._apart = spec.apart
        self._shared = spec.instances == "shared"
        self._finds = spec.apart
        """Whether a session's own link is looked for before anything else; no longer when it drains."""
        self._news = news
        self._link: Link | None = None
        self._leaving: Link | None = None
        """The link that drains."""
        self._common: Link | None = None
        """The same where it serves every call, so that a call goes straight to it."""
        self._lists = Lists(spec, known, changed=self._lists_changed, settled=self._lists_settled)
        self._ears = Ears(self, news, self._lists, relist=self._relist, instances=lambda: self._instances)
        self._instances = Instances(connector, self._ears, at_failure=self._look)
        self._leases = Leases(connector, self._ears, at_failure=self._look)
        self._pace = Pace(spec.name, RestartPolicy.of(spec.restart))
        self._lobby = Lobby()
        parts = (connector, self._lists, self._instances, self._leases, self._pace)
        self._description = Description(*parts, self._lobby)
        self._verdict = trio.Event()
        self._sleep = Sleep(spec, known=known is not None)
        self._wake = trio.Event()
        self._interests = Interests(
            spec, self._instances, link=lambda: self._link, link_for=self._link_for, updated=self._ears.resource_updated
        )
        self._restart_count = 0
        self._ready_since: float | None = None
        self.tenure = Tenure(self)
        self.inheritance = Inheritance(*parts, link=lambda: self._link)

    # ---- staying alive -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the server running until cancelled; then it is stopped."""
        if not self.asleep:
            self._step(Event.START)  # at once: calls come as soon as something is listed, and wait for one that starts
        async with trio.open_nursery() as nursery:
            await nursery.start(self._instances.run)
            await nursery.start(self._leases.run)
            self.inheritance.resume_others()
            while True:
                patience = WAIT_FOR_ATTEMPT
                if self.asleep:
                    self._judged()  # there is nothing to be waited for at the start
                    await self._sleep.wait_woken()
                    # Who wakes it knows that it takes a start, and waits for as long as that may take.
                    patience = self.spec.timeouts.init
                self._lobby.begin(patience)
                if self.state in STARTABLE:
                    self._step(Event.START)
                failure = await self._attempt()
                if self.tenure.over:
                    return
                if self.asleep:
                    self._ready_since = None
                    self._step(Event.STOPPED)
                    continue
                uptime = trio.current_time() - self._ready_since if self._ready_since is not None else 0.0
                was_ready, self._ready_since = self._ready_since is not None, None
                delay = self._judge(failure, was_ready, uptime)
                self._judged()
                await self._pause(delay)
                self._restart_count += 1

    def _judge(self, failure: RpcError, was_ready: bool, uptime: float) -> float | None:
        """Take the step that the failure means; returns seconds until the next attempt, None for no more."""
        if self.state is State.DRAINING:
            self._step(Event.LOST)
            self._step(Event.STOPPED)
            return None
        # A child that worked and then ended with status 0 wanted to; anything else is a failure.
        wanted = was_ready and isinstance(failure, ChildEnded) and failure.wanted
        event, delay = self._pace.judge(failure, uptime=uptime, was_ready=was_ready, wanted=wanted)
        self._step(event)
        self._news.failed(self, failure, delay)
        return delay

    async def _rest(self, link: Link) -> None:
        await self._sleep.wait_due(link, self._instances, self._leases, self._interests)
        if not link.lost.is_set() and self.state in USABLE:
            self._sleep.fall()
            self._link = self._common = None
            self._step(Event.STOP)
            self._leases.rest()
            link.fail(BackendUnavailable(self.name, "it was stopped, because nobody used it"))

    async def _pause(self, delay: float | None) -> None:
        self._wake = trio.Event()
        with trio.move_on_after(math.inf if delay is None else delay):
            await self._wake.wait()
        if self.state is State.BACKING_OFF:
            self._step(Event.RETRY)

    async def _attempt(self) -> RpcError:
        """Connect, load, be ready; returns why it ended. Only cancellation passes."""
        failure: RpcError | None = None
        try:
            async with trio.open_nursery() as nursery:
                try:
                    claim = self._lobby.claim
                    async with self._connector.connect(nursery, self._ears, EVERYTHING, None, claim) as link:
                        await self._live(link, nursery)
                        failure = link.reason if isinstance(link.reason, RpcError) else None
                except RpcError as error:
                    failure = error
                nursery.cancel_scope.cancel()
        except Exception as error:
            # The crash boundary of a backend: a bug in mcpd must not take the other backends along.
            log.exception("backend=%s event=internal_error", self.name)
            failure = BackendUnavailable(self.name, f"internal error in mcpd: {error!r}", remedy="see mcpd's log")
        finally:
            self._link = self._common = self._leaving = None
        if failure is None:
            return BackendUnavailable(self.name, "its connection ended")
        return failure.with_traceback(None)  # it is kept for operators, the frames of this attempt are not

    async def _live(self, link: Link, nursery: trio.Nursery) -> None:
        """From the handshake to the loss of the link."""
        self.hello = link.hello
        self._interests.adopt(link)
        if self._connector.stateless:
            self._interests.inherited.share()
        changed: tuple[str, ...] = ()
        if link.carried is None:
            # First what makes it tell of changes: one that comes while the lists are fetched must not be missed.
            await link.replay()
            changed = await self._lists.load(link)
        else:
            self._interests.inherited.drop()
        self._link = link
        self._common = link if self._shared or self._connector.stateless else None
        self._ready(changed)
        if link.carried is None:
            self._leases.warm()
        else:
            self._ready_since = self.inheritance.resume(link) or self._ready_since
        nursery.start_soon(self._lists.refresh, link)
        if self.spec.idle_stop:
            nursery.start_soon(self._rest, link)
        await link.lost.wait()
        # From now on calls wait for the next attempt, also while this one is still being cleared away.
        self._link = self._common = None

    def _ready(self, changed: tuple[str, ...]) -> None:
        self._pace.worked()
        self._ready_since = trio.current_time()
        self._step(Event.DEGRADED if self._lists.failed else Event.READY)
        assert self.hello is not None
        version = self.hello.version.text
        counts = " ".join(f"{kind}={count}" for kind, count in self.catalogue.counts().items())
        log.info("backend=%s event=%s version=%s %s", self.name, self.state.value, version, counts)
        self._lists_changed(changed)
        self._judged()
        self._interests.inherited.announce()
        self._instances.revive()

    async def drain(self, seconds: float) -> bool:
        """Take no more calls, and let those in flight finish; whether all did in that time.

        What follows is the caller's: to cancel `run`. What is not usable has nothing to finish, and stays as it is.
        """
        if self.state not in USABLE:
            return True
        self._leaving, self._link, self._common, self._finds = self._link, None, None, False
        self._step(Event.DRAIN)
        return await wait_answered(seconds, self._leaving, self._instances, self._leases)

    def _step(self, event: Event) -> None:
        before, self.state = self.state, step(self.state, event)
        self._lobby.tell()
        if self.state is not before:
            self._news.stepped(self, before)

    def _judged(self) -> None:
        """It is known what there is to know of it for now."""
        self._verdict.set()
        self._news.verdict(self)

    @property
    def asleep(self) -> bool:
        return self._sleep.asleep

    def capture(self) -> BackendState:
        """What the program needs to go on that takes this one's place. Changes nothing."""
        return self.inheritance.capture(hello=self.hello, restarts=self._restart_count, ready_since=self._ready_since)

    def inherit(self, state: BackendState) -> tuple[int, ...]:
        """Be what the program before had, before `run`; returns the pids of the children that this goes on with."""
        pids = self.inheritance.accept(state)
        if pids is None:
            return ()
        self.hello = state.hello or self.hello
        self._sleep = Sleep(self.spec, known=self.hello is not None, running=bool(pids))
        self._restart_count = state.restarts
        if state.held:
            self.tenure.hold()
        return pids

    def stirs(self) -> bool:
        return self._connector.stirs()

    async def wait_verdict(self) -> None:
        await self._verdict.wait()

    # ---- its lists -----------------------------------------------------------------------------------------

    @property
    def catalogue(self) -> Catalogue:
        return self._lists.catalogue

    async def _relist(self, kind: str) -> None:
        if self._link is not None:
            await self._lists.relist(self._link, kind)

    def _lists_changed(self, kinds: tuple[str, ...]) -> None:
        if self._kept is not None and self.hello is not None:
            self._kept.store(self.spec, LastKnown(self.hello, self.catalogue))
        if kinds:
            self._news.catalogue_changed(self, kinds)

    def _lists_settled(self) -> None:
        if self._lists.failed and self.state is State.READY:
            self._step(Event.DEGRADED)
        elif not self._lists.failed and self.state is State.DEGRADED:
            self._step(Event.RECOVERED)

    # ---- calls ---------------------------------------------------------------------------------------------

    def call(self, call: Call, method: str, members: Members) -> Awaitable[Message]:
        # Where the link is there already, the call is the link's alone, without a frame in between: every
        # frame that awaits costs again each time the call is parked and woken.
        link = self._common
        if link is None and self._finds:
            link = self._instances.find(call.caller.key)
        return self._call(call, method, members) if link is None else link.call(call, method, members)

    async def _call(self, call: Call, method: str, members: Members) -> Message:
        link = self._link or await self._usable()
        if not self._shared and not self._connector.stateless:
            if self._instances.serves(call.caller):
                link = await self._own_link(call.caller)
            elif may_be_asked(call, method):
                return await self._leases.call(call, method, members)
        return await link.call(call, method, members)

    async def _usable(self) -> Link:
        """Wait for the attempt under way, or make one happen (rule 3). Raises: BackendError."""
        # Who finds an attempt under way waits for that one; who finds the server lost, waiting or asleep may cause one.
        attempted = self.state is State.STARTING

        def look() -> Link | None:
            nonlocal attempted
            if self._link is not None:
                return self._link
            if self.asleep and not self.tenure.over:
                attempted = True
                self._sleep.wake()
            elif self.state in (State.BACKING_OFF, State.NEEDS_OPERATOR):
                if attempted or not self._pace.wake():
                    raise self._pace.unavailable(self.state.value)
                attempted = True
                self._wake.set()
            elif self.state in AT_REST:
                raise self._pace.unavailable(self.state.value)
            return None

        if (link := await self._lobby.wait(look, lambda: self.asleep)) is None:
            raise self._pace.unavailable(self.state.value)
        return link

    async def _link_for(self, caller: Caller) -> Link:
        """The link that serves a client outside its calls. Raises: BackendError."""
        if self._instances.serves(caller):
            return await self._own_link(caller)
        return self._link or await self._usable()

    async def _own_link(self, caller: Caller) -> Link:
        """The link of a client's session; while it lasts, no other matters. Raises: BackendError."""
        link = self._instances.find(caller.key)
        if link is None:
            shared = self._link or await self._usable()
            if self._connector.stateless:
                return shared
            link = await self._instances.get(caller)
        return link

    def _look(self) -> None:
        """A session's own link failed: see whether the shared one lives, which may have no other sign of it."""
        if self._link is not None and self._connector.transport != "stdio":
            self._link.dialect.check()

    async def set_level(self, level: str, key: SessionKey, own: str) -> None:
        await self._interests.set_level(level, key, own)

    async def subscribe(self, call: Call, uri: str, members: Members) -> None:
        await self._interests.subscribe(call, uri, members)

    def resubscribe(self, caller: Caller, uri: str, members: Members) -> None:
        self._interests.inherited.add(caller, uri, members, own=self._apart)
        self._sleep.wake()

    async def unsubscribe(self, key: SessionKey, uri: str) -> None:
        await self._interests.unsubscribe(key, uri)

    def drop_subscription(self, uri: str) -> None:
        self._interests.drop_subscription(uri)

    async def watch_task(self, id: str) -> None:
        await self._interests.watched.add(id, self._link or await self._usable())

    def unwatch_task(self, id: str) -> None:
        self._interests.watched.remove(id, self._link)

    def roots_changed(self, key: SessionKey) -> None:
        link = self._instances.find(key) if self._apart else self._link
        if link is not None:
            link.dialect.roots_changed()

    def forget(self, key: SessionKey) -> None:
        self._interests.forget(key)

    # ---- for operators -------------------------------------------------------------------------------------

    def describe(self) -> dict[str, object]:
        return self._description.of(
            self.state, self.asleep, self.hello, self._link or self._leaving, restarts=self._restart_count
        )
