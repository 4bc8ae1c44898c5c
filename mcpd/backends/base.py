"""The contract between the gateway and its backends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from mcpd.config.model import ServerSpec
    from mcpd.errors import RpcError
    from mcpd.protocol.calls import Call, Caller
    from mcpd.protocol.handshake import ServerHello
    from mcpd.protocol.jsonrpc import Buffer, Members, Message
    from mcpd.supervisor.states import State
    from mcpd.types import SessionKey

KINDS = ("tools", "resources", "resourceTemplates", "prompts")
"""The lists of a catalogue, named by the member of the list result that holds them."""


class Entry(msgspec.Struct, frozen=True):
    """One thing that a backend lists. `key` is its name, uri or uriTemplate; `raw` its JSON object as
    received.
    """

    key: str
    raw: bytes


class Hint(msgspec.Struct, frozen=True):
    """What a modern backend says about keeping a list (2026-07-28 "Caching")."""

    ttl_ms: int
    public: bool
    """The list is the same for everybody."""


class Catalogue(msgspec.Struct, frozen=True):
    """All that a backend lists, in the order in which it lists it. A snapshot: replaced, never edited."""

    tools: tuple[Entry, ...] = ()
    resources: tuple[Entry, ...] = ()
    resource_templates: tuple[Entry, ...] = ()
    prompts: tuple[Entry, ...] = ()
    hints: dict[str, Hint] = {}
    """By kind; none from a legacy backend."""

    def of(self, kind: str) -> tuple[Entry, ...]:
        """The entries of one of KINDS."""
        entries: tuple[Entry, ...] = getattr(self, _FIELDS[kind])
        return entries

    def hint(self, kind: str) -> Hint | None:
        """How long the entries of one of KINDS may be kept, and for whom; None when its backend has no such words."""
        return self.hints.get(kind)

    def counts(self) -> dict[str, int]:
        """How many entries each list has, for operators."""
        return {field: len(getattr(self, field)) for field in _FIELDS.values()}

    def with_kind(self, kind: str, entries: tuple[Entry, ...], hint: Hint | None = None) -> Catalogue:
        """A copy in which one list is replaced."""
        hints = {name: each for name, each in self.hints.items() if name != kind}
        if hint is not None:
            hints[kind] = hint
        return msgspec.structs.replace(self, hints=hints, **{_FIELDS[kind]: entries})


_FIELDS = {
    "tools": "tools",
    "resources": "resources",
    "resourceTemplates": "resource_templates",
    "prompts": "prompts",
}


class News(Protocol):
    """What backends tell the gateway. All of it synchronous: the gateway decides when to act."""

    def catalogue_changed(self, backend: Backend, kinds: tuple[str, ...]) -> None:
        """The catalogue was replaced and these lists differ from before."""

    def verdict(self, backend: Backend) -> None:
        """The backend became ready, failed to, or was lost."""

    def stepped(self, backend: Backend, before: State) -> None:
        """The backend is in another state than `before`."""

    def failed(self, backend: Backend, failure: RpcError, delay: float | None) -> None:
        """The backend could not be reached, or was lost; it is tried again in so many seconds, None for never."""

    def resource_updated(self, backend: Backend, params: Buffer, owner: SessionKey | None) -> None:
        """A resource changed; `owner` is the session whose own link heard of it, None for a shared one."""

    def task_changed(self, backend: Backend, params: Buffer) -> None:
        """What a watched task has become: a DetailedTask of the extension, with the backend's own `taskId`."""

    def unrelated(self, backend: Backend, method: str, params: Buffer, owner: SessionKey | None) -> None:
        """A notification that belongs to no call (a log line, the end of a URL elicitation)."""

    async def ask_owner(self, backend: Backend, owner: SessionKey | None, method: str, params: Buffer) -> Buffer:
        """A question outside any call. Raises: RpcError when nobody can be asked."""


class Backend(Protocol):
    """One configured server."""

    name: str
    spec: ServerSpec
    state: State
    hello: ServerHello | None
    """What it answered to the handshake; kept while it is restarted, and for the next run of the daemon."""

    @property
    def catalogue(self) -> Catalogue:
        """What it last listed; kept while it is restarted, and for the next run of the daemon."""

    @property
    def asleep(self) -> bool:
        """Whether it is stopped because nobody uses it, and will be started by the next call."""

    def call(self, call: Call, method: str, members: Members) -> Awaitable[Message]:
        """Have one request executed and return its response, which holds a result.

        Raises: RpcError: the backend's own error, or a BackendError that says what happened to it.
        Cancellation: the backend is told, and a late answer is dropped.
        """

    async def set_level(self, level: str, key: SessionKey, own: str) -> None:
        """`level` is the least severe that any client wants from now on, `own` what the client `key` wants.
        Never raises.
        """

    async def subscribe(self, call: Call, uri: str, members: Members) -> None:
        """Subscribe the caller's link to a resource. Raises: RpcError."""

    def resubscribe(self, caller: Caller, uri: str, members: Members) -> None:
        """A client was subscribed in an earlier run of mcpd, with these params: subscribe it when the server is ready,
        and tell the client of an update then, for there may have been one. To be called before `run`.
        """

    async def unsubscribe(self, key: SessionKey, uri: str) -> None:
        """End a subscription; never raises: the client's side of it is over anyway."""

    def drop_subscription(self, uri: str) -> None:
        """The last subscriber of a shared link left without unsubscribing."""

    async def watch_task(self, id: str) -> None:
        """Have `News.task_changed` hear of a task, also from a backend that was away for a while; each watch is ended
        by one `unwatch_task`. Raises: RpcError, also when the backend does not tell of it: then nothing is watched.
        """

    def unwatch_task(self, id: str) -> None:
        """One watch is over."""

    def roots_changed(self, key: SessionKey) -> None:
        """The roots of a client changed."""

    def forget(self, key: SessionKey) -> None:
        """A client's session is over: what was held for it alone ends."""

    async def wait_verdict(self) -> None:
        """Return when the backend is ready, or has failed at least once since it was started."""

    def stirs(self) -> bool:
        """Whether there is a sign that it is still starting rather than hanging: its process has just been
        at work.
        """

    def describe(self) -> dict[str, object]:
        """State in words and numbers for operators; no secrets."""
