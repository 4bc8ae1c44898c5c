from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from mcpd.cli.clients import places
from mcpd.cli.clients.places import TITLES, Surroundings, files, main_file, surroundings

HOME = Path("/home/alice")
HERE = Path("/srv/project")


def around(platform: str = "linux", **environ: str) -> Surroundings:
    return Surroundings(environ, HOME, HERE, platform)


@pytest.mark.parametrize(
    ("client", "platform", "file"),
    [
        ("claude-desktop", "linux", ".config/Claude/claude_desktop_config.json"),
        ("claude-desktop", "darwin", "Library/Application Support/Claude/claude_desktop_config.json"),
        ("claude-desktop", "win32", "AppData/Roaming/Claude/claude_desktop_config.json"),
        ("claude-code", "linux", ".claude.json"),
        ("vscode", "linux", ".config/Code/User/mcp.json"),
        ("vscode", "darwin", "Library/Application Support/Code/User/mcp.json"),
        ("cursor", "linux", ".cursor/mcp.json"),
        ("codex", "linux", ".codex/config.toml"),
    ],
)
def test_where_the_users_own_file_is(client, platform, file):
    assert main_file(client, around(platform)) == HOME / file


def test_projects_have_files_too():
    projects = {client: [path for path in files(client, around()) if path.is_relative_to(HERE)] for client in TITLES}
    assert projects == {
        "claude-desktop": [],
        "claude-code": [HERE / ".mcp.json"],
        "vscode": [HERE / ".vscode" / "mcp.json", HERE / ".vscode" / "settings.json"],
        "cursor": [HERE / ".cursor" / "mcp.json"],
        "codex": [HERE / ".codex" / "config.toml"],
    }


def test_variables_lead_elsewhere():
    assert main_file("codex", around(CODEX_HOME="/c")) == Path("/c/config.toml")
    assert main_file("claude-code", around(CLAUDE_CONFIG_DIR="/d")) == Path("/d/.claude.json")
    assert main_file("vscode", around(XDG_CONFIG_HOME="/x")) == Path("/x/Code/User/mcp.json")
    assert main_file("vscode", around("win32", APPDATA="/a")) == Path("/a/Code/User/mcp.json")


def test_who_uses_sudo_means_their_own_files(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    name = pwd.getpwuid(os.getuid()).pw_name
    monkeypatch.setenv("HOME", "/elsewhere")
    monkeypatch.setenv("SUDO_USER", name)
    assert surroundings().home == Path(pwd.getpwnam(name).pw_dir)
    monkeypatch.setenv("SUDO_USER", "nobody-of-that-name")
    assert surroundings().home == Path("/elsewhere")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("SUDO_USER", name)
    assert surroundings().home == Path("/elsewhere")


def test_there_is_no_other_client():
    with pytest.raises(KeyError):
        files("emacs", around())
    assert set(places.TITLES) == {"claude-desktop", "claude-code", "vscode", "cursor", "codex"}
