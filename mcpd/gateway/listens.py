"""Modern clients that listen for news: a `subscriptions/listen` each, from its acknowledgement to its end.

Theory of operation. A request that listens is noted before it is acknowledged, so nothing that happens in between is
lost. What it is to be told is a table with one entry for each list, resource and task, which the request's own task
empties as fast as its client reads: who is slow hears of a thing once, however often it changed.

Rules.
1. The acknowledgement is the first message. It names what is granted: lists, and each resource and task whose backend
   agreed to tell of it.
2. Nothing is sent that was not asked for, and all of it says by its id which request it is for.
3. One backend that does not answer delays the acknowledgement by GRANT_WAIT at most; what it did not grant is left out.
4. What is to be told is bounded: by the lists, the tasks, PENDING_MAX updates, and beyond those the resources
   subscribed to, which stand for whatever changed in them.
5. Tasks are for clients that declared them. Where no backend makes any, they are no type that mcpd knows.

Source: 2026-07-28 "Subscriptions"; extension io.modelcontextprotocol/tasks, "Task Status Notifications".
"""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Final

import msgspec
import trio
from msgspec import Raw

from mcpd.errors import INTERNAL_ERROR, INVALID_PARAMS, ProtocolError, RpcError
from mcpd.gateway import tasks
from mcpd.gateway.subscriptions import asked_for, covering
from mcpd.protocol import jsonrpc
from mcpd.protocol.edits import members_or_none
from mcpd.protocol.envelope import PREFIX
from mcpd.protocol.modern import SERVER_INFO
from mcpd.types import IMPLEMENTATION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from mcpd.backends.base import Backend
    from mcpd.config.model import Limits
    from mcpd.gateway.ports import Feed
    from mcpd.gateway.subscriptions import Subscriptions, Topic
    from mcpd.protocol.calls import Caller
    from mcpd.protocol.jsonrpc import Buffer, Members
    from mcpd.types import SessionKey

log = logging.getLogger("mcpd.gateway")

GRANT_WAIT: Final = 5.0
"""Seconds that backends get to agree. Clients wait 10 s for the acknowledgement."""

AT_ONCE: Final = 8
"""Subscriptions that one backend is asked for at a time, for one request."""

PENDING_MAX: Final = 1024
"""Updates that wait for one client, each with the params of one notification."""

QUEUE_MAX: Final = 64 * 1024
"""Bytes that a client may leave unread before news wait for it: in the table they grow no further."""

LOOK: Final = 0.1
"""Seconds between looks at whether such a client has read on."""

LISTS: Final = {
    "toolsListChanged": "notifications/tools/list_changed",
    "promptsListChanged": "notifications/prompts/list_changed",
    "resourcesListChanged": "notifications/resources/list_changed",
}
"""What can be asked for besides resources, and what is sent then."""

ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
RESOURCE_UPDATED: Final = "notifications/resources/updated"
TASK_CHANGED: Final = "notifications/tasks"


class Listen:
    """One request that listens. Implements `subscriptions.Holder`."""

    __slots__ = ("_changed", "_due", "_ending", "_noted", "_tag", "caller", "left", "lists", "subscriptions", "tasks")

    def __init__(self, caller: Caller, id: bytes, lists: frozenset[str]) -> None:
        self.caller = caller
        self.subscriptions: dict[str, Topic] | None = None
        self.left = False
        self.lists = lists
        """The notifications about lists that it asked for."""
        self.tasks: dict[str, tuple[Backend, str]] = {}
        """The tasks that it watches, or is about to, by the id it knows them by: whose they are, and their id there."""
        self._tag = b'"%bsubscriptionId":%b' % (PREFIX.encode(), id)
        self._changed: dict[str, None] = {}
        """Lists that are to be told of, by their notification."""
        self._due: dict[tuple[str, str], Buffer] = {}
        """What else is to be told, with its newest params: by its notification, and URI or task."""
        self._noted = trio.Event()
        self._ending = False

    def changed(self, method: str) -> None:
        """A list changed."""
        if method in self.lists:
            self._changed[method] = None
            self._noted.set()

    def updated(self, uri: str, params: Buffer) -> None:
        """A resource changed that it is subscribed to, or one inside of it."""
        key = RESOURCE_UPDATED, uri
        if len(self._due) < PENDING_MAX or key in self._due:
            self._due[key] = params
        else:
            for subscribed in covering(uri):
                if subscribed in (self.subscriptions or ()):
                    self._due[RESOURCE_UPDATED, subscribed] = b'{"uri":%b}' % msgspec.json.encode(subscribed)
        self._noted.set()

    def task_changed(self, id: str, params: Buffer) -> None:
        """A task changed; what it is now replaces what was not told yet."""
        if id in self.tasks:
            self._due[TASK_CHANGED, id] = params
            self._noted.set()

    def forgo(self, id: str) -> None:
        """A task is not watched after all."""
        del self.tasks[id]
        self._due.pop((TASK_CHANGED, id), None)

    def end(self) -> None:
        """mcpd stops: the client is told what is due, and that this was all."""
        self._ending = True
        self._noted.set()

    async def run(self, feed: Feed, queue_max: int) -> bool:
        """Tell the client what is due; False when it is gone, True when it was told everything before an `end`."""
        while True:
            while self._changed or self._due:
                if feed.queued > queue_max:
                    await room(feed, queue_max)
                elif not feed.send(self._next()):
                    return False
            if self._ending:
                return True
            self._noted = trio.Event()
            await self._noted.wait()

    def acknowledgement(self, granted: dict[str, object]) -> tuple[Buffer, ...]:
        """The first message."""
        params = b'{"notifications":%b,"_meta":{%b}}' % (msgspec.json.encode(granted), self._tag)
        return jsonrpc.notification(ACKNOWLEDGED.encode(), params)

    def result(self) -> bytes:
        """What the request is answered with in the end."""
        return b'{"resultType":"complete","_meta":{%b,"%b":%b}}' % (self._tag, SERVER_INFO.encode(), IMPLEMENTATION)

    def _next(self) -> tuple[Buffer, ...]:
        """One notification of what is due."""
        if self._changed:
            method = next(iter(self._changed))
            del self._changed[method]
            return jsonrpc.notification(method.encode(), b'{"_meta":{%b}}' % self._tag)
        key = next(iter(self._due))
        members: dict[str, Buffer] = dict(members_or_none(self._due.pop(key)))
        meta = {k: raw for k, raw in members_or_none(members.get("_meta", b"{}")).items() if not k.startswith(PREFIX)}
        others = b"," + jsonrpc.encode_members(meta)[1:-1] if meta else b""
        members["_meta"] = b"{%b%b}" % (self._tag, others)
        return jsonrpc.notification(key[0].encode(), jsonrpc.encode_members(members))


class Listens:
    """All that listen. `owner` finds the backend of a URI, `backends` are all there are, `forget` is called with the
    key of one that ended."""

    def __init__(
        self,
        limits: Limits,
        subscriptions: Subscriptions,
        *,
        owner: Callable[[str], Awaitable[Backend]],
        backends: Callable[[], Sequence[Backend]],
        forget: Callable[[SessionKey], None],
    ) -> None:
        self.limits = limits
        self._subscriptions = subscriptions
        self._owner = owner
        self._backends = backends
        self._forget = forget
        self._open: dict[SessionKey, Listen] = {}
        self._closed = False

    def __len__(self) -> int:
        """Requests that listen."""
        return len(self._open)

    def __iter__(self) -> Iterator[Listen]:
        yield from list(self._open.values())

    def by_key(self, key: SessionKey) -> Listen | None:
        """The one whose caller has this key."""
        return self._open.get(key)

    def close(self) -> None:
        """mcpd stops: all of them end, and no more begin."""
        self._closed = True
        for listen in self:
            listen.end()

    async def listen(self, caller: Caller, id: bytes, members: Members, feed: Feed) -> None:
        """Serve one `subscriptions/listen` until its client is gone, or with its result when mcpd stops.

        Raises: RpcError, before anything is sent. Cancellation: the client left."""
        lists, uris, ids = read_filter(members)
        if ids and tasks.known(self._backends()):
            tasks.require(caller)
        else:
            ids = []
        most = self.limits.subscriptions
        if len(uris) + len(ids) > most:
            reason = f"resourceSubscriptions and taskIds have more than {most} elements (limits.subscriptions)"
            raise RpcError(INVALID_PARAMS, reason, http_status=400)
        if self._closed or len(self._open) >= self.limits.listens:
            reason = f"more than {self.limits.listens} requests listen (limits.listens); try later"
            raise RpcError(INTERNAL_ERROR, "mcpd is stopping" if self._closed else reason, http_status=503)
        listen = self._open[caller.key] = Listen(caller, id, frozenset(LISTS[name] for name in lists))
        try:
            granted: dict[str, object] = dict.fromkeys(lists, True)
            if uris or ids:
                await self._begin(listen, uris, ids)
            if uris:
                held = listen.subscriptions or {}
                granted["resourceSubscriptions"] = [uri for uri in uris if uri in held]
            if ids:
                granted["taskIds"] = [each for each in ids if each in listen.tasks]
            queue_max = min(QUEUE_MAX, self.limits.stream_queue)
            await room(feed, queue_max)
            if feed.send(listen.acknowledgement(granted)) and await listen.run(feed, queue_max):
                await room(feed, queue_max)
                feed.send(jsonrpc.result(id, listen.result()))
        finally:
            del self._open[caller.key]
            listen.left = True
            for backend, native in listen.tasks.values():
                backend.unwatch_task(native)
            for backend, uri in self._subscriptions.last_of(listen):
                backend.drop_subscription(uri)
            self._forget(caller.key)

    async def _begin(self, listen: Listen, uris: Sequence[str], ids: Sequence[str]) -> None:
        """Subscribe to, and watch, what backends agree to in time (rule 3)."""
        limiters: defaultdict[str, trio.CapacityLimiter] = defaultdict(lambda: trio.CapacityLimiter(AT_ONCE))

        async def subscribe(uri: str) -> None:
            call = asked_for(listen.caller, {"uri": Raw(msgspec.json.encode(uri))})
            try:
                backend = await self._owner(uri)
                async with limiters[backend.name]:
                    await self._subscriptions.add(listen, call, uri, backend, call.members)
            except RpcError as error:
                log.info("event=not_granted reason=%s", error)

        with trio.move_on_after(GRANT_WAIT):
            async with trio.open_nursery() as nursery:
                for uri in uris:
                    nursery.start_soon(subscribe, uri)
                for id in ids:
                    nursery.start_soon(self._watch, listen, id)

    async def _watch(self, listen: Listen, id: str) -> None:
        """Watch a task, if its backend agrees."""
        try:
            backend, native = tasks.owner(self._backends(), id)
            listen.tasks[id] = backend, native  # now: its news may come with the backend's consent
            try:
                await backend.watch_task(native)
            except BaseException:
                listen.forgo(id)
                raise
        except RpcError as error:
            log.info("event=not_granted reason=%s", error)


async def room(feed: Feed, queue_max: int) -> None:
    """Wait until a client that reads slowly has read enough. Ends with the listen when it reads no more."""
    while feed.queued > queue_max:  # noqa: ASYNC110 - an outlet has no event for it
        await trio.sleep(LOOK)


def read_filter(members: Members) -> tuple[list[str], list[str], list[str]]:
    """What a request asks for: keys of LISTS, URIs, and tasks. Types that mcpd does not know are left out.

    Raises: RpcError INVALID_PARAMS."""
    try:
        asked = jsonrpc.members_of(members["notifications"])
    except (KeyError, ProtocolError):
        raise _wrong("notifications", "an object") from None
    lists = []
    for name in LISTS:
        text = bytes(asked.get(name, b"false"))
        if text not in (b"true", b"false", b"null"):
            raise _wrong(f"notifications.{name}", "true or false")
        if text == b"true":
            lists.append(name)
    return lists, _strings(asked, "resourceSubscriptions"), _strings(asked, "taskIds")


def _strings(asked: Members, name: str) -> list[str]:
    """Each string of an array once."""
    try:
        found = msgspec.json.decode(asked.get(name, b"null"), type=list[str] | None)
    except (ValueError, RecursionError):
        raise _wrong(f"notifications.{name}", "an array of strings") from None
    return list(dict.fromkeys(found or ()))


def _wrong(name: str, expected: str) -> RpcError:
    return RpcError(INVALID_PARAMS, f"params.{name} is {expected}", http_status=400)
