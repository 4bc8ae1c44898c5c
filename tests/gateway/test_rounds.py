from __future__ import annotations

import msgspec
import pytest
import trio

from mcpd.config.model import Config, Limits, Timeouts
from mcpd.errors import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, RpcError
from mcpd.gateway import rounds as module
from mcpd.gateway.rounds import ASK_WINDOW
from mcpd.protocol.capabilities import ClientCapability
from mcpd.protocol.inputs import INPUTS_MAX
from tests.gateway.fakes import (
    ACCEPT,
    CALL,
    DONE,
    MESSAGES,
    NAME,
    ROOTS,
    SAMPLE,
    AskingBackend,
    ModernClient,
    asks,
    at_rest,
    catalogue,
    form,
    make_gateway,
)


@pytest.fixture
def backend():
    return AskingBackend("b", catalogue(tools=["add", "sub"], prompts=["greet"], resources=["x:1"]))


@pytest.fixture
def gateway(tmp_path, backend):
    return make_gateway(tmp_path, backend)


@pytest.fixture
def client(gateway, backend):
    """Works in the nursery of the test, given by `use`."""
    return ModernClient(gateway, backend)


# ---- one round


async def test_a_question_ends_the_exchange_and_parks_the_call(gateway, backend, client, nursery, autojump_clock):
    client.use(nursery)
    backend.script = asks(NAME)
    turn = await client.call()
    assert turn.result["inputRequests"] == {"user_name": {"method": "elicitation/create", "params": form("name")}}
    assert "io.modelcontextprotocol/serverInfo" in turn.result["_meta"]
    assert (gateway.inputs.parked, len(gateway.inputs), gateway.in_flight) == (1, 1, 1)
    assert backend.replies == []
    again = await client.retry(turn, {"user_name": ACCEPT})
    assert again.result == {"resultType": "complete", "content": []}
    assert backend.replies == [ACCEPT]
    assert len(backend.asked) == 1, "the call was made once"
    assert at_rest(gateway)


async def test_questions_are_put_as_modern_clients_know_them(backend, client, nursery, autojump_clock):
    client.use(nursery)
    params = {**form("name"), "mode": None, "elicitationId": "e", "task": {}, "_meta": {"x": 1}, "vendor": 1}
    backend.script = asks(("elicitation/create", params), ("roots/list",), ("sampling/createMessage", MESSAGES))
    turn = await client.call()
    assert turn.result["inputRequests"] == {
        "user_name": {"method": "elicitation/create", "params": {**form("name"), "vendor": 1}},
        "client_roots": {"method": "roots/list"},
        "model_message": {"method": "sampling/createMessage", "params": MESSAGES},
    }
    await client.retry(turn, {"client_roots": ROOTS, "model_message": SAMPLE, "user_name": ACCEPT})
    assert sorted(backend.replies, key=str) == sorted([ACCEPT, ROOTS, SAMPLE], key=str)


async def test_a_window_for_further_questions_begins_with_the_first(backend, client, nursery, autojump_clock):
    client.use(nursery)

    async def script(call, ask):
        ask(*NAME)
        await trio.sleep(ASK_WINDOW * 0.75)
        ask("roots/list")
        await trio.sleep(ASK_WINDOW * 0.5)
        ask("sampling/createMessage", MESSAGES)
        await trio.sleep_forever()

    backend.script = script
    began = trio.current_time()
    turn = await client.start()
    await trio.sleep(1)
    assert turn.settled_at == pytest.approx(began + ASK_WINDOW)
    assert set(turn.result["inputRequests"]) == {"user_name", "client_roots"}
    # What came after the window waits for the client to come back, and then not for another one.
    began = trio.current_time()
    again = await client.start(
        {**CALL, "requestState": turn.state, "inputResponses": {"user_name": ACCEPT, "client_roots": ROOTS}}
    )
    assert again.settled_at == began
    assert set(again.result["inputRequests"]) == {"model_message"}


async def test_a_question_taken_back_leaves_its_window_to_nobody(backend, client, nursery, autojump_clock):
    client.use(nursery)

    async def script(call, ask):
        question = ask(*NAME)
        await trio.sleep(ASK_WINDOW / 4)
        question.take_back()
        await trio.sleep(1)
        ask("roots/list")
        await trio.sleep(ASK_WINDOW / 4)
        ask("sampling/createMessage", MESSAGES)
        await trio.sleep_forever()

    backend.script = script
    turn = await client.start()
    await trio.sleep(2)
    assert set(turn.result["inputRequests"]) == {"client_roots", "model_message"}


async def test_more_questions_than_one_result_may_hold_are_asked_in_two(backend, client, nursery, autojump_clock):
    client.use(nursery)
    backend.script = asks(*[("elicitation/create", form("a", "b"))] * (INPUTS_MAX + 2))
    turn = await client.call()
    shown = turn.result["inputRequests"]
    assert len(shown) == INPUTS_MAX
    again = await client.retry(turn, dict.fromkeys(shown, ACCEPT))
    assert len(again.result["inputRequests"]) == 2
    assert not shown.keys() & again.result["inputRequests"].keys()
    last = await client.retry(again, dict.fromkeys(again.result["inputRequests"], ACCEPT))
    assert last.result["resultType"] == "complete"


@pytest.mark.parametrize(
    ("method", "params"), [("prompts/get", {"name": "b_greet"}), ("resources/read", {"uri": "x:1"})]
)
async def test_every_method_that_may_need_input(gateway, backend, client, nursery, autojump_clock, method, params):
    client.use(nursery)
    backend.script = asks(NAME)
    turn = await client.call(params, method=method)
    again = await client.retry(turn, {"user_name": ACCEPT}, params, method=method)
    assert again.result["resultType"] == "complete"
    assert at_rest(gateway)


async def test_an_error_after_a_round_is_the_outcome(gateway, backend, client, nursery, autojump_clock):
    client.use(nursery)

    async def script(call, ask):
        await ask(*NAME).answer()
        raise RpcError(-32002, "not found", data=b'{"uri":"x"}')

    backend.script = script
    again = await client.retry(await client.call(), {"user_name": ACCEPT})
    assert (again.error.code, again.error.data) == (INVALID_PARAMS, b'{"uri":"x"}')
    assert at_rest(gateway)


async def test_a_bug_ends_every_exchange_that_waits(gateway, backend, client, nursery, autojump_clock):
    client.use(nursery)

    async def script(call, ask):
        await ask(*NAME).answer()
        raise ZeroDivisionError

    backend.script = script
    again = await client.retry(await client.call(), {"user_name": ACCEPT})
    assert (again.error.code, "internal error in mcpd" in again.error.message) == (INTERNAL_ERROR, True)
    assert at_rest(gateway)


# ---- several rounds


async def test_no_key_is_used_twice(gateway, backend, client, nursery, autojump_clock):
    client.use(nursery)

    async def script(call, ask):
        for _ in range(3):
            await ask(*NAME).answer()
        return DONE

    backend.script = script
    turn, states = await client.call(), set()
    for number, key in enumerate(("user_name", "user_name_2", "user_name_3")):
        assert list(turn.result["inputRequests"]) == [key]
        states.add(turn.state)
        # A client that repeats old answers does not answer the new question by them.
        old = {key: {"action": "cancel"} for key in ("user_name", "user_name_2", "user_name_3")[:number]}
        turn = await client.retry(turn, {**old, key: ACCEPT})
    assert turn.result["resultType"] == "complete"
    assert backend.replies == [ACCEPT] * 3
    assert len(states) == 3
    assert at_rest(gateway)


async def test_what_was_not_answered_is_asked_again(gateway, backend, client, nursery, autojump_clock):
    client.use(nursery)
    backend.script = asks(NAME, ("roots/list",))
    turn = await client.call()
    again = await client.retry(turn, {"client_roots": ROOTS, "stranger": 5})
    assert again.result["inputRequests"].keys() == {"user_name"}
    assert again.state != turn.state
    assert backend.replies == [ROOTS]
    third = await client.retry(again, {})
    assert third.result["inputRequests"].keys() == {"user_name"}
    last = await client.retry(third, {"user_name": ACCEPT})
    assert last.result["resultType"] == "complete"
    assert at_rest(gateway)


@pytest.mark.parametrize("answers", [None, {}, {"user_nam": ACCEPT}])
async def test_no_answer_at_all_is_asked_again(backend, client, nursery, autojump_clock, answers):
    client.use(nursery)
    backend.script = asks(NAME)
    turn = await client.call()
    again = await client.retry(turn, answers)
    assert again.result["inputRequests"] == turn.result["inputRequests"]


@pytest.mark.parametrize(
    "answers",
    [5, [], "x", {"user_name": 5}, {"user_name": {"action": "maybe"}}, {"user_name": ACCEPT, "client_roots": {}}],
)
async def test_answers_of_the_wrong_shape_answer_nothing(gateway, backend, client, nursery, autojump_clock, answers):
    client.use(nursery)
    backend.script = asks(NAME, ("roots/list",))
    turn = await client.call()
    wrong = await client.retry(turn, answers)
    assert (wrong.error.code, wrong.error.http_status) == (INVALID_PARAMS, 400)
    assert backend.replies == []
    assert gateway.inputs.parked == 1
    right = await client.retry(turn, {"user_name": ACCEPT, "client_roots": ROOTS})
    assert right.result["resultType"] == "complete"


async def test_a_call_asks_so_often_and_no_more(backend, client, nursery, autojump_clock, monkeypatch):
    client.use(nursery)
    monkeypatch.setattr(module, "ASKS_MAX", 2)
    backend.script = asks(NAME, NAME, NAME)
    turn = await client.call()
    assert len(turn.result["inputRequests"]) == 2
    assert backend.replies == [INTERNAL_ERROR]


# ---- the same again


async def test_the_same_exchange_again_gets_what_the_first_one_got(gateway, backend, client, nursery, autojump_clock):
    client.use(nursery)
    gate = trio.Event()

    async def script(call, ask):
        await ask(*NAME).answer()
        await gate.wait()
        await ask("roots/list").answer()
        return DONE

    backend.script = script
    turn = await client.call()
    one = await client.retry(turn, {"user_name": ACCEPT})
    # The same in another spelling.
    two = await client.retry(turn, msgspec.Raw(b'{ "user_name":{"content":{"n\\u0061me":"bob"},"action":"accept"}}'))
    other = await client.retry(turn, {"user_name": {"action": "decline"}})
    assert (one.outcome, two.outcome) == (None, None)
    assert other.error.code == INVALID_PARAMS
    gate.set()
    await trio.sleep(1)
    assert one.result == two.result
    assert one.result["inputRequests"].keys() == {"client_roots"}
    # Also after both were answered, as long as its next round was not.
    three = await client.retry(turn, {"user_name": ACCEPT})
    assert three.result == one.result
    assert (await client.retry(turn, {})).error.code == INVALID_PARAMS
    last = await client.retry(three, {"client_roots": ROOTS})
    assert last.result["resultType"] == "complete"
    assert backend.replies == [ACCEPT, ROOTS]
    assert (await client.retry(turn, {"user_name": ACCEPT})).error.code == INVALID_PARAMS
    assert at_rest(gateway)


async def test_a_call_is_cancelled_when_the_last_one_who_waits_leaves(
    gateway, backend, client, nursery, autojump_clock
):
    client.use(nursery)

    async def script(call, ask):
        await ask(*NAME).answer()
        await trio.sleep_forever()

    backend.script = script
    turn = await client.call()
    one = await client.retry(turn, {"user_name": ACCEPT})
    two = await client.retry(turn, {"user_name": ACCEPT})
    one.scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert backend.cancelled == []
    two.scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert len(backend.cancelled) == 1
    assert at_rest(gateway)
    assert gateway.inputs._kept == {}
    assert (one.outcome, two.outcome) == (None, None)


async def test_a_client_that_leaves_its_first_exchange_cancels_the_call(
    gateway, backend, client, nursery, autojump_clock
):
    client.use(nursery)
    backend.script = asks(NAME)
    turn = await client.start()
    turn.scope.cancel()  # within the window
    await trio.sleep(1)
    assert turn.outcome is None
    assert len(backend.cancelled) == 1
    assert at_rest(gateway)


async def test_whoever_waits_is_told_when_the_task_of_the_call_is_cancelled(
    gateway, backend, client, nursery, autojump_clock
):
    client.use(nursery)

    async def script(call, ask):
        await ask(*NAME).answer()
        await trio.sleep_forever()

    backend.script = script
    turn = await client.call()
    again = await client.retry(turn, {"user_name": ACCEPT})
    turn.scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert again.error.code == INTERNAL_ERROR
    assert at_rest(gateway)
    assert gateway.inputs._kept == {}, "it was not carried out"


# ---- questions that end by themselves


async def test_a_question_that_is_taken_back_at_once_is_not_asked(gateway, backend, client, nursery, autojump_clock):
    client.use(nursery)

    async def script(call, ask):
        ask(*NAME).take_back()
        await trio.sleep(1)
        return DONE

    backend.script = script
    turn = await client.call()
    assert turn.outcome is None
    await trio.sleep(1)
    assert turn.result["resultType"] == "complete"
    assert at_rest(gateway)


async def test_one_that_is_taken_back_leaves_the_others_to_be_asked(backend, client, nursery, autojump_clock):
    client.use(nursery)

    async def script(call, ask):
        first, second = ask(*NAME), ask("roots/list")
        await trio.sleep(ASK_WINDOW / 2)
        first.take_back()
        await second.answer()
        return DONE

    backend.script = script
    turn = await client.call()
    assert turn.result["inputRequests"].keys() == {"client_roots"}


async def test_the_answer_to_a_question_that_was_taken_back_is_ignored(
    gateway, backend, client, nursery, autojump_clock
):
    client.use(nursery)
    gate = trio.Event()

    async def script(call, ask):
        question = ask(*NAME)
        await gate.wait()
        question.take_back()
        await trio.sleep(1)
        return DONE

    backend.script = script
    turn = await client.call()
    gate.set()
    await trio.testing.wait_all_tasks_blocked()
    again = await client.retry(turn, {"user_name": ACCEPT})
    assert again.outcome is None, "nothing is asked any more: it waits for the outcome"
    await trio.sleep(1)
    assert again.result["resultType"] == "complete"
    assert backend.replies == []
    assert at_rest(gateway)


async def test_what_is_open_when_the_call_ends_is_refused(gateway, backend, client, nursery, autojump_clock):
    client.use(nursery)

    async def script(call, ask):
        ask(*NAME)
        ask("sampling/createMessage", MESSAGES)
        ask("roots/list")
        await trio.sleep(ASK_WINDOW / 2)
        return DONE

    backend.script = script
    turn = await client.call()
    assert turn.result["resultType"] == "complete"
    assert sorted(backend.replies, key=str) == sorted([{"action": "cancel"}, -1, INTERNAL_ERROR], key=str)
    assert at_rest(gateway)


async def test_a_question_after_the_end_is_refused(backend, client, nursery, autojump_clock):
    client.use(nursery)
    late = []

    async def script(call, ask):
        late.append(ask)
        return DONE

    backend.script = script
    await client.call()
    late[0](*NAME)
    await trio.testing.wait_all_tasks_blocked()
    assert backend.replies == [INTERNAL_ERROR]


# ---- a client that does not come back


async def test_a_call_whose_client_stays_away_is_refused_its_answers_and_then_cancelled(
    tmp_path, backend, client, nursery, autojump_clock
):
    backend.script = asks(NAME, ("sampling/createMessage", MESSAGES), ("roots/list",))
    gateway = client.gateway = make_gateway(tmp_path, backend, config=Config(limits=Limits(park_time=30.0)))
    await nursery.start(gateway.run)
    client.use(nursery)
    began = trio.current_time()
    turn = await client.call()
    await trio.sleep(29)
    assert gateway.inputs.parked == 1
    await trio.sleep(2)
    refused = [{"action": "cancel"}, -1, INTERNAL_ERROR]
    assert sorted(backend.replies, key=str) == sorted(refused, key=str)
    assert [len(replies) for replies in backend.cancelled] == [3], "first the answers, then the end"
    assert at_rest(gateway)
    assert gateway.inputs._kept == {}
    late = await client.retry(turn, {"user_name": ACCEPT})
    assert (late.error.code, late.error.http_status) == (INVALID_PARAMS, 400)
    assert "unknown or expired; make the call again" in late.error.message
    assert trio.current_time() - began < 40


async def test_it_is_given_up_before_the_backend_gives_up_its_question(
    tmp_path, backend, client, nursery, autojump_clock
):
    backend = AskingBackend("b", catalogue(tools=["add"]), timeouts=Timeouts(ask=20.0))
    backend.script = asks(NAME)
    gateway = client.gateway = make_gateway(tmp_path, backend)
    await nursery.start(gateway.run)
    client.nursery = backend.nursery = nursery
    await client.call()
    await trio.sleep(18)
    assert gateway.inputs.parked == 1
    await trio.sleep(1.9)
    assert backend.replies == [{"action": "cancel"}]
    assert at_rest(gateway)


async def test_the_oldest_open_question_decides_how_long_it_waits(tmp_path, backend, client, nursery, autojump_clock):
    backend.script = asks(NAME, ("roots/list",))
    gateway = client.gateway = make_gateway(tmp_path, backend, config=Config(limits=Limits(park_time=30.0)))
    await nursery.start(gateway.run)
    client.use(nursery)
    turn = await client.call()
    await trio.sleep(20)
    again = await client.retry(turn, {"client_roots": ROOTS})
    assert again.result["inputRequests"].keys() == {"user_name"}
    await trio.sleep(11)
    assert backend.replies == [ROOTS, {"action": "cancel"}]
    assert at_rest(gateway)


async def test_a_call_that_somebody_waits_for_is_not_given_up(tmp_path, backend, client, nursery, autojump_clock):
    async def script(call, ask):
        await ask(*NAME).answer()
        await trio.sleep(100)
        return DONE

    backend.script = script
    gateway = client.gateway = make_gateway(tmp_path, backend, config=Config(limits=Limits(park_time=30.0)))
    await nursery.start(gateway.run)
    client.use(nursery)
    again = await client.retry(await client.call(), {"user_name": ACCEPT})
    await trio.sleep(101)
    assert again.result["resultType"] == "complete"


async def test_when_mcpd_stops_parked_calls_are_given_up(gateway, backend, client, nursery, autojump_clock):
    client.use(nursery)
    backend.script = asks(NAME)
    await client.call()
    gateway.close()
    await trio.testing.wait_all_tasks_blocked()
    assert backend.replies == [{"action": "cancel"}]
    assert [len(replies) for replies in backend.cancelled] == [1]
    assert at_rest(gateway)
    late = await client.call()
    assert late.result["resultType"] == "complete", "the backend went on without an answer"
    assert backend.replies == [{"action": "cancel"}, INTERNAL_ERROR]


# ---- what an exchange brings along


def one_question(calls: list):
    """A backend that asks for a name and never ends; its calls are put into the list."""

    async def script(call, ask):
        calls.append(call)
        await ask(*NAME).answer()
        await trio.sleep_forever()

    return script


async def test_progress_goes_to_the_exchange_that_waits_under_its_own_token(backend, client, nursery, autojump_clock):
    client.use(nursery)
    calls = []

    def progress(number):
        params = b'{"progressToken":%b,"progress":%d,"x":1.0}' % (calls[0].token, number)
        calls[0].emit("notifications/progress", params)

    backend.script = one_question(calls)
    turn = await client.start({**CALL, "_meta": {"progressToken": "one"}})
    progress(1)
    await trio.sleep(ASK_WINDOW)
    await trio.testing.wait_all_tasks_blocked()
    progress(2)  # parked: the next one hears it
    answers = {"inputResponses": {"user_name": ACCEPT}, "requestState": turn.state}
    two = await client.start({**CALL, **answers, "_meta": {"progressToken": 2}})
    none = await client.start({**CALL, **answers})
    one = await client.start({**CALL, **answers, "_meta": {"progressToken": "one"}})
    progress(3)
    calls[0].emit("notifications/message", b'{"level":"info","data":1}')
    log = ("notifications/message", {"level": "info", "data": 1})
    assert turn.heard == [("notifications/progress", {"progressToken": "one", "progress": 1, "x": 1.0})]
    assert two.heard == [
        ("notifications/progress", {"progressToken": 2, "progress": 2, "x": 1.0}),
        ("notifications/progress", {"progressToken": 2, "progress": 3, "x": 1.0}),
        log,
    ]
    assert one.heard == [("notifications/progress", {"progressToken": "one", "progress": 3, "x": 1.0}), log]
    assert none.heard == [log]


async def test_of_what_is_said_while_nobody_waits_the_last_is_kept(backend, client, nursery, autojump_clock):
    client.use(nursery)
    calls = []
    backend.script = one_question(calls)
    turn = await client.call()
    for number in range(module.MISSED_MAX + 5):
        calls[0].emit("notifications/message", b'{"level":"info","data":%d}' % number)
    calls[0].emit("notifications/message", b'{"level":"info","data":"%b"}' % (b"x" * module.MISSED_BYTES))
    again = await client.retry(turn, {"user_name": ACCEPT})
    numbers = [params["data"] for _, params in again.heard]
    assert numbers == list(range(5, module.MISSED_MAX + 5)), "the latest, and none that is large"
    more = await client.retry(turn, {"user_name": ACCEPT})
    assert more.heard == [], "once"


async def test_what_an_exchange_says_of_its_client_holds_from_then_on(backend, client, nursery, autojump_clock):
    client.use(nursery)
    calls = []

    async def script(call, ask):
        calls.append(call)
        for question in (ask(*NAME), ask("roots/list"), ask("sampling/createMessage", MESSAGES)):
            await question.answer()
        await trio.sleep_forever()

    backend.script = script
    turn = await client.call(log_level=5)
    key = calls[0].caller.key
    again = await client.retry(
        turn, {"client_roots": ROOTS}, log_level=1, capabilities=ClientCapability.ELICITATION_FORM
    )
    assert (calls[0].caller.key, calls[0].caller.log_level) == (key, 1)
    assert calls[0].caller.capabilities is ClientCapability.ELICITATION_FORM
    # It was answered, what cannot be asked any more is refused, and the rest is asked again.
    assert again.result["inputRequests"].keys() == {"user_name"}
    assert sorted(backend.replies, key=str) == sorted([ROOTS, -1], key=str)


async def test_who_can_be_asked_nothing_is_not(gateway, backend, client, nursery, autojump_clock):
    client.use(nursery)
    backend.script = asks(NAME)
    turn = await client.call(capabilities=ClientCapability(0))
    assert turn.result["resultType"] == "complete"
    assert backend.replies == [METHOD_NOT_FOUND]
    assert at_rest(gateway)
