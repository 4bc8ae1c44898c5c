"""A turn is driven by hand: the gateway says things, the clock runs, the client vanishes."""

from __future__ import annotations

import json

import pytest
import trio

from mcpd.config.model import Config
from mcpd.config.model import Streams as Times
from mcpd.errors import (
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    MISSING_CAPABILITY,
    UNSUPPORTED_VERSION,
    RpcError,
)
from mcpd.frontends.exchange import Terms
from mcpd.frontends.replies import JSON
from mcpd.frontends.turn import GONE_POLL, HttpTurn
from mcpd.wire.deadlines import Deadlines
from tests.frontends.fakes import FakeRequest

RESULT = (b'{"resultType":"complete"}', None)
ANSWER = b'{"jsonrpc":"2.0","id":"a","result":{"resultType":"complete"}}'


class Scene:
    """One turn and its clock."""

    def __init__(self, *, prefers_stream: bool = False, **times: float) -> None:
        self.deadlines = Deadlines(resolution=0)
        terms = Terms(Config(streams=Times(**times)), self.deadlines)
        self.request = FakeRequest()
        self.turn = HttpTurn(self.request, b'"a"', terms, prefers_stream=prefers_stream)

    @property
    def watched(self) -> int:
        return self.deadlines.statistics().entries

    @property
    def data(self) -> list[dict]:
        assert self.request.stream is not None
        return [json.loads(each) for each in self.request.stream.data]

    async def settle_elsewhere(self, outcome=RESULT) -> None:
        async def settle() -> None:
            self.turn.settle(outcome)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(settle)


async def test_an_answer_is_plain_json():
    scene = Scene()
    scene.turn.settle(RESULT)
    assert scene.request.answers == [(200, JSON, ANSWER)]
    scene.turn.close()
    assert not scene.watched
    assert not scene.request.detached, "the task settled what it is about to leave: its connection goes on by itself"


async def test_members_beside_the_result_travel_along():
    scene = Scene()
    scene.turn.settle((b"{}", {"x": b"1"}))
    assert json.loads(scene.request.answers[0][2]) == {"jsonrpc": "2.0", "id": "a", "result": {}, "x": 1}


@pytest.mark.parametrize(
    ("code", "given", "status"),
    [
        (INVALID_REQUEST, 200, 400),
        (INVALID_PARAMS, 200, 400),
        (HEADER_MISMATCH, 200, 400),
        (MISSING_CAPABILITY, 200, 400),
        (UNSUPPORTED_VERSION, 200, 400),
        (METHOD_NOT_FOUND, 200, 404),
        (INTERNAL_ERROR, 200, 200),
        (INTERNAL_ERROR, 503, 503),
        (-1234, 200, 200),
    ],
)
async def test_an_error_has_the_status_of_its_code(code, given, status):
    for prefers_stream in (False, True):
        scene = Scene(prefers_stream=prefers_stream and status != 200)
        scene.turn.settle(RpcError(code, "no", http_status=given))
        [(found, headers, body)] = scene.request.answers
        assert found == status
        assert headers.startswith(JSON)
        assert (b"Retry-After" in headers) is (status == 503)
        assert json.loads(body) == {"jsonrpc": "2.0", "id": "a", "error": {"code": code, "message": "no"}}


async def test_a_client_that_names_streams_first_gets_one():
    scene = Scene(prefers_stream=True)
    scene.turn.settle(RESULT)
    assert scene.data == [json.loads(ANSWER)]
    assert scene.request.stream.ended


async def test_a_notification_begins_the_stream_and_the_outcome_ends_it():
    scene = Scene()
    scene.turn.notify("notifications/progress", b'{"progress":1}')
    scene.turn.notify("notifications/progress", b'{"progress":2}')
    scene.turn.settle(RpcError(INVALID_PARAMS, "no"))
    assert [each.get("params") for each in scene.data] == [{"progress": 1}, {"progress": 2}, None]
    assert scene.data[2]["error"]["code"] == INVALID_PARAMS
    assert [event.id for event in scene.request.stream.events] == [None] * 3, "events of a modern stream have no ids"
    assert scene.request.stream.ended


async def test_nothing_is_said_after_the_end():
    scene = Scene()
    scene.turn.notify("n", b"{}")
    scene.turn.settle(RESULT)
    scene.turn.notify("n", b"{}")
    scene.turn.settle(RESULT)
    assert len(scene.data) == 2


async def test_silence_begins_the_stream_and_then_gets_comments(autojump_clock, nursery):
    scene = Scene(keepalive=15.0)
    nursery.start_soon(scene.deadlines.run)
    await trio.sleep(14.9)
    assert scene.request.stream is None
    await trio.sleep(0.2)
    assert scene.request.stream is not None
    assert scene.request.stream.written == b"", "its head is the sign of life"
    await trio.sleep(30)
    assert scene.request.stream.comments == 2
    scene.turn.notify("n", b"{}")
    await trio.sleep(14.9)
    assert scene.request.stream.comments == 2, "who speaks is not silent"
    await trio.sleep(0.5)
    assert scene.request.stream.comments == 3
    scene.turn.settle(RESULT)
    assert len(scene.data) == 2


async def test_a_client_that_is_gone_cancels_the_call_within_a_moment(autojump_clock, nursery):
    scene = Scene()
    nursery.start_soon(scene.deadlines.run)
    await trio.sleep(3)
    scene.request.gone = True
    await trio.sleep(GONE_POLL + 0.01)
    assert scene.request.cancelled == 1
    assert not scene.watched
    scene.turn.notify("n", b"{}")
    scene.turn.settle(RESULT)
    assert not scene.request.answers
    assert scene.request.stream is None


async def test_a_stream_that_cannot_be_written_cancels_the_call(autojump_clock, nursery):
    for spoken in (True, False):
        scene = Scene(keepalive=1.0)
        scene.turn.notify("n", b"{}")
        scene.request.stream.gone = True
        if spoken:
            scene.turn.notify("n", b"{}")
        else:
            nursery.start_soon(scene.deadlines.run)
            await trio.sleep(2)
        assert scene.request.cancelled == 1
        scene.turn.close()
        assert not scene.watched


async def test_an_answer_that_cannot_be_written_cancels_what_goes_on():
    scene = Scene()
    scene.turn.notify("n", b"{}")
    scene.request.stream.gone = True
    scene.turn.settle(RESULT)
    assert scene.request.cancelled == 1


async def test_an_answer_that_another_task_cannot_write_gives_nothing_back():
    scene = Scene()
    scene.turn.notify("n", b"{}")
    scene.request.stream.gone = True
    scene.request.is_gone = lambda: False  # its kernel does not know yet
    await scene.settle_elsewhere()
    assert (scene.request.cancelled, scene.request.detached) == (1, 0)


async def test_an_error_without_a_status_of_its_own_is_streamed_to_who_wants_streams():
    scene = Scene(prefers_stream=True)
    scene.turn.settle(RpcError(INTERNAL_ERROR, "no"))
    assert scene.data[0]["error"]["code"] == INTERNAL_ERROR


async def test_a_turn_settled_by_another_task_gives_its_connection_back():
    for stream in (True, False):
        scene = Scene()
        if stream:
            scene.turn.notify("n", b"{}")
        await scene.settle_elsewhere()
        assert scene.request.complete
        assert scene.request.detached == 1
        assert scene.request.body == b""
        assert not scene.watched
        scene.turn.cancel()
        assert scene.request.cancelled == 1, "the call can be cancelled as long as it runs"
        scene.turn.close()
        scene.turn.cancel()
        assert scene.request.cancelled == 1


async def test_nobody_is_there_to_answer_what_the_call_wants_to_know():
    scene = Scene()
    scene.request.gone = True
    await scene.settle_elsewhere()
    assert not scene.request.answers
    assert (scene.request.cancelled, scene.request.detached) == (1, 0)


async def test_a_task_that_stays_after_it_has_settled_lets_go_too(autojump_clock, nursery):
    scene = Scene()
    nursery.start_soon(scene.deadlines.run)
    scene.turn.settle(RESULT)
    assert not scene.request.detached
    await trio.sleep(GONE_POLL + 0.01)
    assert scene.request.detached == 1
    assert not scene.watched


async def test_a_cancelled_call_is_not_detached(autojump_clock, nursery):
    scene = Scene()
    nursery.start_soon(scene.deadlines.run)
    scene.turn.notify("n", b"{}")
    scene.turn.cancel()
    await trio.sleep(1)
    scene.turn.settle(RESULT)
    scene.turn.close()
    assert (scene.request.cancelled, scene.request.detached) == (1, 0)
    assert scene.request.stream.ended
