"""`${…}` in the texts of a configuration: values of the environment, of files and of systemd's credentials.

    ${NAME}             a variable of mcpd's environment; an error if it is not set
    ${NAME:-text}       the same, or the text where it is not set or empty
    ${file:/path}       a file's content without the line ends behind it
    ${credential:name}  a file of $CREDENTIALS_DIRECTORY, as LoadCredential= of systemd puts it there
    $$                  a dollar sign

A dollar sign before anything else is itself. What was put in is not looked at again; it is remembered as a
secret.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

from mcpd.config.faults import shorten

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcpd.config.document import Value
    from mcpd.config.faults import Faults, Path

MAX_FILE = 64 * 1024
"""Bytes; a key or a token is a few kilobytes, and the kernel takes no longer argument than 128 KiB."""

PUBLIC_NAMES = frozenset(
    [
        "HOME",
        "LANG",
        "LOGNAME",
        "PATH",
        "PWD",
        "PYTHONPATH",
        "PYTHONUNBUFFERED",
        "SHELL",
        "TERM",
        "TMPDIR",
        "TZ",
        "USER",
    ]
)
"""Variables that tell nothing; redacting `/home/alice` would make every path in a message unreadable."""
_PUBLIC_PREFIXES = ("LC_", "XDG_")
_SHOWN = frozenset(
    ("listen", "naming", "limits", "streams", "shutdown", "command", "cwd", "description", "transport", "type", "tls")
)
"""Keys under which a variable is not a secret: what messages show and are of use for."""

_PIECE = re.compile(r"\$(?:\$|\{([^}]*)(\}?))")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CREDENTIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,254}")
_FOREIGN = {
    "env": "for a variable write ${NAME}",
    "input": "mcpd asks nobody; use ${NAME} or ${file:/path}",
}


def is_public(name: str) -> bool:
    """Whether a variable of that name holds no secret."""
    return name in PUBLIC_NAMES or name.startswith(_PUBLIC_PREFIXES)


class _Unresolved(Exception):
    def __init__(self, reason: str, remedy: str) -> None:
        self.reason = reason
        self.remedy = remedy


class Substitution:
    """Replaces `${…}` throughout a tree. `secrets` collects what was put in."""

    def __init__(self, environ: Mapping[str, str], credentials_directory: FilePath | None, faults: Faults) -> None:
        self.environ = environ
        self.credentials_directory = credentials_directory
        self.faults = faults
        self.secrets: set[str] = set()

    def apply(self, value: Value, path: Path = ()) -> Value:
        """The tree with every text replaced; a text that cannot be is a fault, and stays as it was."""
        if isinstance(value, dict):
            return {key: self.apply(inner, (*path, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.apply(inner, (*path, index)) for index, inner in enumerate(value)]
        if isinstance(value, str):
            return self._text(value, path)
        return value

    def _text(self, text: str, path: Path) -> str:
        if "$" not in text:
            return text
        hidden = not _SHOWN.intersection(step for step in path[:1] + path[2:3] if isinstance(step, str))

        def replace(match: re.Match[str]) -> str:
            if match.group(1) is None:
                return "$"
            if not match.group(2):
                raise _Unresolved("'${' without '}'", "write '$${' for the characters themselves")
            return self._resolve(match.group(1), hidden)

        try:
            return _PIECE.sub(replace, text)
        except _Unresolved as problem:
            self.faults.add(path, problem.reason, problem.remedy)
            return text

    def _resolve(self, inside: str, hidden: bool) -> str:
        name, default_mark, default = inside.partition(":-")
        if _NAME.fullmatch(name) and (default_mark or name == inside):
            found = self.environ.get(name, "" if default_mark else None)
            if found is None:
                raise _Unresolved(
                    f"the environment variable {shorten(name)} is not set",
                    f"set it for mcpd, or give a default: ${{{name}:-…}}",
                )
            if default_mark and not found:
                return default
            if hidden and not is_public(name):
                self.secrets.add(found)
            return found
        kind, _, rest = inside.partition(":")
        if kind == "file":
            return self._file(FilePath(rest), rest)
        if kind == "credential":
            return self._credential(rest)
        remedy = _FOREIGN.get(kind, "there are ${NAME}, ${NAME:-default}, ${file:/path} and ${credential:name}")
        raise _Unresolved(f"'${{{shorten(inside)}}}' is not understood", f"{remedy}; '$${{' is a literal '${{'")

    def _credential(self, name: str) -> str:
        if not _CREDENTIAL.fullmatch(name):
            raise _Unresolved(f"'{shorten(name)}' is not a name of a credential", "letters, digits, '_', '.', '@', '-'")
        if self.credentials_directory is None:
            raise _Unresolved(
                f"there are no credentials, so no '{name}'",
                f"start mcpd by systemd with LoadCredential={name}:/path, or use ${{file:/path}}",
            )
        path = self.credentials_directory / name
        return self._file(path, f"credential {name}", remedy=f"add LoadCredential={name}:/path to the unit")

    def _file(self, path: FilePath, shown: str, *, remedy: str = "it must be readable for mcpd's user") -> str:
        shown = shorten(shown)
        if not path.is_absolute():
            raise _Unresolved(f"'{shown}' is not an absolute path", "write ${file:/…}")
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise _Unresolved(f"{shown} is not a regular file", "")
            with path.open("rb") as file:
                data = file.read(MAX_FILE + 1)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "not a path"
            raise _Unresolved(f"{shown} cannot be read: {why}", remedy) from error
        if len(data) > MAX_FILE:
            raise _Unresolved(f"{shown} is longer than {MAX_FILE} bytes", "name the file that holds the secret alone")
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise _Unresolved(f"{shown} is not UTF-8 text", "") from error
        value = text.rstrip("\r\n")
        self.secrets.add(value)
        return value
