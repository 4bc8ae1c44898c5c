from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import pytest

from mcpd import __version__
from mcpd.cli import doctor, statuses
from mcpd.cli.doctor import run
from mcpd.control.client import Refused, Unreachable
from tests.cli.doctoring.test_running import DIAGNOSIS, STATUS

ALL = ["daemon", "version", "configuration", "server", "names", "port", "state-directory", "cgroup", "program", "clock"]


class Daemon:
    path = Path("/s")

    def __init__(self, error=None, **status):
        self.error = error
        self.status = status

    def get(self, path):
        if self.error is not None:
            raise self.error
        return {
            "/v1/status": {**STATUS, **self.status},
            "/v1/servers": {"servers": []},
            "/v1/diagnosis": {**DIAGNOSIS, "time": 2e9, "programs": {}},
            "/v1/config/diff": {"errors": []},
        }[path]


@pytest.fixture(autouse=True)
def now(monkeypatch):
    monkeypatch.setattr("time.time", lambda: 2e9)


def test_everything_is_looked_at(capsys):
    assert run(Daemon(), Namespace(json=True)) == statuses.OK
    answer = json.loads(capsys.readouterr().out)
    assert answer["worst"] == "ok"
    assert [each["code"] for each in answer["findings"]] == ALL


def test_the_exit_status_is_that_of_the_worst(capsys):
    assert run(Daemon(needs_restart=["listen.port"]), Namespace(json=False)) == statuses.ATTENTION
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["ok", "daemon"]
    assert lines[-2].split()[:2] == ["warning", "restart"]
    assert lines[-1].strip().startswith("→")
    failed = {"ok": False, "errors": ["one\x1b[31m"]}
    assert run(Daemon(last_reload=failed, version="0"), Namespace(json=False)) == statuses.FAILED
    assert "one?[31m" in capsys.readouterr().out.splitlines()[-2]
    assert __version__ != "0"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Unreachable(Path("/s"), "no answer within 10 s"), "daemon"),
        (Refused(404, {"code": "not_found", "message": "there is no /v1/diagnosis"}), "daemon"),
        (Refused(403, {"code": "not_permitted", "message": "not you"}), "permission"),
    ],
)
def test_one_that_does_not_answer_is_a_finding(capsys, error, code):
    assert run(Daemon(error), Namespace(json=True)) == statuses.FAILED
    [found] = json.loads(capsys.readouterr().out)["findings"]
    assert (found["code"], found["level"]) == (code, "error")
    assert found["remedy"]
    assert doctor.SUMMARY
