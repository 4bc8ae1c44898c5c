"""What came of one look."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Level(enum.IntEnum):
    """How bad it is."""

    OK = 0
    WARNING = 1
    """It works, and something about it may surprise."""
    ERROR = 2
    """Something does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line for people. `code` is for programs, and stable."""

    code: str
    level: Level
    message: str
    remedy: str = ""
    subject: str = ""
    """What it is about, where the same code may be there several times: a server, an address."""

    def describe(self) -> dict[str, str]:
        """For scripts."""
        about = {"code": self.code, "level": self.level.name.lower(), "message": self.message}
        about |= {"subject": self.subject} if self.subject else {}
        return about | ({"remedy": self.remedy} if self.remedy else {})


def ok(code: str, message: str, subject: str = "") -> Finding:
    """Nothing is the matter."""
    return Finding(code, Level.OK, message, "", subject)


def warning(code: str, message: str, remedy: str, subject: str = "") -> Finding:
    """It works all the same."""
    return Finding(code, Level.WARNING, message, remedy, subject)


def error(code: str, message: str, remedy: str, subject: str = "") -> Finding:
    """It does not work."""
    return Finding(code, Level.ERROR, message, remedy, subject)
