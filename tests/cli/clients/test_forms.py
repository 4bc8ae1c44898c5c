from __future__ import annotations

from pathlib import Path

import pytest

from mcpd.cli.clients.forms import ANY, Unreadable, entries
from tests.cli.clients.homes import furnish

FILES = {
    ".config/Claude/claude_desktop_config.json": (
        "claude-desktop",
        ["filesystem", "GitHub Tools", "through", "money"],
    ),
    ".claude.json": ("claude-code", ["sentry", "asana", "vault", "db", "shop-api", "db"]),
    ".config/Code/User/mcp.json": ("vscode", ["github", "playwright", "mem", "local", "perplexity"]),
    ".config/Code/User/settings.json": ("vscode", ["old"]),
    ".cursor/mcp.json": ("cursor", ["linear", "pg", "q", "sso"]),
    ".codex/config.toml": ("codex", ["context7", "figma", "off"]),
    "project/.mcp.json": ("claude-code", ["docs"]),
}


@pytest.mark.parametrize("file", FILES)
def test_a_file_tells_whose_it_is(tmp_path, file):
    furnish(tmp_path, tmp_path / "project")
    form, names = FILES[file]
    for client in (None, form):
        found = entries(tmp_path / file, client)
        assert [each.name for each in found] == names
        assert {each.form for each in found} == {form}


def test_projects_are_kept_apart(tmp_path):
    furnish(tmp_path, tmp_path / "project")
    places = {each.place for each in entries(tmp_path / ".claude.json")}
    assert places == {f"{tmp_path}/.claude.json", f"{tmp_path}/.claude.json, project /home/alice/shop"}
    [docs] = entries(tmp_path / "project" / ".mcp.json")
    assert (docs.project, docs.place) == (tmp_path / "project", f"{tmp_path}/project/.mcp.json")


def test_what_the_client_asks_for_is_known(tmp_path):
    furnish(tmp_path, tmp_path)
    first = entries(tmp_path / ".config/Code/User/mcp.json")[0]
    assert [each["id"] for each in first.inputs] == ["gh-token"]


def test_other_files_are_understood_too(tmp_path):
    file = tmp_path / "windsurf.json"
    file.write_text('{"mcpServers": {"a": {"command": "x"}, "b": "no table"}}')
    assert [(each.name, each.form) for each in entries(file)] == [("a", ANY)]


@pytest.mark.parametrize(("content", "why"), [("{", "not well-formed"), ("[]", "no object"), ("\x00", "well-formed")])
def test_what_is_none_is_said(tmp_path, content, why):
    file = tmp_path / "x.json"
    file.write_text(content)
    with pytest.raises(Unreadable, match=why):
        entries(file)


def test_nothing_is_named_by_an_empty_file_and_none_is_missing(tmp_path):
    (tmp_path / "x.json").write_text("")
    assert entries(tmp_path / "x.json") == []
    with pytest.raises(FileNotFoundError):
        entries(Path(tmp_path / "none"))
    with pytest.raises(Unreadable, match="directory"):
        entries(tmp_path)


def test_a_home_directory_is_no_project(tmp_path, monkeypatch):
    furnish(tmp_path, tmp_path / "project")
    monkeypatch.chdir(tmp_path)
    found = [entries(tmp_path / ".cursor" / "mcp.json")[0].project]
    monkeypatch.setenv("HOME", str(tmp_path))
    found.append(entries(tmp_path / ".cursor" / "mcp.json")[0].project)
    assert found == [tmp_path, None]
