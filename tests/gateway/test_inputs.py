from __future__ import annotations

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from mcpd.config.model import Config, Limits
from mcpd.errors import INTERNAL_ERROR, INVALID_PARAMS, RpcError
from mcpd.gateway import inputs as module
from mcpd.gateway.gateway import Gateway
from mcpd.gateway.inputs import CANONICAL_MAX, REPEAT_TIME, canonical, digest
from mcpd.gateway.modern import RESTARTED
from mcpd.protocol import jsonrpc
from tests.gateway.fakes import (
    ACCEPT,
    CALL,
    DONE,
    NAME,
    NOW,
    AskingBackend,
    Clock,
    ModernClient,
    asks,
    at_rest,
    catalogue,
    make_gateway,
    make_sessions,
)

ANSWERED = {"user_name": ACCEPT}


@pytest.fixture
def backend():
    backend = AskingBackend("b", catalogue(tools=["add", "sub"], prompts=["greet", "add"], resources=["x:1", "x:2"]))
    backend.script = asks(NAME)
    return backend


@pytest.fixture
def gateway(tmp_path, backend):
    return make_gateway(tmp_path, backend)


@pytest.fixture
def client(gateway, backend):
    """Works in the nursery of the test, given by `use`."""
    return ModernClient(gateway, backend)


def bounded(tmp_path, client, **limits):
    """The same client in front of a gateway with these limits."""
    client.gateway = make_gateway(tmp_path, client.backend, config=Config(limits=Limits(**limits)))
    return client.gateway


# ---- whose a state is, and of what


@pytest.mark.parametrize(
    ("params", "method"),
    [
        ({"name": "b_sub", "arguments": {"a": 1}}, "tools/call"),
        ({"name": "b_add", "arguments": {"a": 2}}, "tools/call"),
        ({"name": "b_add", "arguments": {"a": 1, "b": 1}}, "tools/call"),
        ({"name": "b_add"}, "tools/call"),
        ({"name": "b_add", "arguments": {"a": 1}}, "prompts/get"),
        ({"uri": "x:1"}, "resources/read"),
    ],
)
async def test_a_state_is_good_for_its_own_call_only(gateway, backend, client, nursery, autojump_clock, params, method):
    client.use(nursery)
    turn = await client.call()
    other = await client.retry(turn, ANSWERED, params, method=method)
    assert (other.error.code, other.error.http_status) == (INVALID_PARAMS, 400)
    assert "another request" in other.error.message
    assert (backend.replies, gateway.inputs.parked, len(backend.asked)) == ([], 1, 1)
    assert (await client.retry(turn, ANSWERED)).result["resultType"] == "complete"


@pytest.mark.parametrize(
    "params",
    [
        b'{"arguments":{"b":[1,{"y":null,"x":"\\u00e9"}],"a":1.50},"name":"b_add"}',
        b'{"name":"b_\\u0061dd", "arguments" : { "a":1.5,"b":[1, {"x":"\xc3\xa9","y":null}] }}',
    ],
)
async def test_a_call_may_be_spelled_in_other_ways(backend, client, nursery, autojump_clock, params):
    client.use(nursery)
    one = {"name": "b_add", "arguments": {"a": 1.5, "b": [1, {"x": "é", "y": None}]}}
    turn = await client.call(one)
    members = {name: msgspec.Raw(bytes(raw)) for name, raw in jsonrpc.members_of(params).items()}
    assert (await client.retry(turn, ANSWERED, members)).result["resultType"] == "complete"


@pytest.mark.parametrize("arguments", [{}, {"arguments": None}, {"arguments": {}}])
async def test_there_are_three_ways_to_give_no_arguments(backend, client, nursery, autojump_clock, arguments):
    client.use(nursery)
    turn = await client.call({"name": "b_add", "arguments": msgspec.Raw(b"{ }")})
    assert (await client.retry(turn, ANSWERED, {"name": "b_add", **arguments})).result["resultType"] == "complete"


async def test_to_another_principal_a_state_is_unknown(gateway, backend, client, nursery, autojump_clock):
    client.use(nursery)
    turn = await client.call(principal="one")
    strange = await client.retry("mcpd.AAAA", ANSWERED, principal="two")
    other = await client.retry(turn, ANSWERED, principal="two")
    assert strange.error.encode() == other.error.encode()
    assert backend.replies == []
    assert (await client.retry(turn, ANSWERED, principal="one")).result["resultType"] == "complete"
    # Nor is the outcome anybody else's.
    assert (await client.retry(turn, ANSWERED, principal="two")).error.code == INVALID_PARAMS
    assert (await client.retry(turn, ANSWERED, principal="one")).result["resultType"] == "complete"


@pytest.mark.parametrize(
    "change", [lambda s: s[:-1], lambda s: s + "A", lambda s: s.replace("mcpd.", "mcpd,"), str.lower]
)
async def test_a_state_that_was_changed_is_unknown(backend, client, nursery, autojump_clock, change):
    client.use(nursery)
    turn = await client.call()
    bad = await client.retry(change(turn.state), ANSWERED)
    assert "unknown or expired" in bad.error.message
    assert backend.replies == []


async def test_an_expired_state_is_unknown_by_the_time_of_day_too(tmp_path, backend, nursery, autojump_clock):
    gateway = make_gateway(tmp_path, backend)
    clock = gateway.sessions.clock
    assert isinstance(clock, Clock)
    client = ModernClient(gateway, backend).use(nursery)
    turn = await client.call()
    clock.now += 600
    late = await client.retry(turn, ANSWERED)
    assert "unknown or expired" in late.error.message
    clock.now -= 2
    assert (await client.retry(turn, ANSWERED)).result["resultType"] == "complete"


async def test_a_state_of_an_earlier_run_is_unknown(tmp_path, backend, client, nursery, autojump_clock):
    client.use(nursery)
    turn = await client.call()
    client.gateway = make_gateway(tmp_path, backend)  # the same key, and nothing parked
    assert "unknown or expired" in (await client.retry(turn, ANSWERED)).error.message
    assert len(backend.asked) == 1, "a tool is never run again by mcpd itself"


async def test_who_comes_back_after_a_restart_is_told_of_it(tmp_path, backend, client, nursery, autojump_clock):
    client.use(nursery)
    turn = await client.call()
    client.gateway = Gateway(Config(), sessions=make_sessions(tmp_path, clock=Clock(NOW + 2)))
    client.gateway.use([backend])
    error = (await client.retry(turn, ANSWERED)).error
    assert (error.code, error.message) == (INVALID_PARAMS, RESTARTED)
    other = (await client.retry(turn, ANSWERED, principal="other")).error
    assert "unknown or expired" in other.message, "whose it was is nobody else's business"
    assert len(backend.asked) == 1, "a tool is never run again by mcpd itself"


async def test_who_was_asked_lately_is_waited_for(gateway, backend, client, nursery, autojump_clock):
    client.use(nursery)
    begun = trio.current_time()
    assert not gateway.inputs.awaited(begun - 1)
    turn = await client.call()
    assert gateway.inputs.awaited(begun - 1)
    assert not gateway.inputs.awaited(begun + 1)
    await client.retry(turn, ANSWERED)
    assert not gateway.inputs.awaited(begun - 1)


# ---- what a call ended with


async def test_an_outcome_waits_for_its_client(tmp_path, backend, client, nursery, autojump_clock):
    gateway = bounded(tmp_path, client, park_time=100.0)
    await nursery.start(gateway.run)
    client.use(nursery)

    async def script(call, ask):
        ask(*NAME)
        await trio.sleep(1)
        return DONE

    backend.script = script
    turn = await client.call()
    await trio.sleep(50)
    assert backend.replies == [{"action": "cancel"}]
    assert at_rest(gateway)
    # Whatever it answers, also nothing; but who comes again must say the same.
    late = await client.retry(turn, ANSWERED)
    assert late.result == {"resultType": "complete", "content": []}
    assert (await client.retry(turn, ANSWERED)).result == late.result
    assert (await client.retry(turn, {})).error.code == INVALID_PARAMS
    await trio.sleep(100)
    assert gateway.inputs._kept == {}
    assert gateway.inputs._kept_bytes == 0
    assert "unknown or expired" in (await client.retry(turn, ANSWERED)).error.message


async def test_so_does_an_error(gateway, backend, client, nursery, autojump_clock):
    client.use(nursery)

    async def script(call, ask):
        ask(*NAME)
        await trio.sleep(1)
        raise RpcError(-5, "no", data=b"1")

    backend.script = script
    turn = await client.call()
    await trio.sleep(1)
    late = await client.retry(turn, {})
    assert (late.error.code, late.error.message, late.error.data) == (-5, "no", b"1")


async def test_an_outcome_that_nobody_fetches_is_forgotten_with_its_state(
    tmp_path, backend, client, nursery, autojump_clock
):
    gateway = bounded(tmp_path, client, park_time=100.0)
    await nursery.start(gateway.run)
    client.use(nursery)

    async def script(call, ask):
        ask(*NAME)
        await trio.sleep(1)
        return DONE

    backend.script = script
    await client.call()
    await trio.sleep(98)
    assert len(gateway.inputs._kept) == 1
    await trio.sleep(2)
    assert gateway.inputs._kept == {}


async def test_an_answer_that_was_lost_can_be_had_again_for_a_while(tmp_path, backend, client, nursery, autojump_clock):
    gateway = bounded(tmp_path, client)
    await nursery.start(gateway.run)
    client.use(nursery)
    turn = await client.call()
    first = await client.retry(turn, ANSWERED)
    await trio.sleep(REPEAT_TIME - 1)
    assert (await client.retry(turn, ANSWERED)).result == first.result
    assert len(backend.asked) == 1
    await trio.sleep(2)
    assert gateway.inputs._kept == {}


async def test_outcomes_are_bounded_in_bytes_and_number(gateway, backend, client, nursery, autojump_clock, monkeypatch):
    client.use(nursery)
    monkeypatch.setattr(module, "KEPT_BYTES", 1000)
    sizes = iter((300, 300, 300, 300, 2000, 10, 10))

    async def script(call, ask):
        await ask(*NAME).answer()
        return b'{"content":[],"x":"%b"}' % (b"x" * next(sizes))

    backend.script = script
    turns = []
    for _ in range(5):
        turns.append(await client.call())
        assert (await client.retry(turns[-1], ANSWERED)).result["content"] == []
    assert 900 < gateway.inputs._kept_bytes <= 1000
    # The oldest made room; the one that is too large by itself drove out none.
    found = [(await client.retry(turn, ANSWERED)).outcome for turn in turns]
    assert [isinstance(outcome, RpcError) for outcome in found] == [True, False, False, False, True]
    monkeypatch.setattr(module, "KEPT_MAX", 2)
    for _ in range(2):
        await client.retry(await client.call(), ANSWERED)
    assert len(gateway.inputs._kept) == 2
    assert gateway.inputs._kept_bytes == 2 * len(b'{"content":[],"x":"xxxxxxxxxx"}')


async def test_errors_and_what_stands_beside_a_result_count_too(gateway, backend, client, nursery, autojump_clock):
    client.use(nursery)
    large = b'"%b"' % (b"x" * 5000)
    carry_out = backend.call

    async def call(call, method, members):
        answer = await carry_out(call, method, members)
        answer.members["vendor"] = msgspec.Raw(large)
        return answer

    backend.call = call
    again = await client.retry(await client.call(), ANSWERED)
    assert bytes(again.outcome[1]["vendor"]) == large
    assert 5000 < gateway.inputs._kept_bytes < 5200

    async def fail(call, ask):
        await ask(*NAME).answer()
        raise RpcError(-5, "no", raw=b'{"code":-5,"message":"no","data":%b}' % large)

    backend.script = fail
    turn = await client.call()
    first = await client.retry(turn, ANSWERED)
    assert 10_000 < gateway.inputs._kept_bytes < 10_400
    repeated = await client.retry(turn, ANSWERED)
    assert repeated.error.raw == first.error.raw
    assert repeated.error.__traceback__ is None, "which would keep the request that it was raised in"


# ---- limits


async def test_parked_calls_are_bounded(tmp_path, backend, client, nursery, autojump_clock):
    gateway = bounded(tmp_path, client, parks=2)
    client.use(nursery)
    turns = [await client.call() for _ in range(2)]
    more = await client.call()
    assert more.result["resultType"] == "complete", "the backend was refused an answer, and went on"
    assert backend.replies == [INTERNAL_ERROR]
    assert gateway.inputs.parked == 2
    await client.retry(turns[0], ANSWERED)
    assert (await client.call()).result["resultType"] == "input_required"


async def test_a_principal_has_but_a_share_of_them(tmp_path, backend, client, nursery, autojump_clock):
    gateway = bounded(tmp_path, client, parks=8)
    client.use(nursery)
    turns = [await client.call(principal="one") for _ in range(3)]
    assert [turn.result["resultType"] for turn in turns] == ["input_required", "input_required", "complete"]
    assert (await client.call(principal="two")).result["resultType"] == "input_required"
    # Those without a name share what there is.
    turns = [await client.call() for _ in range(6)]
    assert [turn.result["resultType"] for turn in turns] == ["input_required"] * 5 + ["complete"]
    assert gateway.inputs.parked == 8


async def test_a_call_that_was_given_no_room_may_be_later(tmp_path, backend, client, nursery, autojump_clock):
    bounded(tmp_path, client, parks=1)
    client.use(nursery)

    async def script(call, ask):
        if await ask(*NAME).answer() == INTERNAL_ERROR:
            await trio.sleep(1)
            await ask(*NAME).answer()
        return DONE

    backend.script = script
    one = await client.call()
    two = await client.call()
    assert two.outcome is None
    await client.retry(one, ANSWERED)
    await trio.sleep(1)
    assert two.result["inputRequests"].keys() == {"user_name"}


async def test_parked_calls_do_not_count_as_calls_that_somebody_waits_for(
    tmp_path, backend, client, nursery, autojump_clock
):
    gateway = bounded(tmp_path, client, calls=2)
    client.use(nursery)
    turns = [await client.call() for _ in range(4)]
    assert gateway.in_flight == 4
    gates = [trio.Event(), trio.Event(), trio.Event()]

    async def script(call, ask):
        await gates[len(backend.asked) - 5].wait()
        return DONE

    backend.script = script
    for _ in range(2):
        assert (await client.start()).outcome is None
    full = await client.start()
    assert (full.error.code, full.error.http_status) == (INTERNAL_ERROR, 503)
    # Those that are joined are never refused: their backend is at work anyway.
    assert (await client.retry(turns[0], ANSWERED)).result["resultType"] == "complete"
    assert (await client.start()).error.http_status == 503
    gates[0].set()
    await trio.testing.wait_all_tasks_blocked()
    assert (await client.start()).outcome is None


# ---- spelling

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_a_value_has_one_canonical_spelling(value):
    text = msgspec.json.encode(value)
    spaced = msgspec.json.format(text, indent=3)
    assert canonical(spaced) == canonical(text) == canonical(msgspec.Raw(text))
    assert msgspec.json.decode(canonical(text)) == msgspec.json.decode(text)


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_the_order_of_members_is_no_part_of_a_value(value):
    turned = dict(reversed(value.items()))
    assert canonical(msgspec.json.encode(turned)) == canonical(msgspec.json.encode(value))


@pytest.mark.parametrize("text", [b"1e400", b'"\\ud800"', b"[" * 2000 + b"]" * 2000, b"x", b'"\xff"'])
def test_what_cannot_be_decoded_is_its_own_spelling(text):
    assert canonical(text) == text


def test_neither_is_what_is_too_large():
    large = b'{"b":"%b","a":1}' % (b"x" * CANONICAL_MAX)
    assert canonical(large) == large
    assert canonical(None) == b""


def test_a_digest_tells_calls_apart():
    def of(method: str, **members: object) -> bytes:
        return digest(method, {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in members.items()})

    assert of("tools/call", name="a", arguments={"x": 1}, _meta={}) == of("tools/call", name="a", arguments={"x": 1})
    different = [
        of("tools/call", name="a"),
        of("tools/call", name="b"),
        of("prompts/get", name="a"),
        of("resources/read", uri="a"),
        of("resources/read", name="a"),
        of("tools/call", name="a", arguments={"x": 1}),
        of("tools/call", name="a", arguments={"x": "1"}),
        of("tools/call", name='a"{"x":1}'),
        of("tools/call", arguments="a"),
    ]
    assert len(set(different)) == len(different)


@pytest.mark.parametrize("closes", ["in the window", "before another question"])
async def test_a_call_that_is_waited_for_is_not_parked_when_mcpd_stops(
    gateway, backend, client, nursery, autojump_clock, closes
):
    client.use(nursery)

    async def script(call, ask):
        await ask(*NAME).answer()
        if closes == "before another question":
            await trio.sleep(1)
            await ask("roots/list").answer()
        return DONE

    backend.script = script
    turn = await client.start()
    if closes != "in the window":
        await trio.sleep(1)
        turn = await client.start({**CALL, "inputResponses": ANSWERED, "requestState": turn.state})
    gateway.close()
    await trio.sleep(2)
    assert turn.result["resultType"] == "complete", "its backend was answered, and went on"
    assert backend.replies[-1] in ({"action": "cancel"}, INTERNAL_ERROR)
    assert at_rest(gateway)
