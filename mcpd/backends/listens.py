"""A modern backend's news: one `subscriptions/listen` kept open, replaced when what is listened to changes.

Theory of operation. The stream asks for what is wanted: news of the lists, if the link is the one that everybody
shares, of the resources that the link is subscribed to, and of the tasks that clients watch. The backend acknowledges
what of it will come. What was asked for cannot be changed, so another stream is opened, and then the old one is ended.

Rules.
1. A new stream is acknowledged before the old one is ended, so nothing is lost in between. If it is not, the old one
   stays.
2. A stream that ends is opened again, after a pause that grows; whatever it should have told may have happened
   meanwhile, so everything counts as changed. A task says what it has become, so the backend is asked for that
   (`doubts`).
3. A backend that has no such method, or will tell of nothing, is not asked again: its lists are looked at when they are
   stale.

Source: 2026-07-28 "Subscriptions" (`subscriptions/listen`), "Cancellation" (a server's own end of a stream on stdio);
extension io.modelcontextprotocol/tasks, "Task Status Notifications".
"""

from __future__ import annotations

import logging
import math
import random
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mcpd.backends.catalogue import SOURCES
from mcpd.backends.doubts import Doubts
from mcpd.backends.rounds import relabelled
from mcpd.backends.waiter import Waiter
from mcpd.errors import INVALID_PARAMS, METHOD_NOT_FOUND, BackendUnavailable, RpcError
from mcpd.protocol import edits, jsonrpc
from mcpd.protocol.convert import drop_modern

if TYPE_CHECKING:
    from mcpd.backends.link import Link
    from mcpd.backends.reads import Reads
    from mcpd.protocol.jsonrpc import Buffer, Members, Message

log = logging.getLogger("mcpd.backends")

ACK_WAIT: Final = 10.0
"""Seconds that a backend gets to acknowledge a stream; what opens it waits no longer."""

AGAIN: Final = 0.5
"""Seconds before a stream that ended is opened again; doubled each time, up to AGAIN_MAX."""

AGAIN_MAX: Final = 60.0
"""Also: a stream that was open for so long was a good one, and is opened again soon."""

ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
UPDATED: Final = "notifications/resources/updated"
RESOURCES_CHANGED: Final = "notifications/resources/list_changed"
TASK_CHANGED: Final = "notifications/tasks"
CANCELLED: Final = "notifications/cancelled"
SUBSCRIPTION_ID: Final = "io.modelcontextprotocol/subscriptionId"

FAMILIES: Final = ("tools", "prompts", "resources")
"""The lists that a backend may tell of, by the capability that says so."""


class Stream:
    """One filter, and the request that listens with it: one after the other, until it is replaced."""

    def __init__(self, lists: tuple[str, ...], uris: tuple[str, ...], tasks: tuple[str, ...]) -> None:
        self.lists = lists
        self.uris = uris
        self.tasks = tasks
        self.waiter: Waiter | None = None
        self.judged = trio.Event()
        """The backend acknowledged it, or refused it, or had its time: who opened it does not wait any more."""
        self.granted: Granted | None = None
        """What the backend will tell of; None until it says so."""
        self.error: RpcError | None = None
        self.scope = trio.CancelScope()

    def wants_the_same(self, other: Stream) -> bool:
        """Whether both listen to the same things."""
        return (self.lists, self.uris, self.tasks) == (other.lists, other.uris, other.tasks)


class Listens:
    """The stream of one link. Its tasks run in the link's nursery and end with it."""

    def __init__(self, link: Link, reads: Reads) -> None:
        self._link = link
        self._reads = reads
        self._doubts = Doubts(link, self._tell_task)
        self._stream: Stream | None = None
        self._open_streams: set[Stream] = set()
        """That one, and others while one replaces another."""
        self._turn = trio.Lock()
        self._useless = False

    async def start(self) -> None:
        """Open the stream for what the backend can announce, and for what was listened to on a link before this one.

        One that is refused is tried again in the background; never raises RpcError.
        """
        async with self._turn:
            if self._stream is None and (stream := self._wanted()) is not None:
                self._stream = stream
                await self._open(stream)
                self._doubts.add(stream.tasks)

    async def add(self, uri: str, members: Members) -> None:
        """Listen to a resource too. Raises: RpcError when the backend does not tell of it."""
        subscriptions = self._link.subscriptions
        subscriptions[uri] = members
        try:
            error = await self._replace()
            granted = self._stream.granted if self._stream is not None else None
            if granted is None or uri not in granted.uris:
                reason = f"backend '{self._link.name}' does not announce updates of {uri}"
                raise error or RpcError(INVALID_PARAMS, reason)
        except BaseException:
            subscriptions.pop(uri, None)
            raise
        self._reads.updated(uri)  # until now nobody would have said that it changed

    async def drop(self, uri: str) -> None:
        """Listen to it no more. Never raises RpcError."""
        self._link.subscriptions.pop(uri, None)
        await self._replace()

    async def watch(self, task: str) -> None:
        """Listen to a task too, which is among those that the link watches. Raises: RpcError when the backend does not
        tell of it."""
        error = await self._replace()
        granted = self._stream.granted if self._stream is not None else None
        if granted is None or task not in granted.tasks:
            raise error or RpcError(INVALID_PARAMS, f"backend '{self._link.name}' does not tell of the task {task}")

    async def unwatch(self) -> None:
        """Listen no more to tasks that are not among those any more. Never raises RpcError."""
        await self._replace()

    def announces(self, kind: str) -> bool:
        """Whether the backend said that it will tell when this list changes."""
        granted = self._stream.granted if self._stream is not None else None
        return granted is not None and SOURCES[kind][2] in granted.lists

    # ---- streams -------------------------------------------------------------------------------------------

    def _wanted(self) -> Stream | None:
        """A stream, not open yet, for what is wanted now; None when there is nothing to be heard."""
        link = self._link
        assert link.hello is not None
        has = link.hello.capabilities
        # Only the link that everybody shares keeps the lists.
        lists = tuple(name for name in FAMILIES if link.owner is None and getattr(has, f"{name}_list_changed"))
        uris, tasks = tuple(link.subscriptions), tuple(link.watched)
        return Stream(lists, uris, tasks) if (lists or uris or tasks) and not self._useless else None

    async def _replace(self) -> RpcError | None:
        """Listen to what is wanted now, in place of what was (rule 1). Returns why the backend would not."""
        async with self._turn:
            old, new = self._stream, self._wanted()
            if new is not None and old is not None and new.wants_the_same(old):
                return old.error  # somebody who waited before has done it
            if new is not None:
                try:
                    await self._open(new)
                except BaseException:
                    new.scope.cancel()
                    raise
                if new.granted is None:
                    new.scope.cancel()
                    silent = f"it did not acknowledge a subscription in {ACK_WAIT:g} s"
                    return new.error or BackendUnavailable(self._link.name, silent)
            self._stream = new
            if old is not None:
                old.scope.cancel()
            return None

    async def _open(self, stream: Stream) -> None:
        """Begin to listen, and wait until the backend has said something to it."""
        link = self._link
        if link.lost.is_set():
            return
        link.nursery.start_soon(self._keep, stream)
        with trio.move_on_after(ACK_WAIT):
            await stream.judged.wait()
        stream.judged.set()

    async def _keep(self, stream: Stream) -> None:
        """Keep one stream open until it is replaced or the link is lost (rule 2)."""
        link = self._link
        wanted: dict[str, object] = {f"{name}ListChanged": True for name in stream.lists}
        if stream.uris:
            wanted["resourceSubscriptions"] = stream.uris
        if stream.tasks:
            wanted["taskIds"] = stream.tasks
        params: Members = {"notifications": msgspec.Raw(msgspec.json.encode(wanted))}
        pause = AGAIN
        self._open_streams.add(stream)
        try:
            with stream.scope:
                while True:
                    begun = trio.current_time()
                    reason = await self._listen(stream, params)
                    self._reads.clear()
                    if link.lost.is_set():
                        return
                    log.info("backend=%s event=listen_ended reason=%s", link.name, reason)
                    if self._useless or (stream.granted is not None and not stream.granted.anything):
                        return
                    if trio.current_time() - begun > AGAIN_MAX:
                        pause = AGAIN
                    await trio.sleep(pause * random.uniform(0.8, 1.2))
                    pause = min(2 * pause, AGAIN_MAX)
        finally:
            self._open_streams.discard(stream)

    async def _listen(self, stream: Stream, params: Members) -> str:
        """One request, to its end; returns why it ended."""
        link = self._link
        waiter = stream.waiter = link.waiter("subscriptions/listen", None, math.inf, math.inf)
        waiter.standing = True
        reason = "the backend ended it"
        try:
            await link.once(waiter, params)
        except RpcError as error:
            reason = error.message
            if stream.granted is None:
                stream.error = error
                self._useless |= error.code == METHOD_NOT_FOUND
        stream.judged.set()
        return reason

    # ---- what comes on them --------------------------------------------------------------------------------

    def take(self, message: Message, related: Waiter | None) -> bool:
        """Act on a notification that belongs to listening; False for any other.

        Raises: ProtocolError, ValueError: it is malformed.
        """
        if message.method == UPDATED:
            self._updated(drop_modern(message.params or b"{}"))
        elif message.method == RESOURCES_CHANGED:
            self._reads.clear()
            return False  # the rest of it is as with any backend
        elif message.method == TASK_CHANGED:
            self._task_changed(message.params or b"{}")
        elif message.method == ACKNOWLEDGED:
            self._acknowledge(message, related)
        elif message.method == CANCELLED:
            self._ended(message)
        else:
            return False
        return True

    def _updated(self, params: Buffer) -> None:
        uri = edits.text(jsonrpc.members_of(params), "uri")
        if uri is not None:
            self._reads.updated(uri)
        self._link.listener.resource_updated(params, self._link.owner)

    def _task_changed(self, params: Buffer) -> None:
        task = edits.text(jsonrpc.members_of(params), "taskId")
        if task is None:
            raise ValueError("it names no task")
        self._doubts.clear(task)
        self._tell_task(params)

    def _tell_task(self, params: Buffer) -> None:
        link = self._link
        link.listener.task_changed(relabelled(params, link.label.text) if link.label.text else params)

    def _acknowledge(self, message: Message, related: Waiter | None) -> None:
        params = jsonrpc.members_of(message.params or b"{}")
        if related is None:
            meta = jsonrpc.members_of(params.get("_meta", msgspec.Raw(b"{}")))
            named = self._link.peer.find(bytes(meta.get(SUBSCRIPTION_ID, b"")))
        else:
            named = related
        stream = next((each for each in self._open_streams if each.waiter is named), None)
        if stream is None:
            return
        stream.granted = msgspec.json.decode(params.get("notifications", b"{}"), type=Granted)
        stream.error = None
        if stream.judged.is_set():
            self._everything_changed(stream)
        stream.judged.set()

    def _everything_changed(self, stream: Stream) -> None:
        """The stream was interrupted, or begins late (rule 2)."""
        listener = self._link.listener
        self._reads.clear()
        for name in stream.lists:
            listener.list_changed(f"notifications/{name}/list_changed")
        for uri in stream.uris:
            listener.resource_updated(msgspec.json.encode({"uri": uri}), self._link.owner)
        self._doubts.add(stream.tasks)

    def _ended(self, message: Message) -> None:
        """On a shared channel the backend ends a stream by its id."""
        id = jsonrpc.members_of(message.params or b"{}").get("requestId")
        named = self._link.peer.find(bytes(id) if id is not None else None)
        if isinstance(named, Waiter) and named.standing:
            named.settle(BackendUnavailable(self._link.name, "it ended the stream"))


class Granted(msgspec.Struct, frozen=True):
    """What of a filter a backend acknowledged."""

    toolsListChanged: bool | None = None
    promptsListChanged: bool | None = None
    resourcesListChanged: bool | None = None
    resourceSubscriptions: tuple[str, ...] | None = None
    taskIds: tuple[str, ...] | None = None

    @property
    def lists(self) -> tuple[str, ...]:
        """Of FAMILIES those whose lists it will tell of."""
        return tuple(name for name in FAMILIES if getattr(self, f"{name}ListChanged"))

    @property
    def uris(self) -> tuple[str, ...]:
        """The resources that it will tell of."""
        return self.resourceSubscriptions or ()

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that it will tell of."""
        return self.taskIds or ()

    @property
    def anything(self) -> bool:
        """Whether anything will come at all."""
        return bool(self.lists or self.uris or self.tasks)
