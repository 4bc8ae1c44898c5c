"""One start of a server for an operator who wants to know what happens: beside whatever runs of it, and ended at once.

It is the same way that the daemon starts it: the same connector, hence the same environment, directory, user, limits,
sandbox, credentials and timeouts, and a turn in the same line. Nobody else hears of it, and nothing of it is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mcpd.backends.backend import ManagedBackend
from mcpd.errors import METHOD_NOT_FOUND, RpcError
from mcpd.supervisor.states import State

if TYPE_CHECKING:
    from mcpd.backends.base import Backend
    from mcpd.backends.connector import Connector
    from mcpd.config.model import ServerSpec
    from mcpd.protocol.jsonrpc import Buffer
    from mcpd.supervisor.supervisor import Supervisor
    from mcpd.types import SessionKey

SPARE: Final = 10.0
"""Seconds beyond what the server itself may take, for its turn in the line of starts."""

STDERR_LINES: Final = 50
"""Last lines of stderr that are told."""

TOLD: Final = ("state", "transport", "protocol_version", "tools", "resources", "resource_templates", "prompts")
"""What is told of a server's description, with what is the matter, if something is."""


class Deaf:
    """Implements `backends.base.News` for a server that nobody uses."""

    def catalogue_changed(self, backend: Backend, kinds: tuple[str, ...]) -> None: ...

    def verdict(self, backend: Backend) -> None: ...

    def stepped(self, backend: Backend, before: State) -> None: ...

    def failed(self, backend: Backend, failure: RpcError, delay: float | None) -> None: ...

    def resource_updated(self, backend: Backend, params: Buffer, owner: SessionKey | None) -> None: ...

    def task_changed(self, backend: Backend, params: Buffer) -> None: ...

    def unrelated(self, backend: Backend, method: str, params: Buffer, owner: SessionKey | None) -> None: ...

    async def ask_owner(self, backend: Backend, owner: SessionKey | None, method: str, params: Buffer) -> Buffer:
        raise RpcError(METHOD_NOT_FOUND, f"{method}: nobody can be asked while a server is checked")


def for_trial(spec: ServerSpec) -> ServerSpec:
    """The same server, started now and only once."""
    restart = msgspec.structs.replace(spec.restart, policy="never")
    return msgspec.structs.replace(spec, start="eager", idle_stop=0.0, restart=restart)


async def attempt(connector: Connector, supervisor: Supervisor) -> dict[str, object]:
    """What came of one start, as JSON has it. The connector is of a spec that `for_trial` made."""
    spec = connector.spec
    backend = ManagedBackend(spec, connector, Deaf())
    others = {child.pid for child in supervisor.children() if child.name == spec.name}
    since = supervisor.logs.tail((spec.name,), 0).cursor
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(backend.run)
        with trio.move_on_after(spec.timeouts.init + spec.timeouts.list + SPARE):
            await backend.wait_verdict()
        about, ended = backend.describe(), trio.current_time()
        backend.tenure.stop("it was only checked")
        nursery.cancel_scope.cancel()
    await backend.tenure.close()
    hello = backend.hello
    said = [
        line["text"]
        for line in (each.describe() for each in supervisor.logs.read(since, (spec.name,)).lines)
        if line["kind"] != "note" and line["pid"] not in others
    ]
    return {
        "name": spec.name,
        "ok": about["state"] == State.READY.value,
        "seconds": round(ended - began, 3),
        **{key: about[key] for key in (*TOLD, "error", "failure") if key in about},
        "server": msgspec.json.decode(hello.server_info) if hello is not None else None,
        "stderr": said[-STDERR_LINES:],
    }
