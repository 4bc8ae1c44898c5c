from __future__ import annotations

import os

import msgspec

from mcpd.backends.command import child_spec, openings, shortfalls
from mcpd.config.model import Resources, Sandbox, ServerSpec
from mcpd.supervisor.cgroup import Cgroup, Limits
from mcpd.supervisor.confinement import Confinement
from mcpd.supervisor.supervisor import Supervisor
from mcpd.supervisor.view import View


def test_the_environment_is_clean(monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "x")
    monkeypatch.setenv("PASSED_ON", "y")
    spec = ServerSpec(
        name="b",
        transport="stdio",
        command="c",
        args=("a",),
        env={"OWN": "z"},
        inherit_env=("PASSED_ON", "UNSET"),
    )
    made = child_spec(spec)
    assert made.argv == ("c", "a")
    assert "SOME_TOKEN" not in made.env
    assert "UNSET" not in made.env
    assert (made.env["OWN"], made.env["PASSED_ON"]) == ("z", "y")
    assert "PATH" in made.env


def test_what_is_configured_reaches_the_supervisor():
    spec = ServerSpec(
        name="b",
        transport="stdio",
        command="c",
        user="nobody",
        umask="0027",
        nice=3,
        resources=Resources(memory_max=1 << 20, pids_max=2, cpu_max=0.5, limit_nofile=64, limit_core=0),
        sandbox=Sandbox(read_only_paths=("/",), read_write_paths=("/tmp",), inaccessible_paths=("/root",)),
    )
    made = child_spec(spec)
    assert made.limits == Limits(1 << 20, 2, 0.5)
    assert made.confinement == Confinement(
        user="nobody",
        umask=0o027,
        nice=3,
        rlimits=(("limit_nofile", 64), ("limit_core", 0)),
        no_new_privileges=True,
        view=View(("/",), ("/tmp",), ("/root",), other_user=True),
    )


def test_a_server_of_another_user_gets_nothing_that_speaks_of_mcpds_own(monkeypatch):
    for name in ("HOME", "USER", "LOGNAME", "SHELL", "XDG_CACHE_HOME", "LANG"):
        monkeypatch.setenv(name, "mine")
    made = child_spec(ServerSpec(name="b", transport="stdio", command="c", user="nobody", env={"HOME": "/srv"}))
    assert {name: value for name, value in made.env.items() if name != "PATH"} == {
        "HOME": "/srv",
        "LANG": "mine",
        **{name: os.environ[name] for name in made.env if name.startswith("LC_")},
        **{name: os.environ[name] for name in ("TERM", "TMPDIR", "TZ", "LANGUAGE") if name in made.env},
        **{name: os.environ[name] for name in made.env if name.startswith(("SSL_", "NODE_"))},
    }


def test_what_does_not_hold_is_told(tmp_path):
    supervisor = Supervisor(None)
    supervisor.cgroup_missing = "there is none"
    resources = Resources(memory_max=1 << 20, pids_max=2, limit_nofile=64)
    spec = ServerSpec(name="b", transport="stdio", command="c", resources=resources)
    assert shortfalls(ServerSpec(name="b", transport="stdio", command="c"), supervisor) == []
    assert shortfalls(spec, supervisor) == [
        "resources.memory_max is not enforced: there is none",
        "resources.pids_max is not enforced: there is none",
    ]
    supervisor._around.cgroup = Cgroup(tmp_path)
    supervisor._around.cgroup.controllers = frozenset({"memory", "cpu"})
    assert shortfalls(spec, supervisor) == [f"resources.pids_max is not enforced: {tmp_path} has no pids controller"]
    free = ServerSpec(name="b", transport="stdio", command="c", sandbox=Sandbox(no_new_privileges=False))
    supervisor._around.no_new_privileges = False
    assert shortfalls(free, supervisor) == []
    supervisor._around.no_new_privileges = True
    assert len(shortfalls(free, supervisor)) == 1


def test_how_a_server_gets_out_of_its_view_is_told(tmp_path, monkeypatch):
    state = tmp_path.resolve() / "state"
    state.mkdir()
    supervisor = Supervisor(None, private=[state])
    plain = ServerSpec(name="b", transport="stdio", command="c")
    shut = msgspec.structs.replace(plain, sandbox=Sandbox(read_only_paths=("/",)))
    loose = msgspec.structs.replace(plain, sandbox=Sandbox(read_only_paths=("/",), read_write_paths=(str(tmp_path),)))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert openings(plain, supervisor) == []
    assert openings(shut, supervisor) == []
    (words,) = openings(loose, supervisor)
    assert f"can read or replace {state}, where mcpd keeps its admin token" in words
    assert openings(msgspec.structs.replace(loose, user="nobody"), supervisor) == []
    (words,) = openings(msgspec.structs.replace(shut, env={"HOME": str(state)}), supervisor)
    assert words.startswith(f"its sandbox hides its home {state}, which lies in what mcpd keeps for itself")
    inside = msgspec.structs.replace(shut, command=str(state / "venv" / "server"))
    (words,) = openings(inside, supervisor)
    assert words.startswith(f"its sandbox hides its command {state}/venv/server,")
    (state / "venv").mkdir()
    listed = Sandbox(read_only_paths=("/", str(state / "venv")))
    assert openings(msgspec.structs.replace(inside, sandbox=listed), supervisor) == []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert openings(plain, supervisor) == []
    (words,) = openings(shut, supervisor)
    assert "does not confine root" in words
