from __future__ import annotations

import ast
import json
import logging
import re
from pathlib import Path

import pytest

import mcpd
from mcpd.entries import _read, fields_of, json_of, quoted, timestamp

ROOT = Path(mcpd.__file__).parent


def said(message, *args):
    return fields_of(logging.LogRecord("mcpd", logging.INFO, "", 0, message, args, None))


@pytest.mark.parametrize(
    ("template", "args", "fields"),
    [
        ("backend=%s event=started pid=%d", ("a", 7), {"backend": "a", "event": "started", "pid": 7}),
        ("event=ready listening on http://%s", ("h:1",), {"event": "ready", "message": "listening on http://h:1"}),
        ("event=upgraded away=%.3f", (1.23456,), {"event": "upgraded", "away": "1.235"}),
        ("event=x after=%gs", (2.5,), {"event": "x", "after": "2.5s"}),
        ("event=x reason=%r", ("it's",), {"event": "x", "reason": "it's"}),
        ("event=x line=%.5r", ("abcdefgh",), {"event": "x", "line": "'abcd"}),
        (
            "backend=%s event=%s version=%s %s",
            ("a", "ready", "1", "tools=3"),
            {"backend": "a", "event": "ready", "version": "1", "message": "tools=3"},
        ),
        (
            "event=refused effect=the running program goes on reason=%s",
            ("no",),
            {"event": "refused", "effect": "the running program goes on", "reason": "no"},
        ),
        ("event=reload_failed faults=%d nothing has changed", (2,), None),
        ("words", (), {"message": "words"}),
        ("100%", (), {"message": "100%"}),
        ("%s has %d", ("a", "b"), None),
        ("backend=%s stderr=%s", ("a", "event=x backend=b\n"), {"backend": "a", "stderr": "event=x backend=b\n"}),
        ("event=x reason=%s", (ValueError("v"),), {"event": "x", "reason": "v"}),
        ("event=x n=%s", (None,), {"event": "x", "n": None}),
    ],
)
def test_what_has_a_name_in_the_template_has_it_in_the_entry(template, args, fields):
    if template.endswith("has changed"):
        assert said(template, *args) == {"event": "reload_failed", "faults": 2, "message": "nothing has changed"}
    elif fields is None:
        with pytest.raises(TypeError):
            said(template, *args)
    else:
        assert said(template, *args) == fields


def templates():
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("debug", "info", "warning", "error", "exception")
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id.endswith("log")
                and node.args
                and isinstance(node.args[0], ast.Constant)
                and isinstance(node.args[0].value, str)
            ):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node.args[0].value


def test_every_message_of_mcpd_says_what_happened_and_nothing_of_it_is_lost():
    found = dict(templates())
    assert len(found) > 80
    for where, template in found.items():
        parts = _read(template)
        names = [name for name, _, _ in parts if name]
        assert {"event", "stderr"} & set(names), where
        assert len(names) == len(set(names)), f"{where}: a name twice"
        letters = "".join(letters for _, _, letters in parts)
        assert letters == "".join(re.findall(r"%[-0-9.]*([a-z])", template)), f"{where}: a value got lost"


def test_a_line_holds_one_value_whatever_is_in_it():
    assert quoted("claude-code/2.0") == "claude-code/2.0"
    assert quoted("a b") == "'a b'"
    assert "\n" not in quoted("a\nevent=forged")


def test_json_is_one_line_of_what_it_is_given():
    line = json_of({"time": "t"}, {"a": 1, "b": "x\ny", "c": None})
    assert json.loads(line) == {"time": "t", "a": 1, "b": "x\ny", "c": None}
    assert "\n" not in line


def test_times_are_local_to_the_millisecond(monkeypatch):
    assert timestamp(1790000000.25)[19:23] == ".250"
    assert timestamp(1790000000.25)[-5] in "+-"
