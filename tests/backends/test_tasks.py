"""Tools that run as tasks only, called by clients who know nothing of tasks."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.backends.tasks import KEEP
from mcpd.backends.tools import ToolFacts
from mcpd.config.model import Timeouts
from mcpd.errors import BackendCrashed, BackendMisbehaved, BackendTimedOut, MissingCapability, RpcError
from mcpd.protocol.capabilities import NOTHING
from tests.backends.parts import Client, Failure, calling, linked, lose_session_once, modern_client, result_of

TIMEOUTS = Timeouts(init=5, call_idle=10, call_max=60, list=5, ask=100)
CREATED = {"task": {"taskId": "T", "status": "working", "createdAt": "x", "lastUpdatedAt": "x", "ttl": 1}}
RELATED = {"io.modelcontextprotocol/related-task": {"taskId": "T"}}


def slow_tool(heard):
    heard.tools = ToolFacts(as_tasks=frozenset({b'"slow"'}))


async def call(link, client, **params):
    made = client.call(name="slow", **params)
    return result_of(await link.call(made, "tools/call", made.members))


async def begun(nursery, link, carrier, client):
    """A call whose task was made and is waited for: its outcome, and the request that made it."""
    carrier.answers.update({"tools/call": CREATED, "tasks/result": lambda message: None, "tasks/cancel": {}})
    made = client.call(token=b'"mine"', name="slow")
    outcome = calling(nursery, link.call, made, "tools/call", made.members)
    await carrier.wait_sent("tasks/result")
    return outcome, carrier.named("tools/call")[0]


async def test_the_task_is_made_and_its_result_is_the_calls():
    async with linked(timeouts=TIMEOUTS) as (link, carrier, heard):
        slow_tool(heard)
        carrier.answers.update(
            {"tools/call": CREATED, "tasks/result": {"content": [1], "_meta": {**RELATED, "v/x": 1}}}
        )
        assert await call(link, Client(), arguments={"x": 1}) == {"content": [1], "_meta": {"v/x": 1}}
        made, fetched = carrier.sent[2:]
        assert made["params"] == {"name": "slow", "arguments": {"x": 1}, "task": {"ttl": (60 + KEEP) * 1000}}
        assert (fetched["method"], fetched["params"]) == ("tasks/result", {"taskId": "T"})
        assert link.in_flight == 0


async def test_for_a_modern_client_too():
    async with linked() as (link, carrier, heard):
        slow_tool(heard)
        carrier.answers.update({"tools/call": CREATED, "tasks/result": {"content": [], "_meta": RELATED}})
        result = await call(link, modern_client())
        assert result["resultType"] == "complete"
        assert "io.modelcontextprotocol/related-task" not in result["_meta"]


@pytest.mark.parametrize("meta", [RELATED, {}])
async def test_a_mark_that_is_alone_leaves_nothing(meta):
    async with linked() as (link, carrier, heard):
        slow_tool(heard)
        carrier.answers.update({"tools/call": CREATED, "tasks/result": {"content": [], "_meta": meta}})
        assert await call(link, Client()) == ({"content": []} if meta else {"content": [], "_meta": {}})


async def test_a_tool_that_ran_at_once():
    async with linked() as (link, carrier, heard):
        slow_tool(heard)
        carrier.answers["tools/call"] = {"content": ["done"]}
        assert await call(link, Client()) == {"content": ["done"]}
        assert carrier.named("tasks/result") == []


@pytest.mark.parametrize("task", [None, {}, "T", []])
async def test_an_answer_that_names_no_task(task):
    async with linked() as (link, carrier, heard):
        slow_tool(heard)
        carrier.answers["tools/call"] = {"task": task}
        with pytest.raises(BackendMisbehaved, match="names no task"):
            await call(link, Client())


async def test_ids_of_tasks_travel_as_they_are():
    async with linked() as (link, carrier, heard):
        slow_tool(heard)
        carrier.answers.update({"tools/call": {"task": {"taskId": 7.50}}, "tasks/result": {}})
        await call(link, Client())
        assert b'"taskId":7.5}' in carrier.texts[-1]


@pytest.mark.parametrize("method", ["tools/call", "tasks/result"])
async def test_errors_are_the_calls(method):
    async with linked() as (link, carrier, heard):
        slow_tool(heard)
        carrier.answers.update({"tools/call": CREATED, "tasks/result": {}, method: Failure(-32602, "not with you")})
        with pytest.raises(RpcError, match="not with you"):
            await call(link, Client())


# ---- while it runs


async def test_progress_of_the_task_is_the_calls(nursery, autojump_clock):
    async with linked(timeouts=TIMEOUTS) as (link, carrier, heard):
        slow_tool(heard)
        client = Client()
        outcome, made = await begun(nursery, link, carrier, client)
        assert made["params"]["_meta"]["progressToken"] == made["id"]
        assert "_meta" not in carrier.named("tasks/result")[0]["params"]
        for number in range(3):
            await trio.sleep(15)
            carrier.notify("notifications/progress", {"progressToken": made["id"], "progress": number})
        assert [params for _, params in client.emitted] == [
            {"progressToken": "mine", "progress": number} for number in range(3)
        ]
        carrier.answer_to(carrier.named("tasks/result")[0], {"content": []})
        await outcome.done.wait()
        carrier.notify("notifications/progress", {"progressToken": made["id"], "progress": 9})
        assert len(client.emitted) == 3, "it is over"


async def test_its_questions_are_the_calls(nursery, autojump_clock):
    async with linked() as (link, carrier, heard):
        slow_tool(heard)
        client = Client()
        client.answer = b'{"roots":[]}'
        await begun(nursery, link, carrier, client)
        carrier.say({"id": "q", "method": "roots/list", "params": {"_meta": RELATED}})
        assert (await carrier.wait_sent("answer"))["result"] == {"roots": []}
        assert heard.asked == []


@pytest.mark.parametrize("on_own_stream", [True, False])
async def test_a_question_that_is_refused_counts_for_the_call(on_own_stream, nursery, autojump_clock):
    async with linked() as (link, carrier, heard):
        slow_tool(heard)
        outcome, _ = await begun(nursery, link, carrier, modern_client(capabilities=NOTHING))
        related = carrier.waiters[-1] if on_own_stream else None
        carrier.say({"id": "q", "method": "roots/list"}, related)
        assert "error" in await carrier.wait_sent("answer")
        fetch = carrier.named("tasks/result")[0]
        carrier.say({"id": fetch["id"], "error": {"code": -32603, "message": "cannot go on"}})
        await outcome.done.wait()
        assert isinstance(outcome.error, MissingCapability)


async def test_a_legacy_client_is_told_what_the_backend_says(nursery, autojump_clock):
    async with linked() as (link, carrier, heard):
        slow_tool(heard)
        outcome, _ = await begun(nursery, link, carrier, Client(capabilities=NOTHING))
        carrier.say({"id": "q", "method": "roots/list"})
        assert "error" in await carrier.wait_sent("answer")
        fetch = carrier.named("tasks/result")[0]
        carrier.say({"id": fetch["id"], "error": {"code": -32603, "message": "cannot go on"}})
        await outcome.done.wait()
        assert not isinstance(outcome.error, MissingCapability)
        assert outcome.error.code == -32603


# ---- the end of it


async def test_a_cancelled_call_cancels_its_task_and_its_questions(nursery, autojump_clock):
    async with linked() as (link, carrier, heard):
        slow_tool(heard)
        client = Client()
        client.answer = None
        outcome, made = await begun(nursery, link, carrier, client)
        carrier.say({"id": "q", "method": "roots/list"})
        await client.wait_asked()
        outcome.scope.cancel()
        assert (await carrier.wait_sent("tasks/cancel"))["params"] == {"taskId": "T"}
        cancelled = await carrier.wait_sent("notifications/cancelled")
        assert cancelled["params"]["requestId"] == carrier.named("tasks/result")[0]["id"] != made["id"]
        assert (await carrier.wait_sent("answer"))["error"]["message"] == "the call that this belongs to is over"
        assert client.withdrawn == 1


async def test_a_task_that_takes_too_long_is_cancelled(nursery, autojump_clock):
    async with linked(timeouts=TIMEOUTS) as (link, carrier, heard):
        slow_tool(heard)
        start = trio.current_time()
        outcome, _ = await begun(nursery, link, carrier, Client())
        await outcome.done.wait()
        assert isinstance(outcome.error, BackendTimedOut)
        assert "call_max" in str(outcome.error)
        assert 60 <= trio.current_time() - start < 61, "idle time is for calls that should say something"
        assert await carrier.wait_sent("tasks/cancel")


async def test_a_lost_link_fails_it_at_once(nursery, autojump_clock):
    async with linked() as (link, carrier, heard):
        slow_tool(heard)
        outcome, _ = await begun(nursery, link, carrier, Client())
        link.fail(BackendCrashed("b", "was killed by SIGKILL"))
        await outcome.done.wait()
        assert "SIGKILL" in str(outcome.error)
        await wait_all_tasks_blocked()
        assert carrier.named("tasks/cancel") == []


async def test_a_lost_session_makes_the_task_once_more(autojump_clock):
    async with linked() as (link, carrier, heard):
        slow_tool(heard)
        carrier.answers.update({"tools/call": lose_session_once(CREATED), "tasks/result": {"content": []}})
        assert await call(link, Client()) == {"content": []}
        assert len(carrier.named("tools/call")) == 2
        assert len(carrier.named("tasks/result")) == 1
