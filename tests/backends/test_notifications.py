"""What a backend notifies, and who hears it. `test_link` drives the same through a whole link."""

from __future__ import annotations

import json

import pytest

from mcpd.backends.notifications import LIST_CHANGES, Notifications, severity, wants_log
from mcpd.backends.questions import Questions
from mcpd.backends.waiter import Waiter
from mcpd.errors import ProtocolError
from mcpd.protocol import jsonrpc
from mcpd.protocol.peer import Peer
from tests.backends.parts import Client, Heard


def make() -> tuple[Notifications, Peer, Heard]:
    heard, peer = Heard(), Peer()
    questions = Questions("b", peer=peer, owner=None, asker=heard, timeout=5)
    return Notifications(peer, owner=None, listener=heard, questions=questions), peer, heard


def notice(method: str, params: object = None) -> jsonrpc.Message:
    message = {"jsonrpc": "2.0", "method": method, **({} if params is None else {"params": params})}
    return jsonrpc.decode(json.dumps(message).encode())


def test_list_changes_are_the_three_lists():
    assert sorted(LIST_CHANGES) == [f"notifications/{kind}/list_changed" for kind in ("prompts", "resources", "tools")]


def test_an_unknown_one_is_ignored():
    notifications, _, _ = make()
    notifications.take(notice("notifications/of/tomorrow", [1, 2]), None)


def test_malformed_params_are_the_senders_fault():
    notifications, _, _ = make()
    with pytest.raises(ProtocolError):
        notifications.take(notice("notifications/progress", [1]), None)


async def test_progress_reaches_its_call_under_the_clients_own_token():
    notifications, peer, _ = make()
    first, second = Client("one"), Client("two")
    waiters = []
    for client, token in ((first, b'"a"'), (second, b'"a"')):
        call = client.call()
        call.token = token
        waiter = Waiter("tools/call", call, idle=10, final=60, on_expire=print)
        peer.open(waiter)
        waiters.append(waiter)
    notifications.take(notice("notifications/progress", {"progressToken": waiters[1].id, "progress": 1}), None)
    assert first.emitted == []
    assert second.emitted == [("notifications/progress", {"progressToken": "a", "progress": 1})]


@pytest.mark.parametrize(
    ("level", "index"), [("debug", 0), ("info", 1), ("emergency", 7), ("shouting", 8), (None, 8), (7, 8)]
)
def test_severity(level, index):
    assert severity(json.dumps({} if level is None else {"level": level}).encode()) == index


async def test_a_caller_hears_what_is_severe_enough_or_everything_if_it_never_said():
    call = Client().call()
    assert wants_log(call, b'{"level":"debug"}')
