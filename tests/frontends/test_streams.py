from __future__ import annotations

import math

import trio

from mcpd.config.model import Limits
from mcpd.frontends.streams import KEEP_ENDED, EventOutlet, GetStream, Kept, Streams
from mcpd.gateway import handover
from mcpd.protocol.exchange import State
from mcpd.wire.deadlines import Deadlines
from tests.frontends.fakes import FakeRequest, FakeStream


class Ended:
    """As much of an exchange as the streams of a session look at."""

    def __init__(self, streams: Streams, message: bytes = b"m") -> None:
        self.state = State.STREAMING
        self.ended_at = math.inf
        self.log = streams.open(self)
        streams.keep(self.log, message)
        self.streams = streams

    def end(self) -> None:
        self.state = State.ENDED
        self.ended_at = trio.current_time()
        self.streams.retire(self.log)


def make(kept: Kept | None = None, **limits) -> Streams:
    return Streams(Limits(**limits), Kept() if kept is None else kept)


def get_stream(streams: Streams, keepalive: float = 15.0):
    request, stream, deadlines = FakeRequest(), FakeStream(), Deadlines(resolution=0)
    return GetStream(streams, request, stream, keepalive, deadlines), request, stream, deadlines


async def test_numbers_are_unique_and_those_of_another_life_are_not_met_again():
    streams = make()
    numbers = [streams.open(object()).stream for _ in range(3)]
    assert len(set(numbers)) == 3
    assert min(numbers) > 1_700_000_000_000
    assert streams.log.stream == 0
    assert streams.log.first > 1_700_000_000_000


async def test_what_is_in_use_is_never_dropped_and_the_oldest_ended_go_first():
    streams = make(streams_per_session=3)
    running = [Ended(streams) for _ in range(5)]
    assert len(streams.exchanges) == 5, "calls in flight are bounded by limits.calls_per_session"
    for each in running[:4]:
        each.end()
    newest = Ended(streams)
    assert list(streams.exchanges.values()) == [running[3], running[4], newest]


async def test_ended_ones_go_after_a_while(autojump_clock):
    streams = make()
    old, running = Ended(streams), Ended(streams)
    old.end()
    await trio.sleep(KEEP_ENDED - 1)
    late = Ended(streams)
    late.end()
    streams.sweep()
    assert len(streams.exchanges) == 3
    await trio.sleep(2)
    streams.sweep()
    assert list(streams.exchanges.values()) == [running, late]


async def test_the_logs_of_all_sessions_together_are_bounded():
    kept = Kept(bytes_max=1000)
    sessions = [make(kept) for _ in range(20)]
    for streams in sessions:
        Ended(streams, b"x" * 100).end()
        assert kept.size <= 1000
    assert [bool(streams.exchanges) for streams in sessions] == [False] * 10 + [True] * 10
    Ended(sessions[0], b"x" * 5000).end()
    assert len(kept) == 1, "the newest is kept, however large"
    assert sessions[0].exchanges
    sessions[0].close()
    assert (len(kept), kept.size) == (0, 0)


async def test_a_closed_session_keeps_nothing():
    kept = Kept()
    streams = make(kept)
    stream, request, wire, deadlines = get_stream(streams)
    streams.listening = stream
    ended, running = Ended(streams), Ended(streams)
    ended.end()
    streams.close()
    running.end()  # a call that is cancelled by the end of its session ends after it
    assert (len(kept), kept.size, streams.exchanges) == (0, 0, {})
    assert wire.ended
    assert request.cancelled
    assert not deadlines.statistics().entries


async def test_news_is_numbered_logged_and_replayed():
    streams = make()
    stream, _, wire, _ = get_stream(streams)
    assert stream.send((b"on", b"e"))
    assert stream.send((b"two",))
    first, second = wire.events
    assert [first.data, second.data] == ["one", "two"]
    assert first.id is not None
    again, _, wire, _ = get_stream(streams)
    again.replay(int(first.id.split("-")[1]))
    assert [event.data for event in wire.events] == ["two"]
    assert wire.events[0].id == second.id


async def test_what_a_dead_stream_is_given_stays_with_the_sender():
    streams = make()
    stream, _, wire, _ = get_stream(streams)
    wire.gone = True
    assert not stream.send((b"one",))
    assert not len(streams.log), "it would be delivered twice"


async def test_silence_is_broken_until_the_client_is_gone(autojump_clock, nursery):
    streams = make()
    stream, _, wire, deadlines = get_stream(streams, keepalive=10)
    outlet = EventOutlet(other := FakeStream(), 10, deadlines)
    await nursery.start(deadlines.run)
    await trio.sleep(35)
    assert (wire.comments, other.comments) == (3, 3)
    wire.gone = True
    await trio.sleep(10)
    assert deadlines.statistics().entries == 1
    outlet.end()
    assert other.ended
    assert not deadlines.statistics().entries
    stream.end()


async def test_an_unnumbered_stream_says_whether_it_could():
    deadlines = Deadlines()
    outlet = EventOutlet(wire := FakeStream(), 10, deadlines)
    assert outlet.send((b"a",))
    await outlet.answer((b"b",))
    assert [(event.data, event.id) for event in wire.events] == [("a", None), ("b", None)]
    wire.gone = True
    assert not outlet.send((b"c",))
    await outlet.answer((b"d",))


# ---- from one run to the next


async def test_streams_go_on_where_they_stopped():
    streams = make()
    outlet, *_ = get_stream(streams)
    outlet.send((b"a",))
    outlet.send((b"b",))
    ended, running = Ended(streams, b"answer"), Ended(streams, b"half")
    ended.end()
    left = streams.capture()
    assert left == handover.Streams(
        running.log.stream,
        handover.Log(0, streams.log.first, [b"a", b"b"]),
        [handover.Log(ended.log.stream, 1, [b"answer"])],
    )
    again = make()
    again.inherit(left)
    assert again.open(object()).stream > running.log.stream, "no number is given out twice"
    second, _, stream, _ = get_stream(again)
    second.replay(left.news.first)
    second.send((b"c",))
    assert stream.data == ["b", "c"]
    assert [event.id for event in stream.events] == [f"0-{left.news.first + at}" for at in (1, 2)]
    bequest = again.exchanges[ended.log.stream]
    stream = FakeStream()
    bequest.resume(FakeRequest(), stream, 0)
    assert (stream.data, stream.ended) == (["answer"], True)
    bequest.gone(FakeRequest())
    assert running.log.stream not in again.exchanges


async def test_streams_that_said_nothing_leave_nothing():
    streams = make()
    streams.exchanges[1] = Ended(streams)
    streams.exchanges.clear()
    assert streams.capture() is None


async def test_what_was_left_is_bounded_like_everything_else(autojump_clock):
    first, kept = make(), Kept(bytes_max=10)
    for _ in range(3):
        Ended(first, b"x" * 6).end()
    second = make(kept)
    second.inherit(first.capture())
    assert (len(second.exchanges), kept.size) == (1, 6), "the newest stays"
    await trio.sleep(KEEP_ENDED + 1)
    second.sweep()
    assert (len(second.exchanges), kept.size) == (0, 0)


async def test_it_can_be_left_again():
    first, second, third = make(), make(), make()
    Ended(first).end()
    second.inherit(first.capture())
    third.inherit(second.capture())
    assert second.capture() == third.capture() == first.capture()
