"""What `servers` finds by itself; the rest of it is tested with whole files in test_load."""

from __future__ import annotations

import pytest

from mcpd.config.faults import Faults
from mcpd.config.model import ServerSpec
from mcpd.config.servers import OWN_HEADERS, as_table, build_server, check_server, secrets_of

PATH = ("mcpServers", "a")


def test_a_misspelt_key_is_told_once():
    faults = Faults("f")
    faults.add((*PATH, "comand"), "unknown key")
    check_server({"comand": "x"}, PATH, faults)
    assert faults.paths == {(*PATH, "comand")}


@pytest.mark.parametrize("name", sorted(OWN_HEADERS))
def test_headers_that_mcpd_sets_are_refused(name):
    faults = Faults("f")
    build_server("a", {"url": "http://h/", "headers": {name.title(): "x"}}, PATH, faults)
    assert faults.paths == {(*PATH, "headers", name.title())}


@pytest.mark.parametrize(
    ("fields", "secrets"),
    [
        ({"env": {"A": "one", "HOME": "/home/x", "XDG_RUNTIME_DIR": "/run"}}, {"one"}),
        ({"inherit_env": ("KEY", "USER", "MISSING")}, {"inherited"}),
        (
            {"headers": {"Authorization": "Bearer  abc", "X-Key": "k e y"}},
            {"Bearer  abc", "abc", "k e y", "e y"},
        ),
        (
            {"args": ("--api-key", "one", "two", "--token=three", "--key", "--other", "four")},
            {"one", "three"},
        ),
        ({"args": ("-p", "one", "key", "two")}, set()),
        ({"url": "http://h/?apiKey=one&b=two&token=three"}, {"one", "three"}),
        ({"url": "http://h/?" + "&".join(["key=a"] * 200)}, set()),
    ],
)
def test_secrets(fields, secrets):
    spec = ServerSpec(name="a", transport="stdio", **fields)
    assert secrets_of(spec, {"KEY": "inherited", "USER": "alice"}) == secrets


def test_a_newline_in_a_value_of_env_is_allowed_for_keys_in_pem_form():
    faults = Faults("f")
    build_server("a", {"command": "x", "env": {"PEM": "a\nb"}}, PATH, faults)
    assert not faults.paths


def test_as_table():
    assert as_table({"a": 1}) == {"a": 1}
    assert as_table([1]) == {}
