"""Operators who change things at the same time, with the daemon as a process."""

from __future__ import annotations

import pytest
import trio

from mcpd.control.client import Client, Refused
from tests.e2e.backends import mini
from tests.e2e.test_control import controlled

OPERATORS = 12


async def do(function, *arguments, **options):
    return await trio.to_thread.run_sync(lambda: function(*arguments, **options))


async def names(path) -> list[str]:
    return [each["name"] for each in (await do(Client(path).get, "/v1/servers"))["servers"]]


async def test_of_all_who_saw_the_same_one_changes_it():
    async with controlled({"mcpServers": {"a": mini()}}) as (_daemon, path):
        client = Client(path)
        await do(client.get, "/v1/servers")
        seen, outcomes = client.etag, []

        async def add(number: int) -> None:
            body = {"mcpServers": {f"n{number}": mini()}}
            try:
                await do(Client(path).post, "/v1/servers", body=body, if_match=seen)
                outcomes.append(f"n{number}")
            except Refused as refused:
                outcomes.append(refused.code)

        async with trio.open_nursery() as nursery:
            for number in range(OPERATORS):
                nursery.start_soon(add, number)
        [added] = set(outcomes) - {"changed_meanwhile"}
        assert len(outcomes) == OPERATORS
        assert await names(path) == ["a", added]


async def test_what_was_changed_is_neither_removed_nor_switched_by_who_saw_another_one():
    async with controlled({"mcpServers": {"a": mini()}}) as (_daemon, path):
        client = Client(path)
        await do(client.post, "/v1/servers", body={"mcpServers": {"b": mini()}})
        await do(client.get, "/v1/servers/b")
        seen = client.etag
        await do(client.post, "/v1/servers", {"replace": "1"}, {"mcpServers": {"b": mini("more")}})
        for method, target in (
            ("DELETE", "/v1/servers/b"),
            ("POST", "/v1/servers/b/disable"),
            ("POST", "/v1/servers/b/restart"),
        ):
            with pytest.raises(Refused) as caught:
                await do(client.ask, method, target, if_match=seen)
            assert (caught.value.status, caught.value.code) == (412, "changed_meanwhile")
        assert await names(path) == ["a", "b"]
        await do(client.get, "/v1/servers/b")
        await do(client.delete, "/v1/servers/b", if_match=client.etag)
        assert await names(path) == ["a"]
        with pytest.raises(Refused) as caught:
            await do(client.delete, "/v1/servers/b", if_match=seen)
        assert caught.value.status == 404
