from __future__ import annotations

from mcpd.backends.description import Description
from mcpd.backends.instances import Instances
from mcpd.backends.leases import Leases
from mcpd.backends.lists import Lists
from mcpd.backends.lobby import Lobby
from mcpd.backends.pace import Pace
from mcpd.errors import BackendUnavailable
from mcpd.protocol.capabilities import ServerCapabilities
from mcpd.protocol.handshake import ServerHello
from mcpd.protocol.versions import LATEST_HANDSHAKE
from mcpd.supervisor.restart import RestartPolicy
from mcpd.supervisor.states import State
from mcpd.wire.deadlines import Deadlines
from tests.backends.parts import Heard, MemoryConnector, make_spec

HELLO = ServerHello(LATEST_HANDSHAKE, ServerCapabilities(), b"{}", "")
BLANK = {
    "name": "b",
    "state": "starting",
    "transport": "memory",
    "instances": "shared",
    "protocol_version": None,
    "catalogue": "none",
    "tools": 0,
    "resources": 0,
    "resource_templates": 0,
    "prompts": 0,
    "restarts": 0,
    "calls_in_flight": 0,
    "sessions": 0,
    "leases": 0,
    "calls_waiting": 0,
    "crash_looping": False,
}


def described(state=State.STARTING, *, pid=None, failed=(), fetched=False, error=None, **facts):
    connector = MemoryConnector(make_spec(env={"TOKEN": "s3cret"}), Deadlines())
    connector.pid = pid
    lists = Lists(connector.spec, changed=lambda kinds: None, settled=lambda: None)
    lists.failed, lists.fetched = set(failed), fetched
    heard = Heard()
    instances = Instances(connector, heard, at_failure=lambda: None)
    leases = Leases(connector, heard, at_failure=lambda: None)
    pace = Pace("b", RestartPolicy())
    pace.error = error
    facts = {"asleep": False, "hello": None, "link": None, "restarts": 0, **facts}
    return Description(connector, lists, instances, leases, pace, Lobby()).of(state, **facts)


def test_of_what_nothing_is_known_yet():
    assert described() == BLANK


def test_what_is_known_from_an_earlier_run_is_told_from_what_was_fetched():
    assert described(hello=HELLO)["catalogue"] == "kept"
    assert described(hello=HELLO, fetched=True)["catalogue"] == "fetched"


def test_a_process_is_shown_while_it_can_be_called():
    assert "pid" not in described(State.BACKING_OFF, pid=7)
    assert described(State.READY, pid=7)["pid"] == 7


def test_why_it_is_not_well():
    away = BackendUnavailable("b", "refused", remedy="start it", kind="connection-refused")
    failure = {"kind": "connection-refused", "reason": "refused", "remedy": "start it"}
    assert described(State.BACKING_OFF, error=away)["failure"] == failure
    assert described(State.BACKING_OFF, error=away)["error"] == "backend 'b': refused (start it)"
    assert described(State.DEGRADED, failed=("tools", "prompts"))["error"] == "could not be listed: prompts, tools"
    assert "error" not in described(State.READY, failed=("tools",))


def test_a_sleeper_is_told_from_what_is_stopped_for_good():
    assert "asleep" not in described(State.STOPPED)
    assert described(State.STOPPED, asleep=True)["asleep"] is True
