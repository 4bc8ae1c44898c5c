from __future__ import annotations

import pytest

from mcpd.cli.typed import Mistyped, arguments, value

SCHEMA = {
    "properties": {
        "n": {"type": "number"},
        "i": {"type": "integer"},
        "b": {"type": "boolean"},
        "s": {"type": "string"},
        "l": {"type": "array"},
        "o": {"type": "object"},
        "many": {"type": ["integer", "null", "string"]},
        "e": {"enum": [1, "one", None]},
        "odd": True,
    }
}


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("n=1.5", 1.5),
        ("n=-2", -2),
        ("i=3", 3),
        ("i=3.0", 3),
        ("b=true", True),
        ("b=No", False),
        ("s=3", "3"),
        ("s=", ""),
        ("s=a=b", "a=b"),
        ('l=[1, "a"]', [1, "a"]),
        ('o={"a": null}', {"a": None}),
        ("many=3", 3),
        ("many=null", None),
        ("many=x", "x"),
        ("e=1", 1),
        ("e=one", "one"),
        ("e=else", "else"),
        ("odd=1", "1"),
        ("unknown=1", "1"),
    ],
)
def test_a_word_is_what_the_schema_says(word, found):
    assert arguments([word], SCHEMA) == {word.partition("=")[0]: found}
    assert type(arguments([word], SCHEMA)[word.partition("=")[0]]) is type(found)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["n=x"], "n is a number, not 'x'"),
        (["n=true"], "n is a number"),
        (["n=NaN3"], "n is a number"),
        (["i=3.5"], "i is a whole number"),
        (["i=Infinity"], "i is a whole number"),
        (["b=maybe"], "b is true or false"),
        (["l={}"], "l is a list as JSON"),
        (["o=x"], "o is an object as JSON"),
        (["x"], "'x' is not NAME=VALUE"),
        (["=x"], "'=x' is not NAME=VALUE"),
        (["s=1", "s=2"], "s is given twice"),
    ],
)
def test_what_is_none_is_said(words, why):
    with pytest.raises(Mistyped, match=why):
        arguments(words, SCHEMA)


def test_a_schema_may_say_nothing():
    assert arguments(["a=1"], {}) == arguments(["a=1"], {"properties": []}) == {"a": "1"}
    assert value("1", {}) == "1"
