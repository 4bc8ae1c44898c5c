"""What is answered when something cannot be done: which error in a word, what it is about, and the remedy."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import msgspec

from mcpd.config.faults import ConfigErrors

if TYPE_CHECKING:
    from mcpd.errors import ConfigError


class Refusal(Exception):
    """An operation that is not carried out. `code` is for programs, and stays as it is."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        message: str,
        remedy: str = "",
        *,
        headers: bytes = b"",
        details: dict[str, object] | None = None,
    ) -> None:
        self.status = int(status)
        self.code = code
        self.message = message
        self.remedy = remedy
        self.headers = headers
        self._details = details or {}
        super().__init__(f"{code}: {message}")

    def encode(self) -> bytes:
        """The body of the answer."""
        return msgspec.json.encode({"code": self.code, "message": self.message, "remedy": self.remedy, **self._details})


def listed(error: ConfigError) -> list[dict[str, object]]:
    """Faults as they are answered, each with its place."""
    faults = error.errors if isinstance(error, ConfigErrors) else (error,)
    return [
        {"file": each.file, "line": each.line, "path": each.path, "message": each.reason, "remedy": each.remedy}
        for each in faults
    ]


def invalid_configuration(error: ConfigError) -> Refusal:
    """A configuration with faults, each with its place. Nothing of it is in effect."""
    shown = listed(error)
    return Refusal(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid_configuration",
        f"the configuration has {len(shown)} fault{'s' if len(shown) > 1 else ''}, and nothing was changed",
        "mend what 'errors' names, then try again",
        details={"errors": shown},
    )


_CODES: Final = {
    400: ("bad_request", "mend the request"),
    408: ("timeout", "send the whole request at once"),
    413: ("too_large", "send less at once"),
    431: ("too_large", "send fewer headers"),
    500: ("internal_error", "its log says why"),
    503: ("busy", "come back in a moment"),
}


def explain(status: int, reason: str) -> bytes:
    """The body of what HTTP itself refuses."""
    code, remedy = _CODES.get(status, ("refused", ""))
    return msgspec.json.encode({"code": code, "message": reason, "remedy": remedy})
