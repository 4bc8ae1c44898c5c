from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from mcpd.cli import upgrade
from mcpd.cli.upgrade import ask, show
from mcpd.control.client import Refused, Unreachable


class Client:
    """Answers what it is told, one after the other."""

    path = Path("/s")

    def __init__(self, post, *answers):
        self._post = post
        self._answers = list(answers)

    def get(self, path):
        assert path == "/v1/status"
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def post(self, path):
        assert path == "/v1/upgrade"
        raise self._post


def status(started: float, version: str = "1", pid: int = 7):
    return {"started": started, "version": version, "pid": pid}


AWAY = Unreachable(Path("/s"), "not running")
PARTED = Unreachable(Path("/s"), "it ended the connection", parted=True)


def test_it_waits_for_the_program_that_was_started_later(capsys):
    client = Client(PARTED, status(1.0), status(1.0), AWAY, status(2.0, "2"))
    answer = ask(client, Namespace())
    assert (answer["from"], answer["to"], answer["pid"]) == ("1", "2", 7)
    show(answer, Namespace())
    assert capsys.readouterr().out.startswith("mcpd 1 became 2 in 0.")


@pytest.mark.parametrize("error", [AWAY, Refused(409, {"code": "upgrade_refused", "message": "calls wait"})])
def test_what_goes_wrong_before_is_said(error):
    with pytest.raises(type(error)) as caught:
        ask(Client(error, status(1.0)), Namespace())
    assert caught.value is error


def test_a_restart_is_none():
    with pytest.raises(Refused) as caught:
        ask(Client(PARTED, status(1.0), status(2.0, pid=8)), Namespace())
    assert caught.value.code == "restarted"


def test_one_that_does_not_come_back_is_not_waited_for_without_end(monkeypatch):
    monkeypatch.setattr(upgrade, "COME_BACK", 0.2)
    client = Client(PARTED, status(1.0), *([AWAY] * 100))
    with pytest.raises(Unreachable, match="did not answer"):
        ask(client, Namespace())
