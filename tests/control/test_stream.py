from __future__ import annotations

import trio
import trio.lowlevel
import trio.testing

from mcpd.control.stream import KEEPALIVE, cleared
from tests.control.following import following, parsed
from tests.control.parts import controlled


def test_secrets_are_removed_wherever_they_stand():
    def hide(text):
        return text.replace("s3cret", "***")

    value = {"a": "s3cret", "b": ["x s3cret", {"c": ("s3cret",)}], "n": 1, "none": None}
    assert cleared(value, hide) == {"a": "***", "b": ["x ***", {"c": ["***"]}], "n": 1, "none": None}


async def test_a_stream_has_a_cursor_before_anything_happens(tmp_path):
    async with controlled(tmp_path) as (path, ops), following(path, "/v1/events") as stream:
        assert await stream.block() == {"id": ops.gateway.events.cursor}


async def test_it_ends_by_itself_when_mcpd_parts_from_it_with_all_that_was_to_be_said(tmp_path):
    async with controlled(tmp_path) as (path, ops), following(path, "/v1/events") as stream:
        await stream.block()
        ops.gateway.events.emit("mcpd", what="stopping")
        ops.gateway.part()
        assert (await stream.event())["data"]["what"] == "stopping"
        assert await stream.ends(), "by its last chunk, not by a broken connection"


async def test_a_client_that_leaves_is_not_followed_for(tmp_path):
    async with controlled(tmp_path) as (path, ops):
        async with following(path, "/v1/events") as stream:
            await stream.block()
            ops.gateway.events.emit("mcpd", what="x")
            await stream.event()
        ops.gateway.events.emit("mcpd", what="y")
        async with following(path, "/v1/events") as stream:
            await stream.block()  # the server goes on


async def test_a_slow_reader_is_left_alone_and_then_told_of_the_gap(tmp_path):
    async with controlled(tmp_path) as (path, ops), following(path, "/v1/events") as stream:
        await stream.block()
        emitted = 0
        while emitted < 20_000:
            for _ in range(500):
                ops.gateway.events.emit("mcpd", what="x" * 1000)
            emitted += 500
            await trio.lowlevel.checkpoint()
        kinds = []
        numbers = []
        with trio.fail_after(30):
            while not numbers or numbers[-1] < emitted:
                event = await stream.event()
                kinds.append(event["event"])
                if event["event"] == "mcpd":
                    numbers.append(int(event["id"].rpartition(".")[2]))
        assert "gap" in kinds
        assert numbers == sorted(set(numbers)), "nothing twice, nothing out of order"
        assert len(numbers) < emitted


async def test_head_has_no_body(tmp_path):
    async with controlled(tmp_path) as (path, _), following(path, "/v1/events", method="HEAD") as stream:
        assert stream.status == 200


def test_silence_is_shorter_than_what_proxies_and_clients_bear():
    assert KEEPALIVE < 30


def test_blocks_are_parsed_as_the_standard_says():
    assert parsed(b'id: 1\nevent: a\ndata: {"b":1}') == {"id": "1", "event": "a", "data": {"b": 1}}
    assert parsed(b": comment") == {}
