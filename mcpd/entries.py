"""An entry of the log in its two forms: a line of `key=value` for people, a JSON object for collectors.

Rules.
1. mcpd's own messages are templates, `backend=%s event=started pid=%d`. What has a name in the template has it as JSON
   too, with its value as it was; so a value that looks like a name or holds a line break can forge nothing.
2. Words that have no name are the `message`.
3. One entry is one line, in either form.
"""

from __future__ import annotations

import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping

    Redact = Callable[[str], str]


class Entry(Protocol):
    """What can be written in either form, and knows which of its values may hold a secret."""

    def text(self, clear: Redact) -> str:
        """As `key=value`."""

    def fields(self, clear: Redact) -> dict[str, object]:
        """By name."""


_CONVERSION: Final = re.compile(r"%(?:%|[-+ #0]*[0-9]*(?:\.[0-9]+)?([a-zA-Z]))")
_NAME: Final = re.compile(r"(?:^|(?<= ))([a-z_]+)=")
_PLAIN: Final = re.compile(r"[\w.:/+@*-]+")
_encoder: Final = msgspec.json.Encoder(enc_hook=str)


def timestamp(at: float) -> str:
    """Seconds since the epoch as logs show them: local time, to the millisecond, with the offset from UTC."""
    second, offset = _second(int(at))
    return f"{second}.{int(at % 1 * 1000):03d}{offset}"


@lru_cache(4)
def _second(at: int) -> tuple[str, str]:
    local = time.localtime(at)
    return time.strftime("%Y-%m-%dT%H:%M:%S", local), time.strftime("%z", local)


def quoted(text: str) -> str:
    """A value of somebody else's, so that it is one value in a line of `key=value`."""
    return text if _PLAIN.fullmatch(text) else repr(text)


def json_of(head: Mapping[str, object], fields: Mapping[str, object]) -> str:
    """One JSON object."""
    return _encoder.encode({**head, **fields}).decode()


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """What a record says, by name (rule 1)."""
    args = record.args if isinstance(record.args, tuple) else ()
    found: dict[str, object] = {}
    words: list[str] = []
    try:
        for name, text, conversions in _read(str(record.msg)):
            taken, args = args[: len(conversions)], args[len(conversions) :]
            if name:
                found[name] = taken[0] if text in ("%s", "%r", "%d") and taken else text % taken
            elif text:
                words.append(text % taken)
    except (TypeError, ValueError):  # no template of ours
        return {"message": record.getMessage()}
    for name, value in found.items():
        if not isinstance(value, (str, int, float, bool, type(None))):
            found[name] = str(value)
    message = " ".join(filter(None, (each.strip() for each in words)))
    return {**found, "message": message} if message else found


@lru_cache(1024)
def _read(template: str) -> tuple[tuple[str, str, str], ...]:
    """A template as (name or "", text with its conversions, the letters of those). A value ends with its conversion, or
    before the next name; of an event it ends with its first word.
    """
    found: list[tuple[str, str, str]] = []
    starts = list(_NAME.finditer(template))
    found.append(_part("", template[: starts[0].start()] if starts else template))
    for match, after in zip(starts, [*starts[1:], None], strict=True):
        value = template[match.end() : after.start() if after else len(template)].rstrip(" ")
        conversion = _CONVERSION.match(value)
        end = conversion.end() if conversion else len(value)
        if conversion is None and match[1] == "event":
            end = len(value.partition(" ")[0])
        elif conversion and value[end : end + 1] not in ("", " "):
            end = len(value)  # `after=%gs`
        found += [_part(match[1], value[:end]), _part("", value[end:])]
    return tuple(found)


def _part(name: str, text: str) -> tuple[str, str, str]:
    return name, text, "".join(match[1] for match in _CONVERSION.finditer(text) if match[1])
