"""YAML and JSON → trees with lines."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpd.config.document import MAX_NODES, parse
from mcpd.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# only a comment\n", None),
        ("a: 1", {"a": 1}),
        ("a: -0x", {"a": "-0x"}),
        ("[0x1F, 0o17, +5, 007]", [31, 15, 5, 7]),
        ("[1.5, .5, 1e3, -2.]", [1.5, 0.5, 1000.0, -2.0]),
        ("[true, False, yes, off, on]", [True, False, "yes", "off", "on"]),
        ("[null, ~, '', 'null', \"1\"]", [None, None, "", "null", "1"]),
        ("[12:30, 2024-01-01, 1_000, 1.5s]", ["12:30", "2024-01-01", "1_000", "1.5s"]),
        ("{1: a, true: b, null: c}", {"1": "a", "true": "b", "null": "c"}),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
        ("[!!str 1, ! 2, !!int 3]", ["1", "2", 3]),
        ("a: |\n  b\n  c\n", {"a": "b\nc\n"}),
        ("a:\nb:", {"a": None, "b": None}),
    ],
)
def test_yaml(text, value):
    assert parse(text, "x.yaml").value == value


def test_yaml_lines():
    lines = parse("a:\n  b: 1\n  c:\n  - x\n  - d: 2\n# end\ne: 3\n", "x.yaml").lines
    assert lines == {
        (): 1,
        ("a",): 1,
        ("a", "b"): 2,
        ("a", "c"): 3,
        ("a", "c", 0): 4,
        ("a", "c", 1): 5,
        ("a", "c", 1, "d"): 5,
        ("e",): 7,
    }


@pytest.mark.parametrize("space", ["\n", "\t\r\n", "\n\n  "])
def test_json_lines(space):
    text = space.join(
        [
            "{",
            '"a"',
            ":",
            "{",
            '"b"',
            ":",
            "[",
            "1",
            ",",
            '","',
            ",",
            "{",
            '"x\\"}"',
            ":",
            "[",
            "]",
            "}",
            "]",
            "}",
            ",",
            '"c"',
            ":",
            "1",
            "}",
        ]
    )
    step = space.count("\n")
    document = parse(text, "x.json")
    assert document.value == {"a": {"b": [1, ",", {'x"}': []}]}, "c": 1}
    tokens = text.split(space)
    assert document.lines == {
        (): 1,
        ("a",): 1 + step * tokens.index('"a"'),
        ("a", "b"): 1 + step * tokens.index('"b"'),
        ("a", "b", 0): 1 + step * tokens.index("1"),
        ("a", "b", 1): 1 + step * tokens.index('","'),
        ("a", "b", 2): 1 + step * (tokens.index('","') + 2),
        ("a", "b", 2, 'x"}'): 1 + step * tokens.index('"x\\"}"'),
        ("c",): 1 + step * tokens.index('"c"'),
    }


MERGE = "(YAML 1.2 has no merge keys; write the keys out)"
TAG = "(write plain text or a number)"
DEEP = "nested too deeply (32 levels are more than enough)"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.yaml", "a: 1\nb: 2\na: 3\n", "x.yaml:3: a: the key is there twice (first in line 1)"),
        (
            "x.json",
            '{"a": 1,\n"b": {"c": 1,\n"c": 2}}',
            "x.json:3: b.c: the key is there twice (first in line 2)",
        ),
        ("x.yaml", "a: .inf", "x.yaml:1: a: not a finite number"),
        ("x.yaml", "a: 1e999", "x.yaml:1: a: not a finite number"),
        ("x.yaml", "a: " + "1" * 5000, "x.yaml:1: a: the number is too large"),
        ("x.json", '{"a": NaN}', "x.json: not valid JSON: NaN is not a number of JSON"),
        ("x.json", '{"a": 1e999}', "x.json: not valid JSON: 1e999 is not a finite number"),
        ("x.yaml", "- a\n- *b", "x.yaml:2: [1]: nothing above is called '&b'"),
        ("x.yaml", "a: &a [*a]", "x.yaml:1: a[0]: nothing above is called '&a'"),
        (
            "x.yaml",
            "--- 1\n--- 2",
            "x.yaml:2: a second document (one file is one configuration; drop the '---')",
        ),
        ("x.yaml", "? [a]\n: b", "x.yaml:1: a key must be text"),
        (
            "x.yaml",
            "a: {<<: {b: 1}}",
            'x.yaml:1: a."<<": merge keys are not understood ' + MERGE,
        ),
        (
            "x.yaml",
            "a: !!binary x",
            "x.yaml:1: a: the tag 'tag:yaml.org,2002:binary' is not understood " + TAG,
        ),
        ("x.yaml", "[" * 50 + "]" * 50, f"x.yaml:1: [0][0]: {DEEP}"),
        ("x.json", "[" * 50 + "]" * 50, "x.json:1: [0][0]: nested too deeply"),
        ("x.json", "[" * 100_000, "x.json: nested too deeply"),
    ],
)
def test_faults(name, text, message):
    with pytest.raises(ConfigError) as caught:
        parse(text, name)
    assert str(caught.value) == message


def test_a_parser_that_gives_up_by_itself_says_the_same():
    with pytest.raises(ConfigError) as caught:
        parse("[" * 100_000, "x.yaml")  # newer ones look ahead, and count for themselves
    assert str(caught.value) in (f"x.yaml:1: [0][0]: {DEEP}", f"x.yaml:1: {DEEP}")


@pytest.mark.parametrize(
    ("name", "text", "begin", "remedy"),
    [
        ("x.yaml", "a:\n\t- b", "x.yaml:2: not valid YAML: ", "indent with spaces, and quote texts that"),
        ("x.yaml", "a: [1,\nb", "x.yaml:2: not valid YAML: ", ""),
        ("x.yaml", "a: \x01", "x.yaml: not valid YAML: ", ""),
        (
            "x.json",
            '{\n  "a": 1,\n  // no\n}',
            "x.json:3: not valid JSON: ",
            "JSON has no comments; YAML has: name",
        ),
        ("x.json", "", "x.json:1: not valid JSON: ", ""),
        ("x.json", "1" * 5000, "x.json: not valid JSON: ", ""),
    ],
)
def test_faults_in_the_parsers_words(name, text, begin, remedy):
    with pytest.raises(ConfigError) as caught:
        parse(text, name)
    assert str(caught.value).startswith(begin)
    assert remedy in str(caught.value)


def test_aliases_of_aliases_are_bounded():
    text = "a0: &a0 [1, 1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 30))
    with pytest.raises(ConfigError, match=f"more than {MAX_NODES} values"):
        parse(text, "x.yaml")


def test_aliases_do_not_get_around_the_depth():
    nest = "[" * 8 + "{}" + "]" * 8
    text = f"a0: &a0 {nest.format('1')}\n" + "".join(f"a{n}: &a{n} {nest.format(f'*a{n - 1}')}\n" for n in range(1, 9))
    with pytest.raises(ConfigError, match="nested too deeply"):
        parse(text, "x.yaml")


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(TREES, st.sampled_from([None, 1, 3]))
def test_json_arrives_as_it_is_and_every_key_has_a_line(tree, indent):
    document = parse(json.dumps(tree, indent=indent), "x.json")
    assert document.value == tree

    def walk(value, path):
        assert path in document.lines
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, (*path, key))
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                walk(inner, (*path, index))

    walk(tree, ())
