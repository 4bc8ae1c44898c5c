"""What a client's texts stand for, in mcpd's words: each client puts variables, folders and answers into them in a way
of its own, and mcpd has `${NAME}` alone (mcpd.yaml(5)).
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from mcpd.cli.clients.forms import ANY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mcpd.cli.clients.forms import Entry

_PIECE: Final = re.compile(r"\$\{([^{}]*)\}")
_OURS: Final = re.compile(r"\$\$|\$\{([^{}]*)\}")
"""The same where two dollars are one, as for mcpd."""
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WITH_DEFAULT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*:-[^}]*")
LITERAL: Final = frozenset({"claude-desktop", "codex"})
"""Clients that put nothing into their texts."""


class Missing(Exception):
    """A text cannot be given to mcpd. `remedy`: what can be done about it."""

    def __init__(self, reason: str, remedy: str) -> None:
        self.reason = reason
        self.remedy = remedy
        super().__init__(reason)


class Texts:
    """Those of one entry.

    `filled` has the values of variables that are to be put in now; None leaves them to mcpd. `answer` asks a person for
    what the client would ask for (the input's description, whether it is a secret), where there is one.
    """

    def __init__(
        self,
        entry: Entry,
        home: Path,
        filled: Mapping[str, str] | None = None,
        answer: Callable[[str, bool], str] | None = None,
    ) -> None:
        self.variables: set[str] = set()
        """Names that mcpd has to know when it starts the server."""
        self._entry = entry
        self._home = home
        self._filled = filled
        self._answer = answer
        self._answers: dict[str, str] = {}

    def text(self, value: str) -> str:
        """One text. Raises: Missing."""
        if self._entry.form in LITERAL:
            return literal(value)
        if self._entry.form == ANY:
            return _OURS.sub(lambda match: match[0] if match[1] is None else self._of_any(match[1], match[0]), value)
        pieces: list[str] = []
        at = 0
        for match in _PIECE.finditer(value):
            pieces += [literal(value[at : match.start()]), self._resolve(match[1], match[0])]
            at = match.end()
        return "".join([*pieces, literal(value[at:])])

    def variable(self, name: str) -> str:
        """What stands for a variable."""
        if self._filled is None:
            self.variables.add(name)
            return f"${{{name}}}"
        if name not in self._filled:
            raise Missing(f"the variable {name} is not set here", "set it, or leave out --fill and set it for mcpd")
        return literal(self._filled[name])

    def _resolve(self, inside: str, whole: str) -> str:
        form = self._entry.form
        kind, colon, rest = inside.partition(":")
        if form == "claude-code":
            return self._of_claude_code(inside, whole)
        if colon and kind == "env":
            name, given, default = rest.partition(":")
            return f"${{{name}:-{default}}}" if given and self._filled is None else self.variable(name)
        if colon and kind == "input":
            return literal(self._input(rest))
        if colon and kind in ("command", "config"):
            raise Missing(f"'{whole}' is what only the client knows", "write the value there instead")
        folder = self._folder(inside)
        return literal(folder) if folder is not None else self._variable_or_text(inside, whole)

    def _of_any(self, inside: str, whole: str) -> str:
        """Where mcpd's own way of writing is understood too."""
        kind, _, rest = inside.partition(":")
        if kind == "env":
            return self.variable(rest)
        if kind == "input":
            return literal(self._input(rest))
        return self.variable(inside) if _NAME.fullmatch(inside) else whole

    def _of_claude_code(self, inside: str, whole: str) -> str:
        if inside == "CLAUDE_PROJECT_DIR" and self._entry.project is not None:
            return literal(str(self._entry.project))
        if _WITH_DEFAULT.fullmatch(inside):
            name, _, default = inside.partition(":-")
            return whole if self._filled is None else literal(self._filled.get(name) or default)
        return self._variable_or_text(inside, whole)

    def _variable_or_text(self, inside: str, whole: str) -> str:
        return self.variable(inside) if _NAME.fullmatch(inside) else literal(whole)

    def _folder(self, name: str) -> str | None:
        if name == "userHome":
            return str(self._home)
        if name in ("pathSeparator", "/"):
            return os.sep
        if name in ("workspaceFolder", "workspaceFolderBasename"):
            project = self._entry.project
            if project is None:
                raise Missing(f"'${{{name}}}' is the project of a window", "import it from a project's own file")
            return str(project) if name == "workspaceFolder" else project.name
        return None

    def _input(self, key: str) -> str:
        known = next((each for each in self._entry.inputs if each.get("id") == key), {})
        what = str(known.get("description") or key)
        if self._answer is None:
            raise Missing(f"the client asks for '{what}' (input {key})", "answer it with --ask")
        if key not in self._answers:
            self._answers[key] = self._answer(what, bool(known.get("password")))
        return self._answers[key]


def literal(text: str) -> str:
    """The text as mcpd takes it for itself."""
    return text.replace("$", "$$") if "${" in text or "$$" in text else text
