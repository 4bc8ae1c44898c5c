"""URI templates: does this URI belong to that template?

Theory of operation. A template becomes a row of steps: literal text, or characters of one class. Matching
keeps the set of positions in the URI that the steps so far can reach, as the bits of one integer: a literal
shifts the set, a class floods it along runs of its characters by one addition, whose carry does the walking.
So a match costs a few integer operations a step, whatever the URI: there is nothing to backtrack.

Variables match generously, for servers do not agree on how to expand them: a plain one takes anything but
"/", encoded or not. Percent-encoding is not normalised, and a prefix length (`{v:3}`) is not counted.

Source: RFC 6570, levels 1 to 3 and explode; "MatchStar" of Cameron et al. for the addition.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import msgspec

URI_MAX: Final = 8192
"""Bytes of a URI; servers and proxies refuse longer ones. A longer one belongs to no template."""

TEMPLATE_MAX: Final = 2048
"""Bytes of a template; a longer one matches only itself."""

_EXPRESSION: Final = re.compile(r"\{([+#./;?&]?)([^{}]*)\}")
_VARIABLES: Final = re.compile(r"[\w.%]+(?::\d{1,4}|\*)?(?:,[\w.%]+(?::\d{1,4}|\*)?)*", re.ASCII)


class _Step(msgspec.Struct, frozen=True, gc=False):
    """`literal` if any, then characters that are not in `stops`. An optional step may match nothing."""

    literal: bytes
    stops: bytes | None = None
    optional: bool = False


_SEGMENT: Final = b"/"
_QUERY: Final = b"#"
_ANYTHING: Final = b""

_OPERATORS: Final = {
    "": _Step(b"", _SEGMENT),
    "+": _Step(b"", _ANYTHING),
    # Variables that are not defined leave nothing behind, not even the first character.
    "#": _Step(b"#", _ANYTHING, optional=True),
    ".": _Step(b".", _SEGMENT, optional=True),
    "/": _Step(b"/", _SEGMENT, optional=True),
    ";": _Step(b";", _SEGMENT, optional=True),
    "?": _Step(b"?", _QUERY, optional=True),
    "&": _Step(b"&", _QUERY, optional=True),
}


class Matcher:
    """A compiled template. `specificity` counts its literal characters: of several, the highest wins."""

    __slots__ = ("_prefix", "_steps", "specificity", "template")

    def __init__(self, template: str, steps: list[_Step]) -> None:
        self.template = template
        self.specificity = sum(len(step.literal) for step in steps if step.stops is None)
        # Nearly every URI that does not belong is told by its first characters.
        self._prefix = steps[0].literal if steps and steps[0].stops is None else b""
        self._steps = tuple(steps[1:] if self._prefix else steps)

    def match(self, uri: str) -> bool:
        """Whether the URI can be an expansion of the template."""
        text = uri.encode(errors="replace")
        if not text.startswith(self._prefix) or len(text) > URI_MAX:
            return False
        rest = text[len(self._prefix) :]
        end = 1 << len(rest)
        reached = 1
        masks = _Masks(rest)
        for step in self._steps:
            before = reached
            for char in step.literal:
                reached = (reached & masks.of(char)) << 1
            if step.stops is not None:
                run = masks.run(step.stops)
                # At least one character of the class, then as many as there are.
                first = (reached & run) << 1
                reached = (((first & run) + run) ^ run) | first
            if step.optional:
                reached |= before
            if not reached:
                return False
        return bool(reached & end)

    def __repr__(self) -> str:
        return f"<Matcher {self.template}>"


class _Masks:
    """For one URI: the positions of a character, each as a bit."""

    __slots__ = ("_by_char", "_everywhere", "_reversed")

    def __init__(self, text: bytes) -> None:
        self._reversed = text[::-1]
        self._everywhere = (1 << len(text)) - 1
        self._by_char: dict[int, int] = {}

    def of(self, char: int) -> int:
        mask = self._by_char.get(char)
        if mask is None:
            mask = self._by_char[char] = int(b"0" + self._reversed.translate(_is(char)), 2)
        return mask

    def run(self, stops: bytes) -> int:
        mask = self._everywhere
        for char in stops:
            mask &= ~self.of(char)
        return mask


@lru_cache(maxsize=256)  # one for each byte there is
def _is(char: int) -> bytes:
    return bytes(0x31 if other == char else 0x30 for other in range(256))


def compile(template: str) -> Matcher:
    """The matcher of a template. What is no RFC 6570 template matches only itself."""
    if len(template.encode(errors="replace")) > TEMPLATE_MAX:
        return Matcher(template, [_Step(template.encode(errors="replace"))])
    steps: list[_Step] = []
    at = 0
    for found in _EXPRESSION.finditer(template):
        literal = template[at : found.start()]
        operator, variables = found.groups()
        if "{" in literal or "}" in literal or not _VARIABLES.fullmatch(variables):
            return Matcher(template, [_Step(template.encode(errors="replace"))])
        if literal:
            steps.append(_Step(literal.encode(errors="replace")))
        steps.extend(_expansion(operator, variables))
        at = found.end()
    rest = template[at:]
    if "{" in rest or "}" in rest:
        return Matcher(template, [_Step(template.encode(errors="replace"))])
    if rest:
        steps.append(_Step(rest.encode(errors="replace")))
    return Matcher(template, steps)


def _expansion(operator: str, variables: str) -> list[_Step]:
    step = _OPERATORS[operator]
    if operator != "/":
        return [step]
    if "*" in variables:
        return [msgspec.structs.replace(step, stops=_ANYTHING)]
    return [step] * (variables.count(",") + 1)
