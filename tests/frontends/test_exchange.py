"""An exchange is driven through its states; the client is a fake that reads, vanishes and comes back."""

from __future__ import annotations

import json

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpd.config.model import Config, Limits
from mcpd.config.model import Streams as Times
from mcpd.errors import RpcError
from mcpd.frontends.exchange import Exchange, Terms
from mcpd.gateway.sessions import Session
from mcpd.protocol import jsonrpc
from mcpd.protocol.calls import Caller
from mcpd.protocol.capabilities import NOTHING
from mcpd.protocol.exchange import State
from mcpd.protocol.versions import Version
from mcpd.wire.deadlines import Deadlines
from tests.frontends.fakes import FakeRequest, FakeStream

RESULT = jsonrpc.result(b"1", b"{}")


class Scene:
    """One exchange, its session and its clock."""

    def __init__(self, version: Version = Version.V2025_11_25, *, prefers_stream: bool = False, **times: float) -> None:
        self.deadlines = Deadlines(resolution=0)
        config = Config(streams=Times(**times), limits=Limits(streams_per_session=2))
        self.terms = Terms(config, self.deadlines)
        self.session = Session(Caller("s", "", version, NOTHING), id="s")
        self.request = FakeRequest()
        self.exchange = Exchange(self.session, self.request, self.terms, prefers_stream=prefers_stream)

    @property
    def stream(self) -> FakeStream:
        assert self.request.stream is not None
        return self.request.stream

    @property
    def watched(self) -> int:
        return self.deadlines.statistics().entries

    def resume(self, number: int = 0) -> FakeRequest:
        """The client comes back; its new request."""
        request = FakeRequest()
        self.exchange.resume(request, request.open_stream(200, b""), number)
        return request


def numbers(stream: FakeStream) -> list[int]:
    return [int(event.id.split("-")[1]) for event in stream.events]


async def test_a_prompt_answer_is_plain_json():
    scene = Scene()
    scene.exchange.finish(RESULT)
    assert scene.request.answers == [(200, b"Content-Type: application/json\r\n", b"".join(RESULT))]
    assert scene.exchange.state is State.ENDED
    assert scene.session.streams is None, "nothing is kept for what went out whole"
    assert not scene.watched


async def test_a_client_that_names_streams_first_gets_one():
    scene = Scene(prefers_stream=True)
    scene.exchange.finish(RESULT)
    assert [json.loads(each) for each in scene.stream.data] == [{"jsonrpc": "2.0", "id": 1, "result": {}}]
    assert scene.stream.ended
    assert not scene.watched


async def test_a_notice_opens_the_stream_and_the_result_ends_it():
    scene = Scene()
    scene.exchange.emit("notifications/progress", b'{"progress":1}')
    scene.exchange.emit("notifications/progress", b'{"progress":2}')
    scene.exchange.finish(RESULT)
    assert [json.loads(each).get("method") for each in scene.stream.data] == ["notifications/progress"] * 2 + [None]
    assert numbers(scene.stream) == [0, 1, 2, 3]
    assert scene.stream.ended
    assert not scene.request.detached
    assert not scene.watched


async def test_nothing_follows_the_result():
    scene = Scene()
    scene.exchange.emit("a", b"{}")
    scene.exchange.finish(RESULT)
    said = bytes(scene.stream.written)
    scene.exchange.emit("b", b"{}")
    scene.exchange.part()
    scene.exchange.expire()
    scene.exchange.cancel()
    assert bytes(scene.stream.written) == said
    assert not scene.request.cancelled
    with pytest.raises(RpcError, match="no open stream"):
        await scene.exchange.ask("roots/list", b"{}")


@pytest.mark.parametrize("version", list(Version)[:4])
async def test_only_those_who_know_it_get_a_priming_event(version):
    scene = Scene(version, retry=0.7)
    scene.exchange.emit("a", b"{}")
    first = scene.stream.events[0]
    if version is Version.V2025_11_25:
        assert (first.data, first.retry) == ("", 700)
        assert first.id.endswith("-0")
    else:
        assert all(event.data for event in scene.stream.events)
        assert b"retry" not in scene.stream.written


async def test_patience_ends_and_silence_is_broken(autojump_clock, nursery):
    scene = Scene(hold=0.1, keepalive=15)
    await nursery.start(scene.deadlines.run)
    await trio.sleep(0.05)
    assert scene.request.stream is None
    await trio.sleep(0.1)
    assert scene.stream.data == []
    await trio.sleep(46)
    assert scene.stream.comments == 3
    scene.exchange.finish(RESULT)
    assert not scene.watched
    await trio.sleep(60)
    assert scene.stream.comments == 3


async def test_a_vanished_client_is_noticed_and_can_resume(autojump_clock, nursery):
    scene = Scene(keepalive=15)
    await nursery.start(scene.deadlines.run)
    scene.exchange.emit("a", b"{}")
    scene.stream.gone = True
    await trio.sleep(16)
    assert scene.exchange.state is State.PARTED
    assert not scene.watched
    scene.exchange.emit("b", b"{}")
    again = scene.resume(1)
    assert numbers(again.stream) == [2]
    assert scene.exchange.state is State.STREAMING
    await trio.sleep(31)
    assert again.stream.comments == 2, "a resumed stream is kept alive, too"
    scene.exchange.finish(RESULT)
    assert numbers(again.stream) == [2, 3]
    assert again.stream.ended
    assert again.cancelled == 1, "its task watches the connection and has to end"
    assert not scene.request.detached


async def test_a_write_that_fails_parts_and_what_was_said_is_kept():
    scene = Scene()
    scene.exchange.emit("a", b"{}")
    scene.stream.gone = True
    scene.exchange.emit("b", b"{}")
    assert scene.exchange.state is State.PARTED
    scene.exchange.emit("c", b"{}")
    scene.exchange.finish(RESULT)
    again = scene.resume(1)
    assert numbers(again.stream) == [2, 3, 4]
    assert again.stream.ended
    assert scene.exchange.state is State.ENDED
    third = scene.resume(3)
    assert numbers(third.stream) == [4], "it can be resumed again"
    assert numbers(scene.resume(99).stream) == []


async def test_the_client_returns_before_its_loss_is_noticed():
    scene = Scene()
    scene.exchange.emit("a", b"{}")
    second = scene.resume(0)
    assert scene.stream.ended
    assert scene.request.detached == 1, "the old connection is free for the next request"
    assert numbers(second.stream) == [1]
    third = scene.resume(1)
    assert second.stream.ended
    assert second.cancelled == 1
    assert third.cancelled == 0
    scene.exchange.gone(second)
    assert scene.exchange.state is State.STREAMING, "whoever was replaced has no say"
    scene.exchange.gone(third)
    assert scene.exchange.state is State.PARTED
    scene.exchange.finish(RESULT)
    assert scene.request.detached == 1
    assert numbers(third.stream) == []


async def test_polling_lets_the_client_go_and_again_after_it_came_back(autojump_clock, nursery):
    scene = Scene(poll_after=2, keepalive=15)
    await nursery.start(scene.deadlines.run)
    await trio.sleep(1)
    assert not scene.stream.ended
    await trio.sleep(1.5)
    assert scene.stream.ended
    assert scene.request.detached == 1
    scene.exchange.emit("a", b"{}")
    await trio.sleep(5)
    second = scene.resume(0)
    await trio.sleep(1)
    assert not second.stream.ended, "it gets its time anew"
    await trio.sleep(1.5)
    assert second.stream.ended
    assert second.cancelled == 1
    assert scene.exchange.state is State.PARTED
    scene.exchange.finish(RESULT)
    assert numbers(scene.resume(1).stream) == [2]
    assert not scene.watched


async def test_older_clients_are_not_polled(autojump_clock, nursery):
    scene = Scene(Version.V2025_06_18, poll_after=2)
    await nursery.start(scene.deadlines.run)
    await trio.sleep(10)
    assert not scene.stream.ended
    scene.exchange.part()
    assert not scene.stream.ended
    scene.exchange.finish(RESULT)
    assert scene.stream.ended


async def test_a_backend_that_lets_go_lets_the_client_go():
    scene = Scene()
    scene.exchange.part()
    assert scene.stream.ended
    assert [event.data for event in scene.stream.events] == [""]
    assert scene.request.detached == 1
    scene.exchange.part()
    scene.exchange.finish(RESULT)
    assert numbers(scene.resume(0).stream) == [1]


async def test_an_ended_exchange_holds_no_body_and_no_connection():
    for resumed in (False, True):
        scene = Scene()
        scene.exchange.emit("a", b"{}")
        if resumed:
            scene.exchange.part()
        scene.exchange.finish(RESULT)
        if resumed:
            scene.resume(0)
        held = [getattr(scene.exchange, name) for name in ("_request", "_stream", "handler")]
        assert held == [None, None, None]


async def test_cancel_reaches_the_request_that_does_the_work():
    scene = Scene()
    scene.exchange.part()
    again = scene.resume(0)
    scene.exchange.cancel()
    assert (scene.request.cancelled, again.cancelled) == (1, 0)


async def test_a_question_waits_for_a_client_that_is_away(nursery):
    scene = Scene()
    scene.exchange.part()
    answers = []

    async def ask() -> None:
        answers.append(bytes(await scene.exchange.ask("roots/list", b"{}")))

    nursery.start_soon(ask)
    await trio.testing.wait_all_tasks_blocked()
    question = json.loads(scene.resume(0).stream.data[0])
    assert question["method"] == "roots/list"
    scene.session.answer(jsonrpc.decode(b'{"jsonrpc":"2.0","id":%d,"result":{"roots":[]}}' % question["id"]))
    await trio.testing.wait_all_tasks_blocked()
    assert answers == [b'{"roots":[]}']


async def test_an_abandoned_exchange_is_not_looked_at_again():
    scene = Scene()
    scene.exchange.abandon()
    assert not scene.watched


# ---- whatever happens to the connection, the client hears everything once and in order


class Reader:
    """A client that loses connections and comes back with the last id it has seen."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.request = scene.request
        self.heard: list[str] = []
        self.last: int | None = None
        self._left = False
        self._read = 0

    def read(self) -> None:
        """What has arrived, unless this connection is lost."""
        stream = self.request.stream
        if stream is None or self._left:
            return
        for event in stream.events[self._read :]:
            self._read += 1
            self.last = int(event.id.split("-")[1])
            if event.data:
                self.heard.append(event.data)

    def lose(self) -> None:
        """The connection is gone, which mcpd does not know: what it writes is lost without an error."""
        self.read()
        self._left = True

    def come_back(self) -> None:
        self.read()
        if self.last is not None:
            self.request = self.scene.resume(self.last)
            self._left, self._read = False, 0

    def act(self, action: str, number: int) -> None:
        stream = self.request.stream
        match action:
            case "say":
                self.scene.exchange.emit("n", b"%d" % number)
            case "part":
                self.scene.exchange.part()
            case "time":
                self.scene.exchange.expire()
            case "lose":
                self.lose()
            case "break" if stream is not None:
                self.lose()
                stream.gone = True
            case "notice" if self.request is not self.scene.request:
                self.lose()
                self.scene.exchange.gone(self.request)
            case "return":
                self.come_back()


ACTIONS = st.sampled_from(["say", "say", "part", "time", "lose", "break", "notice", "return"])


@settings(max_examples=300, deadline=None)
@given(actions=st.lists(ACTIONS, max_size=30), poll=st.booleans(), prefers=st.booleans())
def test_nothing_is_lost_doubled_or_reordered(actions, poll, prefers):
    async def run() -> None:
        scene = Scene(prefers_stream=prefers, **({"poll_after": 1e-9} if poll else {}))
        reader = Reader(scene)
        scene.exchange.emit("n", b"-1")
        for number, action in enumerate(actions):
            reader.act(action, number)
            assert (scene.exchange.state is State.STREAMING) <= bool(scene.watched), "a stream is looked after"
        scene.exchange.finish(RESULT)
        reader.come_back()
        reader.read()
        said = [number for number, action in enumerate(actions) if action == "say"]
        heard = [json.loads(each) for each in reader.heard]
        assert [each["params"] for each in heard[:-1]] == [-1, *said]
        assert heard[-1]["id"] == 1
        assert not scene.watched
        assert scene.request.detached <= 1

    trio.run(run)
