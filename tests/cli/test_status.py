from __future__ import annotations

from argparse import Namespace

from mcpd.cli.status import show

ANSWER = {
    "version": "1.2",
    "pid": 7,
    "time": 1000.0,
    "uptime": 61.0,
    "status": "2 ready",
    "sessions": 3,
    "calls_in_flight": 1,
    "configuration": "/etc/mcpd/mcpd.yaml",
    "last_reload": None,
    "needs_restart": [],
    "draining": [],
    "conflicts": [],
    "problems": [],
}


def test_what_is_worth_knowing(capsys):
    show(ANSWER, Namespace())
    assert capsys.readouterr().out.splitlines() == [
        "mcpd           1.2, pid 7, up 1m 1s",
        "servers        2 ready",
        "clients        3 sessions, 1 calls in flight",
        "configuration  /etc/mcpd/mcpd.yaml",
    ]


def test_a_reload_that_failed_is_said_with_its_faults(capsys):
    last = {"at": 940.0, "ok": False, "errors": ["f:1: wrong", "f:2: wrong too"]}
    show({**ANSWER, "last_reload": last, "needs_restart": ["listen.port"], "draining": ["old"]}, Namespace())
    assert capsys.readouterr().out.splitlines()[4:] == [
        "last reload    1m ago, failed: nothing was changed",
        "               f:1: wrong",
        "               f:2: wrong too",
        "restart        needed for listen.port",
        "draining       old",
    ]


def test_what_of_the_overlay_is_not_in_effect_is_said(capsys):
    conflicts = [{"name": "a", "file": "/etc/m.yaml", "line": 3}]
    show({**ANSWER, "conflicts": conflicts, "problems": ["overlay.json.broken was set aside"]}, Namespace())
    assert capsys.readouterr().out.splitlines()[4:] == [
        "problem        overlay.json.broken was set aside",
        "conflict       a: /etc/m.yaml:3 wins over what was added: mcpctl config diff",
    ]
