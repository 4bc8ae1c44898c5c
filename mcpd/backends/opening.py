"""Opening a link: which era is the backend of?

Theory of operation. A backend of unknown era is asked `server/discover` first. A usable answer makes it modern; -32022
says what it speaks instead; whatever else is an answer makes it worth asking the legacy way, by `initialize`. Errors
are never told apart by their codes: every legacy server words its refusal differently. What is no answer at all (no
connection, a proxy's 503, wrong credentials) says nothing of the era, and fails the attempt.

There are servers that drop what they do not know. So a server on a shared channel that says nothing for a while
(`HEDGE`) is asked the legacy way too, behind the other question. More often it is only slow to start, and will answer
both.

Rules.
1. A link has one dialect, and gets it once it is known which: until then nothing is agreed with the server.
2. Of a server that was asked both, the second answer counts: some let `initialize` decide for the whole connection
   although they answered the probe, others refuse it because they did.
3. A server that refuses `initialize` and names a modern version is probed once more: it was not listening the first
   time.
4. That a server is legacy is remembered for a while, for links come and go; not for ever, because an upgraded server
   still answers `initialize`; and only if it was asked for the other era and said no.

Source: 2026-07-28 "Versioning", "Backward Compatibility"; `initialize` as in the handshake versions.
"""

from __future__ import annotations

import enum
import logging
import math
from typing import TYPE_CHECKING, Final

import trio

from mcpd.backends.legacy import RefusedInitialize
from mcpd.backends.modern import Modern
from mcpd.backends.replies import NotUnderstood
from mcpd.errors import (
    BackendError,
    BackendMisbehaved,
    BackendUnavailable,
    ProtocolError,
    RpcError,
)
from mcpd.protocol.discover import Verdict, judge_error, read_discover

if TYPE_CHECKING:
    from mcpd.backends.link import Link
    from mcpd.protocol.handshake import ServerHello

log = logging.getLogger("mcpd.backends")

HEDGE: Final = 5.0
"""Seconds without any answer to the probe after which a server on a shared channel is asked the legacy way too. Servers
answer in well under a second once they run, and nearly all of those that are installed run after three; one that is
still being downloaded will answer both, and those of the official TypeScript SDK are legacy then."""

PROBE_WAIT: Final = 10.0
"""Seconds that a remote server gets to answer the probe before it is asked the legacy way. As the official clients."""

LEGACY_FOR: Final = 3600.0
"""Seconds for which a server that turned out legacy is not probed: it may have been upgraded."""

DOUBTFUL_FOR: Final = 300.0
"""The same where the probe came to nothing, and not to an answer: it may just have been busy."""

FATAL_FOR: Final = 86400.0
"""The same for a child that ended when it was probed: every probe costs a process."""


class Era(enum.Enum):
    """What is known of a backend's era."""

    UNKNOWN = enum.auto()
    LEGACY = enum.auto()
    MODERN = enum.auto()


class EraMemory:
    """What was found out about one server. `fixed`: the configuration says it."""

    def __init__(self, fixed: Era = Era.UNKNOWN) -> None:
        self._fixed = fixed
        self._legacy_until = -math.inf

    def recall(self, now: float) -> Era:
        """What to expect, by trio's clock. A modern server is probed each time: that is how it says what it has."""
        if self._fixed is Era.UNKNOWN and now < self._legacy_until:
            return Era.LEGACY
        return self._fixed

    def note(self, now: float, seconds: float) -> None:
        """It turned out legacy, and need not be probed for so long."""
        self._legacy_until = now + seconds

    def left(self, now: float) -> float:
        """Seconds for which it need not be probed yet."""
        return max(0.0, self._legacy_until - now)

    def forget(self) -> None:
        """What was remembered did not hold."""
        self._legacy_until = -math.inf


async def open_link(link: Link) -> ServerHello:
    """Open it as `link.era` says, or find out. Raises: BackendError."""
    opening = Opening(link)
    if link.era is Era.LEGACY:
        return await link.legacy.open()
    if link.era is Era.MODERN:
        return await opening.as_modern()
    if link.carrier.shared:
        return await opening.on_one_channel()
    return await opening.by_requests()


class Opening:
    """What a server of unknown era answered so far."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._modern = Modern(link)
        self._verdict: Verdict | None = None
        """What it answered to the probe; None until then, or if it said nothing of use."""
        self._probed: ServerHello | None = None
        self._offered: ServerHello | None = None
        self._failure: BackendError | None = None
        """Why it cannot be opened, or not the legacy way."""
        self._first = trio.Event()
        self._probe_over = trio.Event()
        self._offer_over = trio.Event()

    async def as_modern(self) -> ServerHello:
        """Open a server that is known to be modern. Raises: BackendError."""
        await self._probe()
        if self._verdict is Verdict.MODERN:
            return self._settle_modern()
        name = self._link.name
        reason = "it does not answer server/discover as a server of 2026-07-28 does"
        raise self._failure or BackendMisbehaved(name, reason, remedy=f"see servers.{name}.era")

    async def by_requests(self) -> ServerHello:
        """Open a server that answers each request on its own, one question after the other. Raises: BackendError."""
        with trio.move_on_after(min(PROBE_WAIT, self._link.timeouts.init / 2)):
            await self._probe()
        if self._failure is not None:
            raise self._failure
        if self._verdict is Verdict.MODERN:
            return self._settle_modern()
        return await self._ask_legacy()

    async def on_one_channel(self) -> ServerHello:
        """Open a server that answers on one channel, if it answers. Raises: BackendError."""
        patience = min(HEDGE, self._link.timeouts.init / 2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._probe)
            with trio.move_on_after(patience):
                await self._probe_over.wait()
            if not self._probe_over.is_set():
                log.info("backend=%s event=probe_unanswered action=initialize", self._link.name)
                nursery.start_soon(self._offer)
                await self._first.wait()
                await self._wait_second(patience)
            nursery.cancel_scope.cancel()
        if self._offered is not None:
            return await self._settle_legacy(self._offered)
        if self._verdict is Verdict.MODERN:
            return self._settle_modern()
        if self._offer_over.is_set() and isinstance(self._failure, RefusedInitialize):
            return await self._probe_again(self._failure)
        if self._failure is not None:
            raise self._failure
        return await self._ask_legacy()

    async def _wait_second(self, patience: float) -> None:
        """One of two questions was answered: wait for the other one as long as it may matter (rule 2)."""
        if self._probe_over.is_set() and self._verdict is not Verdict.MODERN:
            await self._offer_over.wait()
        elif self._offered is None:
            # The server is awake now. What it has not answered in a moment, it will not answer.
            with trio.move_on_after(patience):
                await (self._offer_over if self._probe_over.is_set() else self._probe_over).wait()

    # ---- the modern way ------------------------------------------------------------------------------------

    async def _probe(self) -> None:
        """Ask, twice if the first answer says that it should be; notes what came of it."""
        try:
            self._verdict = await self._discover()
            if self._verdict is Verdict.RESEND:
                self._verdict = await self._discover()
        except NotUnderstood as error:
            log.debug("backend=%s event=probe_refused reason=%s", self._link.name, error)
            if error.sure:
                self._verdict = Verdict.LEGACY
        except BackendError as error:
            self._failure = error
        if self._verdict is Verdict.HOPELESS:
            reason = "it speaks only versions of MCP that mcpd does not know"
            self._failure = BackendUnavailable(self._link.name, reason, remedy="update mcpd", needs_operator=True)
        self._first.set()
        self._probe_over.set()

    async def _discover(self) -> Verdict:
        """Ask once. Raises: BackendError when there is no answer that could be judged."""
        link = self._link
        waiter = link.waiter("server/discover", None, link.timeouts.init, link.timeouts.init)
        try:
            answer = await link.once(waiter, {}, self._modern)
            self._probed = read_discover(answer.members["result"])
        except BackendError:
            raise
        except ProtocolError as error:
            log.debug("backend=%s event=probe_misunderstood reason=%s", link.name, error.message)
            return Verdict.LEGACY
        except RpcError as error:
            return judge_error(error)
        return Verdict.LEGACY if self._probed is None else Verdict.MODERN

    def _settle_modern(self) -> ServerHello:
        link = self._link
        assert self._probed is not None
        link.dialect, link.hello, link.era = self._modern, self._probed, Era.MODERN
        link.carrier.opened(self._probed)
        return self._probed

    # ---- the legacy way ------------------------------------------------------------------------------------

    async def _ask_legacy(self) -> ServerHello:
        """Ask a server that was probed. Raises: BackendError."""
        try:
            hello = await self._link.legacy.offer()
        except RefusedInitialize as refusal:
            return await self._probe_again(refusal)
        return await self._settle_legacy(hello)

    async def _offer(self) -> None:
        """Ask while the probe is not answered yet; notes what came of it."""
        try:
            self._offered = await self._link.legacy.offer()
        except BackendError as error:
            self._failure = self._failure or error
        self._first.set()
        self._offer_over.set()

    async def _settle_legacy(self, hello: ServerHello) -> ServerHello:
        link = self._link
        await link.legacy.agree(hello)
        link.era = Era.LEGACY
        if self._verdict is None:
            link.remember = DOUBTFUL_FOR
        elif self._verdict is not Verdict.MODERN:
            link.remember = LEGACY_FOR
        return hello

    async def _probe_again(self, refusal: RefusedInitialize) -> ServerHello:
        """It refused `initialize`; perhaps it says why (rule 3). Raises: BackendError."""
        if judge_error(refusal.error) is not Verdict.RESEND:
            raise refusal
        self._failure = None
        self._verdict = await self._discover()
        if self._verdict is not Verdict.MODERN:
            raise refusal
        return self._settle_modern()
