"""Several sources become one configuration; what one file says is tested with `load`."""

from __future__ import annotations

import pytest

from mcpd.config.build import Source, build, definitions
from mcpd.config.document import parse
from mcpd.config.faults import ConfigErrors
from mcpd.config.origins import Conflict, Origin, Provenance
from mcpd.config.overlay import Entry, Mark, Overlay, decode, encode

ADDED = Provenance(at="2026-11-28T10:00:00Z", by="alice", how="mcpctl")
OVERLAY = "/s/overlay.json"


def source(text, name="/etc/m.yaml"):
    return Source(name, parse(text, name))


MAIN = source("naming: {separator: .}\nmcpServers:\n  a: {command: x}\n  off: {command: x, enabled: false}\n")
ONE = source("mcpServers:\n  b: {command: x, env: {T: '${TOKEN}'}}\n", "/etc/servers.d/1.yaml")
TWO = source('{"servers": {\n "c": {"url": "http://h/mcp"}}}', "/etc/servers.d/2.json")


def made(*drop_ins, overlay=None, main=MAIN, lenient=False, environ=None):
    return build(
        main, drop_ins, overlay, overlay_file=OVERLAY, environ=environ or {"TOKEN": "secret-token"}, lenient=lenient
    )


def added(**tables):
    """As if they had been written and read again."""
    return decode(encode(Overlay({name: Entry(table, ADDED) for name, table in tables.items()})), OVERLAY)


def test_all_are_one_in_their_order():
    config = made(ONE, TWO, overlay=added(z={"command": "x"}, y={"command": "x", "disabled": True}))
    assert [spec.name for spec in config.servers] == ["a", "off", "b", "c", "z", "y"]
    assert config.naming.separator == "."
    assert (config.source, config.drop_ins) == ("/etc/m.yaml", ("/etc/servers.d/1.yaml", "/etc/servers.d/2.json"))
    assert config.origins["a"] == Origin(file="/etc/m.yaml", line=3)
    assert config.origins["c"] == Origin(file="/etc/servers.d/2.json", line=2)
    assert config.origins["z"].added == ADDED
    assert config.origins["z"].place.startswith(f"{OVERLAY}:")
    assert [name for name, origin in config.origins.items() if not origin.enabled_there] == ["off", "y"]
    assert "secret-token" in config.secrets.values
    assert config.oddities == ()


def test_a_name_that_is_there_twice_names_both_places():
    again = source("mcpServers:\n  x: {command: x}\n  a: {command: y}\n", "/etc/servers.d/3.yaml")
    third = source("mcpServers:\n  x: {command: x}\n", "/etc/servers.d/4.yaml")
    with pytest.raises(ConfigErrors) as caught:
        made(again, third)
    assert str(caught.value).splitlines() == [
        "/etc/servers.d/3.yaml:3: mcpServers.a: the server is there twice (first in /etc/m.yaml:3; drop one of them)",
        "/etc/servers.d/4.yaml:2: mcpServers.x: the server is there twice (first in /etc/servers.d/3.yaml:2; "
        "drop one of them)",
    ]


def test_a_drop_in_has_servers_alone_and_every_fault_its_file():
    wrong = source("naming: {separator: _}\nmcpServers:\n  d: {nonsense: 1}\n", "/etc/servers.d/3.yaml")
    main = source("listen: {port: x}\n")
    with pytest.raises(ConfigErrors) as caught:
        made(wrong, main=main)
    places = [(error.file, error.line, error.path) for error in caught.value.errors]
    assert places == [
        ("/etc/m.yaml", 1, "listen.port"),
        ("/etc/servers.d/3.yaml", 1, "naming"),
        ("/etc/servers.d/3.yaml", 3, "mcpServers.d.nonsense"),
    ]


def test_files_win_over_the_overlay_and_that_is_told():
    config = made(overlay=added(a={"command": "other", "nonsense": 1}))
    assert config.server("a").command == "x"
    assert config.conflicts == (Conflict(name="a", file="/etc/m.yaml", line=3, added=ADDED),)
    assert "remove-server a" in config.oddities[0]


def test_a_fault_in_the_overlay_names_its_line_and_one_not_written_yet_its_path():
    faulty = added(ok={"command": "x"}, z={"command": "x", "env": {"T": "${NOT_SET}"}})
    with pytest.raises(ConfigErrors) as caught:
        made(overlay=faulty)
    (error,) = caught.value.errors
    assert (error.file, error.path) == (OVERLAY, "mcpServers.z.env.T")
    assert error.line == 1 + encode(faulty)[: encode(faulty).index(b"NOT_SET")].count(b"\n")
    with pytest.raises(ConfigErrors) as caught:
        made(overlay=Overlay({"z": Entry({"command": 1}, ADDED)}))
    assert str(caught.value) == "mcpServers.z.command: expected text, got 1 (put it in quotes)"


def test_at_the_start_a_faulty_entry_is_left_out_and_told():
    config = made(overlay=added(z={"command": "x", "cwd": "${NOT_SET}"}, y={"command": "x"}), lenient=True)
    assert [spec.name for spec in config.servers] == ["a", "off", "y"]
    assert "z" not in config.origins
    (problem,) = config.problems
    assert problem.startswith("z is left out: /s/overlay.json:")
    assert "remove-server z" in problem


@pytest.mark.parametrize("lenient", [False, True])
def test_a_fault_in_a_file_is_always_one(lenient):
    with pytest.raises(ConfigErrors):
        made(source("mcpServers: {a: {command: 1}}", "/etc/servers.d/1.yaml"), lenient=lenient)


def test_marks_count_wherever_a_server_is_defined():
    overlay = Overlay(
        added(z={"command": "x"}).servers,
        {"a": Mark(False, ADDED), "off": Mark(True, ADDED), "z": Mark(False, ADDED), "gone": Mark(False, ADDED)},
    )
    config = made(overlay=overlay)
    assert {spec.name: spec.enabled for spec in config.servers} == {"a": False, "off": True, "z": False}
    assert (config.origins["a"].enabled, config.origins["a"].marked) == (False, ADDED)
    assert config.origins["off"].enabled_there is False


def test_definitions_are_found_in_what_is_otherwise_wrong():
    wrong = source("nonsense: 1\nmcpServers:\n  a: 7\n", "/etc/w.yaml")
    assert definitions([wrong, MAIN])["a"] == Origin(file="/etc/w.yaml", line=3)
    assert definitions([source("7\n")]) == {}
