from __future__ import annotations

from argparse import Namespace

from mcpd.cli.servers import ERROR_MAX, show


def test_every_server_has_a_row(capsys):
    ready = {"name": "a", "state": "ready", "transport": "stdio", "tools": 3, "resources": 0, "prompts": 0, "pid": 7}
    lost = {"name": "b", "state": "backing-off", "transport": "sse", "error": "it said\n" + "x" * 200}
    lazy = {"name": "c", "state": "stopped", "asleep": True, "tools": 2}
    show({"servers": [ready, lost, {"name": "off", "state": "disabled"}, lazy]}, Namespace())
    head, first, second, third, fourth = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["SERVER", "STATE", "TRANSPORT"]
    assert first.split() == ["a", "ready", "stdio", "3", "0", "0", "-", "-", "7", "-"]
    assert "it said xxx" in second
    assert len(second) < ERROR_MAX + 100
    assert third.split()[:2] == ["off", "disabled"]
    assert fourth.split()[:4] == ["c", "asleep", "-", "2"]


def test_there_may_be_none(capsys):
    show({"servers": []}, Namespace())
    assert capsys.readouterr().out == "no servers\n"
