"""Where the configuration of each client is: per user, and in the project that is the working directory."""

from __future__ import annotations

import os
import pwd
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

TITLES: Final = {
    "claude-desktop": "Claude Desktop",
    "claude-code": "Claude Code",
    "vscode": "VS Code",
    "cursor": "Cursor",
    "codex": "Codex",
}
"""The clients that are known, as a command line names them and as people do."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the places depend on."""

    environ: Mapping[str, str]
    home: Path
    here: Path
    """The working directory."""
    platform: str = sys.platform

    @property
    def settings(self) -> Path:
        """Where programs with windows keep theirs."""
        if self.platform == "darwin":
            return self.home / "Library" / "Application Support"
        name = "APPDATA" if self.platform == "win32" else "XDG_CONFIG_HOME"
        environ = self.environ
        given = environ.get("APPDATA", "") if name == "APPDATA" else environ.get("XDG_CONFIG_HOME", "")
        if given:
            return Path(given)
        return self.home / "AppData" / "Roaming" if self.platform == "win32" else self.home / ".config"


def surroundings() -> Surroundings:
    """Of this process. Who asks with sudo(8) means their own files, not root's."""
    environ = os.environ
    home = Path(environ.get("HOME", "") or "/")
    user = environ.get("SUDO_USER", "") if os.geteuid() == 0 else ""
    if user:
        try:
            home = Path(pwd.getpwnam(user).pw_dir)
        except KeyError:
            pass
    return Surroundings(environ, home, Path.cwd())


def files(client: str, around: Surroundings) -> list[Path]:
    """Where its servers are named, the user's own first; whether there or not."""
    environ, home, here, settings = around.environ, around.home, around.here, around.settings
    match client:
        case "claude-desktop":
            return [settings / "Claude" / "claude_desktop_config.json"]
        case "claude-code":
            return [Path(environ.get("CLAUDE_CONFIG_DIR", "") or home) / ".claude.json", here / ".mcp.json"]
        case "vscode":
            user = settings / "Code" / "User"
            profiles = sorted(user.glob("profiles/*/mcp.json"))
            folder = here / ".vscode"
            return [user / "mcp.json", *profiles, user / "settings.json", folder / "mcp.json", folder / "settings.json"]
        case "cursor":
            return [home / ".cursor" / "mcp.json", here / ".cursor" / "mcp.json"]
        case "codex":
            codex = Path(environ.get("CODEX_HOME", "") or home / ".codex")
            return [codex / "config.toml", here / ".codex" / "config.toml"]
    raise KeyError(client)


def main_file(client: str, around: Surroundings) -> Path:
    """The one that counts for all of the user's work."""
    return files(client, around)[0]
