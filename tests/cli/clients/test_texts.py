from __future__ import annotations

import os
from pathlib import Path

import pytest

from mcpd.cli.clients.forms import ANY, Entry
from mcpd.cli.clients.texts import Missing, Texts, literal

HOME = Path("/home/alice")


def text(form: str, value: str, project: Path | None = None, **options) -> str:
    return Texts(Entry("x", {}, form, Path("/f"), project), HOME, **options).text(value)


@pytest.mark.parametrize(
    ("form", "given", "expected"),
    [
        ("claude-desktop", "${A} $B $$", "$${A} $$B $$$$"),
        ("codex", "${A}", "$${A}"),
        ("claude-code", "${A}-${B:-x}$", "${A}-${B:-x}$"),
        ("claude-code", "${not a name}", "$${not a name}"),
        ("cursor", "${env:A} ${userHome}${/}x", f"${{A}} /home/alice{os.sep}x"),
        ("vscode", "${env:A:b}", "${A:-b}"),
        ("vscode", "$${env:A}", "$${A}"),
        (
            ANY,
            "$${A} ${A} ${env:B} ${file:/k} ${credential:c} ${D:-e}",
            "$${A} ${A} ${B} ${file:/k} ${credential:c} ${D:-e}",
        ),
    ],
)
def test_each_client_has_its_own_way(form, given, expected):
    assert text(form, given) == expected


def test_folders_of_a_project():
    project = Path("/p/q")
    assert text("cursor", "${workspaceFolder}/${workspaceFolderBasename}", project) == "/p/q/q"
    assert text("claude-code", "${CLAUDE_PROJECT_DIR}", project) == "/p/q"
    with pytest.raises(Missing, match="project of a window"):
        text("cursor", "${workspaceFolder}")


def test_a_person_is_asked_once():
    asked = []

    def answer(what, secret):
        asked.append((what, secret))
        return "x"

    entry = Entry("x", {}, "vscode", Path("/f"), None, ({"id": "a", "description": "A?"},))
    texts = Texts(entry, HOME, answer=answer)
    assert texts.text("${input:a}${input:a}${input:b}") == "xxx"
    assert asked == [("A?", False), ("b", False)]


def test_dollars_are_doubled_only_where_they_must_be():
    assert (literal("$5"), literal("a$$"), literal("${x} $5")) == ("$5", "a$$$$", "$${x} $$5")
