"""Which era a backend is of: on one channel with a script in memory, over HTTP with one on a socket."""

from __future__ import annotations

import pytest
import trio

from mcpd.backends.legacy import Legacy, RefusedInitialize
from mcpd.backends.modern import Modern
from mcpd.backends.opening import DOUBTFUL_FOR, FATAL_FOR, HEDGE, LEGACY_FOR, PROBE_WAIT, Era, EraMemory
from mcpd.backends.replies import NotHere
from mcpd.config.model import Timeouts
from mcpd.errors import BackendCrashed, BackendError, BackendMisbehaved, BackendUnavailable
from mcpd.protocol.versions import Version
from tests.backends.http_parts import JSON_TYPE, Remote, connected, remote_server
from tests.backends.parts import DISCOVER, ENVELOPE, HELLO, Failure, linked

LATER = 3.0
"""Seconds after the hedge."""


def unsupported(*versions: object, message: str = "Unsupported protocol version") -> Failure:
    return Failure(-32022, message, data={"supported": list(versions), "requested": "x"})


def unknown(**members):
    return linked(opened=False, era=Era.UNKNOWN, **members)


def later(*answers):
    """These, one after another."""
    left = list(answers)

    def serve(message):
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return serve


# ---- one channel: the server answers


async def test_a_modern_server(autojump_clock):
    async with unknown() as (link, carrier, _):
        carrier.answers["server/discover"] = DISCOVER
        hello = await link.open()
        assert carrier.methods() == ["server/discover"]
        assert (link.era, link.hello, carrier.agreed) == (Era.MODERN, hello, "2026-07-28")
        assert isinstance(link.dialect, Modern)
        assert hello.version is Version.V2026_07_28
        assert hello.instructions == "be nice"
        assert hello.capabilities.tools_list_changed
        assert link.remember == 0, "it says what it has each time it is asked"


async def test_what_the_probe_says(autojump_clock):
    async with unknown() as (link, carrier, _):
        carrier.answers["server/discover"] = DISCOVER
        await link.open()
        (probe,) = carrier.sent
        assert set(probe["params"]) == {"_meta"}
        meta = probe["params"]["_meta"]
        assert set(meta) == {ENVELOPE + "protocolVersion", ENVELOPE + "clientCapabilities", ENVELOPE + "clientInfo"}
        assert meta[ENVELOPE + "protocolVersion"] == "2026-07-28"
        assert meta[ENVELOPE + "clientInfo"]["name"] == "mcpd"
        assert set(meta[ENVELOPE + "clientCapabilities"]) == {"roots", "sampling", "elicitation", "extensions"}


LEGACY_ANSWERS = {
    "what Python 1.x says": Failure(-32602, "Invalid request parameters", data=""),
    "what TypeScript 1.x says": Failure(-32601, "Method not found"),
    "not initialized": Failure(-32000, "Bad Request: Server not initialized"),
    "no session": Failure(-32001, "Session not found"),
    "invalid request": Failure(-32600, "Received request before initialization was complete"),
    "internal": Failure(-32603, "KeyError: 'server/discover'"),
    "a mismatch, which it cannot mean": Failure(-32020, "header mismatch"),
    "a capability, which it cannot mean": Failure(-32021, "capability", data={"requiredCapabilities": {}}),
    "-32022 without data": Failure(-32022, "what?"),
    "-32022 with other data": Failure(-32022, "what?", data={"versions": ["2026-07-28"]}),
    "-32022 with nothing": unsupported(),
    "-32022 with legacy versions": unsupported("2025-11-25", "2024-11-05"),
    "-32022 with legacy and unknown ones": unsupported("2027-03-01", "2025-06-18"),
    "-32022 with something else": Failure(-32022, "what?", data={"supported": [1, 2]}),
    "a result without anything": {},
    "a result that is text": "hello",
    "a result of its own": {"ok": True},
    "no capabilities": {**DISCOVER, "capabilities": None},
    "versions that are no list": {**DISCOVER, "supportedVersions": "2026-07-28"},
    "another type of result": {**DISCOVER, "resultType": "input_required", "requestState": "x"},
    "only legacy versions": {**DISCOVER, "supportedVersions": ["2025-11-25"]},
    "only unknown versions": {**DISCOVER, "supportedVersions": ["2031-01-01"]},
}


@pytest.mark.parametrize("answer", LEGACY_ANSWERS.values(), ids=LEGACY_ANSWERS)
async def test_whatever_else_is_an_answer_makes_it_worth_asking_the_legacy_way(answer, autojump_clock):
    async with unknown() as (link, carrier, _):
        carrier.answers["server/discover"] = answer
        begun = trio.current_time()
        hello = await link.open()
        assert trio.current_time() == begun
        assert carrier.methods() == ["server/discover", "initialize", "notifications/initialized"]
        assert (link.era, hello.version) == (Era.LEGACY, Version.V2025_11_25)
        assert link.dialect is link.legacy
        assert link.remember == LEGACY_FOR
        assert carrier.sent[1]["params"].keys() == {"protocolVersion", "capabilities", "clientInfo"}


@pytest.mark.parametrize("error", ["text", 7, None, [], {"code": "x"}, {}])
async def test_a_malformed_error_is_an_answer_too(error, autojump_clock):
    async with unknown() as (link, carrier, _):
        carrier.answers["server/discover"] = lambda message: carrier.say({"id": message["id"], "error": error})
        assert (await link.open()).version is Version.V2025_11_25


async def test_a_common_version_in_the_refusal_is_asked_for_once_more(autojump_clock):
    async with unknown() as (link, carrier, _):
        carrier.answers["server/discover"] = later(unsupported("2026-07-28"), DISCOVER)
        await link.open()
        assert carrier.methods() == ["server/discover"] * 2
        assert link.era is Era.MODERN


async def test_but_not_for_ever(autojump_clock):
    async with unknown() as (link, carrier, _):
        carrier.answers["server/discover"] = unsupported("2026-07-28")
        await link.open()
        assert carrier.methods()[:3] == ["server/discover", "server/discover", "initialize"]
        assert link.era is Era.LEGACY


async def test_a_server_that_speaks_only_what_is_unknown(autojump_clock):
    async with unknown() as (link, carrier, _):
        carrier.answers["server/discover"] = unsupported("2031-01-01", "2032-01-01")
        with pytest.raises(
            BackendUnavailable, match=r"only versions of MCP that mcpd does not know \(update mcpd\)"
        ) as caught:
            await link.open()
        assert caught.value.needs_operator
        assert carrier.methods() == ["server/discover"], "no initialize"


async def test_a_server_that_refuses_both_ways(autojump_clock):
    async with unknown() as (link, carrier, _):
        carrier.answers["initialize"] = Failure(-32603, "not today")
        with pytest.raises(RefusedInitialize, match="not today"):
            await link.open()
        assert carrier.methods() == ["server/discover", "initialize"]


async def test_the_link_may_be_lost_meanwhile(autojump_clock):
    async with unknown() as (link, carrier, _):
        carrier.answers["server/discover"] = lambda message: link.fail(BackendCrashed("b", "was killed by SIGKILL"))
        with pytest.raises(BackendCrashed, match="SIGKILL"):
            await link.open()
        assert carrier.methods() == ["server/discover"]


async def test_a_server_that_refuses_initialize_by_a_modern_version_is_probed_again(autojump_clock):
    async with unknown() as (link, carrier, _):
        carrier.answers["server/discover"] = later(Failure(-32603, "still starting"), DISCOVER)
        carrier.answers["initialize"] = unsupported("2026-07-28")
        await link.open()
        assert carrier.methods() == ["server/discover", "initialize", "server/discover"]
        assert link.era is Era.MODERN


async def test_but_only_once(autojump_clock):
    async with unknown() as (link, carrier, _):
        carrier.answers["server/discover"] = Failure(-32603, "still starting")
        carrier.answers["initialize"] = unsupported("2026-07-28")
        with pytest.raises(RefusedInitialize):
            await link.open()
        assert carrier.methods() == ["server/discover", "initialize", "server/discover"]


async def test_what_is_said_before_anything_is_agreed_is_understood_the_older_way(autojump_clock):
    async with unknown() as (link, carrier, heard):

        def serve(message):
            carrier.say({"id": "p", "method": "ping"})
            carrier.notify("notifications/message", {"level": "info", "data": "starting"})
            return DISCOVER

        carrier.answers["server/discover"] = serve
        await link.open()
        assert (await carrier.wait_sent("answer"))["id"] == "p"
        assert [params["data"] for _, params, _ in heard.strays] == ["starting"]


# ---- one channel: the server says nothing for a while


class Slow:
    """A server that answers nothing until it is told to."""

    def __init__(self, carrier) -> None:
        self.carrier = carrier
        for method in ("server/discover", "initialize"):
            carrier.answers[method] = lambda message: None

    def say(self, method, answer) -> None:
        for message in self.carrier.named(method):
            if isinstance(answer, Failure):
                self.carrier.say({"id": message["id"], "error": answer.error})
            else:
                self.carrier.answer_to(message, answer)


async def opening(nursery, link):
    """Open a link beside the test; what it came to is in the list."""
    outcome = []

    async def run():
        try:
            outcome.append(await link.open())
        except BackendError as error:
            outcome.append(error)

    nursery.start_soon(run)
    return outcome


async def test_a_server_that_drops_what_it_does_not_know(autojump_clock):
    async with unknown() as (link, carrier, _):
        carrier.answers["server/discover"] = lambda message: None
        begun = trio.current_time()
        await link.open()
        assert trio.current_time() == begun + HEDGE
        assert carrier.methods() == ["server/discover", "initialize", "notifications/initialized"]
        assert link.era is Era.LEGACY
        assert link.remember == DOUBTFUL_FOR, "it said nothing, so it may just have been slow"
        await trio.testing.wait_all_tasks_blocked()
        assert carrier.named("notifications/cancelled") == []
        carrier.answer_to(carrier.sent[0], DISCOVER)
        assert link.era is Era.LEGACY
        assert link.dialect is link.legacy
        assert link.in_flight == 0


async def test_one_that_answers_nothing_at_all(autojump_clock):
    async with unknown(timeouts=Timeouts(init=20)) as (link, carrier, _):
        Slow(carrier)
        with pytest.raises(BackendError, match=r"no answer to (initialize|server/discover) in 20 s.*timeouts.init"):
            await link.open()
        assert carrier.methods() == ["server/discover", "initialize"], "what opens a connection is never cancelled"


async def test_little_time_is_shared_out(autojump_clock):
    async with unknown(timeouts=Timeouts(init=3)) as (link, carrier, _):
        carrier.answers["server/discover"] = lambda message: None
        begun = trio.current_time()
        await link.open()
        assert trio.current_time() == begun + 1.5


BOTH = {
    # What it answers to the probe and to initialize, and what it is then: the second answer counts.
    "as legacy servers": (Failure(-32601, "what?"), HELLO, Legacy),
    "as the Python SDK: the first question decides": (DISCOVER, unsupported("2026-07-28"), Modern),
    "as the TypeScript SDK: initialize decides": (DISCOVER, HELLO, Legacy),
    "modern only, in its own words": (DISCOVER, Failure(-32601, "Method not found: initialize"), Modern),
    "modern only, with a result that is none": (DISCOVER, {"protocolVersion": "2026-07-28"}, Modern),
    "of the future, but also legacy": (unsupported("2031-01-01"), HELLO, Legacy),
}


@pytest.mark.parametrize("order", [("server/discover", "initialize"), ("initialize", "server/discover")])
@pytest.mark.parametrize("name", BOTH)
async def test_a_slow_server_that_answers_both_at_once(name, order, nursery, autojump_clock):
    probed, initialized, dialect = BOTH[name]
    for _attempt in range(5):  # the order in which the answered tasks run is left to chance
        async with unknown() as (link, carrier, _):
            slow = Slow(carrier)
            outcome = await opening(nursery, link)
            await carrier.wait_sent("initialize")
            await trio.sleep(LATER)
            for method in order:
                slow.say(method, probed if method == "server/discover" else initialized)
            await trio.sleep(2 * HEDGE)
            (hello,) = outcome
            assert type(link.dialect) is dialect
            assert link.hello is hello
            modern = dialect is Modern
            assert link.era is (Era.MODERN if modern else Era.LEGACY)
            assert carrier.methods() == ["server/discover", "initialize"] + ["notifications/initialized"] * (not modern)
            assert carrier.agreed == ("2026-07-28" if modern else "2025-11-25"), "one dialect is opened, and one only"
            knows_both = probed is DISCOVER
            assert link.remember == (0 if modern or knows_both else LEGACY_FOR)


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("gap", [0.1, HEDGE - 0.1])
async def test_a_slow_server_that_answers_one_after_the_other(name, gap, nursery, autojump_clock):
    probed, initialized, dialect = BOTH[name]
    async with unknown() as (link, carrier, _):
        slow = Slow(carrier)
        outcome = await opening(nursery, link)
        await carrier.wait_sent("initialize")
        await trio.sleep(LATER)
        slow.say("server/discover", probed)
        await trio.sleep(gap)
        assert outcome == []
        slow.say("initialize", initialized)
        await trio.testing.wait_all_tasks_blocked()
        assert len(outcome) == 1
        assert type(link.dialect) is dialect


async def test_a_modern_server_that_drops_initialize(nursery, autojump_clock):
    async with unknown() as (link, carrier, _):
        slow = Slow(carrier)
        outcome = await opening(nursery, link)
        await carrier.wait_sent("initialize")
        slow.say("server/discover", DISCOVER)
        await trio.sleep(HEDGE - 0.1)
        assert outcome == []
        await trio.sleep(0.2)
        assert outcome == [link.hello]
        assert link.era is Era.MODERN
        slow.say("initialize", HELLO)
        assert link.hello.version is Version.V2026_07_28, "too late"
        assert carrier.methods() == ["server/discover", "initialize"]


async def test_a_legacy_answer_is_enough(nursery, autojump_clock):
    async with unknown() as (link, carrier, _):
        slow = Slow(carrier)
        outcome = await opening(nursery, link)
        await carrier.wait_sent("initialize")
        slow.say("initialize", HELLO)
        await trio.testing.wait_all_tasks_blocked()
        assert outcome[0].version is Version.V2025_11_25
        slow.say("server/discover", DISCOVER)
        assert link.dialect is link.legacy


async def test_a_refusal_waits_for_the_answer_to_the_probe(nursery, autojump_clock):
    async with unknown() as (link, carrier, _):
        slow = Slow(carrier)
        outcome = await opening(nursery, link)
        await carrier.wait_sent("initialize")
        slow.say("initialize", Failure(-32601, "Method not found"))
        await trio.sleep(HEDGE - 1)
        assert outcome == []
        slow.say("server/discover", DISCOVER)
        await trio.testing.wait_all_tasks_blocked()
        assert outcome == [link.hello]
        assert link.era is Era.MODERN


async def test_but_not_for_ever_either(nursery, autojump_clock):
    async with unknown() as (link, carrier, _):
        slow = Slow(carrier)
        outcome = await opening(nursery, link)
        await carrier.wait_sent("initialize")
        slow.say("initialize", Failure(-32603, "not today"))
        await trio.sleep(HEDGE + 1)
        assert isinstance(outcome[0], RefusedInitialize)


async def test_a_slow_server_whose_refusal_names_a_modern_version_is_probed_again(nursery, autojump_clock):
    async with unknown() as (link, carrier, _):
        slow = Slow(carrier)
        outcome = await opening(nursery, link)
        await carrier.wait_sent("initialize")
        carrier.answers["server/discover"] = DISCOVER
        slow.say("initialize", unsupported("2026-07-28"))
        await carrier.wait_sent("server/discover", 2)
        await trio.testing.wait_all_tasks_blocked()
        assert outcome == [link.hello]
        assert link.era is Era.MODERN


async def test_a_legacy_server_is_asked_once_however_slow_it_is(nursery, autojump_clock):
    async with unknown() as (link, carrier, _):
        slow = Slow(carrier)
        outcome = await opening(nursery, link)
        await carrier.wait_sent("initialize")
        slow.say("server/discover", Failure(-32601, "what?"))
        await trio.sleep(5 * HEDGE)
        assert outcome == []
        slow.say("initialize", HELLO)
        await trio.testing.wait_all_tasks_blocked()
        assert outcome == [link.hello]
        assert len(carrier.named("initialize")) == 1


@pytest.mark.parametrize("_attempt", range(10))  # the order in which the answered tasks run is left to chance
async def test_a_slow_server_without_a_way(_attempt, nursery, autojump_clock):
    for order in (("server/discover", "initialize"), ("initialize", "server/discover")):
        async with unknown() as (link, carrier, _):
            slow = Slow(carrier)
            outcome = await opening(nursery, link)
            await carrier.wait_sent("initialize")
            for method in order:
                slow.say(method, unsupported("2031-01-01"))
            await trio.testing.wait_all_tasks_blocked()
            assert "mcpd does not know" in str(outcome[0])
            assert outcome[0].needs_operator


async def test_a_slow_child_that_dies_says_why(nursery, autojump_clock):
    async with unknown() as (link, carrier, _):
        Slow(carrier)
        outcome = await opening(nursery, link)
        await carrier.wait_sent("initialize")
        link.fail(BackendCrashed("b", "was killed by SIGKILL"))
        await trio.testing.wait_all_tasks_blocked()
        assert "SIGKILL" in str(outcome[0])


# ---- what the configuration says, and what is remembered


async def test_a_server_that_is_known_to_be_legacy_is_not_probed(autojump_clock):
    async with linked(opened=False, era=Era.LEGACY) as (link, carrier, _):
        await link.open()
        assert carrier.methods() == ["initialize", "notifications/initialized"]
        assert link.remember == 0, "nothing was found out"


async def test_a_server_that_is_known_to_be_modern_may_be_slow(nursery, autojump_clock):
    async with linked(opened=False, era=Era.MODERN) as (link, carrier, _):
        slow = Slow(carrier)
        outcome = await opening(nursery, link)
        await trio.sleep(4 * HEDGE)
        assert carrier.methods() == ["server/discover"]
        slow.say("server/discover", DISCOVER)
        await trio.testing.wait_all_tasks_blocked()
        assert outcome == [link.hello]


@pytest.mark.parametrize("answer", [Failure(-32601, "what?"), unsupported("2025-11-25"), {}])
async def test_and_is_never_asked_the_legacy_way(answer, autojump_clock):
    async with linked(opened=False, era=Era.MODERN) as (link, carrier, _):
        carrier.answers["server/discover"] = answer
        with pytest.raises(BackendMisbehaved, match=r"does not answer server/discover.*servers.b.era"):
            await link.open()
        assert carrier.methods() == ["server/discover"]


def test_memory():
    memory = EraMemory()
    assert memory.recall(0) is Era.UNKNOWN
    memory.note(100, LEGACY_FOR)
    assert memory.recall(100 + LEGACY_FOR - 1) is Era.LEGACY
    assert memory.recall(100 + LEGACY_FOR) is Era.UNKNOWN, "it may have been upgraded"
    memory.note(100, FATAL_FOR)
    assert memory.recall(100 + LEGACY_FOR) is Era.LEGACY
    memory.forget()
    assert memory.recall(101) is Era.UNKNOWN


@pytest.mark.parametrize("fixed", [Era.LEGACY, Era.MODERN])
def test_the_configuration_outweighs_memory(fixed):
    memory = EraMemory(fixed)
    assert memory.recall(0) is fixed
    memory.note(0, LEGACY_FOR)
    assert memory.recall(1) is fixed
    memory.forget()
    assert memory.recall(1) is fixed


# ---- over HTTP


def answering(status, headers=b"", body=b""):
    """A handler that answers so; `body` may be a function of what was seen."""

    async def serve(seen):
        seen.answer(status, headers, body(seen) if callable(body) else body)

    return serve


def error(code, message="no", id=..., **more):
    def body(seen):
        made = seen.error(code, message, id)
        made["error"].update(more)
        return made

    return body


def over_http(remote, **members):
    members.setdefault("timeouts", Timeouts(init=5))
    return connected(remote.url, era=Era.UNKNOWN, **members)


async def test_a_modern_server_over_http():
    remote = Remote()

    async def discover(seen):
        seen.result(DISCOVER, b"Mcp-Session-Id: never\r\n")

    remote.serve["server/discover"] = discover
    async with remote_server(remote), over_http(remote, headers={"Authorization": "Bearer x"}) as (link, carrier, _):
        assert link.era is Era.MODERN
        assert not carrier.has_session
        await link.request("tools/list", {}, 5)
        probe, listed = remote.seen
        for seen in (probe, listed):
            assert seen.headers[b"mcp-protocol-version"] == b"2026-07-28"
            assert seen.headers[b"mcp-method"] == seen.method.encode()
            assert seen.headers[b"accept"] == b"application/json, text/event-stream"
            assert seen.headers[b"authorization"] == b"Bearer x"
            assert b"mcp-session-id" not in seen.headers
            assert b"mcp-name" not in seen.headers
    assert {seen.verb for seen in remote.seen} == {"POST"}, "no GET stream, and nothing to DELETE"


async def test_a_modern_server_that_answers_by_a_stream():
    remote = Remote()

    async def discover(seen):
        seen.stream(": hello\n\n", seen.reply(DISCOVER)).end()

    remote.serve["server/discover"] = discover
    async with remote_server(remote), over_http(remote) as (link, _, _):
        assert link.era is Era.MODERN


SESSION = b"Mcp-Session-Id: minted\r\n"

LEGACY_REPLIES = {
    # As measured: what servers of the handshake versions answer to the probe.
    "Python 1.30, stateful": (
        answering(400, SESSION, error(-32600, "Bad Request: Missing session ID", "server-error")),
        LEGACY_FOR,
    ),
    "Python 1.30, stateless": (
        answering(400, b"", error(-32600, "Unsupported protocol version: 2026-07-28.")),
        LEGACY_FOR,
    ),
    "Python 1.30, without the header": (answering(200, b"", error(-32602, "Invalid request parameters")), LEGACY_FOR),
    "TypeScript 1.x, stateful": (
        answering(400, b"", error(-32000, "Bad Request: Server not initialized", None)),
        LEGACY_FOR,
    ),
    "TypeScript 1.x, stateless": (answering(400, b"", error(-32000, "Unsupported protocol version", None)), LEGACY_FOR),
    "HTTP+SSE of Python": (answering(405, b"Allow: GET, HEAD\r\n", b"Method Not Allowed"), LEGACY_FOR),
    # And what others might.
    "400 in words": (answering(400, b"", b"Bad Request"), LEGACY_FOR),
    "404": (answering(404), LEGACY_FOR),
    "404 with an error": (answering(404, b"", error(-32601, "Method not found")), LEGACY_FOR),
    "404 for a session": (answering(404, b"", error(-32001, "Session not found")), LEGACY_FOR),
    "406": (answering(406), LEGACY_FOR),
    "415": (answering(415), LEGACY_FOR),
    "500": (answering(500, b"", b"Oops"), DOUBTFUL_FOR),
    "500 with an error": (answering(500, b"", error(-32603, "KeyError")), LEGACY_FOR),
    "501": (answering(501), DOUBTFUL_FOR),
    "a result that is none": (answering(200, b"", lambda seen: seen.reply({"ok": True})), LEGACY_FOR),
    "legacy versions": (
        answering(400, b"", error(-32022, data={"supported": ["2025-11-25"], "requested": "2026-07-28"})),
        LEGACY_FOR,
    ),
    "a discover result of a legacy server": (
        answering(200, b"", lambda seen: seen.reply({**DISCOVER, "supportedVersions": ["2025-11-25"]})),
        LEGACY_FOR,
    ),
}


@pytest.mark.parametrize("name", LEGACY_REPLIES)
async def test_a_legacy_server_over_http(name):
    handler, lasts = LEGACY_REPLIES[name]
    remote = Remote()
    remote.serve["server/discover"] = handler
    async with remote_server(remote), over_http(remote) as (link, carrier, _):
        assert link.era is Era.LEGACY
        assert link.remember == lasts
        assert carrier.has_session
        probe, initialize, *_ = remote.seen
        assert (probe.method, initialize.method) == ("server/discover", "initialize")
        assert b"mcp-protocol-version" not in initialize.headers, "of the probe alone"
        assert b"mcp-method" not in initialize.headers
        assert b"mcp-session-id" not in initialize.headers, "an id on a refusal is none"
        assert initialize.message["params"].keys() == {"protocolVersion", "capabilities", "clientInfo"}
        await link.request("tools/list", {}, 5)
        after = remote.named("tools/list")[0]
        assert after.headers[b"mcp-protocol-version"] == b"2025-11-25"
        assert after.headers[b"mcp-session-id"] == b"s1"
        assert b"mcp-method" not in after.headers
        assert (await remote.wait_seen("GET")).headers[b"mcp-session-id"] == b"s1"


async def test_a_stateless_typescript_server_without_the_header_answers_by_a_stream():
    remote = Remote()

    async def discover(seen):
        seen.stream(seen.error(-32601, "Method not found")).end()

    remote.serve["server/discover"] = discover
    async with remote_server(remote), over_http(remote) as (link, _, _):
        assert link.era is Era.LEGACY


NO_VERDICT = {
    # name: (what it answers, kind of error, its words, attributes)
    "401": (
        answering(401, b"WWW-Authenticate: Bearer\r\n"),
        BackendUnavailable,
        "credentials",
        {"needs_operator": True},
    ),
    "401 with an error": (
        answering(401, b"", error(-32001, "Unauthorized")),
        BackendUnavailable,
        "credentials",
        {"needs_operator": True},
    ),
    "403": (answering(403), BackendUnavailable, "credentials", {"needs_operator": True}),
    "408": (answering(408), BackendUnavailable, "HTTP 408", {}),
    "410": (answering(410), BackendUnavailable, "gone for good", {"needs_operator": True}),
    "425": (answering(425), BackendUnavailable, "HTTP 425", {}),
    "429": (answering(429, b"Retry-After: 7\r\n"), BackendUnavailable, "busy", {"retry_after": 7}),
    "502": (answering(502, b"", b"<h1>Bad Gateway"), BackendUnavailable, "HTTP 502", {}),
    "503": (answering(503, b"Retry-After: 9\r\n"), BackendUnavailable, "busy", {"retry_after": 9}),
    "503 with an error": (answering(503, b"", error(-32603, "overloaded")), BackendUnavailable, "busy", {}),
    "504": (answering(504), BackendUnavailable, "HTTP 504", {}),
    "a page": (answering(200, b"Content-Type: text/html\r\n", b"<h1>"), BackendMisbehaved, "text/html", {}),
    "202": (answering(202), BackendMisbehaved, "HTTP 202", {}),
    "204": (answering(204), BackendMisbehaved, "HTTP 204", {}),
    "no JSON-RPC": (answering(200, JSON_TYPE, b'{"hello":1}'), BackendMisbehaved, "not JSON-RPC", {}),
    "no JSON": (answering(200, JSON_TYPE, b"hello"), BackendMisbehaved, "not JSON-RPC", {}),
    "another origin": (
        answering(307, b"Location: http://localhost:1/mcp\r\n"),
        BackendUnavailable,
        "redirects to another origin",
        {},
    ),
    "in circles": (answering(308, b"Location: /mcp\r\n"), BackendUnavailable, "in circles", {}),
    "only unknown versions": (
        answering(400, b"", error(-32022, data={"supported": ["2031-01-01"]})),
        BackendUnavailable,
        "does not know",
        {"needs_operator": True},
    ),
}


@pytest.mark.parametrize("name", NO_VERDICT)
async def test_what_says_nothing_of_the_era_fails_the_attempt(name):
    handler, kind, words, attributes = NO_VERDICT[name]
    remote = Remote()
    remote.serve["server/discover"] = handler
    async with remote_server(remote):
        with pytest.raises(BackendError, match=words) as caught:
            async with over_http(remote):
                raise AssertionError("connected")
        assert type(caught.value) is kind
        for attribute, value in attributes.items():
            assert getattr(caught.value, attribute) == value
        assert {seen.method for seen in remote.seen} == {"server/discover"}, "no initialize"


async def test_nobody_listens():
    async with remote_server() as remote:
        pass
    with pytest.raises(BackendUnavailable, match="connection refused"):
        async with over_http(remote):
            raise AssertionError("connected")


async def test_a_connection_that_breaks():
    remote = Remote()

    async def discover(seen):
        seen.stream("data: {")
        seen.request.cancel()
        await trio.sleep_forever()

    remote.serve["server/discover"] = discover
    async with remote_server(remote):
        with pytest.raises(BackendCrashed):
            async with over_http(remote):
                raise AssertionError("connected")
        assert {seen.method for seen in remote.seen} == {"server/discover"}


async def test_a_server_that_hangs_on_the_probe_is_asked_the_legacy_way():
    remote = Remote()

    async def never(seen):
        await trio.sleep_forever()

    remote.serve["server/discover"] = never
    async with remote_server(remote), over_http(remote, timeouts=Timeouts(init=0.4)) as (link, _, _):
        assert link.era is Era.LEGACY
        assert link.remember == DOUBTFUL_FOR
    assert PROBE_WAIT > 1, "which init cut short here"


async def test_a_server_that_hangs_on_both():
    remote = Remote()

    async def never(seen):
        await trio.sleep_forever()

    remote.serve.update({"server/discover": never, "initialize": never})
    async with remote_server(remote):
        with pytest.raises(
            BackendUnavailable, match=r"it did not say what it is in 0.2 s \(raise servers.b.timeouts.init"
        ):
            async with over_http(remote, timeouts=Timeouts(init=0.2)):
                raise AssertionError("connected")


async def test_redirects_inside_the_origin_are_followed():
    remote = Remote()

    async def discover(seen):
        if seen.target == "/mcp":
            seen.answer(307, b"Location: /mcp/\r\n")
        else:
            seen.result(DISCOVER)

    remote.serve["server/discover"] = discover
    async with remote_server(remote), over_http(remote) as (link, _, _):
        assert link.era is Era.MODERN
        await link.request("tools/list", {}, 5)
        assert [seen.target for seen in remote.seen] == ["/mcp", "/mcp/", "/mcp/"]


async def test_neither_is_spoken_here():
    remote = Remote()
    remote.serve.update({"server/discover": answering(405), "initialize": answering(405)})
    async with remote_server(remote):
        with pytest.raises(NotHere):
            async with over_http(remote):
                raise AssertionError("connected")


async def test_a_common_version_in_a_400_is_asked_for_once_more():
    remote = Remote()
    replies = [
        answering(400, b"", error(-32022, data={"supported": ["2026-07-28"]})),
        answering(200, b"", lambda seen: seen.reply(DISCOVER)),
    ]

    async def discover(seen):
        await replies.pop(0)(seen)

    remote.serve["server/discover"] = discover
    async with remote_server(remote), over_http(remote) as (link, _, _):
        assert link.era is Era.MODERN
        assert [seen.method for seen in remote.seen] == ["server/discover"] * 2


async def test_a_400_to_initialize_that_names_a_modern_version_is_probed_again():
    remote = Remote()
    replies = [answering(404), answering(200, b"", lambda seen: seen.reply(DISCOVER))]

    async def discover(seen):
        await replies.pop(0)(seen)

    remote.serve["server/discover"] = discover
    remote.serve["initialize"] = answering(400, b"", error(-32022, data={"supported": ["2026-07-28"]}))
    async with remote_server(remote), over_http(remote) as (link, _, _):
        assert link.era is Era.MODERN
        assert [seen.method for seen in remote.seen] == ["server/discover", "initialize", "server/discover"]
        assert b"mcp-protocol-version" not in remote.seen[1].headers
