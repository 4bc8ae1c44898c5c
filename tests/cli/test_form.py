from __future__ import annotations

import pytest

from mcpd.cli.form import answer


class Paper:
    """What is asked, and a list of answers."""

    def __init__(self, *lines: str) -> None:
        self.lines = list(lines)
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def ask(self, prompt: str) -> str:
        self.said.append(prompt)
        if not self.lines:
            raise EOFError
        return self.lines.pop(0)


def asked(*lines: str, **properties):
    paper = Paper(*lines)
    schema = {"type": "object", "properties": properties, "required": [*properties]}
    found = answer(paper, "elicitation/create", {"message": "Who?\x1b[2J", "requestedSchema": schema})
    assert paper.said[0] == "Who??[2J", "it must not steer the terminal"
    assert not paper.lines, "all that was typed was asked for"
    return found, "\n".join(paper.said)


def accepted(content):
    return {"action": "accept", "content": content}


@pytest.mark.parametrize(
    ("field", "lines", "found"),
    [
        ({"type": "string"}, ["", "bob"], "bob"),
        ({"type": "string", "minLength": 2, "maxLength": 3}, ["b", "bobb", "bob"], "bob"),
        ({"type": "string", "format": "email"}, ["bob", "bob@x.example"], "bob@x.example"),
        ({"type": "string", "format": "date"}, ["today", "2026-01-31"], "2026-01-31"),
        ({"type": "integer", "minimum": 3}, ["2", "x", "3"], 3),
        ({"type": "number", "maximum": 1}, ["1.5", "0.5"], 0.5),
        ({"type": "boolean"}, ["maybe", "y"], True),
        ({"type": "boolean", "default": False}, [""], False),
        ({"type": "string", "default": "x"}, [""], "x"),
        ({"type": "string", "enum": ["a", "b"], "enumNames": ["A", "B"]}, ["3", "2"], "b"),
        ({"type": "string", "oneOf": [{"const": "a", "title": "A"}, {"const": "b"}]}, ["c", "b"], "b"),
        ({"type": "array", "items": {"enum": ["a", "b", "c"]}}, ["1, 9", "1, c"], ["a", "c"]),
        ({"type": "array", "items": {"anyOf": [{"const": "a", "title": "A"}]}}, ["1"], ["a"]),
    ],
)
def test_a_field_is_asked_for_until_it_fits(field, lines, found):
    assert asked(*lines, name=field)[0] == accepted({"name": found})


def test_what_need_not_be_given_is_left_out():
    paper = Paper("")
    schema = {"properties": {"a": {"type": "string", "title": "The name", "description": "All of it"}}}
    assert answer(paper, "elicitation/create", {"requestedSchema": schema}) == accepted({})
    assert paper.said[-2:] == ["  All of it", "  The name (may be empty): "]


@pytest.mark.parametrize(("lines", "action"), [(["!"], "decline"), ([], "cancel"), (["x", "!"], "decline")])
def test_who_does_not_want_to_says_so(lines, action):
    assert asked(*lines, a={"type": "string"}, b={"type": "string"})[0] == {"action": action}


@pytest.mark.parametrize(("line", "found"), [("y", accepted({})), ("n", {"action": "decline"})])
def test_a_form_without_fields_is_a_question(line, found):
    assert asked(line)[0] == found


@pytest.mark.parametrize(("line", "action"), [("yes", "accept"), ("", "decline"), ("!", "decline")])
def test_an_address_is_shown_and_never_opened(line, action):
    paper = Paper(line)
    params = {"mode": "url", "message": "Pay", "url": "https://x.example/\x07pay"}
    assert answer(paper, "elicitation/create", params) == {"action": action}
    assert "  open https://x.example/?pay" in paper.said


def test_what_mcpctl_has_not_is_not_given():
    paper = Paper()
    assert answer(paper, "sampling/createMessage", {}) == {"action": "cancel"}
    assert "sampling/createMessage" in paper.said[0]
