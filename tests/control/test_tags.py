from __future__ import annotations

import re
from types import SimpleNamespace

import msgspec
import pytest

from mcpd.config.model import Config, Listen, ServerSpec
from mcpd.control import tags
from mcpd.control.refusal import Refusal

A = ServerSpec(name="a", transport="stdio", command="x", env={"TOKEN": "secret-word"})
B = ServerSpec(name="b", transport="stdio", command="x")


def configured(*specs, **settings):
    return SimpleNamespace(gateway=SimpleNamespace(config=Config(servers=specs, **settings)), key=b"key")


def all_of(ops):
    return tags.configuration(ops, {}), tags.servers(ops, {}), tags.server(ops, {"name": "a"})


def test_a_tag_stays_while_what_it_stands_for_does():
    first = all_of(configured(A, B))
    assert len(set(first)) == 3
    assert first == all_of(configured(A, B))
    assert all(re.fullmatch(r'"[0-9a-f]{32}"', each) and "secret" not in each for each in first)


@pytest.mark.parametrize(
    ("specs", "settings", "same"),
    [
        ((msgspec.structs.replace(A, env={"TOKEN": "other"}), B), {}, ()),
        ((A,), {}, ("server",)),
        ((B, A), {}, ("server",)),
        ((A, msgspec.structs.replace(B, enabled=False)), {}, ("server",)),
        ((A, B), {"listen": Listen(port=1)}, ("servers", "server")),
    ],
)
def test_a_tag_changes_with_what_it_stands_for(specs, settings, same):
    names = ("configuration", "servers", "server")
    before, after = all_of(configured(A, B)), all_of(configured(*specs, **settings))
    assert {name for name, old, new in zip(names, before, after, strict=True) if old == new} == set(same)


def test_another_key_gives_other_tags():
    one, two = configured(A), configured(A)
    two.key = b"another key"
    assert not set(all_of(one)) & set(all_of(two))


def test_what_is_not_there_has_none():
    assert tags.server(configured(B), {"name": "a"}) is None


@pytest.mark.parametrize(
    ("condition", "met"),
    [
        ('"1"', True),
        ("*", True),
        (' "0" , "1"', True),
        ('"0"', False),
        ('W/"1"', False),
        ('"0", "2"', False),
        ("", False),
        ("1", False),
        ('"1', False),
        ("**", False),
    ],
)
def test_a_condition_is_met_by_one_of_its_tags(condition, met):
    assert tags.holds(condition, '"1"') is met
    if met:
        tags.require(condition, '"1"')
    else:
        with pytest.raises(Refusal) as caught:
            tags.require(condition, '"1"')
        assert (caught.value.status, caught.value.code) == (412, "changed_meanwhile")
        assert caught.value.headers == b'ETag: "1"\r\n'


def test_without_a_condition_or_a_thing_there_is_nothing_to_meet():
    tags.require(None, '"1"')
    tags.require('"0"', None)
