"""What one program leaves to the next one in the same process: bytes in a sealed piece of memory, and descriptors.

Rules.
1. Bytes of another format, or that are damaged, are refused as a whole.
2. Memory that cannot change any more is the only one that is read: nobody else has written there.
3. Exactly the descriptors that are named survive the exec, and none of them survives the next one by accident.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Final

import msgspec

from mcpd.backends.carried import BackendState  # noqa: TC001 - msgspec reads the annotations below
from mcpd.errors import McpdError
from mcpd.events import EventsState  # noqa: TC001 - the same
from mcpd.gateway import handover
from mcpd.supervisor.adoption import SupervisorState  # noqa: TC001 - the same
from mcpd.supervisor.logs import LogsState  # noqa: TC001 - the same
from mcpd.wire.http_carrying import ConnectionState  # noqa: TC001 - the same

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT: Final = 1
"""Of everything below and in what it is made of. Raised when a program that knows the number would misread it; a field
that may be left out does not count."""

SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class StateRefused(McpdError):
    """These bytes are nothing that this program could go on with. The message says why."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Everything. `left_at` is on the machine's monotonic clock, in seconds."""

    format: int = FORMAT
    pid: int
    version: str
    """Of the program that wrote it."""
    left_at: float
    listeners: tuple[tuple[str, int], ...]
    """The sockets that listen, as a service manager passes them: by name and descriptor."""
    supervisor: SupervisorState
    backends: tuple[BackendState, ...]
    connections: tuple[ConnectionState, ...]
    sessions: bytes
    """As `gateway.handover` has it."""
    events: EventsState | None = None
    logs: LogsState | None = None

    def descriptors(self) -> Iterator[int]:
        """Those that have to survive the exec."""
        yield from (fd for _, fd in self.listeners)
        yield from self.supervisor.descriptors()
        yield from (connection.fd for connection in self.connections)


class _Envelope(msgspec.Struct):
    """What every format has."""

    format: int


def encode(state: State) -> bytes:
    """As bytes."""
    return msgspec.msgpack.encode(state)


def decode(data: bytes) -> State:
    """From bytes, sessions checked too. Raises: StateRefused."""
    try:
        found = msgspec.msgpack.decode(data, type=_Envelope).format
        if found != FORMAT:
            raise StateRefused(f"the running mcpd leaves its state in format {found}, this one reads {FORMAT}")
        state = msgspec.msgpack.decode(data, type=State)
        handover.read(state.sessions)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise StateRefused(f"the state of the running mcpd has another shape: {error}") from None
    return state


def seal(data: bytes) -> int:
    """A descriptor of memory that holds these bytes for good. Raises: OSError."""
    fd = os.memfd_create("mcpd-state", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    except OSError:
        os.close(fd)
        raise
    return fd


def unseal(fd: int) -> bytes:
    """The bytes; the descriptor is closed. Raises: StateRefused."""
    try:
        if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS != SEALS:
            raise StateRefused(f"descriptor {fd} is memory that can still change")
        size, data = os.fstat(fd).st_size, bytearray()
        while len(data) < size and (part := os.pread(fd, size - len(data), len(data))):
            data += part
        os.close(fd)
    except OSError as error:
        raise StateRefused(f"descriptor {fd} holds no state: {error.strerror}") from None
    return bytes(data)
