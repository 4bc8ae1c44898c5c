from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from mcpd import __version__
from mcpd.cli.doctoring import running
from mcpd.cli.doctoring.finding import Level

STATUS = {
    "version": __version__,
    "configuration": "/etc/mcpd/mcpd.yaml",
    "last_reload": None,
    "needs_restart": [],
}
ROOM = {"path": "/var/lib/mcpd", "free": 1 << 33, "size": 1 << 34, "free_files": 10_000, "writable": True}
DIAGNOSIS = {
    "time": 1000.0,
    "path": "/usr/bin",
    "programs": {"npx": None, "node": "/usr/bin/node"},
    "listen": [],
    "state_directory": ROOM,
    "cgroup": "/x",
    "cgroup_missing": "",
    "names": [],
}


def levels(found):
    return [(each.code, each.level.name.lower()) for each in found]


def test_versions_are_compared():
    assert levels(running.version(STATUS)) == [("version", "ok")]
    [other] = running.version({**STATUS, "version": "0.0"})
    assert other.level is Level.WARNING
    assert "mcpctl upgrade" in other.remedy


def test_a_configuration_that_is_not_in_effect():
    assert levels(running.configuration(STATUS)) == [("configuration", "ok")]
    failed = {**STATUS, "last_reload": {"ok": False, "errors": ["f:1: wrong"]}, "needs_restart": ["listen.port"]}
    first, second = running.configuration(failed)
    assert "f:1: wrong" in first.message
    assert (first.level, second.code, second.level) == (Level.ERROR, "restart", Level.WARNING)
    assert running.files({"errors": []}) == []
    [fault] = running.files({"errors": [{"path": "a.b", "message": "wrong"}]})
    assert "a.b: wrong" in fault.message


def test_servers_that_do_not_work_are_told_one_by_one():
    failing = {
        "name": "a",
        "state": "needs-operator",
        "failure": {"kind": "not-found", "reason": "no npx", "remedy": "install it"},
    }
    waiting = {"name": "b", "state": "backing-off", "error": "it ended", "next_attempt_in": 61.0}
    shaky = {"name": "c", "state": "ready", "crash_looping": True}
    fine = {"name": "d", "state": "ready"}
    one, two, three = running.servers([failing, waiting, shaky, fine])
    assert (one.subject, one.level, one.remedy) == ("a", Level.ERROR, "install it")
    assert "not-found: no npx" in one.message
    assert "tried again in 1m 1s" in two.message
    assert "mcpctl logs b" in two.remedy
    assert three.level is Level.WARNING
    assert levels(running.servers([fine])) == levels(running.servers([])) == [("server", "ok")]


def test_names_that_were_changed():
    assert levels(running.names(DIAGNOSIS)) == [("names", "ok")]
    [found] = running.names({**DIAGNOSIS, "names": [f"n{number}" for number in range(7)]})
    assert found.message.endswith("n4; and 2 more")


def test_addresses_are_tried():
    tried = []

    def get(url):
        tried.append(url)
        return "refused" if ":2/" in url else ""

    listen = ["http://0.0.0.0:1", "http://[::]:2", "http://127.0.0.1:3"]
    assert levels(running.ports({"listen": listen}, get)) == [("port", "ok"), ("port", "error"), ("port", "ok")]
    assert tried == ["http://127.0.0.1:1/healthz", "http://[::1]:2/healthz", "http://127.0.0.1:3/healthz"]
    assert levels(running.ports({"listen": []})) == [("port", "ok")]


class Answering(BaseHTTPRequestHandler):
    def do_GET(self):
        status = int(self.path[1:])
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


def test_a_port_answers_or_does_not(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert running.problem_with(f"{url}/200") == ""
        assert running.problem_with(f"{url}/503") == ""
        assert running.problem_with(f"{url}/404") == "HTTP 404"
        server.shutdown()
    assert "refused" in running.problem_with(f"{url}/200")


@pytest.mark.parametrize(
    ("room", "level"),
    [
        (ROOM, "ok"),
        ({**ROOM, "free": 1000}, "error"),
        ({**ROOM, "free": 2 << 20}, "warning"),
        ({**ROOM, "free_files": 3}, "warning"),
        ({**ROOM, "free_files": 0}, "ok"),
        ({**ROOM, "writable": False}, "error"),
        ({"path": "/x", "error": "no such file or directory"}, "error"),
    ],
)
def test_room(room, level):
    assert levels(running.state_directory({"state_directory": room})) == [("state-directory", level)]


def test_no_directory_is_none():
    assert running.state_directory({"state_directory": None}) == []


def test_cgroups():
    assert levels(running.cgroup(DIAGNOSIS)) == [("cgroup", "ok")]
    [found] = running.cgroup({"cgroup": "", "cgroup_missing": "not delegated"})
    assert "not delegated" in found.message


def test_programs_that_mcpd_does_not_find():
    [found] = running.programs(DIAGNOSIS, {"npx": "/home/me/.nvm/bin/npx"}.get)
    assert (found.level, found.subject) == (Level.WARNING, "npx")
    assert "/home/me/.nvm/bin/npx" in found.message
    [found] = running.programs(DIAGNOSIS, {}.get)
    assert (found.level, found.message) == (Level.OK, "in mcpd's PATH: node")


def test_the_clock():
    assert levels(running.clock(DIAGNOSIS, 1001.0, installed=900.0)) == [("clock", "ok")]
    assert levels(running.clock(DIAGNOSIS, 1010.0, installed=900.0)) == [("clock", "warning")]
    assert levels(running.clock(DIAGNOSIS, 1000.0, installed=2000.0)) == [("clock", "error")]
    assert levels(running.clock({"time": 2e9}, 2e9)) == [("clock", "ok")]
