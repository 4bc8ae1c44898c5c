from __future__ import annotations

import os
import sys
import time

import jsonschema
import msgspec

from mcpd.control.diagnosis import DIAGNOSIS, STARTERS, Facts, diagnosis
from mcpd.control.status import status
from tests.control.parts import ask, operations


async def found(tmp_path, facts):
    ops = operations(tmp_path)
    ops.facts = facts
    answer = await diagnosis(ops, ask())
    jsonschema.validate(msgspec.to_builtins(answer), DIAGNOSIS)
    return answer


async def test_it_says_where_mcpd_runs(tmp_path):
    about = await found(tmp_path, Facts(("http://127.0.0.1:1",), tmp_path, "/x", ""))
    assert (about["uid"], about["path"]) == (os.geteuid(), os.environ["PATH"])
    assert abs(about["time"] - time.time()) < 60
    assert (about["listen"], about["cgroup"]) == (["http://127.0.0.1:1"], "/x")
    room = about["state_directory"]
    assert room["path"] == str(tmp_path)
    assert 0 < room["free"] <= room["size"]
    assert room["writable"] is True


async def test_programs_are_looked_for_as_servers_are(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "npx").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(folder))
    programs = (await found(tmp_path, Facts()))["programs"]
    assert set(STARTERS) <= set(programs)
    assert programs["npx"] == str(folder / "npx")
    assert programs["uvx"] is None


async def test_a_directory_that_is_gone_is_said(tmp_path):
    about = await found(tmp_path, Facts(state_dir=tmp_path / "gone", cgroup_missing="none here"))
    assert about["state_directory"] == {"path": str(tmp_path / "gone"), "error": "no such file or directory"}
    assert about["cgroup_missing"] == "none here"
    assert (await found(tmp_path, Facts()))["state_directory"] is None


async def test_the_status_says_where_clients_connect(tmp_path):
    ops = operations(tmp_path)
    assert (await status(ops, ask()))["listen"] == []
    ops.facts = Facts(("http://127.0.0.1:7",))
    assert (await status(ops, ask()))["listen"] == ["http://127.0.0.1:7"]
