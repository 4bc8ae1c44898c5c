from __future__ import annotations

from argparse import Namespace

from mcpd.cli.sessions import show

ONE = {
    "tag": "1f",
    "client": "c/1",
    "principal": "",
    "protocol_version": "2025-11-25",
    "age": 3700.0,
    "idle": 0.0,
    "calls": 2,
    "subscriptions": 0,
    "listens": True,
}


def test_every_session_has_a_row(capsys):
    other = {**ONE, "listens": False, "client": ""}
    del other["age"]
    show({"sessions": [ONE, other], "listening": 2}, Namespace())
    head, first, second, last = capsys.readouterr().out.splitlines()
    assert len(head.split()) == 9
    assert first.split() == ["1f", "c/1", "-", "2025-11-25", "1h", "1m", "0s", "2", "0", "yes"]
    assert second.split() == ["1f", "-", "-", "2025-11-25", "-", "0s", "2", "0", "no"]
    assert last == "and 2 without a session that listen for news"


def test_there_may_be_none(capsys):
    show({"sessions": [], "listening": 0}, Namespace())
    assert capsys.readouterr().out == "no sessions\n"
