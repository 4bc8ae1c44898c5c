from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec
import pytest

from mcpd.config.model import Config, Limits
from mcpd.gateway import handover
from mcpd.gateway.handover import FORMAT, MAGIC, HandoverRefused, Log, Streams, capture, read, restore
from mcpd.gateway.sessions import UPDATED
from mcpd.protocol import jsonrpc
from mcpd.protocol.capabilities import EVERYTHING
from mcpd.protocol.handshake import ClientHello, ServerState
from mcpd.protocol.versions import Version
from tests.gateway.fakes import Ear, FakeBackend, catalogue, join, make_gateway, serve, subscribe_call

if TYPE_CHECKING:
    from pathlib import Path

    from mcpd.gateway.gateway import Gateway
    from mcpd.gateway.sessions import Session

LISTED = catalogue(tools=["add"], resources=["x:/1", "x:/2"])
STREAMS = Streams(7, Log(0, 3, [b"news"]), [Log(6, 1, [b"one", b"two"])])


class Record:
    """What a frontend keeps with a session."""

    def __init__(self, streams: Streams | None = STREAMS) -> None:
        self.streams = streams

    def sweep(self) -> None:
        """Nothing is old."""

    def capture(self) -> Streams | None:
        return self.streams


def begin(directory: Path, listed=LISTED, config: Config | None = None) -> tuple[Gateway, FakeBackend]:
    backend = FakeBackend("b", listed)
    return make_gateway(directory, backend, config=config), backend


def take_over(data: bytes, gateway: Gateway) -> tuple[dict[str, Session], dict[str, Streams]]:
    """Restore; returns sessions by id, and the streams that they got."""
    streams: dict[str, Streams] = {}
    count = restore(data, gateway, lambda session, left: streams.update({session.id: left}))
    sessions = {session.id: session for session in gateway.sessions}
    assert len(sessions) == count
    return sessions, streams


async def test_a_session_goes_on_as_if_nothing_had_been(tmp_path):
    gateway, backend = begin(tmp_path)
    session = join(gateway.sessions)
    session.streams = Record()
    call = subscribe_call(session, "x:/1", progressToken=1, kept=True)
    await gateway.subscriptions.add(session, call, "x:/1", backend, call.members)
    gateway.levels.note(session, 5)
    parts = jsonrpc.notification(b"notifications/resources/updated", b'{"uri":"x:/1"}')
    session.deliver(UPDATED + "x:/1", parts)

    following, successor = begin(tmp_path)
    sessions, streams = take_over(capture(gateway), following)
    again = sessions[session.id]
    assert again is not session
    assert msgspec.structs.asdict(again.caller) == msgspec.structs.asdict(session.caller)
    assert (again.client_name, again.state) == ("test", ServerState.READY)
    assert again.backlog == {UPDATED + "x:/1": (b"".join(parts),)}
    assert streams == {session.id: STREAMS}
    [(caller, uri, members)] = successor.resubscribed
    assert (caller.key, uri) == (session.caller.key, "x:/1")
    assert jsonrpc.encode_members(members) == b'{"uri":"x:/1","_meta":{"kept":true}}'
    assert following.subscriptions.holders(successor, "x:/1") == {session.caller.key}
    assert following.levels.lowest == 5
    ear = Ear()
    again.listen(ear)
    following.notices.resource_updated(successor, b'{"uri":"x:/1"}', None)
    assert ear.methods() == ["notifications/resources/updated"] * 2


async def test_what_is_over_is_not_taken_along(tmp_path):
    gateway, backend = begin(tmp_path)
    ended, connected = join(gateway.sessions), gateway.sessions.connect("")
    call = subscribe_call(connected, "x:/1")
    await gateway.subscriptions.add(connected, call, "x:/1", backend, call.members)
    gateway.sessions.end(ended)
    estate = read(capture(gateway))
    assert estate.clients == [], "who was DELETEd, and whose connection was its session"


async def test_who_was_shaking_hands_still_is(tmp_path):
    gateway, _ = begin(tmp_path)
    session = gateway.sessions.begin(ClientHello(Version.V2025_06_18, EVERYTHING, "slow"), "")
    following, _ = begin(tmp_path)
    sessions, streams = take_over(capture(gateway), following)
    assert sessions[session.id].state is ServerState.ANSWERED
    assert streams == {}


async def test_idleness_goes_on_counting(tmp_path, autojump_clock):
    gateway, _ = begin(tmp_path)
    idle, used = join(gateway.sessions), join(gateway.sessions)
    idle.last_used -= 100
    following, _ = begin(tmp_path)
    following.sessions.clock.now = gateway.sessions.clock() + 20
    sessions, _ = take_over(capture(gateway), following)
    assert sessions[used.id].last_used - sessions[idle.id].last_used == pytest.approx(100)
    assert idle.last_used - sessions[idle.id].last_used == pytest.approx(20)


async def test_somebody_elses_sessions_are_not_made(tmp_path):
    gateway, _ = begin(tmp_path / "one")
    join(gateway.sessions)
    following, _ = begin(tmp_path / "two")
    assert take_over(capture(gateway), following) == ({}, {})


async def test_memory_bounds_what_is_taken_over(tmp_path):
    gateway, _ = begin(tmp_path)
    sessions = [join(gateway.sessions) for _ in range(4)]
    for age, session in enumerate(sessions):
        session.last_used -= age
    following, _ = begin(tmp_path, config=Config(limits=Limits(sessions=2)))
    restored, _ = take_over(capture(gateway), following)
    assert restored.keys() == {session.id for session in sessions[:2]}, "those that were used last"


async def test_servers_that_are_gone_and_limits_that_shrank(tmp_path):
    gateway, backend = begin(tmp_path)
    session = join(gateway.sessions)
    for uri in ("x:/1", "x:/2"):
        call = subscribe_call(session, uri)
        await gateway.subscriptions.add(session, call, uri, backend, call.members)
    data = capture(gateway)
    other = FakeBackend("other", LISTED)
    following = make_gateway(tmp_path, other)
    take_over(data, following)
    assert other.resubscribed == []
    shrunk, successor = begin(tmp_path, config=Config(limits=Limits(subscriptions=1)))
    take_over(data, shrunk)
    assert [uri for _, uri, _ in successor.resubscribed] == ["x:/1"]


async def test_messages_are_bounded_and_numbers_are_not_lost(tmp_path, monkeypatch):
    gateway, _ = begin(tmp_path)
    old, new = join(gateway.sessions), join(gateway.sessions)
    old.last_used -= 1
    for session in (old, new):
        session.streams = Record()
    monkeypatch.setattr(handover, "MESSAGES_MAX", STREAMS.size + 1)
    by_id = {client.id: client for client in read(capture(gateway)).clients}
    assert by_id[new.id].streams == STREAMS
    assert by_id[old.id].streams == Streams(7, Log(0, 4, []), [])


async def test_linked_resources_keep_their_owners(tmp_path):
    one, two = FakeBackend("one", LISTED), FakeBackend("two")
    gateway = make_gateway(tmp_path, one, two)
    gateway.router.learn(b'{"content":[{"type":"resource_link","uri":"y:/1","name":"y"}]}', two)
    again = FakeBackend("two")
    following = make_gateway(tmp_path, FakeBackend("one", LISTED), again)
    take_over(capture(gateway), following)
    assert following.router.owner("y:/1") is again


# ---- lists


async def hears(directory: Path, *, before=LISTED, after=LISTED, then=None, lists: bool = False) -> list[str]:
    """What a client of the earlier run is told in this one."""
    gateway, _ = begin(directory, before)
    session = join(gateway.sessions)
    following, backend = begin(directory, after)
    sessions, _ = take_over(capture(gateway), following)
    ear = Ear()
    sessions[session.id].listen(ear)
    if lists:
        await serve(following, sessions[session.id], "tools/list")
    if then is not None:
        backend.catalogue = then
        following.notices.catalogue_changed(backend, ("tools",))
        following.notices.flush()
    await following.notices.welcome(following.settled)
    return ear.methods()


async def test_nobody_is_told_of_lists_that_are_as_they_were(tmp_path):
    assert await hears(tmp_path) == []


async def test_what_differs_is_told_once(tmp_path):
    more = catalogue(tools=["add", "sub"], resources=["x:/1", "x:/2"])
    assert await hears(tmp_path, after=more) == ["notifications/tools/list_changed"]


async def test_a_list_that_comes_bit_by_bit_is_no_news(tmp_path):
    assert await hears(tmp_path, after=catalogue(), then=LISTED) == []


async def test_who_listed_meanwhile_hears_of_every_change(tmp_path):
    heard = await hears(tmp_path, after=catalogue(resources=["x:/1", "x:/2"]), then=LISTED, lists=True)
    assert heard == ["notifications/tools/list_changed"]


async def test_a_change_that_was_not_told_yet_waits_for_the_client(tmp_path):
    gateway, backend = begin(tmp_path)
    session = join(gateway.sessions)
    backend.catalogue = catalogue(resources=["x:/1", "x:/2"])
    gateway.notices.catalogue_changed(backend, ("tools",))
    [client] = read(capture(gateway)).clients
    assert [key for key, _ in client.backlog] == ["notifications/tools/list_changed"]
    assert session.backlog is not None


async def test_two_restarts_in_a_row_lose_no_change(tmp_path):
    gateway, _ = begin(tmp_path)
    join(gateway.sessions)
    between, _ = begin(tmp_path, catalogue())
    take_over(capture(gateway), between)
    [client] = read(capture(between)).clients
    assert sorted(key for key, _ in client.backlog) == [
        "notifications/resources/list_changed",
        "notifications/tools/list_changed",
    ]


# ---- what is no handover


def sealed(body: bytes, format: int = FORMAT) -> bytes:
    return b"%b%d\n%b%b" % (MAGIC, format, hashlib.sha256(body).digest(), body)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: b"", "no handover"),
        (lambda data: b"\x00" * 100, "no handover"),
        (lambda data: data[:-1], "damaged"),
        (lambda data: data[:20], "damaged"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "damaged"),
        (lambda data: data.replace(b"%d\n" % FORMAT, b"99\n", 1), "format '99'"),
        (lambda data: sealed(b"\xc1"), "another shape"),
        (lambda data: sealed(msgspec.msgpack.encode({"written": 1})), "another shape"),
        (lambda data: sealed(b"\x91" * 5000), "another shape"),
    ],
)
async def test_what_is_damaged_or_foreign_changes_nothing(tmp_path, damage, reason):
    gateway, _ = begin(tmp_path)
    join(gateway.sessions)
    following, _ = begin(tmp_path)
    with pytest.raises(HandoverRefused, match=reason):
        take_over(damage(capture(gateway)), following)
    assert len(following.sessions) == 0
