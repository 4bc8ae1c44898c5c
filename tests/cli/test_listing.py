from __future__ import annotations

from argparse import Namespace

from mcpd.cli import prompts, resources, tools
from mcpd.cli.listing import BRIEF_MAX, brief, query

HERE = Namespace()


def test_entries_have_a_line_each(capsys):
    entries = [
        {"name": "a_x", "server": "a", "definition": {"name": "a_x", "description": "Adds\n two\x1b[31m numbers"}},
        {"name": "b", "server": "b", "definition": {"name": "b", "title": "B", "description": "  "}},
        {"name": "c", "server": "b", "definition": {"name": "c", "description": 7}},
    ]
    tools.show({"tools": entries}, HERE)
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["TOOL", "SERVER", "DESCRIPTION"]
    assert [line.split(maxsplit=2) for line in lines] == [
        ["a_x", "a", "Adds two?[31m numbers"],
        ["b", "b", "B"],
        ["c", "b", "-"],
    ]
    prompts.show({"prompts": []}, HERE)
    assert capsys.readouterr().out == "no prompts\n"


def test_templates_have_a_table_of_their_own(capsys):
    resource = {"uri": "f:1", "server": "a", "definition": {}}
    template = {"uriTemplate": "f:{n}", "server": "a", "definition": {}}
    resources.show({"resources": [resource], "resource_templates": [template]}, HERE)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "RESOURCE",
        "f:1",
        "TEMPLATE",
        "f:{n}",
    ]
    resources.show({"resources": [], "resource_templates": [template]}, HERE)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["TEMPLATE", "f:{n}"]
    resources.show({"resources": [], "resource_templates": []}, HERE)
    assert capsys.readouterr().out == "no resources\n"


def test_what_is_long_is_made_short():
    assert brief("a  b\nc") == "a b c"
    assert brief("x" * 200) == "x" * (BRIEF_MAX - 1) + "…"
    assert (query(None), query("a")) == (None, {"server": "a"})
