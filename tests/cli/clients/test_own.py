from __future__ import annotations

from pathlib import Path

import pytest

from mcpd.cli.clients.forms import Entry
from mcpd.cli.clients.own import HOMES, by_program, by_url, is_own
from mcpd.cli.clients.places import TITLES

LISTEN = ["http://127.0.0.1:8080", "http://[::1]:8080"]


def entry(**members) -> Entry:
    return Entry("x", members, "cursor", Path("/f"))


@pytest.mark.parametrize("client", TITLES)
def test_what_is_written_is_known_again(client):
    assert is_own(entry(**by_url(client, "http://127.0.0.1:8080/mcp")), LISTEN)
    assert is_own(entry(**by_program(client, "/etc/mcpd/mcpd.yaml")), LISTEN)
    assert set(HOMES) == set(TITLES)


@pytest.mark.parametrize(
    "members",
    [
        {"url": "http://localhost:8080/sse"},
        {"url": "http://[::1]:8080/mcp/"},
        {"command": "npx", "args": ["-y", "mcp-remote", "http://localhost:8080/mcp"]},
        {"command": "/usr/bin/mcpd", "args": ["--transport", "stdio"]},
        {"command": "python3", "args": ["-m", "mcpd"]},
    ],
)
def test_other_ways_to_it_are_too(members):
    assert is_own(entry(**members), LISTEN)


@pytest.mark.parametrize(
    "members",
    [
        {"url": "http://localhost:8081/mcp"},
        {"url": "http://localhost:8080/other"},
        {"url": "http://example.com:8080/mcp"},
        {"url": "http://localhost:99999/mcp"},
        {"command": "npx", "args": ["mcpd"]},
        {"command": "python3", "args": ["-m", "mcpd_other"]},
        {},
    ],
)
def test_what_is_not_mcpd_is_not(members):
    assert not is_own(entry(**members), LISTEN)
