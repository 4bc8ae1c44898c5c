"""Tasks of modern servers, told of as they change to whoever watches them."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from tests.e2e.backends import fixture
from tests.fixtures.peer import ModernHttpPeer, start_daemon, start_fixture

TASKS = {"extensions": {"io.modelcontextprotocol/tasks": {}}, "elicitation": {}}
TAG = "io.modelcontextprotocol/subscriptionId"
CHANGED = "notifications/tasks"
YES = {"action": "accept", "content": {"confirm": True}}


@asynccontextmanager
async def jobs(transport: str, clients: int = 1):
    """A daemon with a server that makes tasks, and clients of it."""
    async with AsyncExitStack() as stack:
        server = fixture("everything", "--era", "modern")
        if transport == "http":
            server = {"url": (await stack.enter_async_context(start_fixture("everything", "--era", "modern"))).url}
        config = {"mcpServers": {"e": {**server, "prefix": ""}, "other": fixture("everything", "--no-tasks")}}
        daemon = await stack.enter_async_context(start_daemon(config))
        made = [await stack.enter_async_context(ModernHttpPeer(daemon.url)) for _ in range(clients)]
        for peer in made:
            peer.capabilities = TASKS
        yield made


async def begin(peer: ModernHttpPeer, filename: str) -> str:
    """A task that goes on when it is answered; its id."""
    created = (
        await peer.exchange("tools/call", {"name": "confirm_delete", "arguments": {"filename": filename}})
    ).result
    assert created["resultType"] == "task"
    return str(created["taskId"])


async def go_on(peer: ModernHttpPeer, id: str) -> None:
    """Answer what a task asks."""
    asked = (await peer.exchange("tasks/get", {"taskId": id})).result["inputRequests"]
    answers = {"taskId": id, "inputResponses": dict.fromkeys(asked, YES)}
    assert (await peer.exchange("tasks/update", answers)).result["resultType"] == "complete"


def last(heard: Any) -> dict[str, Any]:
    return (heard.outcome.said(CHANGED) or [{}])[-1]


async def wait_completed(heard: Any) -> dict[str, Any]:
    await heard.wait_until(lambda outcome: last(heard).get("status") == "completed")
    return last(heard)


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_who_watches_a_task_hears_what_becomes_of_it(transport):
    async with jobs(transport, clients=2) as (one, two):
        first, second = await begin(one, "a"), await begin(one, "b")
        unknown = ["other:x", "nobody:x", "x"]
        async with one.listen(tasks=[first, *unknown], request_id="one") as both, one.listen(tasks=[second]) as other:
            acknowledged = both.outcome.notifications[0]["params"]
            assert acknowledged == {"notifications": {"taskIds": [first]}, "_meta": {TAG: "one"}}
            async with two.listen("tools", tasks=[second, first], request_id=2) as all_of_it:
                await go_on(two, first)
                done = await wait_completed(both)
                assert done["taskId"] == first
                assert done["result"]["content"] == [{"type": "text", "text": "a: accept"}]
                assert done["_meta"] == {TAG: "one"}
                assert await wait_completed(all_of_it) == {**done, "_meta": {TAG: 2}}
                found = (await one.exchange("tasks/get", {"taskId": first})).result
                assert {**found, "_meta": done["_meta"]} == {**done, "resultType": "complete"}
            await go_on(two, second)
            assert (await wait_completed(other))["taskId"] == second
            assert {each["taskId"] for each in both.outcome.said(CHANGED)} == {first}
            assert all_of_it.outcome.said(CHANGED)[-1]["taskId"] == first, "it had left"


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_what_happens_while_the_servers_stream_is_away_is_not_lost(transport):
    async with jobs(transport) as (peer,):
        id = await begin(peer, "a")
        async with peer.listen(tasks=[id]) as heard:
            await peer.call("end_listens", {"abrupt": transport == "http"})
            await go_on(peer, id)
            assert (await wait_completed(heard))["taskId"] == id


async def test_tasks_are_told_of_only_to_clients_that_declared_them():
    async with jobs("stdio") as (peer,):
        id = await begin(peer, "a")
        params = {"notifications": {"taskIds": [id]}}
        refused = await peer.exchange("subscriptions/listen", params, capabilities={"elicitation": {}})
        assert (refused.status, refused.error.code) == (400, -32021)
        needed = {"extensions": {"io.modelcontextprotocol/tasks": {}}}
        assert refused.error.data == {"requiredCapabilities": needed}
