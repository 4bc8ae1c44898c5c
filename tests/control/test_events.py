from __future__ import annotations

import json

import pytest

from tests.control.following import following
from tests.control.parts import controlled


async def test_events_are_replayed_from_a_cursor_and_then_followed(tmp_path):
    async with controlled(tmp_path) as (path, ops):
        events = ops.gateway.events
        events.emit("state", server="a", to="ready")
        cursor = events.cursor
        events.emit("state", server="a", to="starting")
        for asked in ({"target": f"/v1/events?after={cursor}"}, {"target": "/v1/events", "Last_Event_ID": cursor}):
            async with following(path, **asked) as stream:
                assert stream.headers["content-type"] == "text/event-stream"
                first = await stream.event()
                assert (first["event"], first["data"]["to"]) == ("state", "starting")
                assert first["id"] == first["data"].get("cursor", first["id"])
        async with following(path, "/v1/events?after=0&kind=state,reload") as stream:
            assert [each["to"] for each in await stream.events(2)] == ["ready", "starting"]
            events.emit("reload", ok=True)
            assert (await stream.event())["data"]["ok"] is True


async def test_what_was_missed_is_told_as_a_gap_that_can_be_gone_on_from(tmp_path):
    async with controlled(tmp_path) as (path, ops):
        ops.gateway.events.emit("mcpd", what="ready")
        async with following(path, "/v1/events?kind=mcpd&after=abcdef.7") as stream:
            gap, event = await stream.event(), await stream.event()
        assert (gap["event"], event["event"]) == ("gap", "mcpd")
        async with following(path, f"/v1/events?kind=mcpd&after={gap['id']}") as stream:
            assert (await stream.event())["id"] == event["id"]


async def test_only_some_kinds_or_servers(tmp_path):
    async with controlled(tmp_path) as (path, ops):
        emit = ops.gateway.events.emit
        emit("state", server="a", n=1)
        emit("restart", server="b", n=2)
        emit("reload", ok=True, n=3)
        emit("state", server="b", n=4)
        for query, numbers in (
            ("kind=state", [1, 4]),
            ("kind=reload,restart", [2, 3]),
            ("server=b", [2, 4]),
            ("server=a,b&kind=state", [1, 4]),
        ):
            async with following(path, f"/v1/events?after=0&{query}") as stream:
                assert [each["n"] for each in await stream.events(len(numbers))] == numbers


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        ("after=x", "bad_cursor", "'x' is no cursor"),
        ("kind=nonsense", "bad_request", "no event is of the kind 'nonsense'"),
        ("kind=gap", "bad_request", "gap"),
        ("before=1", "bad_request", "after"),
    ],
)
async def test_what_is_asked_wrongly_is_refused_with_the_remedy(query, code, words, tmp_path):
    async with controlled(tmp_path) as (path, _), following(path, f"/v1/events?{query}") as stream:
        body = json.loads(await stream.body())
        assert (stream.status, body["code"]) == (400, code)
        assert words in body["message"] + body["remedy"]


async def test_secrets_are_not_shown(tmp_path):
    async with controlled(tmp_path) as (path, ops), following(path, "/v1/events") as stream:
        await stream.block()
        ops.gateway.events.emit("restart", server="b", reason="refused: Authorization: Bearer abc-123-def-456")
        assert (await stream.event())["data"]["reason"] == "refused: Authorization: Bearer ***"
