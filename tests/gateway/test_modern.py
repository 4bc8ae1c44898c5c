from __future__ import annotations

import msgspec
import pytest
import trio

from mcpd.config.model import Caching, Config, Limits, ServerSpec
from mcpd.errors import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    MISSING_CAPABILITY,
    BackendTimedOut,
    RpcError,
)
from mcpd.gateway import modern as module
from mcpd.gateway.modern import elicitations
from mcpd.protocol.capabilities import EVERYTHING, NOTHING, ClientCapability, parse_server_capabilities
from mcpd.protocol.methods import METHODS
from mcpd.protocol.versions import MODERN
from mcpd.supervisor.states import State
from tests.gateway.fakes import (
    ACCEPT,
    CALL,
    DONE,
    NAME,
    AskingBackend,
    FakeBackend,
    FakeTurn,
    ModernClient,
    asks,
    at_rest,
    catalogue,
    exchange,
    hello,
    make_gateway,
    modern_caller,
)

OFFER = {"tools": ["add"], "prompts": ["greet"], "resources": ["x:1"], "resourceTemplates": ["x:/{id}"]}
MODERN_HELLO = hello(version=MODERN)


def offering(name: str = "b", **spec) -> FakeBackend:
    return FakeBackend(name, catalogue(**OFFER), **spec)


async def ask(gateway, method, params=None, **caller) -> FakeTurn:
    return await exchange(gateway, FakeTurn(), method, params, modern_caller(**caller))


@pytest.fixture
def backend():
    return offering()


@pytest.fixture
def gateway(tmp_path, backend):
    return make_gateway(tmp_path, backend)


# ---- methods


async def test_what_a_backend_answers_passes_through(gateway, backend):
    backend.result = b'{"resultType":"complete","content":[],"vendor":1.0}'
    backend.envelope = {"beside": b"[1]"}
    for method, params in (
        ("tools/call", {"name": "b_add", "arguments": {"a": 1}, "task": {}}),
        ("prompts/get", {"name": "b_greet"}),
        ("resources/read", {"uri": "x:1"}),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "b_greet"}, "argument": {}}),
    ):
        for capabilities in (NOTHING, EVERYTHING):
            turn = await ask(gateway, method, params, capabilities=capabilities)
            result, extra = turn.outcome
            assert bytes(result) == backend.result
            assert {name: bytes(raw) for name, raw in extra.items()} == {"beside": b"[1]"}
        asked = backend.asked.pop()
        assert asked.method == method
        assert asked.params.get("name") in ("add", "greet", None)
        assert "task" not in asked.params
    assert at_rest(gateway)


@pytest.mark.parametrize(
    ("method", "member"),
    [
        ("tools/list", "tools"),
        ("prompts/list", "prompts"),
        ("resources/list", "resources"),
        ("resources/templates/list", "resourceTemplates"),
    ],
)
async def test_lists_say_how_long_they_may_be_kept(tmp_path, backend, nursery, method, member):
    gateway = make_gateway(tmp_path, backend, config=Config(caching=Caching(list_ttl=2.5)))
    await nursery.start(gateway.run)
    result = (await ask(gateway, method)).result
    assert (result["resultType"], result["ttlMs"], result["cacheScope"]) == ("complete", 2500, "private")
    assert len(result[member]) == 1
    backend.state = State.BACKING_OFF
    assert (await ask(gateway, method, {})).result["ttlMs"] == 0
    wrong = await ask(gateway, method, {"cursor": "x"})
    assert (wrong.error.code, wrong.error.http_status) == (INVALID_PARAMS, 400)


def test_every_method_that_modern_clients_send_is_served_somewhere():
    sent = {m.name for m in METHODS if m.request and m.client is not None and MODERN in m.client}
    elsewhere = {"server/discover", "subscriptions/listen", "tasks/get", "tasks/update", "tasks/cancel"}
    assert sent - elsewhere == {
        *("tools/list", "tools/call", "prompts/list", "prompts/get", "resources/list", "resources/templates/list"),
        *("resources/read", "completion/complete"),
    }
    assert {"tools/call", "prompts/get", "resources/read"} == module.ASKING


@pytest.mark.parametrize(
    "method",
    [
        *("initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"),
        *("subscriptions/listen", "tasks/list", "tasks/result", "sampling/createMessage", "x", ""),
    ],
)
async def test_other_methods_are_not_found(gateway, backend, method):
    turn = await ask(gateway, method, {"uri": "x:1", "level": "debug"})
    assert (turn.error.code, turn.error.http_status) == (METHOD_NOT_FOUND, 404)
    assert backend.asked == []
    assert gateway.in_flight == 0


@pytest.mark.parametrize("capabilities", [NOTHING, EVERYTHING])
@pytest.mark.parametrize(
    ("method", "params", "code", "status"),
    [
        ("tools/call", {"name": "nobody"}, INVALID_PARAMS, 400),
        ("tools/call", {}, INVALID_PARAMS, 400),
        ("tools/call", None, INVALID_PARAMS, 400),
        ("prompts/get", {"name": 5}, INVALID_PARAMS, 400),
        ("resources/read", {"uri": "nobody:1"}, INVALID_PARAMS, 400),
        ("completion/complete", {"ref": {"type": "ref/tool"}}, INVALID_PARAMS, 400),
    ],
)
async def test_errors_have_the_codes_of_the_version(tmp_path, capabilities, method, params, code, status):
    gateway = make_gateway(tmp_path, offering("b"), FakeBackend("other"))
    turn = await ask(gateway, method, params, capabilities=capabilities)
    assert (turn.error.code, turn.error.http_status) == (code, status)
    if params == {"uri": "nobody:1"}:
        assert turn.error.data == b'{"uri":"nobody:1"}'
    assert at_rest(gateway)


@pytest.mark.parametrize("capabilities", [NOTHING, EVERYTHING])
async def test_errors_of_backends_too(gateway, backend, capabilities):
    backend.error = RpcError(-32002, "gone", raw=b'{"code":-32002,"message":"gone","data":{"uri":"x:1"}}')
    turn = await ask(gateway, "resources/read", {"uri": "x:1"}, capabilities=capabilities)
    assert (turn.error.code, turn.error.data) == (INVALID_PARAMS, b'{"uri":"x:1"}')
    backend.error = BackendTimedOut("b", "no answer in 1 s")
    turn = await ask(gateway, "tools/call", CALL, capabilities=capabilities)
    assert (turn.error.code, turn.error.http_status) == (INTERNAL_ERROR, 200)


async def test_what_mcpd_answers_for_a_backend_is_complete_too(tmp_path):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    listed = catalogue(**OFFER)
    backend = FakeBackend("b", listed, validate="arguments")
    backend.catalogue = listed.with_kind(
        "tools",
        tuple(
            msgspec.structs.replace(e, raw=msgspec.json.encode({"name": "add", "inputSchema": schema}))
            for e in listed.tools
        ),
    )
    gateway = make_gateway(tmp_path, backend)
    turn = await ask(gateway, "tools/call", {"name": "b_add", "arguments": {"a": "x"}})
    assert (turn.result["resultType"], turn.result["isError"]) == ("complete", True)
    backend.hello = hello(msgspec.structs.replace(backend.ready_hello.capabilities, completions=False))
    params = {"ref": {"type": "ref/prompt", "name": "b_greet"}, "argument": {}}
    turn = await ask(gateway, "completion/complete", params)
    assert (turn.result["resultType"], turn.result["completion"]) == ("complete", {"values": []})


async def test_a_result_that_is_not_the_last_word_is_not_held_against_the_schema(tmp_path):
    listed = catalogue(tools=["add"])
    raw = msgspec.json.encode({"name": "add", "outputSchema": {"type": "object", "required": ["n"]}})
    listed = listed.with_kind("tools", tuple(msgspec.structs.replace(entry, raw=raw) for entry in listed.tools))
    backend = FakeBackend("b", listed, validate="both")
    backend.hello = MODERN_HELLO
    gateway = make_gateway(tmp_path, backend)
    backend.result = b'{"resultType":"input_required","requestState":"s"}'
    assert (await ask(gateway, "tools/call", CALL)).state == "s"
    backend.result = b'{"resultType":"complete","content":[]}'
    assert (await ask(gateway, "tools/call", CALL)).error.code == INTERNAL_ERROR


async def test_notifications_of_a_call_go_to_its_exchange(gateway, backend):
    async def answer(call, method, params):
        call.emit("notifications/progress", b'{"progressToken":%b,"progress":1}' % call.token)
        call.part()
        return DONE

    backend.answer = answer
    for capabilities in (NOTHING, EVERYTHING):
        params = {**CALL, "_meta": {"progressToken": "t"}}
        turn = await ask(gateway, "tools/call", params, capabilities=capabilities)
        assert turn.heard == [("notifications/progress", {"progressToken": "t", "progress": 1})]


async def test_nobody_is_asked_during_other_requests(gateway, backend):
    codes = []

    async def answer(call, method, params):
        with pytest.raises(RpcError) as caught:
            await call.ask("roots/list", b"{}")
        codes.append(caught.value.code)
        return DONE

    backend.answer = answer
    await ask(gateway, "completion/complete", {"ref": {"type": "ref/prompt", "name": "b_greet"}, "argument": {}})
    assert codes == [METHOD_NOT_FOUND]


@pytest.mark.parametrize("capabilities", [NOTHING, EVERYTHING])
async def test_too_many_calls_are_refused_before_anything_is_done(tmp_path, backend, nursery, capabilities):
    gateway = make_gateway(tmp_path, backend, config=Config(limits=Limits(calls=1)))
    backend.gate = trio.Event()
    first = FakeTurn()
    nursery.start_soon(exchange, gateway, first, "tools/call", CALL)
    await trio.testing.wait_all_tasks_blocked()
    turn = await ask(gateway, "tools/call", CALL, capabilities=capabilities)
    assert (turn.error.code, turn.error.http_status) == (INTERNAL_ERROR, 503)
    first.scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert at_rest(gateway)
    assert first.outcome is None


# ---- discover


async def test_discover_tells_what_is_known_and_waits_for_nobody(tmp_path, nursery, autojump_clock):
    fast, slow = offering("fast"), offering("slow", takes=5.0)
    fast.hello = hello(instructions="Use fast.")
    slow.ready_hello = hello(instructions="Use slow.")
    config = Config(instructions="First.", caching=Caching(list_ttl=7.0))
    gateway = make_gateway(tmp_path, fast, slow, config=config)
    await nursery.start(gateway.run)
    began = trio.current_time()
    result = (await ask(gateway, "server/discover")).result
    assert trio.current_time() == began
    assert result["supportedVersions"] == [MODERN.text]
    assert (result["resultType"], result["ttlMs"], result["cacheScope"]) == ("complete", 0, "private")
    assert result["instructions"] == "First.\n\n## fast\n\nUse fast."
    assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "mcpd"
    declared = parse_server_capabilities(msgspec.json.encode(result["capabilities"]), MODERN)
    assert (declared.tools_list_changed, declared.resources_subscribe, declared.completions) == (True, True, True)
    assert "extensions" not in result["capabilities"]
    await trio.sleep(6)
    result = (await ask(gateway, "server/discover", {"_meta": {}})).result
    assert (result["ttlMs"], result["instructions"]) == (7000, "First.\n\n## fast\n\nUse fast.\n\n## slow\n\nUse slow.")


async def test_no_extension_is_relayed(gateway):
    assert gateway.modern.relayed(None) is None
    assert gateway.modern.relayed(b'{"a.b/c":{}}') is None


# ---- states of others


async def test_a_modern_backends_state_is_its_own(gateway, backend):
    backend.hello = MODERN_HELLO
    backend.result = b'{"resultType":"input_required","requestState":"mcpd.not-ours"}'
    turn = await ask(gateway, "tools/call", CALL)
    backend.result = DONE
    retry = {**CALL, "requestState": turn.state, "inputResponses": {"k": {"action": "accept"}}}
    for params in (retry, {**CALL, "inputResponses": {"k": {}}}):
        assert (await ask(gateway, "tools/call", params)).result["resultType"] == "complete"
        sent = backend.asked.pop().params
        assert sent == {**params, "name": "add"}


@pytest.mark.parametrize("capabilities", [NOTHING, EVERYTHING])
@pytest.mark.parametrize("state", ["", "v1.x", "mcpd.", "mcpd." + "A" * 106])
async def test_toward_a_legacy_backend_an_unknown_state_ends_the_call(gateway, backend, state, capabilities):
    params = {**CALL, "requestState": state, "inputResponses": {}}
    turn = await ask(gateway, "tools/call", params, capabilities=capabilities)
    assert (turn.error.code, turn.error.http_status) == (INVALID_PARAMS, 400)
    assert "make the call again" in turn.error.message
    assert backend.asked == []


@pytest.mark.parametrize("state", [5, {}, ["x"]])
async def test_a_state_is_a_string(gateway, backend, state):
    turn = await ask(gateway, "tools/call", {**CALL, "requestState": state})
    assert (turn.error.code, turn.error.message) == (INVALID_PARAMS, "params.requestState is a string")


async def test_answers_without_a_state_mean_nothing_to_a_legacy_backend(gateway, backend):
    backend.result = DONE
    for extra in ({"inputResponses": {"user_name": ACCEPT}}, {"inputResponses": 5}, {"requestState": None}):
        assert (await ask(gateway, "tools/call", {**CALL, **extra})).result["resultType"] == "complete"
        assert backend.asked.pop().params == {**CALL, "name": "add"}


async def test_two_names_beside_dropped_answers_are_one_too_many(gateway, backend):
    turn = await ask(gateway, "tools/call", b'{"name":"b_sub","name":"b_add","inputResponses":{"x":{"name":1}}}')
    assert "comes more than once" in turn.error.message
    assert backend.asked == []


async def test_a_state_for_nobody_is_of_an_unknown_name(gateway):
    turn = await ask(gateway, "tools/call", {"name": "nobody", "requestState": "x"})
    assert "Unknown tool" in turn.error.message


async def test_whose_state_it_is_may_be_about_to_become_known(tmp_path, nursery, autojump_clock):
    late = offering("b", takes=2.0)
    late.ready_hello = MODERN_HELLO
    gateway = make_gateway(tmp_path, late)
    await nursery.start(gateway.run)
    for method, params in (
        ("tools/call", CALL),
        ("prompts/get", {"name": "b_greet"}),
        ("resources/read", {"uri": "x:1"}),
    ):
        turn = await ask(gateway, method, {**params, "requestState": "theirs"})
        assert isinstance(turn.outcome, tuple)
        assert late.asked.pop().params["requestState"] == "theirs"


# ---- open this URL first

URLS = [
    {"mode": "url", "elicitationId": "1", "url": "https://a/1", "message": "Sign in"},
    {"mode": "url", "elicitationId": "2", "url": "https://a/2"},
]


def required(*items) -> RpcError:
    error = {"code": -32042, "message": "Open this first.", "data": {"elicitations": list(items)}}
    return RpcError(-32042, "Open this first.", raw=msgspec.json.encode(error))


def opened(turn: FakeTurn) -> dict[str, object]:
    """The answers of a user who opened everything."""
    return {key: {"action": "accept"} for key in turn.result["inputRequests"]}


class Shop(AskingBackend):
    """Wants URLs opened before it does anything, so often."""

    def __init__(self, times: int = 1, *items, **spec) -> None:
        super().__init__("b", catalogue(**OFFER), **spec)
        self.times = times
        self.items = items or URLS
        self.script = self.serve

    async def serve(self, call, ask):
        await trio.lowlevel.checkpoint()
        if len(self.asked) <= self.times:
            raise required(*self.items)
        return DONE


async def test_what_is_to_be_opened_first_is_asked_and_the_call_made_again(tmp_path, nursery, autojump_clock):
    shop = Shop()
    client = ModernClient(make_gateway(tmp_path, shop), shop).use(nursery)
    params = {**CALL, "task": {}, "inputResponses": {"x": 1}, "_meta": {"progressToken": 1}}
    turn = await client.call(params)
    first, second = turn.result["inputRequests"].values()
    assert first == {
        "method": "elicitation/create",
        "params": {"mode": "url", "url": "https://a/1", "message": "Sign in"},
    }
    assert second["params"] == {"mode": "url", "url": "https://a/2", "message": "Open this first."}
    assert (client.gateway.inputs.parked, client.gateway.in_flight) == (1, 1)
    again = await client.retry(turn, opened(turn), params)
    assert again.result["resultType"] == "complete"
    assert [asked.params for asked in shop.asked] == [
        {"name": "add", "arguments": {"a": 1}, "_meta": {"progressToken": 1}}
    ] * 2
    assert at_rest(client.gateway)


@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_who_does_not_open_it_is_not_served(tmp_path, nursery, autojump_clock, action):
    for method, params in (("tools/call", CALL), ("prompts/get", {"name": "b_greet"})):
        shop = Shop()
        client = ModernClient(make_gateway(tmp_path, shop), shop).use(nursery)
        turn = await client.call(params, method=method)
        one, two = turn.result["inputRequests"]
        again = await client.retry(turn, {one: {"action": "accept"}, two: {"action": action}}, params, method=method)
        if method == "tools/call":
            assert (again.result["resultType"], again.result["isError"]) == ("complete", True)
            assert "did not open" in again.result["content"][0]["text"]
        else:
            assert again.error.code == INTERNAL_ERROR
        assert len(shop.asked) == 1
        assert at_rest(client.gateway)


@pytest.mark.parametrize("capabilities", [NOTHING, EVERYTHING & ~ClientCapability.ELICITATION_URL])
async def test_who_cannot_open_urls_is_told_what_is_missing(tmp_path, nursery, autojump_clock, capabilities):
    shop = Shop()
    client = ModernClient(make_gateway(tmp_path, shop), shop).use(nursery)
    turn = await client.call(capabilities=capabilities)
    assert (turn.error.code, turn.error.http_status) == (MISSING_CAPABILITY, 400)
    assert msgspec.json.decode(turn.error.data) == {"requiredCapabilities": {"elicitation": {"url": {}}}}
    assert at_rest(client.gateway)


async def test_whoever_wants_urls_opened_for_ever_is_not_called_for_ever(tmp_path, nursery, autojump_clock):
    shop = Shop(99, URLS[0])
    client = ModernClient(make_gateway(tmp_path, shop), shop).use(nursery)
    turn = await client.call()
    rounds = 0
    while isinstance(turn.outcome, tuple):
        rounds += 1
        turn = await client.retry(turn, opened(turn))
    assert (rounds, turn.error.code) == (module.VISITS_MAX, INTERNAL_ERROR)
    assert at_rest(client.gateway)


async def test_a_client_that_stays_away_from_a_url_is_given_up(tmp_path, nursery, autojump_clock):
    shop = Shop()
    gateway = make_gateway(tmp_path, shop, config=Config(limits=Limits(park_time=10.0)))
    await nursery.start(gateway.run)
    client = ModernClient(gateway, shop).use(nursery)
    turn = await client.call()
    await trio.sleep(12)
    assert at_rest(gateway)
    assert gateway.inputs._kept == {}
    late = await client.retry(turn, opened(turn))
    assert late.error.code == INVALID_PARAMS
    assert len(shop.asked) == 1


async def test_where_several_servers_may_ask_the_question_says_which_one_does(tmp_path, nursery, autojump_clock):
    servers = tuple(ServerSpec(name=name, transport="stdio", command="true") for name in "bc")
    for method, params in (("tools/call", CALL), ("resources/read", {"uri": "x:1"})):
        shop = Shop()
        client = ModernClient(make_gateway(tmp_path, shop, config=Config(servers=servers)), shop).use(nursery)
        turn = await client.call(params, method=method)
        messages = [each["params"]["message"] for each in turn.result["inputRequests"].values()]
        assert messages == ["[b] Sign in", "[b] Open this first."]


async def test_an_error_that_names_no_url_is_just_an_error(tmp_path, nursery, autojump_clock):
    shop = Shop(1, {"mode": "url"}, {"url": 5})
    client = ModernClient(make_gateway(tmp_path, shop), shop).use(nursery)
    turn = await client.call()
    assert turn.error.code == INTERNAL_ERROR
    assert msgspec.json.decode(turn.error.data)["error"]["code"] == -32042
    assert at_rest(client.gateway)


async def test_questions_and_urls_can_follow_each_other(tmp_path, nursery, autojump_clock):
    shop = Shop()

    async def script(call, ask):
        if len(shop.asked) == 1:
            raise required(URLS[0])
        return await asks(NAME)(call, ask)

    shop.script = script
    client = ModernClient(make_gateway(tmp_path, shop), shop).use(nursery)
    turn = await client.call()
    assert turn.result["inputRequests"].keys() == {"user_input"}
    turn = await client.retry(turn, {"user_input": {"action": "accept"}})
    assert turn.result["inputRequests"].keys() == {"user_name"}
    assert (await client.retry(turn, {"user_name": ACCEPT})).result["resultType"] == "complete"
    assert at_rest(client.gateway)


@pytest.mark.parametrize(
    "raw",
    [
        *(b"{}", b"5", b"[]", b'{"data":5}', b'{"data":{}}', b'{"data":{"elicitations":{}}}'),
        *(b'{"data":{"elicitations":[5]}}', b'{"data":{"elicitations":[{"url":null}]}}', b'{"data":{"elicitations":['),
    ],
)
def test_what_has_not_the_form_of_an_elicitation_is_none(raw):
    assert elicitations(RpcError(-32042, "m", raw=raw)) == []


def test_an_elicitation_of_mcpds_own_is_read_like_a_relayed_one():
    error = RpcError(-32042, "m", data=b'{"elicitations":[{"url":"https://a","x":1.0}]}')
    assert elicitations(error) == [b'{"message":"m","url":"https://a","x":1.0,"mode":"url"}']
