from __future__ import annotations

import msgspec
import pytest
import trio

from mcpd.config.model import Limits
from mcpd.errors import INTERNAL_ERROR, INVALID_REQUEST, ProtocolError, RpcError
from mcpd.gateway import questions
from mcpd.gateway.seal import EPOCH_LENGTH
from mcpd.gateway.sessions import BACKLOG_MAX, HELD_SHARE, PASSING, UPDATED, Session
from mcpd.protocol import jsonrpc
from mcpd.protocol.capabilities import NOTHING, ClientCapability
from mcpd.protocol.handshake import ClientHello, Event, ServerState
from mcpd.protocol.versions import LATEST_HANDSHAKE, Version
from tests.gateway.fakes import Clock, Ear, join, make_sessions

HELLO = ClientHello(Version.V2025_06_18, ClientCapability.SAMPLING, "me")


class Work:
    """A call in flight."""

    def __init__(self) -> None:
        self.cancelled = 0

    def cancel(self) -> None:
        self.cancelled += 1


class Record:
    """What a frontend keeps with a session."""

    def __init__(self) -> None:
        self.swept = 0

    def sweep(self) -> None:
        self.swept += 1


def note(text: str) -> tuple[bytes, ...]:
    return (b'{"method":"%b"}' % text.encode(),)


def response(id: object, **members: object) -> jsonrpc.Message:
    return jsonrpc.decode(msgspec.json.encode({"jsonrpc": "2.0", "id": id, **members}))


# ---- ids that say enough


async def test_a_session_is_found_by_its_id_and_resurrected_by_it_alone(tmp_path):
    first = make_sessions(tmp_path)
    session = first.begin(HELLO, "alice")
    assert session.state is ServerState.ANSWERED
    assert first.find(session.id, "alice") is session
    restarted = make_sessions(tmp_path)
    again = restarted.find(session.id, "alice")
    assert again is not None
    assert again is not session
    assert again.state is ServerState.READY
    assert again.caller.version is Version.V2025_06_18
    assert again.caller.capabilities == ClientCapability.SAMPLING
    assert again.caller.key == session.caller.key
    assert restarted.find(session.id, "alice") is again
    assert len(restarted) == 1


async def test_an_id_is_its_principals_only(tmp_path):
    sessions = make_sessions(tmp_path)
    id = sessions.begin(HELLO, "alice").id
    assert sessions.find(id, "bob") is None
    assert make_sessions(tmp_path).find(id, "bob") is None


async def test_forged_ids_find_nothing(tmp_path):
    sessions = make_sessions(tmp_path)
    id = sessions.begin(HELLO, "").id
    for forged in ("", "x", id[:-1], id + "=", id + "A", id.swapcase(), "é", "x" * 10_000):
        assert sessions.find(forged, "") is None
    assert len(sessions) == 1


async def test_an_ended_session_does_not_come_back(tmp_path):
    sessions = make_sessions(tmp_path)
    kept, ended = sessions.begin(HELLO, ""), sessions.begin(HELLO, "")
    sessions.end(ended)
    for place in (sessions, make_sessions(tmp_path)):
        assert place.find(ended.id, "") is None
        assert place.find(kept.id, "") is not None


async def test_an_ended_session_does_not_come_back_after_months_in_one_run(tmp_path):
    """The list of ended sessions forgets by epochs: an epoch must not be as old as the daemon."""
    clock = Clock()
    sessions = make_sessions(tmp_path, clock=clock)
    sessions.begin(HELLO, "")
    clock.now += 40 * 86_400
    recent = sessions.begin(HELLO, "")
    sessions.end(recent)
    clock.now += 3600
    assert make_sessions(tmp_path, clock=clock).find(recent.id, "") is None


async def test_epochs_are_short_and_ids_unique(tmp_path):
    clock = Clock()
    sessions = make_sessions(tmp_path, clock=clock)
    claims = []
    for _ in range(100):
        made = sessions.begin(HELLO, "").claims
        assert made is not None
        claims.append(made)
        clock.now += EPOCH_LENGTH / 7
    assert all(0 <= made.begun - made.epoch < EPOCH_LENGTH for made in claims)
    assert len({made.identity for made in claims}) == 100


async def test_an_id_is_refused_when_it_is_too_old(tmp_path):
    clock = Clock()
    sessions = make_sessions(tmp_path, Limits(session_age=1000.0), clock)
    session = sessions.begin(HELLO, "")
    clock.now += 1000
    assert make_sessions(tmp_path, Limits(session_age=1000.0), clock).find(session.id, "") is not None
    clock.now += 1
    assert make_sessions(tmp_path, Limits(session_age=1000.0), clock).find(session.id, "") is None
    # In memory it ends as soon as it is looked at and has no call in flight, stream or no stream.
    session.listen(Ear())
    session.register(b"1", Work(), 9)
    assert sessions.sweep() == 0
    del session.calls[b"1"]
    assert sessions.sweep() == 1
    assert sessions.find(session.id, "") is None


# ---- in memory, bounded


async def test_only_idle_sessions_leave_memory(tmp_path, autojump_clock):
    sessions = make_sessions(tmp_path, Limits(session_idle=60.0))
    forgotten = []
    sessions.forget = forgotten.append
    idle, calling, listening = (join(sessions) for _ in range(3))
    connected = sessions.connect("")
    calling.register(b"1", Work(), 9)
    listening.listen(Ear())
    assert sessions.sweep() == 0
    await trio.sleep(61)
    assert sessions.sweep() == 1
    assert forgotten == [idle]
    assert idle.left
    assert set(sessions) == {calling, listening, connected}
    # It comes back as if nothing had been.
    again = sessions.find(idle.id, "")
    assert again is not None
    assert again.state is ServerState.READY


async def test_a_call_or_stream_that_just_ended_was_use(tmp_path, autojump_clock):
    """A client whose only call took an hour is not idle the moment it is answered."""
    sessions = make_sessions(tmp_path, Limits(session_idle=60.0))
    calling, listening = join(sessions), join(sessions)
    calling.register(b"1", Work(), 9)
    listening.listen(Ear())
    for _ in range(120):
        await trio.sleep(30)
        assert sessions.sweep() == 0
    calling.calls.clear()
    listening.outlet = None
    assert sessions.sweep() == 0
    await trio.sleep(59)
    assert sessions.sweep() == 0
    await trio.sleep(2)
    assert sessions.sweep() == 2


async def test_a_request_counts_as_use(tmp_path, autojump_clock):
    sessions = make_sessions(tmp_path, Limits(session_idle=60.0))
    session = join(sessions)
    for _ in range(5):
        await trio.sleep(40)
        assert sessions.find(session.id, "") is session
        assert sessions.sweep() == 0


@pytest.mark.parametrize("held", ["level", "subscription", "news"])
async def test_a_session_that_would_lose_something_is_kept_for_long(tmp_path, autojump_clock, held):
    sessions = make_sessions(tmp_path, Limits(session_idle=60.0))
    session = join(sessions)
    if held == "level":
        session.caller = msgspec.structs.replace(session.caller, log_level=3)
    elif held == "subscription":
        session.subscriptions = {"x:1": None}  # type: ignore[dict-item]
    else:
        session.deliver("notifications/tools/list_changed", note("x"))
    await trio.sleep(61)
    assert sessions.sweep() == 0
    await trio.sleep(60 * HELD_SHARE)
    assert sessions.sweep() == 1


async def test_room_is_made_by_the_longest_idle_that_loses_nothing(tmp_path, autojump_clock):
    sessions = make_sessions(tmp_path, Limits(sessions=3))
    holding = join(sessions)
    holding.caller = msgspec.structs.replace(holding.caller, log_level=3)
    await trio.sleep(1)
    older = join(sessions)
    await trio.sleep(1)
    newer = join(sessions)
    fourth = join(sessions)
    assert set(sessions) == {holding, newer, fourth}
    assert sessions.find(older.id, "") is not None
    assert set(sessions) == {holding, fourth, sessions.find(older.id, "")}


async def test_sessions_in_use_are_never_dropped_for_new_ones(tmp_path):
    sessions = make_sessions(tmp_path, Limits(sessions=2))
    first, second = join(sessions), join(sessions)
    first.register(b"1", Work(), 9)
    second.listen(Ear())
    for attempt in (lambda: join(sessions), lambda: sessions.connect(""), lambda: join(sessions)):
        with pytest.raises(RpcError) as caught:
            attempt()
        assert caught.value.code == INTERNAL_ERROR
        assert caught.value.http_status == 503
        assert "limits.sessions" in caught.value.message
    assert set(sessions) == {first, second}


async def test_ten_thousand_sessions_leave_nothing_behind(tmp_path):
    sessions = make_sessions(tmp_path, Limits(sessions=100))
    for _ in range(10_000):
        sessions.end(join(sessions))
    assert len(sessions) == 0
    assert len(sessions._vault.revoked) == 1


async def test_frontends_records_are_swept(tmp_path):
    sessions = make_sessions(tmp_path)
    record = Record()
    join(sessions).streams = record
    sessions.connect("").streams = record
    sessions.sweep()
    assert record.swept == 2


# ---- connections


async def test_a_connection_is_a_session_until_it_ends(tmp_path):
    sessions = make_sessions(tmp_path)
    forgotten = []
    sessions.forget = forgotten.append
    session = sessions.connect("alice")
    assert session.state is ServerState.NEW
    with pytest.raises(ProtocolError):
        session.handshake(Event.REQUEST)
    sessions.agree(session, HELLO)
    assert session.client_name == "me"
    assert session.caller.version is Version.V2025_06_18
    assert session.caller.principal == "alice"
    assert sessions.by_key(session.caller.key) is session
    with pytest.raises(ProtocolError):
        sessions.agree(session, HELLO)
    sessions.disconnect(session)
    sessions.disconnect(session)
    assert forgotten == [session]
    assert sessions.by_key(session.caller.key) is None


async def test_the_only_client(tmp_path):
    sessions = make_sessions(tmp_path)
    assert sessions.the_only_one() is None
    first = sessions.connect("")
    assert sessions.the_only_one() is first
    join(sessions)
    assert sessions.the_only_one() is None


async def test_nobody_is_the_only_one_while_a_call_without_a_session_may_have_an_echo(tmp_path, autojump_clock):
    sessions = make_sessions(tmp_path)
    only = sessions.connect("")
    assert sessions.the_only_one() is only
    sessions.passer_by()
    assert sessions.the_only_one() is None
    await trio.sleep(PASSING - 1)
    assert sessions.the_only_one() is None
    await trio.sleep(1)
    assert sessions.the_only_one() is only


# ---- calls in flight


async def test_an_id_in_use_is_refused_and_spelling_tells_ids_apart(tmp_path):
    session = join(make_sessions(tmp_path))
    session.register(b"1", Work(), 9)
    session.register(b'"1"', Work(), 9)
    session.register(b"1.0", Work(), 9)
    with pytest.raises(ProtocolError) as caught:
        session.register(b"1", Work(), 9)
    assert caught.value.code == INVALID_REQUEST
    assert "1 is already in use" in caught.value.message
    del session.calls[b"1"]
    session.register(b"1", Work(), 9)


async def test_calls_in_flight_are_bounded(tmp_path):
    session = join(make_sessions(tmp_path))
    for id in range(3):
        session.register(b"%d" % id, Work(), 3)
    with pytest.raises(RpcError) as caught:
        session.register(b"3", Work(), 3)
    assert caught.value.http_status == 503
    assert "limits.calls_per_session" in caught.value.message


async def test_a_cancellation_reaches_its_call_only(tmp_path):
    sessions = make_sessions(tmp_path)
    one, other = join(sessions), join(sessions)
    works = [Work() for _ in range(3)]
    one.register(b"1", works[0], 9)
    one.register(b"2", works[1], 9)
    other.register(b"1", works[2], 9)
    one.cancel(b"1")
    one.cancel(b"7")
    one.cancel(b'"1"')
    assert [work.cancelled for work in works] == [1, 0, 0]


# ---- questions


async def ask(session: Session, ear: Ear, out: dict[str, object]) -> None:
    try:
        out["answer"] = bytes(await session.ask(ear.send, "roots/list", b"{}"))
    except RpcError as error:
        out["error"] = error


async def asking(nursery, session: Session, ear: Ear) -> tuple[dict[str, object], int]:
    out: dict[str, object] = {}
    nursery.start_soon(ask, session, ear, out)
    await trio.testing.wait_all_tasks_blocked()
    return out, ear.heard[-1]["id"]


async def test_a_question_is_answered(tmp_path, nursery):
    session, ear = join(make_sessions(tmp_path)), Ear()
    out, id = await asking(nursery, session, ear)
    assert ear.heard == [{"jsonrpc": "2.0", "id": id, "method": "roots/list", "params": {}}]
    assert not session.idle
    assert session.answer(response(id, result={"roots": []}))
    assert not session.answer(response(id, result={"roots": [1]}))
    await trio.testing.wait_all_tasks_blocked()
    assert out == {"answer": b'{"roots":[]}'}
    assert session.idle
    assert not session.answer(response(id, result={}))


@pytest.mark.parametrize("spelling", ['"{}"', "{}.0"])
async def test_clients_may_spell_our_ids_in_their_way(tmp_path, nursery, spelling):
    session, ear = join(make_sessions(tmp_path)), Ear()
    out, id = await asking(nursery, session, ear)
    text = f'{{"jsonrpc":"2.0","id":{spelling.format(id)},"result":{{}}}}'
    assert session.answer(jsonrpc.decode(text.encode()))
    await trio.testing.wait_all_tasks_blocked()
    assert out == {"answer": b"{}"}


async def test_a_refusal_is_relayed_as_it_is(tmp_path, nursery):
    session, ear = join(make_sessions(tmp_path)), Ear()
    out, id = await asking(nursery, session, ear)
    session.answer(response(id, error={"code": -1, "message": "User rejected", "x": 1}))
    await trio.testing.wait_all_tasks_blocked()
    assert out["error"].encode() == b'{"code":-1,"message":"User rejected","x":1}'  # type: ignore[attr-defined]


async def test_a_question_that_is_taken_back_is_taken_back_at_the_client(tmp_path, nursery):
    session, ear = join(make_sessions(tmp_path)), Ear()
    with trio.CancelScope() as scope:
        nursery.start_soon(_cancel_when_blocked, scope)
        await session.ask(ear.send, "roots/list", b"{}")
    id = ear.heard[0]["id"]
    assert ear.heard[1:] == [{"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}]
    assert session.idle
    assert not session.answer(response(id, result={}))


async def _cancel_when_blocked(scope: trio.CancelScope) -> None:
    await trio.testing.wait_all_tasks_blocked()
    scope.cancel()


async def test_a_closed_session_answers_nothing(tmp_path, nursery):
    sessions = make_sessions(tmp_path)
    session, ear, work = join(sessions), Ear(), Work()
    session.register(b"1", work, 9)
    out, _id = await asking(nursery, session, ear)
    sessions.end(session)
    await trio.testing.wait_all_tasks_blocked()
    assert "left without an answer" in str(out["error"])
    assert work.cancelled == 1
    assert session.outlet is None


async def test_a_client_without_a_stream_cannot_be_asked(tmp_path):
    session = join(make_sessions(tmp_path))
    with pytest.raises(RpcError, match="no open stream"):
        await session.ask(Ear(open=False).send, "roots/list", b"{}")
    assert session.idle


async def test_answers_to_what_was_never_asked_are_refused(tmp_path, nursery):
    sessions = make_sessions(tmp_path)
    asked, other, ear = join(sessions), join(sessions), Ear()
    out, id = await asking(nursery, asked, ear)
    assert not other.answer(response(id, result={}))
    assert not asked.answer(response(id + 1, result={}))
    assert not asked.answer(response(None, result={}))
    assert not asked.answer(jsonrpc.decode(b'{"jsonrpc":"2.0","result":{}}'))
    assert out == {}


async def test_question_ids_begin_where_the_daemon_says(tmp_path, nursery, monkeypatch):
    monkeypatch.setattr(questions, "_ids", questions._ids)
    questions.number_from(1_000_000)
    _out, id = await asking(nursery, join(make_sessions(tmp_path)), Ear())
    assert id == 1_000_000


# ---- news


async def test_news_is_kept_for_who_does_not_listen_the_newest_of_each(tmp_path):
    session, ear = join(make_sessions(tmp_path)), Ear()
    session.deliver("a", note("a1"))
    session.deliver("b", note("b1"))
    session.deliver("a", note("a2"))
    session.deliver("", note("lost"))
    session.listen(ear)
    session.deliver("a", note("a3"))
    assert ear.methods() == ["a2", "b1", "a3"]
    later = Ear()
    session.listen(later)
    assert later.heard == []


async def test_what_could_not_be_sent_is_kept_on(tmp_path):
    session = join(make_sessions(tmp_path))
    session.listen(Ear(open=False))
    session.deliver("a", note("a"))
    session.listen(Ear(open=False))
    ear = Ear()
    session.listen(ear)
    assert ear.methods() == ["a"]


async def test_the_backlog_is_bounded_and_has_room_for_list_changes(tmp_path):
    session, ear = join(make_sessions(tmp_path)), Ear()
    for number in range(3 * BACKLOG_MAX):
        session.deliver(f"{UPDATED}x:{number}", note(f"u{number}"))
    session.deliver("notifications/tools/list_changed", note("tools"))
    session.deliver(f"{UPDATED}x:1", note("again"))
    session.listen(ear)
    assert len(ear.heard) == BACKLOG_MAX + 1
    assert ear.methods()[1] == "again"
    assert ear.methods()[-1] == "tools"


async def test_a_session_without_news_or_calls_is_small(tmp_path):
    session = join(make_sessions(tmp_path), LATEST_HANDSHAKE, NOTHING)
    assert session.backlog is session.questions is session.subscriptions is session.streams is None
