from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest

from mcpd.cli import following
from mcpd.cli.following import as_line, clock, follow
from mcpd.control.client import Refused, Streamed, Unreachable


class Client:
    """Streams what it is told; an exception ends a stream, or stands for one that does not come."""

    def __init__(self, *streams):
        self.streams = list(streams)
        self.asked = []

    def stream(self, path, query):
        self.asked.append(dict(query))
        for each in self.streams.pop(0):
            if isinstance(each, Exception):
                raise each
            yield each


def event(number, name="state"):
    return Streamed(f"run.{number}", name, {"n": number} if name else {})


GONE = Unreachable(Path("/s"), "not running")


@pytest.fixture(autouse=True)
def slept(monkeypatch):
    slept = []
    monkeypatch.setattr(following.time, "sleep", slept.append)
    return slept


def test_a_stream_that_ends_is_asked_for_again_where_it_was(slept, capsys):
    client = Client([event(1, ""), event(2), event(3)], [GONE], [GONE], [event(3, ""), event(4)])
    found = list(islice(follow(client, "/v1/events", {"kind": "", "server": "a", "lines": "5"}), 3))
    assert [each.data["n"] for each in found] == [2, 3, 4]
    assert client.asked[0] == {"server": "a", "lines": "5"}
    assert client.asked[1:] == [{"server": "a", "after": "run.3"}] * 3
    assert slept == sorted(slept)
    assert capsys.readouterr().err == ("mcpctl: waiting for mcpd, which is not there any more\nmcpctl: mcpd is back\n")


def test_an_upgrade_is_not_worth_a_word(capsys):
    broken = Unreachable(Path("/s"), "broke off", parted=True)
    client = Client([event(1, ""), broken], [event(1, ""), event(2)])
    assert len(list(islice(follow(client, "/v1/events", {}), 1))) == 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("error", [GONE, Refused(400, {"code": "bad_cursor"})])
def test_what_was_never_there_is_an_error(error):
    with pytest.raises(type(error)):
        next(follow(Client([error]), "/v1/events", {}))


def test_who_is_not_let_in_any_more_gives_up_and_who_is_told_to_wait_does_not():
    busy, no = Refused(503, {"code": "busy"}), Refused(403, {"code": "not_permitted"})
    client = Client([event(1, "")], [busy], [no])
    with pytest.raises(Refused) as caught:
        next(follow(client, "/v1/events", {}))
    assert caught.value is no


def test_a_line_for_scripts():
    assert json.loads(as_line(event(7))) == {"n": 7, "cursor": "run.7"}


def test_times():
    assert clock(None) == "-"
    assert len(clock(1_790_000_000.5)) == 15
