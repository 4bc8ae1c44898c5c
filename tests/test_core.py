"""Whether a core file may be left of mcpd: it has in it what no confined server is to read."""

from __future__ import annotations

import json

import pytest

import mcpd.__main__ as program
from mcpd.upgrade.check import CHECKING
from mcpd.upgrade.leap import LEAVING


@pytest.fixture
def said(monkeypatch):
    """What is said of it, in order."""
    calls: list[str] = []
    monkeypatch.setattr(program, "leave_no_core", lambda: calls.append("none"))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    return calls


def config(tmp_path, **sandbox) -> str:
    file = tmp_path / "mcpd.json"
    file.write_text(json.dumps({"mcpServers": {"a": {"command": "true", "sandbox": sandbox}}}))
    return str(file)


def test_it_goes_by_what_is_configured(said, tmp_path):
    (tmp_path / "file").touch()
    options = ("--state-dir", str(tmp_path / "file" / "state"), "--port", "0", "--config")
    for sandbox, expected in (
        ({}, []),
        ({"read_only_paths": ["/"]}, ["none"]),
        ({"inaccessible_paths": ["/x"]}, ["none"]),
    ):
        said.clear()
        assert program.run([*options, config(tmp_path, **sandbox)]) != 0, "that is no directory for state"
        assert said == expected


@pytest.mark.parametrize("variable", [LEAVING, CHECKING])
def test_a_program_that_takes_over_leaves_none_from_the_first(said, tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, "no descriptor")
    assert program.run(["--port", "0", "--config", str(tmp_path / "none.json")]) != 0
    assert said == ["none"], "before anything was read"
