from __future__ import annotations

import json

import pytest

from tests.control.following import following
from tests.control.parts import controlled


async def read(path, target):
    async with following(path, target) as stream:
        return stream.status, json.loads(await stream.body())


def same(text):
    return text


async def test_the_last_lines(tmp_path):
    async with controlled(tmp_path) as (path, ops):
        voice = ops.gateway.logs.voice("b", same, 7)
        voice.note("started")
        voice.say([b"line %d" % number for number in range(5)])
        status, body = await read(path, "/v1/logs?lines=2")
        assert status == 200
        assert [(each["server"], each["pid"], each["text"]) for each in body["lines"]] == [
            ("b", 7, "line 3"),
            ("b", 7, "line 4"),
        ]
        voice.say([b"more"])
        status, body = await read(path, f"/v1/logs?after={body['cursor']}")
        assert [each["text"] for each in body["lines"]] == ["more"]
        assert len((await read(path, "/v1/logs?server=b"))[1]["lines"]) == 7


async def test_lines_are_followed_and_the_reader_can_come_back(tmp_path):
    async with controlled(tmp_path) as (path, ops):
        voice = ops.gateway.logs.voice("b", same, 7)
        voice.say([b"one", b"two"])
        async with following(path, "/v1/logs?follow=1&lines=1&server=b") as stream:
            assert (await stream.event())["data"]["text"] == "two"
            voice.say([b"three", b"four"])
            third = await stream.event()
            assert (third["event"], third["data"]["text"]) == ("line", "three")
        async with following(path, "/v1/logs?follow=1", Last_Event_ID=third["id"]) as stream:
            assert (await stream.event())["data"]["text"] == "four"
        async with following(path, "/v1/logs?follow=1&after=abc.5") as stream:
            assert (await stream.event())["data"]["kind"] == "gap"


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("server=nobody", 404, "there is no server 'nobody' there are: b"),
        ("after=x", 400, "no cursor"),
        ("lines=x", 400, "lines"),
        ("lines=1000000", 400, "lines"),
    ],
)
async def test_what_is_asked_wrongly_is_refused_with_the_remedy(query, status, words, tmp_path):
    async with controlled(tmp_path) as (path, _):
        found, body = await read(path, f"/v1/logs?{query}")
        assert found == status
        assert words in f"{body['message']} {body['remedy']}"


async def test_secrets_are_not_shown(tmp_path):
    async with controlled(tmp_path) as (path, ops):
        ops.gateway.logs.voice("b", lambda text: text.replace("s3cret", "***"), 7).say([b"s3cret api_key=abcdef123"])
        _, body = await read(path, "/v1/logs")
        assert body["lines"][0]["text"] == "*** api_key=***"
