from __future__ import annotations

import json

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpd.backends.questions import (
    ELICITATIONS_MAX,
    QUESTIONS_MAX,
    Label,
    Questions,
    allowed,
    elicitations_of,
    needed_for,
)
from mcpd.backends.waiter import Waiter
from mcpd.errors import INVALID_PARAMS, METHOD_NOT_FOUND, RpcError
from mcpd.protocol import jsonrpc
from mcpd.protocol.capabilities import NOTHING, ClientCapability
from mcpd.protocol.peer import Peer
from mcpd.protocol.versions import Version
from mcpd.types import SessionKey
from tests.backends.parts import Client, Heard, text_of

FORM = {"message": "?", "requestedSchema": {"type": "object", "properties": {}}}
SAMPLE = {"messages": [], "maxTokens": 1}
TOOLS = ClientCapability.SAMPLING | ClientCapability.SAMPLING_TOOLS
URL = {"mode": "url", "message": "?", "url": "https://example.com", "elicitationId": "e1"}


def make(owner: str | None = None) -> tuple[Questions, Peer, Heard]:
    heard = Heard()
    peer = Peer()
    key = SessionKey(owner) if owner is not None else None
    return Questions("b", peer=peer, owner=key, asker=heard, timeout=5), peer, heard


def running(peer: Peer, client: Client, method: str = "tools/call") -> Waiter:
    waiter = Waiter(method, client.call(), idle=10, final=60, on_expire=print)
    peer.open(waiter)
    return waiter


def question(id: object, method: str, params: object = None) -> jsonrpc.Message:
    message = {"jsonrpc": "2.0", "id": id, "method": method, **({} if params is None else {"params": params})}
    return jsonrpc.decode(json.dumps(message).encode())


async def ask(questions, *args, related=None):
    reply = await questions.answer(question(*args), related)
    return None if reply is None else text_of(reply)


@pytest.mark.parametrize("id", [0, "", "q", -3, 1.5])
async def test_the_answer_carries_the_questions_id(id):
    questions, peer, _ = make()
    client = Client()
    client.answer = b'{"roots":[]}'
    running(peer, client)
    assert await ask(questions, id, "roots/list") == {"jsonrpc": "2.0", "id": id, "result": {"roots": []}}
    assert client.asked == [("roots/list", {})]
    assert len(questions) == 0


async def test_the_clients_refusal_is_passed_on():
    questions, peer, _ = make()
    client = Client()
    client.answer = RpcError(-1, "no", raw=b'{"code":-1,"message":"no","data":[1]}')
    running(peer, client)
    assert (await ask(questions, 1, "sampling/createMessage", {"messages": [], "maxTokens": 1}))["error"]["data"] == [1]


async def test_a_method_that_clients_do_not_have():
    questions, peer, _ = make()
    running(peer, Client())
    assert (await ask(questions, 1, "files/delete"))["error"]["code"] == METHOD_NOT_FOUND


async def test_its_own_stream_says_whose_question_it_is():
    questions, peer, _ = make()
    one, two = Client("1"), Client("2")
    running(peer, one)
    related = running(peer, two)
    await ask(questions, 1, "roots/list", related=related)
    assert (len(one.asked), len(two.asked)) == (0, 1)


async def test_a_question_on_the_stream_of_a_request_of_our_own_is_not_guessed():
    questions, peer, heard = make("owner")
    running(peer, Client())
    own = Waiter("tools/list", None, idle=10, final=60, on_expire=print)
    peer.open(own)
    assert "error" in await ask(questions, 1, "roots/list", related=own)
    assert heard.asked == [("owner", "roots/list")]


async def test_what_the_client_did_not_declare_is_refused():
    questions, peer, _ = make()
    client = Client(capabilities=NOTHING)
    related = running(peer, client)
    assert (await ask(questions, 1, "roots/list", related=related))["error"]["code"] == METHOD_NOT_FOUND
    assert client.asked == []


async def test_a_client_too_old_for_the_question():
    questions, peer, _ = make()
    client = Client(version=Version.V2025_06_18)
    related = running(peer, client)
    assert (await ask(questions, 1, "elicitation/create", URL, related=related))["result"] == {"action": "cancel"}
    assert client.asked == []


async def test_no_answer_in_time(autojump_clock):
    questions, peer, _ = make()
    client = Client()
    client.answer = None
    waiter = running(peer, client)
    reply = await ask(questions, 1, "roots/list")
    assert "did not answer roots/list in 5 s" in reply["error"]["message"]
    assert waiter.questions == 0
    assert waiter.deadline == trio.current_time() + 10


async def test_ids_in_use_and_too_many(nursery):
    questions, peer, _ = make()
    client = Client()
    client.answer = None
    running(peer, client)
    for n in range(QUESTIONS_MAX - 1):
        nursery.start_soon(ask, questions, n, "roots/list")
    await client.wait_asked(QUESTIONS_MAX - 1)
    assert "in use" in (await ask(questions, 0, "roots/list"))["error"]["message"]
    nursery.start_soon(ask, questions, "last", "roots/list")
    await client.wait_asked(QUESTIONS_MAX)
    assert "error" in await ask(questions, "one more", "roots/list")
    questions.cancel(b'"last"')
    await wait_all_tasks_blocked()
    assert len(questions) == QUESTIONS_MAX - 1


async def test_withdrawn_with_the_call(nursery):
    questions, peer, _ = make()
    mine, others = Client("1"), Client("2")
    mine.answer = others.answer = None
    waiter, other = running(peer, mine), running(peer, others)
    replies = []

    async def keep(id, related):
        replies.append(await ask(questions, id, "roots/list", related=related))

    nursery.start_soon(keep, 1, waiter)
    nursery.start_soon(keep, 2, other)
    await mine.wait_asked()
    await others.wait_asked()
    questions.withdraw(waiter)
    await wait_all_tasks_blocked()
    assert [reply["id"] for reply in replies] == [1]
    assert (mine.withdrawn, others.withdrawn) == (1, 0)


def test_elicitations_are_remembered_up_to_a_bound():
    questions, _, _ = make()
    call = Client("who").call()
    for n in range(ELICITATIONS_MAX + 1):
        questions.remember(call, b'"%d"' % n)
    assert questions.completed(b'"0"') is None
    assert questions.completed(b'"1"') == "who"
    assert questions.completed(b'"1"') is None
    owned, _, _ = make("owner")
    assert owned.completed(b'"x"') == "owner"


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        (
            '{"code":-32042,"message":"","data":{"elicitations":[{"elicitationId":"a"},{"elicitationId":"b","url":""}]}}',
            ["a", "b"],
        ),
        ('{"code":-32042,"message":""}', []),
        ('{"data":{"elicitations":{}}}', []),
        ('{"data":{"elicitations":[{"url":"x"}]}}', []),
        ('"text"', []),
    ],
)
def test_elicitations_of(text, ids):
    assert [json.loads(bytes(each)) for each in elicitations_of(text.encode())] == ids


@pytest.mark.parametrize(
    ("method", "params", "flags", "code"),
    [
        ("roots/list", {}, ClientCapability.ROOTS, None),
        ("roots/list", {}, ClientCapability.SAMPLING, METHOD_NOT_FOUND),
        ("roots/list", [], ClientCapability.ROOTS, None),
        ("sampling/createMessage", SAMPLE, ClientCapability.SAMPLING, None),
        ("sampling/createMessage", SAMPLE, ClientCapability.ROOTS, METHOD_NOT_FOUND),
        ("sampling/createMessage", SAMPLE, ClientCapability.SAMPLING_TOOLS, METHOD_NOT_FOUND),
        ("sampling/createMessage", {**SAMPLE, "tools": None, "toolChoice": None}, ClientCapability.SAMPLING, None),
        ("sampling/createMessage", {**SAMPLE, "tools": []}, ClientCapability.SAMPLING, INVALID_PARAMS),
        ("sampling/createMessage", {**SAMPLE, "toolChoice": {}}, ClientCapability.SAMPLING, INVALID_PARAMS),
        ("sampling/createMessage", {**SAMPLE, "tools": []}, TOOLS, None),
        ("sampling/createMessage", [], ClientCapability.SAMPLING, INVALID_PARAMS),
        ("elicitation/create", FORM, ClientCapability.ELICITATION_FORM, None),
        ("elicitation/create", FORM, ClientCapability.ELICITATION_URL, INVALID_PARAMS),
        ("elicitation/create", URL, ClientCapability.ELICITATION_URL, None),
        ("elicitation/create", URL, ClientCapability.ELICITATION_FORM, INVALID_PARAMS),
        ("elicitation/create", [], ClientCapability.ELICITATION_FORM, INVALID_PARAMS),
    ],
)
def test_allowed(method, params, flags, code):
    text = json.dumps(params).encode()
    if code is None:
        allowed(method, text, flags)
        return
    with pytest.raises(RpcError) as caught:
        allowed(method, text, flags)
    assert caught.value.code == code


async def test_where_several_servers_may_ask_the_message_says_which():
    peer, heard, client = Peer(), Heard(), Client()
    questions = Questions("b", peer=peer, owner=None, asker=heard, timeout=5, label=Label("[b] "))
    client.answer = b'{"action":"decline"}'
    running(peer, client)
    await ask(questions, 1, "elicitation/create", FORM)
    await ask(questions, 2, "elicitation/create", {**FORM, "message": 7})
    await ask(questions, 3, "roots/list")
    assert [params.get("message") for _, params in client.asked] == ["[b] ?", 7, None]
    assert client.asked[0][1] == {**FORM, "message": "[b] ?"}


async def test_whoever_may_have_caused_it_counts_even_if_it_cannot_be_asked():
    questions, peer, _ = make()
    able, other = Client("able"), Client("other", capabilities=NOTHING)
    running(peer, able)
    running(peer, other)
    refusal = (await ask(questions, 1, "elicitation/create", FORM))["error"]
    assert "2 clients" in refusal["message"]
    assert "per-session" in refusal["message"]
    assert able.asked == other.asked == []


@pytest.mark.parametrize(
    ("method", "params", "needed"),
    [
        ("roots/list", {}, ClientCapability.ROOTS),
        ("sampling/createMessage", SAMPLE, ClientCapability.SAMPLING),
        ("sampling/createMessage", {**SAMPLE, "tools": []}, TOOLS),
        ("elicitation/create", FORM, ClientCapability.ELICITATION_FORM),
        ("elicitation/create", {**FORM, "mode": "form"}, ClientCapability.ELICITATION_FORM),
        ("elicitation/create", URL, ClientCapability.ELICITATION_URL),
    ],
)
async def test_what_was_refused_is_noted_with_the_request(method, params, needed):
    assert needed_for(method, json.dumps(params).encode()) == needed
    questions, peer, _ = make()
    unable = running(peer, Client(capabilities=NOTHING))
    assert "error" in await ask(questions, 1, method, params, related=unable)
    assert unable.refused == needed
    able = running(peer, Client())
    assert "result" in await ask(questions, 1, method, params, related=able)
    assert able.refused == NOTHING
