"""Paths and faults as they are printed."""

from __future__ import annotations

import pytest

from mcpd.config.faults import MAX_FAULTS, ConfigErrors, Faults, dotted, shorten
from mcpd.errors import ConfigError


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("mcpServers", "github", "args", 1), "mcpServers.github.args[1]"),
        (("mcpServers", "a.b", "url"), 'mcpServers."a.b".url'),
        (("a\nb",), '"a\\nb"'),
    ],
)
def test_dotted(path, text):
    assert dotted(path) == text


def test_shorten():
    assert shorten("a\nb") == "a\\nb"
    assert shorten("x" * 100) == "x" * 59 + "…"


def test_faults_come_in_the_order_of_the_file_each_path_once():
    faults = Faults("f.yaml", {(): 1, ("b",): 3, ("a",): 2})
    faults.add(("b", "deep"), "second", "do this")
    faults.add(("a",), "first")
    faults.add(("a",), "again")
    assert faults.within(("b",))
    assert not faults.within(("c",))
    with pytest.raises(ConfigErrors) as caught:
        faults.raise_any()
    assert str(caught.value) == "f.yaml:2: a: first\nf.yaml:3: b.deep: second (do this)"
    assert [error.line for error in caught.value.errors] == [2, 3]
    assert isinstance(caught.value, ConfigError)
    assert caught.value.exit_code == 78


def test_faults_are_bounded():
    faults = Faults("f")
    faults.raise_any()
    for number in range(MAX_FAULTS + 10):
        faults.add((number,), "wrong")
    with pytest.raises(ConfigErrors) as caught:
        faults.raise_any()
    assert len(caught.value.errors) == MAX_FAULTS
