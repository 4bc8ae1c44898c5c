"""What is wrong with a configuration: all of it, in the order of the file, each fault on one line."""

from __future__ import annotations

import json
import re

from mcpd.errors import ConfigError

Path = tuple[str | int, ...]
"""Where in the tree: keys of maps and indices of lists, from the root."""

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_$-]+")
MAX_FAULTS = 100
"""More than that is another kind of file; a screen of faults tells it as well as a thousand."""


class ConfigErrors(ConfigError):
    """Everything that is wrong with one file: `errors` are the single faults, the text is their lines."""

    def __init__(self, errors: list[ConfigError]) -> None:
        self.errors = tuple(errors)
        first = errors[0]
        super().__init__(first.reason, file=first.file, line=first.line, path=first.path, remedy=first.remedy)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


def dotted(path: Path) -> str:
    """A path as people write it: `mcpServers.github.args[1]`, with quotes around keys that need them."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            plain = _PLAIN_KEY.fullmatch(step) is not None
            text += ("." if text else "") + (step if plain else json.dumps(step[:80]))
    return text


def shorten(text: str, length: int = 60) -> str:
    """One printable line of it, for a message."""
    line = text.encode("unicode_escape").decode("ascii") if not text.isprintable() else text
    return line if len(line) <= length else line[: length - 1] + "…"


class Faults:
    """Collects faults of one file, with the line that belongs to each path."""

    def __init__(self, file: str, lines: dict[Path, int] | None = None) -> None:
        self.file = file
        self.lines: dict[Path, int] = {} if lines is None else lines
        self.paths: set[Path] = set()
        self._errors: list[ConfigError] = []

    def add(self, path: Path, reason: str, remedy: str = "", *, line: int | None = None) -> None:
        """Remember one fault. A second one at the same path is dropped: it mostly follows from the first."""
        if path in self.paths or self.full:
            return
        self.paths.add(path)
        at = self.line_of(path) if line is None else line
        self._errors.append(ConfigError(reason, file=self.file, line=at, path=dotted(path), remedy=remedy))

    @property
    def full(self) -> bool:
        """Nothing more is taken: whoever looks for more may stop."""
        return len(self._errors) >= MAX_FAULTS

    def line_of(self, path: Path) -> int | None:
        """The line of that path, or of the nearest thing around it that has one."""
        for length in range(len(path), -1, -1):
            line = self.lines.get(path[:length])
            if line is not None:
                return line
        return None

    def within(self, path: Path) -> bool:
        """Whether something at or below that path is wrong."""
        return any(other[: len(path)] == path for other in self.paths)

    @property
    def found(self) -> list[ConfigError]:
        """All of them, in the order of the file."""
        return sorted(self._errors, key=lambda error: error.line or 0)

    def raise_any(self) -> None:
        """Raise all that was found, if any."""
        if self._errors:
            raise ConfigErrors(self.found)
