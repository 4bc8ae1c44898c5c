"""A child process as a backend: newline-framed messages on its pipes.

Source: "stdio" transport of every version. The child gets a clean environment; what it writes to stderr is
kept for errors.
"""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeAlias

import trio

from mcpd import failures
from mcpd.backends.command import child_spec
from mcpd.backends.replies import messages_of
from mcpd.errors import (
    BackendCrashed,
    BackendMisbehaved,
    BackendUnavailable,
    ConnectionBroken,
    LimitExceeded,
    ProtocolError,
)
from mcpd.protocol import jsonrpc
from mcpd.protocol.lines import LineDecoder, encode_line
from mcpd.supervisor.exits import Exit, SpawnFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from mcpd.backends.carried import LinkState
    from mcpd.backends.link import Link
    from mcpd.backends.waiter import Waiter
    from mcpd.config.model import Secrets, ServerSpec
    from mcpd.failures import Failure
    from mcpd.protocol.handshake import ServerHello
    from mcpd.protocol.jsonrpc import Buffer, Message
    from mcpd.supervisor.process import Child
    from mcpd.supervisor.slots import Claim
    from mcpd.supervisor.supervisor import Supervisor

log = logging.getLogger("mcpd.backends")

QUEUE_MAX: Final = 4 << 20
"""Unwritten bytes toward one child before callers wait for it to read; the pipe itself holds up to 1 MiB
more."""

JUNK_SHOWN: Final = 20
"""Lines of junk on a child's stdout that are logged one by one; the rest is counted."""

OBJECT: Final = ord("{")
"""How nearly every line begins; anything else is looked at more closely."""

LAST_WORDS: Final = 0.25
"""Seconds that are waited for the status of a child that closed its stdout, and until its last messages were read,
before its calls are failed. Both are there within milliseconds, unless it did not end, or its worker goes on."""

LOOK: Final = 0.002
"""Seconds between two looks whether they were read."""

SAID_LINES: Final = 30
"""Last lines of stderr that are searched for why a child ended: npm says E404 a dozen lines before its last one."""

Redact: TypeAlias = "Callable[[str], str]"
"""Removes secrets from what a child said, before it stands in an error."""


class ChildEnded(BackendCrashed):
    """A child ended by itself. `exit` says how; None when it only closed its pipes."""

    def __init__(self, child: Child, why: Failure, redact: Redact) -> None:
        super().__init__(
            child.name, why.reason, remedy=why.remedy, detail=child.stderr.tail(clear=redact), kind=why.kind
        )
        self.exit: Exit | None = child.exit
        self.needs_operator = why.needs_operator

    @property
    def wanted(self) -> bool:
        """Whether it ended with status 0."""
        return self.exit is not None and self.exit.code == 0


class StdioCarrier:
    """Moves the messages of one child."""

    shared = True

    def __init__(self, child: Child, link: Link, redact: Redact, message_max: int) -> None:
        self.child = child
        self.decoder = LineDecoder(message_max)
        self._link = link
        self._redact = redact

    def carry(self, waiter: Waiter, parts: tuple[Buffer, ...]) -> Awaitable[Message]:
        # What the pipe does not take is queued, and who waits for the answer waits long enough: a wait for
        # room here would outlast the deadline.
        try:
            self.child.stdin.write(encode_line(parts))
        except (ConnectionBroken, LimitExceeded) as error:
            return self._refuse(error)
        return waiter.wait()

    async def _refuse(self, error: ConnectionBroken | LimitExceeded) -> Message:
        raise await self._refusal(error) from None

    async def post(self, parts: tuple[Buffer, ...]) -> None:
        stdin = self.child.stdin
        try:
            stdin.write(encode_line(parts))
            if stdin.queued > QUEUE_MAX:
                await stdin.room(QUEUE_MAX)
        except (ConnectionBroken, LimitExceeded) as error:
            raise await self._refusal(error) from None

    async def _refusal(self, error: ConnectionBroken | LimitExceeded) -> Exception:
        """Why nothing can be written: how the child ended, which is known in a moment, if that is why."""
        if isinstance(error, LimitExceeded):
            return BackendUnavailable(self.child.name, str(error), remedy="it hangs, or is called faster than it works")
        with trio.move_on_after(3 * LAST_WORDS):
            await self._link.lost.wait()
        if self._link.reason is None:
            why = why_ended(self.child, "it closed its stdin", opened=True)
            self._link.fail(ChildEnded(self.child, why, self._redact))
        return self._link.reason or error

    def forgo(self, waiter: Waiter) -> None:
        """Nothing to break off: the pipe is shared."""

    def opened(self, hello: ServerHello) -> None:
        """Messages on a pipe carry nothing of the handshake."""

    def reset(self) -> None:
        """A pipe has no session to lose."""


@asynccontextmanager
async def connect(
    spec: ServerSpec,
    supervisor: Supervisor,
    link: Link,
    nursery: trio.Nursery,
    *,
    message_max: int,
    secrets: Secrets,
    claim: Claim,
) -> AsyncIterator[Child]:
    """Start the child when it is its turn, do the handshake as soon as the link is wanted, and read its messages while
    the block runs; then stop its whole tree.

    `nursery` is the link's own. Raises: BackendUnavailable, BackendCrashed, BackendTimedOut when it does not
    come up.
    """
    voice = supervisor.logs.voice(spec.name, secrets.redact)
    try:
        child = await supervisor.spawn(child_spec(spec, voice, supervisor.private), claim)
    except SpawnFailed as error:
        voice.note(f"could not be started: {error.reason}")
        raise BackendUnavailable(
            spec.name, error.reason, remedy=error.remedy, kind=error.kind, needs_operator=error.needs_operator
        ) from None
    log.info("backend=%s event=started pid=%d", spec.name, child.pid)
    voice.pid = child.pid
    voice.note("started")
    async with _running(StdioCarrier(child, link, secrets.redact, message_max), link, nursery, secrets.redact):
        await _open(child, link, secrets.redact)
        yield child


@asynccontextmanager
async def resume(
    spec: ServerSpec,
    supervisor: Supervisor,
    link: Link,
    nursery: trio.Nursery,
    *,
    state: LinkState,
    message_max: int,
    secrets: Secrets,
) -> AsyncIterator[Child]:
    """`connect`, for a child that another program started and whose link it opened, or had yet to open.

    Raises: BackendUnavailable; what `connect` does, if it is opened here.
    """
    voice = supervisor.logs.voice(spec.name, secrets.redact, state.pid)
    try:
        child = supervisor.adopt(state.pid, child_spec(spec, voice))
    except SpawnFailed as error:
        raise BackendUnavailable(spec.name, error.reason) from None
    log.info("backend=%s event=taken_over pid=%d", spec.name, child.pid)
    voice.note("taken over by an upgrade of mcpd")
    carrier = StdioCarrier(child, link, secrets.redact, message_max)
    carrier.decoder.receive_data(state.partial)
    if state.hello is not None:
        link.resume(state)
    async with _running(carrier, link, nursery, secrets.redact):
        if state.hello is None:
            await _open(child, link, secrets.redact)
        yield child


async def _open(child: Child, link: Link, redact: Redact) -> None:
    """Do the handshake as soon as the link is wanted. Raises: BackendError."""
    await link.wait_wanted()
    seconds = link.timeouts.init
    try:
        with trio.fail_after(seconds):
            await link.open()
    except trio.TooSlowError:
        raise BackendUnavailable(
            child.name,
            f"it did not say what it is in {seconds:g} s",
            remedy=f"raise servers.{child.name}.timeouts.init if it starts slowly, or run its command by hand",
            detail=child.stderr.tail(clear=redact),
            kind=failures.Kind.TIMED_OUT,
        ) from None


@asynccontextmanager
async def _running(carrier: StdioCarrier, link: Link, nursery: trio.Nursery, redact: Redact) -> AsyncIterator[None]:
    """Read the child's messages while the block runs; then stop its whole tree."""
    child = carrier.child
    try:
        nursery.start_soon(_read, carrier, link, redact)
        nursery.start_soon(_watch, child, link, redact)
        link.attach(carrier)
        yield
    finally:
        # Shielded inside, and bounded by the stop ladder.
        how = await child.stop()
        log.info("backend=%s event=stopped pid=%d how=%r", child.name, child.pid, how.describe())
        if child.spec.voice is not None:
            child.spec.voice.note(f"ended: {how.describe()}")


async def _read(carrier: StdioCarrier, link: Link, redact: Redact) -> None:
    """Feed the link from the child's stdout to its end; then the link is lost and everybody is told why."""
    child, decoder = carrier.child, carrier.decoder
    junk = 0
    while True:
        try:
            data = await child.stdout.receive_some()
        except ConnectionBroken:
            data = b""
        if not data:
            break
        decoder.receive_data(data)
        while True:
            try:
                line = decoder.next_line()
                if line is None:
                    break
                if line[0] == OBJECT:
                    link.receive(jsonrpc.decode(line))
                    continue
                for message in messages_of(line):
                    link.receive(message)
            except LimitExceeded as error:
                log.warning("backend=%s event=line_too_long reason=%s", child.name, error)
                link.fail(
                    BackendMisbehaved(
                        child.name, f"it sent a line that is too long: {error}", remedy="raise limits.message"
                    )
                )
                return
            except ProtocolError as error:
                junk += 1
                if junk <= JUNK_SHOWN:
                    log.warning(
                        "backend=%s event=junk_on_stdout reason=%r line=%.120r",
                        child.name,
                        error.message,
                        redact(bytes(line or b"").decode("utf-8", "replace")),
                    )
    await fail_dead(child, link, redact)


async def _watch(child: Child, link: Link, redact: Redact) -> None:
    """Notice the end of a child whose stdout goes on: a wrapper that dies leaves it to its worker, which is
    ended with it.
    """
    await child.wait()
    with trio.move_on_after(LAST_WORDS):
        # All that it said is in the pipe by now, and the end of that is its end.
        while child.stdout.pending and not link.lost.is_set():  # noqa: ASYNC110
            await trio.sleep(LOOK)
    if not link.lost.is_set():
        await fail_dead(child, link, redact)


async def fail_dead(child: Child, link: Link, redact: Redact) -> None:
    """Say how the child ended to everybody who waits for it."""
    with trio.move_on_after(LAST_WORDS):
        await child.wait()
    child.stderr.catch_up()
    why = why_ended(child, "it closed its stdout", opened=link.hello is not None)
    link.fail(ChildEnded(child, why, redact))


def why_ended(child: Child, otherwise: str, *, opened: bool) -> Failure:
    """Why the child ended; if it did not yet, `otherwise` says what it did."""
    exit, words = child.exit or Exit(), otherwise
    if child.exit is not None:
        hint = exit.hint()
        words = exit.describe() + (f": {hint}" if hint else "")
    return failures.of_end(
        words,
        code=exit.code,
        signal=exit.signal,
        out_of_memory=bool(exit.out_of_memory),
        said="\n".join(child.stderr.lines(SAID_LINES)),
        opened=opened,
    )
