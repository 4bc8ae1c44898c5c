from __future__ import annotations

import math

import msgspec
import pytest
import trio

from mcpd.backends.base import Catalogue
from mcpd.config.model import Config, Limits, Naming
from mcpd.errors import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    RESOURCE_NOT_FOUND,
    BackendTimedOut,
    RpcError,
)
from mcpd.gateway import gateway as module
from mcpd.protocol import jsonrpc
from mcpd.protocol.calls import Call
from mcpd.protocol.capabilities import NOTHING, ServerCapabilities
from mcpd.protocol.methods import METHODS
from mcpd.protocol.versions import HANDSHAKE, Version
from tests.gateway.fakes import (
    ALL,
    FakeBackend,
    catalogue,
    entries,
    hello,
    join,
    make_gateway,
    message,
    no_ask,
    no_emit,
    serve,
)

OFFER = {
    "tools": ["add"],
    "prompts": ["greet"],
    "resources": ["x:1"],
    "resourceTemplates": ["x:/{id}"],
}


def offering(name: str = "b", **spec) -> FakeBackend:
    return FakeBackend(name, catalogue(**OFFER), **spec)


async def refusal(gateway, session, method, params=None) -> RpcError:
    with pytest.raises(RpcError) as caught:
        await serve(gateway, session, method, params)
    return caught.value


@pytest.fixture
def backend():
    return offering()


@pytest.fixture
def gateway(tmp_path, backend):
    return make_gateway(tmp_path, backend, FakeBackend("other"))


# ---- every method


async def test_what_backends_answer_is_asked_under_their_own_names(gateway, backend):
    session = join(gateway.sessions)
    backend.result = b'{"x":1}'
    for method, params, sent in (
        ("tools/call", {"name": "b_add", "arguments": {"a": 1}}, {"name": "add", "arguments": {"a": 1}}),
        ("prompts/get", {"name": "b_greet"}, {"name": "greet"}),
        ("resources/read", {"uri": "x:1"}, {"uri": "x:1"}),
        ("resources/read", {"uri": "x:/7"}, {"uri": "x:/7"}),
        (
            "completion/complete",
            {
                "ref": {"type": "ref/prompt", "name": "b_greet", "v": 1},
                "argument": {"name": "n", "value": ""},
            },
            {"ref": {"type": "ref/prompt", "name": "greet", "v": 1}, "argument": {"name": "n", "value": ""}},
        ),
        (
            "completion/complete",
            {"ref": {"type": "ref/resource", "uri": "x:/{id}"}, "argument": {"name": "id", "value": "1"}},
            {"ref": {"type": "ref/resource", "uri": "x:/{id}"}, "argument": {"name": "id", "value": "1"}},
        ),
    ):
        assert await serve(gateway, session, method, params) == {"x": 1}
        asked = backend.asked.pop()
        assert (asked.method, asked.params, asked.caller) == (method, sent, session.caller.key)


async def test_what_mcpd_answers_itself(gateway, backend, nursery):
    await nursery.start(gateway.run)
    session = join(gateway.sessions)
    assert await serve(gateway, session, "ping") == {}
    assert await serve(gateway, session, "tools/list") == {"tools": [{"name": "b_add"}]}
    assert await serve(gateway, session, "prompts/list", {}) == {"prompts": [{"name": "b_greet"}]}
    assert await serve(gateway, session, "resources/list") == {"resources": [{"uri": "x:1"}]}
    templates = await serve(gateway, session, "resources/templates/list")
    assert templates == {"resourceTemplates": [{"uriTemplate": "x:/{id}"}]}
    assert await serve(gateway, session, "resources/subscribe", {"uri": "x:1"}) == {}
    assert await serve(gateway, session, "resources/unsubscribe", {"uri": "x:1"}) == {}
    assert await serve(gateway, session, "resources/unsubscribe", {"uri": "x:1"}) == {}
    assert await serve(gateway, session, "logging/setLevel", {"level": "error"}) == {}
    assert backend.asked == []
    assert backend.subscribed == {"x:1": 0}


def test_every_method_a_client_of_the_handshake_sends_is_served():
    sent = {m.name for m in METHODS if m.request and m.client is not None and HANDSHAKE[-1] in m.client}
    tasks = {name for name in sent if name.startswith("tasks/")}
    assert module._HANDLERS.keys() | module._OF_SESSION.keys() == sent - tasks - {"initialize"}
    assert not module._HANDLERS.keys() & module._OF_SESSION.keys()


@pytest.mark.parametrize("method", ["tasks/list", "server/discover", "initialize", "x", "", "notifications/x"])
async def test_unknown_methods(gateway, method):
    error = await refusal(gateway, join(gateway.sessions), method)
    assert error.code == METHOD_NOT_FOUND


@pytest.mark.parametrize("params", [b"5", b"[]", b'"x"', b"true", b"[[]]"])
@pytest.mark.parametrize("method", sorted(module._HANDLERS | module._OF_SESSION))
async def test_params_that_are_no_object(gateway, method, params):
    error = await refusal(gateway, join(gateway.sessions), method, params)
    assert error.code == INVALID_PARAMS
    assert error.message == "params is a JSON object"
    assert gateway.in_flight == 0


@pytest.mark.parametrize("params", [None, {}, b"null"])
async def test_params_that_are_not_there(gateway, params):
    session = join(gateway.sessions)
    assert await serve(gateway, session, "ping", params) == {}
    assert len((await serve(gateway, session, "tools/list", params))["tools"]) == 1
    for method in ("tools/call", "prompts/get", "resources/read", "completion/complete", "logging/setLevel"):
        assert (await refusal(gateway, session, method, params)).code == INVALID_PARAMS


WRONG = [
    ("tools/call", {"name": 5}),
    ("tools/call", {"name": None}),
    ("tools/call", {"name": ["b_add"]}),
    ("tools/call", {"name": "add"}),
    ("tools/call", {"name": ""}),
    ("prompts/get", {"name": "greet"}),
    ("prompts/get", {"name": {}}),
    ("resources/read", {"uri": 1}),
    ("resources/subscribe", {}),
    ("resources/unsubscribe", {"uri": False}),
    ("completion/complete", {"ref": 5}),
    ("completion/complete", {"ref": "ref/prompt"}),
    ("completion/complete", {"ref": []}),
    ("completion/complete", {"ref": None}),
    ("completion/complete", {"ref": {}}),
    ("completion/complete", {"ref": {"type": "ref/tool", "name": "b_add"}}),
    ("completion/complete", {"ref": {"type": "ref/prompt"}}),
    ("completion/complete", {"ref": {"type": "ref/prompt", "name": "nobody"}}),
    ("completion/complete", {"ref": {"type": "ref/prompt", "name": 1}}),
    ("completion/complete", {"ref": {"type": "ref/resource"}}),
    ("completion/complete", {"ref": {"type": "ref/resource", "uri": "nobody:{x}"}}),
    ("logging/setLevel", {"level": "loud"}),
    ("logging/setLevel", {"level": 3}),
    ("tools/list", {"cursor": 5}),
    ("tools/list", {"cursor": "x"}),
    ("prompts/list", {"cursor": "x"}),
    ("resources/list", {"cursor": "x"}),
    ("resources/templates/list", {"cursor": "x"}),
]


@pytest.mark.parametrize(("method", "params"), WRONG)
async def test_wrong_params_are_the_clients_fault_and_reach_no_backend(gateway, backend, method, params):
    assert (await refusal(gateway, join(gateway.sessions), method, params)).code == INVALID_PARAMS
    assert backend.asked == []
    assert gateway.in_flight == 0


@pytest.mark.parametrize("method", ["resources/read", "resources/subscribe"])
async def test_an_unknown_resource(gateway, method):
    error = await refusal(gateway, join(gateway.sessions), method, {"uri": "nobody:1"})
    assert error.code == RESOURCE_NOT_FOUND
    assert error.data == b'{"uri":"nobody:1"}'


async def test_two_names_are_one_too_many(gateway, backend):
    session = join(gateway.sessions)
    for twice in (b'{"uri":"x:1","uri":"x:2"}', b'{"uri":"x:1","u\\u0072i":"x:2"}'):
        assert (await refusal(gateway, session, "resources/read", twice)).code == INVALID_REQUEST
    error = await refusal(gateway, session, "tools/call", b'{"name":"b_add","name":"b_sub"}')
    assert error.code == INVALID_REQUEST
    assert backend.asked == []
    # An argument may be called so, as often as it likes.
    await serve(gateway, session, "tools/call", b'{"name":"b_add","arguments":{"name":{"name":1}},"_meta":{"name":1}}')
    assert len(backend.asked) == 1


async def test_all_other_bytes_pass(gateway, backend):
    sent = []

    async def answer(call, method, params):
        sent.append(jsonrpc.encode_members(call.members))
        return b'{ "content":[ ],"structuredContent":{"n":1.0e400,"m":12345678901234567890123},"z":"\xc3\xa9" }'

    backend.answer = answer
    backend.envelope = {"vendor": b"[1, 2]"}
    params = b'{"x" : 1.50,"name":"b_add","arguments":{"big":123456789012345678901,"u":"\\u00e9"},"_meta":{"v":null}}'
    request = jsonrpc.decode_from_client(b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":%b}' % params)
    result, extra = await gateway.serve(join(gateway.sessions), request, no_emit, no_ask, lambda: None)
    assert sent == [
        b'{"x":1.50,"name":"add","arguments":{"big":123456789012345678901,"u":"\\u00e9"},"_meta":{"v":null}}'
    ]
    assert bytes(result) == (
        b'{ "content":[ ],"structuredContent":{"n":1.0e400,"m":12345678901234567890123},"z":"\xc3\xa9" }'
    )
    assert {name: bytes(raw) for name, raw in (extra or {}).items()} == {"vendor": b"[1, 2]"}


async def test_a_request_sent_twice_is_routed_twice(gateway, backend):
    """What the walk changes is its own: the message stays as the client sent it."""
    session = join(gateway.sessions)
    requests = [
        message("tools/call", {"name": "b_add", "task": {"ttl": 1}}),
        message("prompts/get", {"name": "b_greet"}),
        message("completion/complete", {"ref": {"type": "ref/prompt", "name": "b_greet"}, "argument": {}}),
    ]
    for request in requests:
        before = bytes(request.params or b"")
        for _ in range(2):
            await gateway.serve(session, request, no_emit, no_ask, lambda: None)
        assert bytes(request.params or b"") == before
    assert [asked.params.get("name") for asked in backend.asked[:4]] == ["add", "add", "greet", "greet"]
    assert "task" not in backend.asked[0].params


async def test_a_backends_error_is_relayed_as_it_is(gateway, backend):
    raw = b'{"code":-32050,"message":"no","data":{"x":1.0}}'
    backend.error = RpcError(-32050, "no", raw=raw)
    error = await refusal(gateway, join(gateway.sessions), "tools/call", {"name": "b_add"})
    assert error.encode() == raw


@pytest.mark.parametrize("result", [b"5", b"null", b"[]", b'"x"'])
@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/call", {"name": "b_add"}),
        ("prompts/get", {"name": "b_greet"}),
        ("resources/read", {"uri": "x:1"}),
    ],
)
async def test_a_result_that_is_no_object_is_the_backends_fault(gateway, backend, method, params, result):
    backend.result = result
    error = await refusal(gateway, join(gateway.sessions), method, params)
    assert error.code == INTERNAL_ERROR
    assert error.message == f"backend 'b': its result of {method} is not a JSON object"


async def test_the_way_of_both_eras_knows_no_session(gateway, backend):
    """`dispatch` is what both kinds of client share; what only sessions have is not in it."""
    session = join(gateway.sessions)

    def call(method: str, params: bytes = b"{}") -> Call:
        return Call(session.caller, method, params, jsonrpc.members_of(params), no_emit, no_ask, lambda: None)

    backend.result = b'{"x":1}'
    result, _extra = await gateway.dispatch(call("tools/call", b'{"name":"b_add"}'))
    assert bytes(result) == b'{"x":1}'
    for method in ("ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe", "server/discover"):
        with pytest.raises(RpcError) as caught:
            gateway.dispatch(call(method))
        assert caught.value.code == METHOD_NOT_FOUND


# ---- progress tokens


@pytest.mark.parametrize("token", [b'"a"', b"1", b"1.0", b"-1", b"0", b'""', b'"\\u0061"'])
async def test_a_progress_token_keeps_its_spelling(gateway, backend, token):
    seen = []

    async def answer(call, method, params):
        seen.append(call.token)
        return b"{}"

    backend.answer = answer
    params = b'{"name":"b_add","_meta":{"progressToken":%b}}' % token
    await serve(gateway, join(gateway.sessions), "tools/call", params)
    assert seen == [token]


@pytest.mark.parametrize(
    "meta",
    [
        b"{}",
        b"5",
        b"null",
        b'{"progressToken":null}',
        b'{"progressToken":{}}',
        b'{"progressToken":true}',
        b'{"progressToken":"%b"}' % (b"x" * jsonrpc.ID_MAX),
    ],
)
async def test_what_is_no_progress_token_is_none(gateway, backend, meta):
    seen = []

    async def answer(call, method, params):
        seen.append(call.token)
        return b"{}"

    backend.answer = answer
    await serve(gateway, join(gateway.sessions), "tools/call", b'{"name":"b_add","_meta":%b}' % meta)
    assert seen == [None]


# ---- limits


async def test_calls_in_flight_are_bounded_and_counted_down_however_they_end(tmp_path, nursery):
    backend = offering()
    gateway = make_gateway(tmp_path, backend, config=Config(limits=Limits(calls=2)))
    session = join(gateway.sessions)
    backend.gate = trio.Event()
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as calls:
            for _ in range(2):
                calls.start_soon(serve, gateway, session, "tools/call", {"name": "b_add"})
            await trio.testing.wait_all_tasks_blocked()
            assert gateway.in_flight == 2
            error = await refusal(gateway, join(gateway.sessions), "ping")
            assert (error.code, error.http_status) == (INTERNAL_ERROR, 503)
            assert "limits.calls" in error.message
            scope.cancel()
    assert gateway.in_flight == 0
    backend.gate = None
    backend.error = BackendTimedOut("b", "no answer")
    for _ in range(5):
        await refusal(gateway, session, "tools/call", {"name": "b_add"})
    assert gateway.in_flight == 0


async def test_a_cancelled_call_cancels_the_backends_work_only(gateway, backend, nursery):
    session = join(gateway.sessions)
    backend.gate = trio.Event()
    done = []

    async def call(name):
        await serve(gateway, session, "tools/call", {"name": "b_add"})
        done.append(name)

    with trio.CancelScope() as scope:
        nursery.start_soon(call, "kept")
        async with trio.open_nursery() as inner:
            inner.start_soon(call, "cancelled")
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    backend.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert done == ["kept"]


# ---- the first moments


async def started(nursery, tmp_path, *backends):
    gateway = make_gateway(tmp_path, *backends)
    await nursery.start(gateway.run)
    return gateway


async def listed(gateway) -> tuple[int, float]:
    """How many tools the first list has, and after how many seconds it came."""
    tools = (await serve(gateway, join(gateway.sessions), "tools/list"))["tools"]
    return len(tools), trio.current_time()


def many(count: int, takes: float) -> list[FakeBackend]:
    return [FakeBackend(f"s{n}", catalogue(tools=["t"]), takes=takes) for n in range(count)]


async def test_of_ten_backends_one_that_hangs_delays_nobody(tmp_path, nursery, autojump_clock):
    gateway = await started(nursery, tmp_path, FakeBackend("hangs", takes=math.inf), *many(9, 0.3))
    count, after = await listed(gateway)
    assert count == 9
    assert after < 1.0
    # And no later list waits for it again.
    assert await listed(gateway) == (9, after)


async def test_slow_equal_backends_are_all_waited_for(tmp_path, nursery, autojump_clock):
    slow = [FakeBackend(f"s{n}", catalogue(tools=["t"]), takes=3.0 + n * 0.08) for n in range(10)]
    gateway = await started(nursery, tmp_path, *slow)
    assert await listed(gateway) == (10, pytest.approx(3.72))
    assert gateway.all_judged


async def test_a_list_is_bounded_by_the_slowest_and_not_by_the_sum(tmp_path, nursery, autojump_clock):
    gateway = await started(nursery, tmp_path, *many(10, 0.5))
    assert await listed(gateway) == (10, 0.5)


async def test_one_that_fails_at_once_is_no_measure_for_the_others(tmp_path, nursery, autojump_clock):
    broken = FakeBackend("broken", takes=0.01)
    broken.fails = True
    gateway = await started(nursery, tmp_path, broken, *many(9, 2.0))
    assert await listed(gateway) == (9, 2.0)


async def test_if_all_fail_the_list_is_empty_at_once(tmp_path, nursery, autojump_clock):
    broken = many(3, 0.5)
    for backend in broken:
        backend.fails = True
    gateway = await started(nursery, tmp_path, *broken)
    assert await listed(gateway) == (0, 0.5)


async def test_while_nothing_is_known_a_list_waits_but_not_for_ever(tmp_path, nursery, autojump_clock):
    gateway = await started(nursery, tmp_path, *many(2, math.inf))
    assert await listed(gateway) == (0, pytest.approx(module.FIRST_WAIT))


async def test_without_backends_nothing_is_waited_for(tmp_path, nursery, autojump_clock):
    gateway = await started(nursery, tmp_path)
    assert await listed(gateway) == (0, 0.0)


async def test_initialize_waits_a_few_seconds_at_most(tmp_path, nursery, autojump_clock):
    quick, slow = FakeBackend("quick", takes=0.2), FakeBackend("slow", takes=50.0)
    quick.ready_hello = hello(instructions="Use quick.")
    gateway = await started(nursery, tmp_path, quick, slow)
    answer = msgspec.json.decode(await gateway.initialize(Version.V2025_11_25))
    assert answer["instructions"] == "## quick\n\nUse quick."
    assert answer["protocolVersion"] == "2025-11-25"
    assert trio.current_time() <= module.INSTRUCTIONS_WAIT


async def test_a_call_of_a_known_tool_waits_for_nobody(tmp_path, nursery, autojump_clock):
    gateway = await started(nursery, tmp_path, offering(), FakeBackend("hangs", takes=math.inf))
    await serve(gateway, join(gateway.sessions), "tools/call", {"name": "b_add"})
    assert trio.current_time() == 0.0


async def test_a_call_of_a_tool_not_yet_known_waits_for_it(tmp_path, nursery, autojump_clock):
    late = offering(takes=5.0)
    gateway = await started(nursery, tmp_path, late, FakeBackend("hangs", takes=math.inf))
    for method, params in (
        ("tools/call", {"name": "b_add"}),
        ("prompts/get", {"name": "b_greet"}),
        ("resources/read", {"uri": "x:1"}),
    ):
        late.result = b"{}"
        assert await serve(gateway, join(gateway.sessions), method, params) == {}
    error = await refusal(gateway, join(gateway.sessions), "tools/call", {"name": "hangs_x"})
    assert error.code == INVALID_PARAMS
    assert "not ready yet: hangs" in error.message


async def test_a_call_of_a_tool_that_was_just_announced_waits_for_no_collecting_of_news(gateway, backend):
    for method, params in (
        ("tools/call", {"name": "b_new"}),
        ("prompts/get", {"name": "b_new"}),
        ("resources/read", {"uri": "x:new"}),
    ):
        backend.catalogue = catalogue(tools=[], resources=[], prompts=[])
        gateway.notices.catalogue_changed(backend, ("tools", "prompts", "resources"))
        gateway.notices.flush()
        assert (await refusal(gateway, join(gateway.sessions), method, params)).code != INTERNAL_ERROR
        backend.catalogue = catalogue(tools=["new"], resources=["x:new"], prompts=["new"])
        gateway.notices.catalogue_changed(backend, ("tools", "prompts", "resources"))
        backend.result = b"{}"
        assert await serve(gateway, join(gateway.sessions), method, params) == {}


# ---- errors and results for older clients


URLS = (
    b'{"code":-32042,"message":"Sign in first.","data":{"elicitations":['
    b'{"mode":"url","elicitationId":"1","url":"https://a.example/x","message":"m"},'
    b'{"mode":"url","elicitationId":"2","url":"https://b.example/y","message":"m"}]}}'
)


@pytest.mark.parametrize("version", [v for v in HANDSHAKE if v < Version.V2025_11_25])
async def test_a_url_that_must_be_opened_is_told_to_old_clients_in_words(gateway, backend, version):
    backend.error = RpcError(-32042, "Sign in first.", raw=URLS)
    result = await serve(gateway, join(gateway.sessions, version), "tools/call", {"name": "b_add"})
    assert result == {
        "content": [{"type": "text", "text": "Sign in first. https://a.example/x https://b.example/y"}],
        "isError": True,
    }


@pytest.mark.parametrize(
    "raw",
    [None, b"{}", b'{"data":5}', b'{"data":{"elicitations":["x"]}}', b'{"data":{"elicitations":5}}', b"\xff"],
)
async def test_a_url_error_of_another_shape(gateway, backend, raw):
    backend.error = RpcError(-32042, "Sign in.", raw=raw)
    result = await serve(gateway, join(gateway.sessions, HANDSHAKE[0]), "tools/call", {"name": "b_add"})
    assert result["content"][0]["text"] == "Sign in."


async def test_a_url_that_must_be_opened_is_passed_to_new_clients(gateway, backend):
    backend.error = RpcError(-32042, "Sign in first.", raw=URLS)
    error = await refusal(gateway, join(gateway.sessions), "tools/call", {"name": "b_add"})
    assert error.encode() == URLS


async def test_results_are_made_fit_for_old_clients(gateway, backend):
    backend.result = b'{"content":[{"type":"resource_link","uri":"y:1","name":"n"}],"structuredContent":{"a":1}}'
    result = await serve(gateway, join(gateway.sessions, Version.V2025_03_26), "tools/call", {"name": "b_add"})
    assert [block["type"] for block in result["content"]] == ["text", "text"]
    assert "structuredContent" not in result
    # The link was learnt from what the backend said, not from what the client got.
    backend.result = b'{"contents":[]}'
    assert await serve(gateway, join(gateway.sessions), "resources/read", {"uri": "y:1"}) == {"contents": []}


# ---- validation


SCHEMAS = {
    "inputSchema": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    "outputSchema": {"type": "object", "required": ["sum"]},
}
VALIDATED = Catalogue(tools=entries("tools", "add", **SCHEMAS) + entries("tools", "bare"))


@pytest.mark.parametrize(
    ("validate", "checked"), [("arguments", True), ("both", True), ("off", False), ("results", False)]
)
async def test_arguments_are_checked_if_asked_for(tmp_path, validate, checked):
    backend = FakeBackend("b", VALIDATED, validate=validate)
    backend.result = b'{"structuredContent":{"sum":1}}'
    gateway = make_gateway(tmp_path, backend)
    session = join(gateway.sessions)
    result = await serve(gateway, session, "tools/call", {"name": "b_add", "arguments": {"a": "x"}})
    assert result.get("isError", False) == checked
    assert len(backend.asked) == (not checked)
    if checked:
        assert "invalid arguments for tool 'b_add': arguments.a" in result["content"][0]["text"]
    await serve(gateway, session, "tools/call", {"name": "b_add", "arguments": {"a": 1}})
    assert backend.asked[-1].params == {"name": "add", "arguments": {"a": 1}}


@pytest.mark.parametrize(
    ("validate", "checked"), [("results", True), ("both", True), ("off", False), ("arguments", False)]
)
async def test_results_are_checked_if_asked_for(tmp_path, validate, checked):
    backend = FakeBackend("b", VALIDATED, validate=validate)
    gateway = make_gateway(tmp_path, backend)
    session = join(gateway.sessions)
    call = ("tools/call", {"name": "b_add", "arguments": {"a": 1}})
    for wrong in (b'{"structuredContent":{}}', b'{"content":[]}', b'{"\xff":1}'):
        backend.result = wrong
        if checked:
            error = await refusal(gateway, session, *call)
            assert error.code == INTERNAL_ERROR
            assert error.message.startswith("backend 'b': invalid result of tool 'b_add'")
            assert "servers.b.validate" in error.message
        elif b"\xff" not in wrong:
            await serve(gateway, session, *call)
    for right in (b'{"structuredContent":{"sum":1}}', b'{"content":[],"isError":true}'):
        backend.result = right
        await serve(gateway, session, *call)
    await serve(gateway, session, "tools/call", {"name": "b_bare"})


# ---- completion


PROMPT = {"ref": {"type": "ref/prompt", "name": "b_greet"}, "argument": {"name": "a", "value": ""}}


async def test_a_backend_without_completion_completes_nothing(gateway, backend):
    backend.hello = hello(ServerCapabilities(prompts=True))
    for version in HANDSHAKE:
        result = await serve(gateway, join(gateway.sessions, version), "completion/complete", PROMPT)
        assert result == {"completion": {"values": []}}
    assert backend.asked == []


async def test_an_old_backend_is_not_told_the_context(gateway, backend):
    for version, told in ((Version.V2025_03_26, False), (Version.V2025_06_18, True)):
        backend.hello = hello(ALL, version)
        await serve(gateway, join(gateway.sessions), "completion/complete", {**PROMPT, "context": {"arguments": {}}})
        assert ("context" in backend.asked[-1].params) == told


# ---- the end of a session, and news


async def test_an_ended_session_gives_back_what_it_held(gateway, backend, nursery):
    await nursery.start(gateway.run)
    one, two = join(gateway.sessions), join(gateway.sessions)
    for session in (one, two):
        await serve(gateway, session, "resources/subscribe", {"uri": "x:1"})
    await serve(gateway, one, "resources/subscribe", {"uri": "x:/2"})
    await serve(gateway, one, "logging/setLevel", {"level": "debug"})
    await serve(gateway, two, "logging/setLevel", {"level": "error"})
    gateway.sessions.end(one)
    await trio.testing.wait_all_tasks_blocked()
    assert backend.dropped == ["x:/2"]
    assert backend.forgotten == [one.caller.key]
    assert backend.levels[-1][0] == "error"
    assert len(gateway.subscriptions) == 1
    gateway.sessions.end(two)
    assert backend.dropped == ["x:/2", "x:1"]
    assert backend.subscribed == {"x:1": 0, "x:/2": 0}
    assert len(gateway.subscriptions) == 0


async def test_a_session_that_left_memory_and_came_back_holds_nothing_twice(gateway, backend, autojump_clock):
    session = join(gateway.sessions)
    await serve(gateway, session, "resources/subscribe", {"uri": "x:1"})
    await trio.sleep(3600 * 24)
    assert gateway.sessions.sweep() == 1
    assert backend.dropped == ["x:1"]
    again = gateway.sessions.find(session.id, "")
    assert again is not None
    await serve(gateway, again, "resources/subscribe", {"uri": "x:1"})
    assert backend.subscribed == {"x:1": 1}
    gateway.sessions.end(again)
    assert backend.subscribed == {"x:1": 0}


async def test_the_level_is_the_lowest_of_all_sessions(gateway, backend, nursery):
    await nursery.start(gateway.run)
    one, two = join(gateway.sessions), join(gateway.sessions)
    join(gateway.sessions)
    await serve(gateway, one, "logging/setLevel", {"level": "warning"})
    await serve(gateway, two, "logging/setLevel", {"level": "critical"})
    assert backend.levels == [
        ("warning", one.caller.key, "warning"),
        ("warning", two.caller.key, "critical"),
    ]


async def test_roots_changed_is_passed_on_for_clients_that_have_roots(gateway, backend):
    session = join(gateway.sessions)
    gateway.roots_changed(session.caller)
    gateway.roots_changed(join(gateway.sessions, capabilities=NOTHING).caller)
    assert backend.roots == [session.caller.key]


# ---- names


async def test_notes_about_names_are_logged_once_and_not_by_the_thousand(tmp_path, caplog):
    backend = FakeBackend("b", catalogue(tools=[f"t.{n}" for n in range(20_000)]))
    gateway = make_gateway(tmp_path, backend)
    assert len(caplog.records) == module.NOTES_LOGGED + 1
    assert "and 19900 more" in caplog.records[-1].getMessage()
    caplog.clear()
    gateway._rebuild()
    assert caplog.records == []
    backend.catalogue = backend.catalogue.with_kind("prompts", entries("prompts", "p.q"))
    gateway._rebuild()
    assert [record.getMessage() for record in caplog.records] == [
        "event=name b: 'p.q' is exposed as 'b_p_q', which clients accept"
    ]


@pytest.mark.parametrize(
    ("naming", "spec", "exposed"),
    [
        (Naming(separator="."), {}, "b.get"),
        (Naming(), {"prefix": "weather_"}, "weather_get"),
        (Naming(), {"prefix": ""}, "get"),
    ],
)
async def test_both_seeds_styles_end_to_end(tmp_path, naming, spec, exposed):
    backend = FakeBackend("b", catalogue(tools=["get"]), **spec)
    gateway = make_gateway(tmp_path, backend, config=Config(naming=naming))
    session = join(gateway.sessions)
    assert (await serve(gateway, session, "tools/list"))["tools"] == [{"name": exposed}]
    await serve(gateway, session, "tools/call", {"name": exposed})
    assert backend.asked[0].params == {"name": "get"}
