"""What a row of the tables is: one operation, how it is asked for and what it takes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias
from urllib.parse import unquote_to_bytes

from mcpd.control.ask import FALSE, TRUE
from mcpd.control.tags import configuration

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mcpd.control.ask import Ask
    from mcpd.control.operations import Operations

Schema: TypeAlias = "dict[str, Any]"
Tag: TypeAlias = "Callable[[Operations, Mapping[str, str]], str | None]"
Work: TypeAlias = "Callable[[Operations, Ask], Awaitable[object]]"

_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,14}")


class Parameter(NamedTuple):
    """A name that may be in the query. `fits` says whether a value is one, `expected` in words what is."""

    name: str
    summary: str
    schema: Schema
    expected: str

    def fits(self, text: str) -> bool:
        """Whether this is a value of it."""
        schema = self.schema
        if "enum" in schema:
            return text.lower() in schema["enum"]
        if schema["type"] == "integer":
            return _NUMBER.fullmatch(text) is not None and bool(schema["minimum"] <= int(text) <= schema["maximum"])
        return len(text) <= int(schema["maxLength"])


def flag(name: str, summary: str) -> Parameter:
    """A yes or no: `Ask.flag`."""
    return Parameter(name, summary, {"type": "string", "enum": [*TRUE, *FALSE], "default": "0"}, "1 or 0")


def number(name: str, summary: str, *, least: int = 0, most: int) -> Parameter:
    """A whole number: `Ask.number`."""
    schema = {"type": "integer", "minimum": least, "maximum": most}
    return Parameter(name, summary, schema, f"a whole number from {least} to {most}")


def text(name: str, summary: str, *, most: int = 1024, pattern: str = "") -> Parameter:
    """Any text of at most that many characters. What has a `pattern` is looked at by the operation itself."""
    schema: Schema = {"type": "string", "maxLength": most, **({"pattern": pattern} if pattern else {})}
    return Parameter(name, summary, schema, f"at most {most} characters")


@dataclass(frozen=True)
class Operation:
    """One row of a table."""

    method: str
    path: str
    """A template: `/v1/servers/{name}`. A parameter is one whole segment, and not empty."""
    work: Work
    """What it does. It answers what is returned: a Reply, or anything else as JSON with 200; or it has answered on a
    stream by itself and returns STREAMED. Raises: Refusal."""
    summary: str
    """One sentence, for people."""
    changes: bool = False
    """Only for who may change things."""
    query: tuple[Parameter, ...] = ()
    body: Schema | None = None
    """What its body must be, as JSON Schema; None: it takes none."""
    body_needed: bool = True
    """Whether there must be one, where it takes one."""
    answer: Schema = field(default_factory=dict)
    """What the body of its answer is, as JSON Schema: what is sure, and no more."""
    status: int | None = HTTPStatus.OK
    """Of that answer; None where there is never one."""
    stream: str = ""
    """The media type of an answer that is a stream, instead of the other one or as is asked for."""
    refusals: tuple[int, ...] = ()
    """The statuses that this operation itself refuses with. What all have is known: `openapi.statuses`."""
    tag: Tag = configuration
    """What its entity tag stands for. Where something is changed, If-Match is compared with that; where something is
    looked at, it becomes the ETag."""
    tagged: bool = False
    """Whether the answer has an ETag, unless it brings its own."""

    @property
    def id(self) -> str:
        """Its name, for programs."""
        return self.work.__name__

    @cached_property
    def segments(self) -> tuple[str, ...]:
        """The path's parts between slashes."""
        return tuple(self.path.split("/"))

    def match(self, segments: tuple[str, ...]) -> Mapping[str, str] | None:
        """The parameters of a path, still percent-encoded, if it is one of this row."""
        if len(segments) != len(self.segments):
            return None
        values = {}
        for template, segment in zip(self.segments, segments, strict=True):
            if template.startswith("{") and segment:
                values[template[1:-1]] = segment
            elif template != segment:
                return None
        return values


def decoded(segment: str) -> str | None:
    """A percent-encoded segment of a path as text; None if it is none."""
    if _PERCENT.search(segment):
        return None
    try:
        return unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError:
        return None
