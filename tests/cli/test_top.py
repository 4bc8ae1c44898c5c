from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import sys
import termios
import threading
from argparse import ArgumentParser, Namespace
from pathlib import Path

import pytest

from mcpd.cli import top
from mcpd.control.client import Unreachable


def server(name="a", **more):
    calls = {"rate": 2.5, "failed": 0.25, "p50_ms": 1.5, "p95_ms": 20.0}
    usage = {"processes": 2, "memory": 3 << 20, "cpu": 1.0}
    return {"name": name, "state": "ready", "calls_in_flight": 1, "calls": calls, "usage": usage, **more}


def load(*servers, at=100.0):
    return {"time": at, "window": 10, "sessions": 3, "calls_in_flight": 1, "servers": list(servers)}


class Client:
    def __init__(self, *answers):
        self.answers = list(answers)

    def get(self, path):
        assert path == "/v1/load"
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def options(*arguments, as_json=False):
    parser = ArgumentParser()
    top.arguments(parser)
    return Namespace(**vars(parser.parse_args(arguments)), json=as_json)


def test_one_look():
    text = top.picture(load(server()), None)
    head, _, _, row = text.splitlines()
    assert head.endswith("2.5 calls/s, 1 in flight, 3 sessions")
    assert row.split() == ["a", "ready", "2.5", "1", "1.5", "20.0", "25%", "2", "3.0M", "-"]


def test_processor_time_needs_two_looks():
    later = server(usage={"processes": 2, "memory": 5 << 30, "cpu": 2.0})
    row = top.picture(load(later, at=102.0), load(server())).splitlines()[-1]
    assert row.split()[-2:] == ["5.0G", "50"]
    ended = server(usage={"processes": 1, "memory": 1, "cpu": 0.1})
    assert top.picture(load(ended, at=102.0), load(server())).splitlines()[-1].split()[-1] == "0"


def test_what_sleeps_and_what_has_no_processes():
    idle = server(
        state="stopped",
        asleep=True,
        calls={"rate": 0.0, "failed": 0.0, "p50_ms": None, "p95_ms": None},
        usage={"processes": 0, "memory": 0, "cpu": 0.0},
    )
    row = top.picture(load(idle), load(idle, at=99.0)).splitlines()[-1]
    assert row.split() == ["a", "asleep", "0", "1", "-", "-", "-", "-", "-", "-"]
    assert "no servers" in top.picture(load(), None)


def test_where_there_is_no_terminal_it_looks_once(capsys):
    assert top.run(Client(load(server())), options()) == 0
    assert "calls/s" in capsys.readouterr().out
    assert top.run(Client(load(server())), options(as_json=True)) == 0
    assert json.loads(capsys.readouterr().out)["sessions"] == 3


@pytest.mark.parametrize("end", ["q", "interrupt"])
def test_on_a_terminal_it_looks_again_until_it_is_ended_and_leaves_it_as_it_was(end, monkeypatch):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 6, 30, 0, 0))
    modes = termios.tcgetattr(theirs)
    seen, enough = bytearray(), threading.Event()

    def watch():
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:
                return
            seen.extend(data)
            if seen.count(b"calls/s") >= 3 and b"cannot reach" in seen:
                enough.set()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    gone = Unreachable(Path("/s"), "not running")
    answers = [load(*(server(f"server-{n}") for n in range(9))), gone, load(server(), at=101.0)]

    class Ending(Client):
        looks = 0

        def get(self, path):
            self.looks += 1
            assert self.looks < 200, "it is never ended"
            if enough.is_set():
                if end == "interrupt":
                    raise KeyboardInterrupt
                os.write(ours, b"q")
            return super().get(path)

    with open(theirs, closefd=False) as stdin, open(theirs, "w", closefd=False) as stdout:
        monkeypatch.setattr(sys, "stdin", stdin)
        monkeypatch.setattr(sys, "stdout", stdout)
        monkeypatch.setattr(top.shutil, "get_terminal_size", lambda: os.get_terminal_size(theirs))
        if end == "interrupt":
            with pytest.raises(KeyboardInterrupt):
                top.run(Ending(*answers), options("--every", "0.1"))
        else:
            assert top.run(Ending(*answers), options("--every", "0.1")) == 0
        assert termios.tcgetattr(theirs) == modes
    os.close(theirs)
    watcher.join(10)
    os.close(ours)
    text = seen.decode()
    assert text.startswith(top.ENTER)
    assert text.endswith(top.LEAVE)
    screens = text.split(top.HOME)[1:]
    lines = [line.split("\x1b")[0] for screen in screens for line in screen.split("\r\n")]
    assert max(map(len, lines)) == 30, "cut to the width of the terminal"
    assert max(screen.count("\r\n") for screen in screens) == 5, "and to its height"
