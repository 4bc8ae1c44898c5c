from __future__ import annotations

import json
import logging
from time import perf_counter

import pytest
import trio
import trio.testing

from mcpd import log
from mcpd.config.model import Audit, Config
from mcpd.errors import BackendTimedOut, RpcError
from mcpd.events import Events
from mcpd.gateway.ledger import EXPOSED_MAX, HELD_MAX, Ledger, arguments_of, said_of, says_error, shown
from mcpd.protocol import jsonrpc
from mcpd.protocol.calls import Call, Caller
from mcpd.protocol.capabilities import NOTHING
from mcpd.protocol.versions import LATEST_HANDSHAKE, MODERN
from mcpd.types import SessionKey
from tests.gateway.fakes import no_ask, no_emit


def call(method="tools/call", **params):
    raw = jsonrpc.encode_members({key: json.dumps(value).encode() for key, value in params.items()})
    caller = Caller(SessionKey("k"), "", LATEST_HANDSHAKE, NOTHING, client="me/1")
    return Call(caller, method, raw, jsonrpc.members_of(raw), no_emit, no_ask, lambda: None)


@pytest.fixture
def written(monkeypatch):
    """What is written to the log, a list of lines."""
    lines = []

    def write(name, level, entries):
        assert (name, level) == ("mcpd.audit", logging.INFO)
        lines.extend(entry.text(lambda text: text.replace("s3cret", "***")) for _, entry in entries)

    monkeypatch.setattr("mcpd.gateway.ledger.write_entries", write)
    logging.getLogger("mcpd.audit").setLevel(logging.INFO)
    yield lines
    logging.getLogger("mcpd.audit").setLevel(logging.NOTSET)


def ledger(calls="metadata"):
    return Ledger(Events(), Audit(calls=calls))


async def test_a_call_that_was_answered(written):
    kept = ledger()
    made = call(name="b_add", arguments={"a": "s3cret"})
    kept.answered(made, b'"b_add"', "b", "add", perf_counter(), b'{"content":[]}', 14)
    kept.flush()
    [line] = written
    assert line.startswith(
        "backend=b event=call principal=local client=me/1 protocol=2025-11-25 method=tools/call tool=b_add name=add"
        " outcome=ok ms="
    )
    assert line.endswith(f"bytes_in={len(made.params)} bytes_out=14")
    assert "arguments" not in line
    [event] = kept._events.read("0").events
    assert event.describe()["server"] == "b"
    assert "arguments" not in event.describe()


@pytest.mark.parametrize(
    ("error", "sent", "outcome", "code", "why"),
    [
        (RpcError(-32602, "Unknown tool"), False, "refused", -32602, ""),
        (RpcError(-32000, "no"), True, "failed", -32000, ""),
        (BackendTimedOut("b", "no answer"), True, "failed", -32603, BackendTimedOut("b", "no answer").kind),
        (ValueError("a bug"), True, "failed", 0, "internal"),
    ],
)
async def test_how_a_call_ended(error, sent, outcome, code, why, written):
    kept = ledger()
    kept.ended(call(name="b_add"), b'"b_add"', "b" if sent else "", "", perf_counter(), error, sent)
    kept.flush()
    about = kept._events.read("0").events[0].describe()
    assert (about["outcome"], about.get("code", 0), about.get("why", "")) == (outcome, code, why)
    assert f"outcome={outcome}" in written[0]
    assert written[0].startswith("backend=b event=call" if sent else "event=call")
    assert str(error) not in written[0], "words may repeat what was in the call"


async def test_a_call_that_was_cancelled(written):
    kept = ledger()
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.sleep_forever()
        except trio.Cancelled as cancelled:
            kept.ended(call(name="b_add"), b'"b_add"', "b", "add", perf_counter(), cancelled, True)
            raise
    kept.flush()
    assert "outcome=cancelled ms=" in written[0]


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (b'{"content":[],"isError":true}', True),
        (b'{"isError" : true}', True),
        (b'{"content":[],"isError":false}', False),
        (b'{"content":[]}', False),
        (b'{"structuredContent":{"isError":true}}', False),
        (b'{"content":[{"type":"text","text":"\\"isError\\":true"}]}', False),
        (b'{"isError":true', False),
    ],
)
def test_whether_a_tool_says_that_it_failed(result, says):
    assert says_error(result) is says


async def test_arguments_are_recorded_only_if_that_is_configured_and_never_shown_as_events(written):
    made = call(name="b_add", arguments={"a": "line\nbreak", "b": "s3cret"})
    kept = ledger("arguments")
    kept.answered(made, b'"b_add"', "b", "add", perf_counter(), b"{}", 2)
    kept.flush()
    assert written[0].endswith("""arguments='{"a": "line\\\\nbreak", "b": "***"}'""")
    assert "arguments" not in kept._events.read("0").events[0].describe()


async def test_nothing_is_written_where_nobody_wants_it(written):
    off = ledger("off")
    off.answered(call(name="b_add"), b'"b_add"', "b", "add", perf_counter(), b"{}", 2)
    logging.getLogger("mcpd.audit").setLevel(logging.WARNING)
    quiet = ledger()
    quiet.answered(call(name="b_add"), b'"b_add"', "b", "add", perf_counter(), b"{}", 2)
    for each in (off, quiet):
        each.flush()
        assert each._events.last == 1, "who follows events is told all the same"
    assert written == []


async def test_lines_wait_for_each_other_a_moment_and_not_for_long(written, nursery, autojump_clock):
    kept = ledger()
    nursery.start_soon(kept.run)
    for _ in range(3):
        kept.answered(call(name="b_add"), b'"b_add"', "b", "add", perf_counter(), b"{}", 2)
    assert written == []
    await trio.sleep(0.2)
    assert len(written) == 3
    for _ in range(HELD_MAX):
        kept.answered(call(name="b_add"), b'"b_add"', "b", "add", perf_counter(), b"{}", 2)
    assert len(written) == 3 + HELD_MAX, "more than that are written at once"


async def test_what_waits_is_written_at_the_end(written):
    kept = ledger()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kept.run)
        await trio.testing.wait_all_tasks_blocked()
        kept.answered(call(name="b_add"), b'"b_add"', "b", "add", perf_counter(), b"{}", 2)
        nursery.cancel_scope.cancel()
    assert len(written) == 1


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("file:///x", "file:///x"),
        ("https://u:p@h/x", "https://***@h/x"),
        ("https://h/x?token=1#f", "https://h/x?***"),
        ("x:" + "y" * 500, "x:" + "y" * 198 + "…"),
    ],
)
def test_a_uri_is_shown_without_what_may_be_a_secret(uri, text):
    assert shown(json.dumps(uri).encode(), "resource") == text


@pytest.mark.parametrize("exposed", [b"", b"7", b'{"a":1}', b'"\xff"'])
def test_what_is_no_name_is_shown_as_such(exposed):
    assert shown(exposed, "tool") == "?"


async def test_a_record_keeps_nothing_large(written):
    kept = ledger()
    kept.ended(call(), json.dumps("x" * 100_000).encode(), "", "", perf_counter(), RpcError(-1, "no"), False)
    [event] = kept._events.read("0").events
    assert len(event.about.exposed) < EXPOSED_MAX


@pytest.mark.parametrize(
    ("info", "client"),
    [
        (b'{"name":"a","version":"1"}', "a/1"),
        (b'{"name":"a"}', "a"),
        (b'{"name":7,"version":[]}', ""),
        (b"[]", ""),
        (b'{"name":"%b"}' % (b"x" * 100), "x" * 64),
    ],
)
def test_what_a_modern_client_says_of_itself(info, client):
    assert said_of(info) == client


async def test_a_modern_client_is_named_and_one_that_tells_stories_is_not(written):
    kept = ledger()
    for info in (b'{"name":"m","version":"2"}', b'{"name":"%b"}' % (b"x" * 5000)):
        made = call(name="b_add")
        made.caller = Caller(SessionKey("m"), "alice", MODERN, NOTHING, client_info=info)
        kept.answered(made, b'"b_add"', "b", "add", perf_counter(), b"{}", 2)
    kept.flush()
    assert "principal=alice client=m/2 protocol=2026-07-28" in written[0]
    assert "client=- " in written[1]


def test_arguments_are_cut():
    assert len(arguments_of(call(name="a", arguments={"x": "y" * 10_000}))) == 4097
    assert arguments_of(call(name="a")) == ""


async def test_both_forms_of_the_log_have_every_line(capsys, monkeypatch):
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    level = logging.getLogger("mcpd").level
    try:
        for form in ("text", "json"):
            log.configure("info", lambda text: text.replace("s3cret", "***"), form)
            kept = Ledger(Events(), Config().audit)
            kept.answered(call(name="b_s3cret"), b'"b_s3cret"', "b", "s3cret", perf_counter(), b"{}", 2)
            kept.flush()
    finally:
        logging.getLogger("mcpd").setLevel(level)
        root.setLevel(logging.WARNING)
    text, as_json = capsys.readouterr().err.splitlines()
    assert " INFO mcpd.audit backend=b event=call principal=local client=me/1 " in text
    found = json.loads(as_json)
    assert (found["logger"], found["event"], found["server"], found["tool"]) == ("mcpd.audit", "call", "b", "b_***")
    assert "s3cret" not in text + as_json
