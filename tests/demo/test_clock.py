"""The clock: time zones, progress, cancellation, reminders that ask."""

from __future__ import annotations

import datetime
import json
from functools import partial

import pytest
import trio

from tests.demo.servers import VERSIONS, check_tools, demo, first_text
from tests.fixtures.peer import PeerError


@pytest.mark.parametrize("version", VERSIONS)
async def test_works_in_each_version(version):
    async with demo("clock") as peer:
        await peer.initialize(version)
        check_tools(await peer.list_all("tools/list", "tools"), version)
        told = await peer.call_json("now")
        moment = datetime.datetime.fromisoformat(told["time"])
        assert moment.utcoffset() == datetime.timedelta(0)
        assert (told["timezone"], told["weekday"]) == ("UTC", moment.strftime("%A"))
        meta = {"progressToken": "t"}
        await peer.call("countdown", {"seconds": 0.01, "steps": 4}, meta=meta)
        reports = peer.notifications("notifications/progress")
        assert [(each["progressToken"], each["progress"], each["total"]) for each in reports] == [
            ("t", step, 4) for step in range(5)
        ]
        assert all(("message" in each) == (version >= "2025-03-26") for each in reports)


async def test_refuses_what_is_no_time_zone():
    async with demo("clock") as peer:
        await peer.initialize()
        for name in ("Middle/Earth", "../etc/passwd", ""):
            result = await peer.call("now", {"timezone": name})
            assert (result["isError"], "Europe/Berlin" in first_text(result)) == (True, True)


def countdown(seconds, request_id):
    params = {"name": "countdown", "arguments": {"seconds": seconds}, "_meta": {"progressToken": request_id}}
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}).encode() + b"\n"


async def test_cancelling_one_countdown_ends_that_one_only():
    async with demo("clock") as peer:
        await peer.initialize()
        await peer.write(countdown(3600, "1") + countdown(3600, 1))
        await peer.wait_notifications("notifications/progress", 2)
        await peer.cancel(1)
        await peer.cancel("nobody's")
        # Its id can be used again once its thread has ended, and no answer to the first use came before.
        params = {"name": "countdown", "arguments": {"seconds": 0}}
        with trio.fail_after(30):
            while "error" in (answer := await peer.exchange("tools/call", params, request_id=1)):
                assert "in use" in answer["error"]["message"]
        assert answer["result"]["content"][0]["text"] == "0 seconds are over."
        # The other one still runs: its id is still taken.
        assert "in use" in (await peer.exchange("tools/call", params, request_id="1"))["error"]["message"]


async def test_reminds_until_it_is_done():
    async with demo("clock") as peer:
        questions = []

        def answer(params):
            questions.append(params)
            content = {"done": False, "again_in": 0} if len(questions) < 3 else {"done": True}
            return {"action": "accept", "content": content}

        peer.callbacks["elicitation/create"] = answer
        await peer.initialize(capabilities={"elicitation": {}})
        text = await peer.call_text("remind", {"text": "tea", "seconds": 0})
        assert text == "The user has done it: tea"
        assert [question["message"] for question in questions] == ["Reminder: tea"] * 3
        assert questions[0]["requestedSchema"]["required"] == ["done"]


@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_a_reminder_can_be_dismissed(action):
    async with demo("clock") as peer:
        peer.callbacks["elicitation/create"] = lambda params: {"action": action}
        await peer.initialize(capabilities={"elicitation": {}})
        assert "dismissed" in await peer.call_text("remind", {"text": "tea", "seconds": 0})


async def test_reminds_without_asking_where_the_client_cannot():
    async with demo("clock") as peer:
        await peer.initialize()
        assert "cannot ask" in await peer.call_text("remind", {"text": "tea", "seconds": 0})


async def test_cancelling_a_reminder_takes_its_question_back(nursery):
    async with demo("clock") as peer:
        asked = trio.Event()

        async def never(params):
            asked.set()
            await trio.sleep_forever()

        peer.callbacks["elicitation/create"] = never
        await peer.initialize(capabilities={"elicitation": {}})

        params = {"name": "remind", "arguments": {"text": "tea", "seconds": 0}}
        nursery.start_soon(partial(peer.exchange, "tools/call", params, request_id="r"))
        await asked.wait()
        await peer.cancel("r")
        question = next(each for each in peer.received if each.get("method") == "elicitation/create")
        taken_back = await peer.wait_notifications("notifications/cancelled")
        assert taken_back == [{"requestId": question["id"]}]
        nursery.cancel_scope.cancel()


async def test_log_level_is_respected():
    async with demo("clock") as peer:
        await peer.initialize()
        await peer.call("countdown", {"seconds": 0})
        assert len(peer.notifications("notifications/message")) == 2
        await peer.request("logging/setLevel", {"level": "warning"})
        await peer.call("countdown", {"seconds": 0})
        assert len(peer.notifications("notifications/message")) == 2
        with pytest.raises(PeerError) as refused:
            await peer.request("logging/setLevel", {"level": "loud"})
        assert refused.value.code == -32602
