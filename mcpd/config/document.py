"""Text → a tree of plain values, with the line of every key: YAML 1.2's core types, or JSON.

Theory of operation. PyYAML's own constructor follows YAML 1.1, where `off`, `no` and `12:30` are not text,
and it lets nested aliases grow without bound. So only its event parser is used, and the tree is built here:

1. A scalar without quotes is null, true/false, a number or text, as YAML 1.2's core schema says; the rest
   is text.
2. Keys are text, and each is there once.
3. An alias is the value it names; sizes add up, and the sum is bounded.
4. JSON is read by the standard decoder; a second pass over the tokens, known to be valid, finds the lines.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from mcpd.config.faults import Faults, Path, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

Value = dict[str, "Value"] | list["Value"] | str | int | float | bool | None

MAX_DEPTH = 32
"""The schema needs six; the bound keeps recursion away from the interpreter's own."""
TOO_DEEP = "nested too deeply"
DEEP_REMEDY = f"{MAX_DEPTH} levels are more than enough"
MAX_NODES = 200_000
"""A thousand servers with fifty settings each is a quarter of that."""

_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_ODD_FLOAT = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_TAG = "tag:yaml.org,2002:"


class Document:
    """A tree and the line of every path in it."""

    def __init__(self, value: Value, lines: dict[Path, int]) -> None:
        self.value = value
        self.lines = lines


def parse(text: str, file: str) -> Document:
    """Read a file's text; its name tells the format: `.json` is JSON, all else YAML.

    Raises: ConfigErrors.
    """
    faults = Faults(file)
    if file.lower().endswith(".json"):
        return _parse_json(text, faults)
    return _YamlReader(text, faults).read()


def _fail(faults: Faults, path: Path, reason: str, remedy: str = "", *, line: int | None = None) -> NoReturn:
    """Add the last fault and raise everything: reading cannot go on behind it."""
    faults.paths.discard(path)
    faults.add(path, reason, remedy, line=line)
    faults.raise_any()
    raise AssertionError("a fault was added and not raised")


# --- YAML ---


class _YamlReader:
    def __init__(self, text: str, faults: Faults) -> None:
        self.faults = faults
        self.lines = faults.lines
        self.last_line = text.count("\n") + 1
        self.nodes = 0
        self.peak = 0
        """The deepest path within the node that is being read."""
        self.anchors: dict[str, tuple[Value, int, int]] = {}
        """Value, number of nodes, height."""
        self.events: Iterator[Any] = yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))

    def read(self) -> Document:
        try:
            return self._document()
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
            if "nesting depth" in str(problem):  # newer parsers count too, ahead of what they have given out
                _fail(self.faults, (), TOO_DEEP, DEEP_REMEDY, line=mark.line + 1 if mark is not None else None)
            # The end of the text counts as a line of its own; no editor shows that one.
            line = min(mark.line + 1, self.last_line) if mark is not None else None
            tab = "character that cannot start any token" in str(problem)
            remedy = "indent with spaces, and quote texts that begin with a special character" if tab else ""
            _fail(self.faults, (), f"not valid YAML: {shorten(str(problem))}", remedy, line=line)

    def _document(self) -> Document:
        next(self.events)  # the stream's start
        if isinstance(next(self.events), yaml.StreamEndEvent):
            return Document(None, {})
        value = self._value(next(self.events), ())
        next(self.events)  # the document's end
        behind = next(self.events)
        if not isinstance(behind, yaml.StreamEndEvent):
            remedy = "one file is one configuration; drop the '---'"
            _fail(self.faults, (), "a second document", remedy, line=behind.start_mark.line + 1)
        self.faults.raise_any()
        return Document(value, self.lines)

    def _value(self, event: Any, path: Path) -> Value:  # noqa: ANN401 - the stubs know no attributes
        line = event.start_mark.line + 1
        self.lines.setdefault(path, line)
        self._count(1, path)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                _fail(self.faults, path, f"nothing above is called '&{shorten(str(event.anchor))}'", line=line)
            value, size, height = self.anchors[event.anchor]
            self._count(size, path)
            self._deepen(len(path) + height, path)
            return value
        before, peak = self.nodes, self.peak
        self.peak = 0
        self._deepen(len(path), path)
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, path)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(path)
        else:
            value = self._mapping(path)
        # Only now: an alias inside its own anchor would make a tree without end.
        if event.anchor is not None:
            self.anchors[event.anchor] = (value, self.nodes - before, self.peak - len(path))
        self.peak = max(peak, self.peak)
        return value

    def _deepen(self, depth: int, path: Path) -> None:
        self.peak = max(self.peak, depth)
        if depth > MAX_DEPTH:
            _fail(self.faults, path[:2], TOO_DEEP, DEEP_REMEDY)

    def _count(self, size: int, path: Path) -> None:
        self.nodes += size
        if self.nodes > MAX_NODES:
            _fail(self.faults, path[:2], f"more than {MAX_NODES} values", "aliases of aliases multiply")

    def _sequence(self, path: Path) -> Value:
        items: list[Value] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self._value(event, (*path, len(items))))
        return items

    def _mapping(self, path: Path) -> Value:
        result: dict[str, Value] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            if not isinstance(event, yaml.ScalarEvent):
                _fail(self.faults, path, "a key must be text", line=line)
            key = str(event.value)
            inner = (*path, key)
            if key == "<<" and event.implicit[0]:
                remedy = "YAML 1.2 has no merge keys; write the keys out"
                self.faults.add(inner, "merge keys are not understood", remedy, line=line)
            elif key in result:
                self.faults.add(inner, "the key is there twice", f"first in line {self.lines[inner]}", line=line)
                self._value(next(self.events), inner)
                continue
            self.lines[inner] = line
            result[key] = self._value(next(self.events), inner)
        return result

    def _scalar(self, event: Any, path: Path) -> Value:  # noqa: ANN401 - the stubs know no attributes
        tag, text = event.tag, str(event.value)
        value: Value = text
        if tag is None or tag == "!":
            if event.implicit[0] and tag is None:
                value = self._plain(text, path)
        elif tag in (_TAG + "int", _TAG + "float", _TAG + "bool", _TAG + "null"):
            value = self._plain(text, path)
        elif tag != _TAG + "str":
            self.faults.add(path, f"the tag '{shorten(tag)}' is not understood", "write plain text or a number")
        return value

    def _plain(self, text: str, path: Path) -> Value:
        if _NULL.fullmatch(text):
            return None
        if _TRUE.fullmatch(text):
            return True
        if _FALSE.fullmatch(text):
            return False
        try:
            if _INT.fullmatch(text):
                return int(text)
            if _HEX.fullmatch(text):
                return int(text, 0)
        except ValueError:  # the interpreter's own bound on digits
            self.faults.add(path, "the number is too large")
            return 0
        if _FLOAT.fullmatch(text) or _ODD_FLOAT.fullmatch(text):
            number = math.inf if _ODD_FLOAT.fullmatch(text) else float(text)
            if not math.isfinite(number):
                self.faults.add(path, "not a finite number")
                return 0
            return number
        return text


# --- JSON ---


def _parse_json(text: str, faults: Faults) -> Document:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not a number of JSON")

    def number(digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            raise ValueError(f"{shorten(digits)} is not a finite number")
        return value

    try:
        value: Value = json.loads(text, parse_constant=refuse, parse_float=number)
    except json.JSONDecodeError as error:
        line = text.splitlines()[error.lineno - 1 : error.lineno]
        comment = bool(line) and line[0].lstrip().startswith(("//", "/*", "#"))
        remedy = "JSON has no comments; YAML has: name the file .yaml" if comment else ""
        _fail(faults, (), f"not valid JSON: {error.msg[:1].lower()}{error.msg[1:]}", remedy, line=error.lineno)
    except RecursionError:
        _fail(faults, (), TOO_DEEP)
    except ValueError as error:
        _fail(faults, (), f"not valid JSON: {shorten(str(error))}")
    _find_lines(text, faults)
    faults.raise_any()
    return Document(value, faults.lines)


def _find_lines(text: str, faults: Faults) -> None:
    """Walk the tokens of valid JSON: the line of every key and element, and keys that are there twice."""
    lines = faults.lines
    path: list[str | int] = []
    """The way to the current value; for each open map or list its last step is the current key or index."""
    maps: list[bool] = []
    line, position, expect_key = 1, 0, False
    lines[()] = 1
    for token in _JSON_TOKEN.finditer(text):
        line += text.count("\n", position, token.start())
        position = token.start()
        mark = token.group()
        if expect_key and mark not in "{}[],:":
            path[-1] = str(json.loads(mark))
            expect_key = False
            inner = tuple(path)
            if inner in lines:
                faults.add(inner, "the key is there twice", f"first in line {lines[inner]}", line=line)
            lines[inner] = line
            continue
        if mark not in "}],:" and maps and not maps[-1]:
            lines[tuple(path)] = line
        if mark in "{[":
            maps.append(mark == "{")
            expect_key = mark == "{"
            path.append("" if expect_key else 0)
            if len(maps) > MAX_DEPTH:
                _fail(faults, tuple(path[:2]), TOO_DEEP, line=line)
        elif mark in "}]":
            maps.pop()
            path.pop()
            expect_key = False
        elif mark == ",":
            expect_key = maps[-1]
            last = path[-1]
            if isinstance(last, int):
                path[-1] = last + 1
