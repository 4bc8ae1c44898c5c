from __future__ import annotations

import os
import stat

import pytest

from mcpd.cli.clients import jsonc, toml
from mcpd.cli.clients.own import HOMES, by_url
from mcpd.cli.clients.places import TITLES
from mcpd.cli.clients.writing import CannotWrite, NoChange, snippet, with_entry, write
from tests.cli.clients.homes import CLAUDE_CODE, CLAUDE_DESKTOP, CODEX, CURSOR, VSCODE

TEXTS = dict(zip(TITLES, (CLAUDE_DESKTOP, CLAUDE_CODE, VSCODE, CURSOR, CODEX), strict=True))
URL = "http://127.0.0.1:8080/mcp"


@pytest.mark.parametrize("client", TITLES)
def test_everything_else_stays(client):
    table = by_url(client, URL)
    text = TEXTS[client]
    new = with_entry(client, text, table)
    read = toml.read if client == "codex" else jsonc.read
    section, name = HOMES[client]
    found = read(new)
    assert found[section].pop(name) == table
    assert found == read(text)
    rest = iter(new)
    assert all(character in rest for character in text), "what was there is there, in its order"
    assert with_entry(client, new, table) == new


@pytest.mark.parametrize("client", TITLES)
def test_what_is_printed_is_a_file_of_its_own(client):
    assert with_entry(client, "", by_url(client, URL)) == snippet(client, by_url(client, URL))


def test_the_file_is_replaced_and_its_old_content_kept(tmp_path):
    file = tmp_path / "real.json"
    file.write_text(CURSOR)
    file.chmod(0o640)
    link = tmp_path / "mcp.json"
    link.symlink_to(file)
    kept = write("cursor", link, by_url("cursor", URL))
    assert kept is not None
    assert kept.read_text() == CURSOR
    assert link.is_symlink()
    assert jsonc.read(file.read_text())["mcpServers"]["mcpd"] == {"url": URL}
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE(kept.stat().st_mode) == 0o640
    with pytest.raises(NoChange):
        write("cursor", link, by_url("cursor", URL))
    again = write("cursor", link, by_url("cursor", "http://127.0.0.1:1/mcp"))
    assert again not in (None, kept)
    assert len(list(tmp_path.iterdir())) == 4


def test_one_that_is_not_there_is_made(tmp_path):
    file = tmp_path / "a" / "b" / "config.toml"
    assert write("codex", file, {"url": URL}) is None
    assert file.read_text() == f'[mcp_servers.mcpd]\nurl = "{URL}"\n'
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("client", "text", "why"),
    [
        ("cursor", '{"mcpServers": [1]}', "no table"),
        ("cursor", "[]", "no table"),
        ("cursor", "{", "not well-formed"),
        ("cursor", '{\n"a": 1 /* two\nlines */}', "understood"),
        ("codex", "mcp_servers = { a = { url = 'x' } }\n", "not well-formed"),
        ("codex", "[mcp_servers]\nmcpd.url = 'x'\n", "not well-formed"),
    ],
)
def test_what_cannot_be_changed_for_sure_is_left_alone(tmp_path, client, text, why):
    file = tmp_path / "f"
    file.write_text(text)
    with pytest.raises(CannotWrite, match=why):
        write(client, file, {"url": URL})
    assert file.read_text() == text
    assert list(tmp_path.iterdir()) == [file]


def test_a_fault_of_the_disk_leaves_it_as_it_was(tmp_path, monkeypatch):
    file = tmp_path / "mcp.json"
    file.write_text(CURSOR)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CannotWrite, match="no space left"):
        write("cursor", file, {"url": URL})
    assert file.read_text() == CURSOR
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_it_is_not_in_the_way_of_a_file_of_root(tmp_path, monkeypatch):
    owners = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda path, uid, gid: owners.append((uid, gid)))
    file = tmp_path / "mcp.json"
    file.write_text("{}")
    write("cursor", file, {"url": URL})
    about = file.stat()
    assert owners == [(about.st_uid, about.st_gid)] * 2
    owners.clear()
    write("cursor", tmp_path / "a" / "b" / "mcp.json", {"url": URL})
    assert len(owners) == 3, "folders that were made, too"
