"""Modern requests on a connection that carries everything, beside those of a session."""

from __future__ import annotations

import json

import pytest
import trio

from mcpd.errors import INTERNAL_ERROR, RpcError
from mcpd.protocol.capabilities import ClientCapability
from tests.frontends.rig import envelope, modern_request
from tests.frontends.test_conversation import INITIALIZE, Scene, empty, hang, request

DONE = b'{"resultType":"complete"}'
LISTEN = modern_request("l", "subscriptions/listen", notifications={})


class Modern(Scene):
    def __init__(self, directory, nursery, calls_max: int = 9) -> None:
        super().__init__(directory, nursery, calls_max)
        self.scripts = self.gateway.modern.scripts

    @property
    def said(self) -> list:
        """Ids of responses and methods of notifications, in order."""
        return [each.get("method") or each["id"] for each in self.outlet.sent]


def cancel(id: object) -> dict:
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}


async def done(round) -> bytes:
    return DONE


class Park:
    """A call that settles its first turn from another task and goes on."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.go_on = trio.Event()

    async def __call__(self, round) -> None:
        self.nursery.start_soon(self._ask, round.turn)
        await self.go_on.wait()
        round.notify("late")
        round.turn.settle((b'{"too":"late"}', None))

    async def _ask(self, turn) -> None:
        turn.settle((b'{"resultType":"input_required"}', None))


async def test_both_eras_side_by_side_and_none_locks_the_other_out(tmp_path, nursery):
    scene = Modern(tmp_path, nursery)
    scene.scripts |= {"server/discover": done, "tools/call": done}
    scene.gateway.scripts["tools/call"] = empty
    await scene.say(modern_request(1, "server/discover"), request(2))
    await scene.say(INITIALIZE, request(3), modern_request(4))
    assert scene.outlet.of(1)["result"] == scene.outlet.of(4)["result"] == {"resultType": "complete"}
    assert "initialize" in scene.outlet.of(2)["error"]["message"]
    assert scene.outlet.of(0)["result"]["protocolVersion"] == "2025-11-25"
    assert scene.outlet.of(3)["result"] == {}
    assert not scene.session.calls


async def test_a_caller_is_of_its_call_and_of_the_connections_principal(tmp_path, nursery):
    scene = Modern(tmp_path, nursery)
    scene.scripts["tools/call"] = done
    capabilities = {"clientCapabilities": {"roots": {}, "extensions": {"a/b": {}}}}
    await scene.say(modern_request(1, meta=envelope(**capabilities)))
    await scene.say(modern_request(2))
    one, two = (round.caller for round in scene.gateway.modern.rounds)
    assert one.key != two.key
    assert scene.session.caller.key not in (one.key, two.key)
    assert one.principal == scene.session.caller.principal
    assert (one.capabilities, two.capabilities) == (ClientCapability.ROOTS, 0)
    assert (one.extensions, two.extensions) == (b'{"relayed":{"a/b": {}}}', None)


@pytest.mark.parametrize(
    ("meta", "code"),
    [(envelope(clientCapabilities=None), -32602), (envelope("v999"), -32022), (envelope(logLevel="x"), -32602)],
)
async def test_a_bad_envelope_is_refused_by_id(tmp_path, nursery, meta, code):
    scene = Modern(tmp_path, nursery)
    await scene.say(INITIALIZE, modern_request("a", meta=meta))
    assert scene.outlet.of("a")["error"]["code"] == code
    assert not scene.gateway.modern.rounds
    assert not scene.session.calls


async def test_what_a_call_says_comes_before_its_answer(tmp_path, nursery):
    scene = Modern(tmp_path, nursery)

    async def talkative(round) -> bytes:
        round.notify("notifications/progress", progress=1)
        return DONE

    scene.scripts["tools/call"] = talkative
    await scene.say(modern_request(1))
    assert scene.said == ["notifications/progress", 1]


async def test_a_cancelled_request_gets_no_answer_whatever_the_gateway_does(tmp_path, nursery):
    scene = Modern(tmp_path, nursery)

    async def stubborn(round) -> bytes:
        try:
            await trio.sleep_forever()
        finally:
            round.notify("late")
            round.turn.settle((DONE, None))
        raise AssertionError

    scene.scripts["tools/call"] = stubborn
    await scene.say(modern_request(1), modern_request("1"))
    await scene.say(cancel(1), cancel(1), cancel("no"))
    assert scene.gateway.cancelled == ["1"]
    assert not scene.outlet.sent
    assert list(scene.session.calls) == [b'"1"']


async def test_a_cancellation_in_the_same_breath_counts(tmp_path, nursery):
    scene = Modern(tmp_path, nursery)
    scene.scripts["tools/call"] = hang
    await scene.say(modern_request(1), cancel(1))
    assert not scene.session.calls
    assert not scene.outlet.sent


async def test_ids_are_unique_across_eras_and_calls_are_bounded(tmp_path, nursery):
    scene = Modern(tmp_path, nursery, calls_max=2)
    scene.scripts["tools/call"] = scene.gateway.scripts["tools/call"] = hang
    await scene.say(INITIALIZE, modern_request(1), request(1))
    assert "in use" in scene.outlet.of(1)["error"]["message"]
    await scene.say(request(2), modern_request(2), modern_request(3))
    assert "in use" in scene.outlet.of(2)["error"]["message"]
    assert "limits.calls_per_session" in scene.outlet.of(3)["error"]["message"]
    assert list(scene.session.calls) == [b"1", b"2"]


async def test_a_parked_call_has_answered_and_its_id_is_free(tmp_path, nursery):
    scene = Modern(tmp_path, nursery)
    park = scene.scripts["tools/call"] = Park(nursery)
    await scene.say(modern_request(1))
    assert scene.outlet.of(1)["result"] == {"resultType": "input_required"}
    await scene.say(cancel(1))
    assert not scene.gateway.cancelled, "what was answered cannot be cancelled"
    scene.scripts["tools/call"] = hang
    await scene.say(modern_request(1))
    assert list(scene.session.calls) == [b"1"]
    park.go_on.set()
    await trio.testing.wait_all_tasks_blocked()
    assert scene.said == [1], "nothing follows the answer"
    assert list(scene.session.calls) == [b"1"], "and the new request of that id is still noted"


async def test_who_leaves_lets_go_of_parked_calls_and_listens_alone(tmp_path, nursery):
    scene = Modern(tmp_path, nursery)
    late = trio.Event()

    async def park_later(round) -> None:
        await late.wait()
        await Park(nursery)(round)

    scene.scripts |= {"tools/call": Park(nursery), "prompts/get": hang, "resources/read": park_later}
    calls = [("p", "tools/call"), ("g", "prompts/get"), ("r", "resources/read")]
    await scene.say(*(modern_request(id, method) for id, method in calls), LISTEN)
    scene.conversation.leave()
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(scene.gateway.cancelled) == ['"l"', '"p"']
    late.set()
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(scene.gateway.cancelled) == ['"l"', '"p"', '"r"'], "nobody will bring what it asks for"
    assert list(scene.session.calls) == [b'"g"']


async def test_who_leaves_at_once_keeps_no_listen_that_had_not_begun(tmp_path, nursery):
    scene = Modern(tmp_path, nursery)
    await scene.conversation.take(scene.conversation.read(json.dumps(LISTEN).encode()))
    assert scene.gateway.listens.heard == []
    scene.conversation.leave()
    await trio.testing.wait_all_tasks_blocked()
    assert scene.gateway.listens.outlets == []
    assert not scene.session.calls


async def test_listening(tmp_path, nursery):
    scene = Modern(tmp_path, nursery)
    await scene.say(LISTEN)
    assert scene.said == ["ack"]
    [outlet] = scene.gateway.listens.outlets
    assert outlet.queued == scene.outlet.queued
    assert outlet.send((b'{"method":"news"}',))
    await scene.say(cancel("l"))
    assert scene.gateway.cancelled == ['"l"']
    assert scene.said == ["ack", "news"], "after the cancellation nothing, not even the end"
    assert not scene.session.calls
    [(caller, id, members)] = scene.gateway.listens.heard
    assert (caller.stateless, id, bytes(members["notifications"])) == (True, b'"l"', b"{}")


async def test_a_graceful_end_of_listening_is_its_answer(tmp_path, nursery):
    scene = Modern(tmp_path, nursery)
    await scene.say(LISTEN)
    scene.gateway.listens.end.set()
    await trio.testing.wait_all_tasks_blocked()
    assert scene.outlet.of("l")["result"] == {"end": True}
    assert not scene.session.calls


async def test_a_listen_that_is_refused(tmp_path, nursery):
    scene = Modern(tmp_path, nursery)
    scene.gateway.listens.refusal = RpcError(INTERNAL_ERROR, "too many")
    await scene.say(LISTEN)
    assert scene.outlet.of("l")["error"]["message"] == "too many"
    assert not scene.session.calls


async def test_a_bug_fails_one_call_and_is_logged(tmp_path, nursery, caplog):
    scene = Modern(tmp_path, nursery)

    async def broken(round) -> bytes:
        raise KeyError("secret detail")

    scene.scripts |= {"tools/call": broken, "prompts/get": done}
    await scene.say(modern_request(1), modern_request(2, "prompts/get"))
    assert scene.outlet.of(1)["error"]["code"] == INTERNAL_ERROR
    assert "secret" not in scene.outlet.of(1)["error"]["message"]
    assert "secret detail" in caplog.text
    assert "result" in scene.outlet.of(2)


async def test_a_response_waits_for_room_and_a_notification_does_not(tmp_path, nursery):
    scene = Modern(tmp_path, nursery)

    async def talkative(round) -> bytes:
        round.notify("notifications/message", data="x")
        return DONE

    scene.scripts["tools/call"] = talkative
    scene.outlet.full = True
    await scene.say(modern_request(1))
    assert not scene.outlet.sent
    assert not scene.session.calls
    scene.outlet.make_room()
    await trio.testing.wait_all_tasks_blocked()
    assert scene.said == [1]


async def test_the_end_of_the_session_cancels_modern_calls_too(tmp_path, nursery):
    scene = Modern(tmp_path, nursery)
    scene.scripts["tools/call"] = hang
    await scene.say(modern_request(1))
    scene.session.close()
    await trio.testing.wait_all_tasks_blocked()
    assert scene.gateway.cancelled == ["1"]
    assert not scene.outlet.sent
