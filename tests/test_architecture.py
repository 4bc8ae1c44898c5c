"""ARCHITECTURE.md is true where a machine can tell: what it names is there, and it stays short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 200


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(tests/[\w/]+\.py)`", TEXT))))
def test_the_tests_it_names_are_there(name):
    assert (ROOT / name).is_file()


@pytest.mark.parametrize(
    "name",
    sorted(set(re.findall(r"`((?:gateway|backends|frontends|protocol|wire|supervisor|config)/\w+(?:\.py)?)`", TEXT))),
)
def test_the_modules_it_names_are_there(name):
    assert (ROOT / "mcpd" / name).with_suffix(".py").is_file()


def test_every_rule_has_a_test():
    rules = re.findall(r"^\| (\d+) \|.*\|(.*)\|$", TEXT, re.MULTILINE)
    assert [int(number) for number, _ in rules] == list(range(1, len(rules) + 1))
    assert all("tests/" in held for _, held in rules)
