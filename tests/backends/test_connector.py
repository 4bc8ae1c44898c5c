# ruff: noqa: ASYNC110, UP031 - processes and remotes tell nothing of what goes on inside them; programs are full of braces
from __future__ import annotations

import sys
from contextlib import asynccontextmanager

import pytest
import trio

from mcpd.backends.carrier import Wish
from mcpd.backends.connector import Connector
from mcpd.backends.opening import FATAL_FOR, LEGACY_FOR, Era
from mcpd.backends.replies import NotHere
from mcpd.backends.stdio import ChildEnded
from mcpd.config.model import Limits, ServerSpec, Stop, Timeouts
from mcpd.errors import BackendError, BackendUnavailable, RpcError
from mcpd.protocol.capabilities import EVERYTHING, ClientCapability
from mcpd.supervisor.slots import Claim
from mcpd.supervisor.supervisor import Supervisor
from mcpd.wire.deadlines import Deadlines
from mcpd.wire.http_client import HttpClient
from tests.backends.http_parts import Remote, remote_server
from tests.backends.parts import DISCOVER, Client, Heard, calling, modern_client, result_of
from tests.backends.test_sse import OldRemote
from tests.backends.test_stdio import make


@asynccontextmanager
async def connector_for(spec: ServerSpec):
    deadlines = Deadlines(resolution=0.01)
    supervisor = Supervisor(None)
    client = HttpClient(deadlines=deadlines) if spec.url is not None else None
    async with trio.open_nursery() as nursery:
        await nursery.start(deadlines.run)
        await nursery.start(supervisor.run)
        yield Connector(spec, supervisor=supervisor, client=client, deadlines=deadlines, message_max=1 << 20)
        if client is not None:
            await client.aclose()
        nursery.cancel_scope.cancel()


async def use(connector, body=None, owner=None, wish=EVERYTHING):
    """Connect, do something with the link, and end it; returns the error, if any."""
    error = None
    async with trio.open_nursery() as nursery:
        try:
            async with connector.connect(nursery, Heard(), wish, owner, Claim()) as link:
                if body is not None:
                    await body(link)
        except RpcError as failure:
            error = failure
        nursery.cancel_scope.cancel()
    return error


def remote_spec(url: str, **members) -> ServerSpec:
    members.setdefault("transport", "auto")
    return ServerSpec(name="b", url=url, timeouts=Timeouts(init=5), **members)


async def one_call(link):
    made = Client().call()
    assert result_of(await link.call(made, "tools/call", made.members))["echo"] == {"name": "t"}


async def test_settings_change_for_links_that_are_open_and_for_those_to_come(nursery):
    async with remote_server() as remote, connector_for(remote_spec(remote.url)) as connector:
        async with connector.connect(nursery, Heard(), EVERYTHING, None, Claim()) as link:
            assert link.label.text == ""
            connector.adjust(Limits(message=200, calls=5, parks=2), labelled=True)
            assert link.label.text == "[b] ", "a person is told at once who asks"
            connector.adjust(Limits(message=200, calls=5, parks=2), labelled=False)
            assert link.label.text == ""
        error = await use(connector, one_call)
        assert "limits.message" in str(error), "the handshake is longer"
        await connector.close()
        assert "mcpd is stopping" in str(await use(connector, one_call))


async def test_stdio():
    async with connector_for(make()) as connector:
        assert connector.pid is None
        assert await use(connector, one_call) is None
        assert connector.pid is not None
        before = connector.pid
        await use(connector, one_call, owner="s1")
        assert connector.pid == before, "that of the shared child"


async def test_what_was_found_out_is_remembered():
    async with remote_server() as remote, connector_for(remote_spec(remote.url)) as connector:
        assert connector.transport == "auto"
        await use(connector, one_call)
        assert connector.transport == "streamable-http"
        assert not connector.stateless


async def test_a_remote_without_sessions_is_stateless():
    remote = Remote()
    remote.session = None
    async with remote_server(remote), connector_for(remote_spec(remote.url)) as connector:
        await use(connector)
        assert connector.stateless


class Both(OldRemote):
    """Refuses POST to its URL as servers of 2024-11-05 do, as long as `old`."""

    old = True

    async def handle(self, request):
        if self.old and request.head.method == b"POST" and request.head.target == b"/mcp":
            self.named_posts = getattr(self, "named_posts", 0) + 1
            request.answer(405, b"Allow: GET\r\n")
        else:
            await super().handle(request)


async def test_http_and_sse_is_found_by_its_refusal():
    remote = Both()
    async with remote_server(remote), connector_for(remote_spec(remote.url)) as connector:

        async def look(link):
            await one_call(link)
            assert connector.transport == "sse"
            await use(connector, one_call, owner="s1")
            assert connector.transport == "sse", "a session's own link does not forget for all"
            assert remote.named_posts == 2, "asked both ways, once"

        assert await use(connector, look) is None
        assert connector.transport == "auto", "it may be upgraded"
        remote.old = False
        del remote.serve["GET"]
        assert await use(connector, one_call) is None
        assert connector.transport == "streamable-http"


async def test_a_stated_transport_is_not_probed():
    remote = Both()
    async with remote_server(remote):
        async with connector_for(remote_spec(remote.url, transport="streamable-http")) as connector:
            assert isinstance(await use(connector), NotHere)
            assert remote.named("GET") == []
        async with connector_for(remote_spec(remote.url, transport="sse")) as connector:
            assert await use(connector, one_call) is None
            assert remote.named_posts == 2


async def test_a_remote_that_vanishes_from_its_url_later():
    """Its 404 then must not be taken for a reason to try the other transport on a link that is in use."""
    remote = Remote()

    async def gone(seen):
        seen.answer(404)

    async with remote_server(remote), connector_for(remote_spec(remote.url)) as connector:

        async def vanish(link):
            remote.serve.update({"initialize": gone, "tools/call": gone})
            await one_call(link)

        assert isinstance(await use(connector, vanish), NotHere)
        assert connector.transport == "auto"
        assert isinstance(await use(connector), BackendError)


async def test_a_failing_remote_is_no_verdict_on_its_transport():
    remote = Remote()

    async def broken(seen):
        seen.answer(500)

    remote.serve["initialize"] = broken
    async with remote_server(remote), connector_for(remote_spec(remote.url)) as connector:
        error = await use(connector)
        assert "HTTP 500" in str(error)
        assert connector.transport == "auto"
        assert remote.named("GET") == []


async def test_calls_in_flight_fail_before_the_farewell():
    code = """
def serve(m): pass
loop()
time.sleep(60)
"""
    spec = make(code, stop=Stop(eof=1, term=10, kill=5), era="legacy")
    async with connector_for(spec) as connector, trio.open_nursery() as nursery:
        outcomes = []

        async def begin(link):
            made = Client().call()
            outcomes.append(calling(nursery, link.call, made, "tools/call", made.members))
            while not link.in_flight:
                await trio.sleep(0.01)

        begun = trio.current_time()
        nursery.start_soon(use, connector, begin)
        while not outcomes:
            await trio.sleep(0.01)
        await outcomes[0].done.wait()
        assert trio.current_time() - begun < spec.stop.eof + spec.stop.term, "before the ladder is at its end"
        assert isinstance(outcomes[0].error, BackendUnavailable)


async def test_secrets_of_the_server_are_known_without_being_told():
    spec = make(f"words('{sys.platform} hunter22'); sys.exit(1)", env={"TOKEN": "hunter22"})
    async with connector_for(spec) as connector:
        error = await use(connector)
        assert f"{sys.platform} ***" in str(error)


# ---- eras

DIES_OF_THE_PROBE = """
open(os.environ["STARTS"], "a").write("x")
m = json.loads(sys.stdin.buffer.readline())
if m["method"] != "initialize": sys.exit(101)
say({"id": m["id"], "result": HELLO})
loop()
"""

MODERN_CHILD = (
    """
def serve(m):
    if m["method"] == "server/discover": say({"id": m["id"], "result": %r})
    elif m["method"] == "initialize": sys.exit(7)
    else: say({"id": m["id"], "result": {"resultType": "complete", "echo": m["params"]}})
for line in sys.stdin.buffer:
    m = json.loads(line)
    if "id" in m: serve(m)
"""
    % DISCOVER
)


async def test_a_child_that_dies_of_the_probe_is_started_once_more_and_not_asked(tmp_path):
    starts = tmp_path / "starts"
    async with connector_for(make(DIES_OF_THE_PROBE, env={"STARTS": str(starts)})) as connector:
        assert await use(connector, one_call) is None
        assert starts.read_text() == "xx"
        assert await use(connector, one_call) is None
        assert starts.read_text() == "xxx", "it is remembered"
        later = trio.current_time() + LEGACY_FOR
        assert connector.eras.recall(later) is Era.LEGACY, "longer than of a server that answers"
        assert connector.eras.recall(later + FATAL_FOR) is Era.UNKNOWN
        assert not connector.stateless


async def test_a_child_that_was_not_asked_did_not_die_of_the_probe(tmp_path):
    starts = tmp_path / "starts"
    code = """open(os.environ["STARTS"], "a").write("x"); sys.exit(4)"""
    async with connector_for(make(code, env={"STARTS": str(starts)})) as connector:
        assert isinstance(await use(connector, wish=Wish()), ChildEnded)
        assert starts.read_text() == "x"


async def test_what_is_wished_is_declared_by_a_child_that_is_started_once_more_too(tmp_path):
    starts, wish = tmp_path / "starts", Wish()
    spec = make(DIES_OF_THE_PROBE, env={"STARTS": str(starts)})

    async def look(link):
        assert link.capabilities is ClientCapability.ROOTS
        await one_call(link)

    async with connector_for(spec) as connector, trio.open_nursery() as nursery:
        nursery.start_soon(settle_when, wish, starts.exists)
        assert await use(connector, look, wish=wish) is None
        assert starts.read_text() == "xx"


async def settle_when(wish, condition):
    while not condition():
        await trio.sleep(0.01)
    wish.settle(ClientCapability.ROOTS)


async def test_a_child_that_dies_in_any_case_says_why(tmp_path):
    starts = tmp_path / "starts"
    code = """open(os.environ["STARTS"], "a").write("x"); words("no such database"); sys.exit(4)"""
    async with connector_for(make(code, env={"STARTS": str(starts)})) as connector:
        error = await use(connector)
        assert isinstance(error, ChildEnded)
        assert "no such database" in str(error)
        assert starts.read_text() == "xx"
        assert connector.eras.recall(trio.current_time()) is Era.UNKNOWN


@pytest.mark.parametrize(("era", "works"), [("legacy", True), ("modern", False)])
async def test_the_configuration_says_how_a_child_is_asked(era, works, tmp_path):
    starts = tmp_path / "starts"
    async with connector_for(make(DIES_OF_THE_PROBE, env={"STARTS": str(starts)}, era=era)) as connector:
        error = await use(connector, one_call)
        assert (error is None) == works
        if not works:
            assert isinstance(error, ChildEnded)
        assert starts.read_text() == "x"


async def test_a_modern_child_serves_everybody_by_one_link():
    async with connector_for(make(MODERN_CHILD)) as connector:

        async def look(link):
            assert link.era is Era.MODERN
            made = modern_client().call(name="t", arguments={"x": 1})
            echo = result_of(await link.call(made, "tools/call", made.members))["echo"]
            assert echo["arguments"] == {"x": 1}

        assert await use(connector, look) is None
        assert connector.stateless
        assert connector.eras.recall(trio.current_time()) is Era.UNKNOWN, "a modern server is asked each time"


async def test_a_legacy_remote_is_not_probed_again_for_a_while():
    async with remote_server() as remote, connector_for(remote_spec(remote.url)) as connector:
        remote.serve["server/discover"] = refuse(404)
        await use(connector, one_call)
        await use(connector, one_call, owner="s1")
        assert len(remote.named("server/discover")) == 1
        assert connector.eras.recall(trio.current_time() + LEGACY_FOR) is Era.UNKNOWN
        connector.eras.note(trio.current_time(), 0)
        await use(connector, one_call)
        assert len(remote.named("server/discover")) == 2


@pytest.mark.parametrize("status", [400, 404, 405])
async def test_a_legacy_remote_that_becomes_modern(status):
    remote = Remote()
    remote.serve["server/discover"] = refuse(404)
    async with remote_server(remote), connector_for(remote_spec(remote.url)) as connector:
        await use(connector, one_call)
        assert not connector.stateless

        async def discover(seen):
            seen.result(DISCOVER)

        remote.serve.update({"initialize": refuse(status), "server/discover": discover})
        assert await use(connector) is not None, "what was remembered does not hold"

        async def look(link):
            assert link.era is Era.MODERN

        assert await use(connector, look) is None
        assert connector.stateless
        assert connector.transport == "streamable-http"


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_the_configuration_says_how_a_remote_is_asked(era):
    remote = Remote()

    async def discover(seen):
        seen.result(DISCOVER)

    remote.serve["server/discover"] = discover
    async with remote_server(remote), connector_for(remote_spec(remote.url, era=era)) as connector:
        assert await use(connector) is None
        methods = {seen.method for seen in remote.seen if seen.verb == "POST"}
        assert ("server/discover" in methods) == (era == "modern")
        assert ("initialize" in methods) == (era == "legacy")


def refuse(status):
    async def serve(seen):
        seen.answer(status)

    return serve
