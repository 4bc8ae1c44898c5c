"""Opening a link: which era is the backend of?

Theory of operation. A backend of unknown era is asked `server/discover` first. A usable answer makes it modern; -32022
says what it speaks instead; anything else that is an answer makes it worth trying `initialize`, whose answer makes it
legacy. Errors are never told apart by their codes: every legacy server words its refusal differently. A backend that says
nothing at all is sent `initialize` as well after a moment (`HEDGE`), on the same connection, and the first usable answer
counts: there are servers that drop what they do not know.

That a server is legacy is remembered for a while (`EraMemory`), for links come and go; not for ever, because an upgraded
server still answers `initialize`. A child that ended when it was probed is remembered for longer, for every probe costs a
process.

Source: 2026-07-28 "Versioning", "Backward Compatibility"; `initialize` as in the handshake versions.
"""

from __future__ import annotations

import enum
import logging
import math
from typing import TYPE_CHECKING, Final

import trio

from mcpd.backends.legacy import Legacy, RefusedInitialize
from mcpd.backends.modern import Modern
from mcpd.backends.replies import NotHere
from mcpd.errors import (
    BackendError,
    BackendMisbehaved,
    BackendTimedOut,
    BackendUnavailable,
    ProtocolError,
    RpcError,
)
from mcpd.protocol.discover import Verdict, judge_error, read_discover
from mcpd.protocol.versions import MODERN

if TYPE_CHECKING:
    from mcpd.backends.link import Link
    from mcpd.protocol.handshake import ServerHello

log = logging.getLogger("mcpd.backends")

HEDGE: Final = 2.0
"""Seconds without any answer to the probe after which `initialize` is sent too. Servers answer in well under a second once
they run; one that is still being downloaded answers both, in order."""

PROBE_WAIT: Final = 10.0
"""Seconds that a remote server gets to answer the probe before `initialize` is tried."""

LEGACY_FOR: Final = 3600.0
"""Seconds after which a server that turned out legacy is probed again: it may have been upgraded."""

FATAL_FOR: Final = 86400.0
"""The same for a child that ended when it was probed."""


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

    def note(self, now: float, *, fatal: bool = False) -> None:
        """It turned out legacy. `fatal`: the child before this one ended because it was probed."""
        self._legacy_until = now + (FATAL_FOR if fatal else LEGACY_FOR)

    def forget(self) -> None:
        """What was remembered did not hold."""
        self._legacy_until = -math.inf


class Probe:
    """The answers that come in while a link is opened."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.hello: ServerHello | None = None
        self.failure: BackendError | None = None
        self.found = trio.Event()
        """Either `hello` or `failure` is known."""
        self.refused = trio.Event()
        """The probe was answered, and not by a modern server."""
        self._modern = Modern(link)
        self._legacy = Legacy(link)

    async def discover(self) -> None:
        """Ask the modern way. Sets `found` or `refused`."""
        link = self.link
        try:
            verdict = await self._discover()
            if verdict is Verdict.RESEND:
                verdict = await self._discover()
            if verdict is Verdict.HOPELESS:
                reason = "it speaks only versions of MCP that mcpd does not know"
                self._fail(BackendUnavailable(link.name, reason, remedy="update mcpd", needs_operator=True))
        except (NotHere, BackendTimedOut) as error:
            log.debug("backend=%s event=probe_unanswered reason=%s", link.name, error)
        except BackendError as error:
            self._fail(error)
        finally:
            self.refused.set()

    async def _discover(self) -> Verdict:
        link = self.link
        link.dialect = self._modern
        waiter = link.waiter("server/discover", None, link.timeouts.init, link.timeouts.init)
        try:
            answer = await link.once(waiter, {})
            hello = read_discover(answer.members["result"])
        except BackendError:
            raise
        except ProtocolError:
            return Verdict.LEGACY
        except RpcError as error:
            return judge_error(error)
        if hello is None:
            return Verdict.LEGACY
        if not self.found.is_set():
            self.hello = hello
            link.dialect = self._modern
            self.found.set()
        return Verdict.MODERN

    async def initialize(self) -> None:
        """Ask the legacy way. Sets `found`."""
        link = self.link
        link.dialect = self._legacy
        try:
            hello = await self._legacy.open()
        except RefusedInitialize as refusal:
            if judge_error(refusal.error) is Verdict.RESEND and self.refused.is_set() and not self.found.is_set():
                # It was probed while it was not listening yet: it is modern after all.
                await self.discover()
            self._fail(refusal)
        except BackendError as error:
            self._fail(error)
        else:
            if not self.found.is_set():
                self.hello = hello
                self.found.set()

    def _fail(self, error: BackendError) -> None:
        if not self.found.is_set():
            self.failure = error
            self.found.set()


async def open_link(link: Link) -> ServerHello:
    """Open it as `link.era` says, or find out. Raises: BackendError."""
    probe = Probe(link)
    if link.era is not Era.LEGACY:
        await _probe(link, probe)
    if not probe.found.is_set():
        if link.era is Era.MODERN:
            reason = "it does not answer server/discover as a server of 2026-07-28 does"
            raise BackendMisbehaved(link.name, reason, remedy=f"see servers.{link.name}.era")
        await probe.initialize()
    if probe.hello is None:
        assert probe.failure is not None
        raise probe.failure
    link.hello = hello = probe.hello
    link.era = Era.MODERN if hello.version >= MODERN else Era.LEGACY
    if link.era is Era.MODERN:
        link.carrier.opened(hello)
    return hello


async def _probe(link: Link, probe: Probe) -> None:
    """Ask the modern way, and on a shared channel the legacy way too if nothing is said for a while."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(probe.discover)
        with trio.move_on_after(HEDGE if link.carrier.shared else PROBE_WAIT):
            await probe.refused.wait()
        if link.carrier.shared and link.era is Era.UNKNOWN and not probe.found.is_set():
            nursery.start_soon(probe.initialize)
            await probe.found.wait()
        nursery.cancel_scope.cancel()
