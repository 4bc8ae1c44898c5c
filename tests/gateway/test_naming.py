from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpd.config.model import Naming
from mcpd.gateway.naming import SUFFIX, assign, brief, default_prefix


def names_of(*backends, separator="_", name_max=56):
    """Exposed names of (server, prefix or None, names) in order."""
    taken: set[str] = set()
    out = []
    for server, prefix, names in backends:
        if prefix is None:
            prefix = default_prefix(server, separator)
        out.append(assign(server, prefix, names, taken=taken, separator=separator, name_max=name_max))
    return out


def test_the_first_seeds_style():
    (weather, calculator) = names_of(("weather", None, ["get"]), ("calculator", None, ["add", "sub"]), separator=".")
    assert weather.exposed == ("weather.get",)
    assert calculator.exposed == ("calculator.add", "calculator.sub")
    assert weather.notes == calculator.notes == ()


def test_the_second_seeds_style():
    (weather,) = names_of(("weather-server", "weather_", ["get_weather"]))
    assert weather.exposed == ("weather_get_weather",)


def test_an_empty_prefix_leaves_names_as_they_are():
    (plain,) = names_of(("s", "", ["get_weather", "Add-2"]))
    assert plain.exposed == ("get_weather", "Add-2")


def test_the_default_prefix_is_the_server_and_the_separator():
    assert default_prefix("files", "_") == "files_"
    assert default_prefix("my.files", "_") == "my_files_"
    assert default_prefix("my.files", ".") == "my.files."
    assert default_prefix("größe", "__") == "gr__e__"


def test_what_clients_refuse_becomes_an_underscore_and_is_noted():
    (found,) = names_of(("s", "", ["a.b", "c/d e", "ü"]))
    assert found.exposed == ("a_b", "c_d_e", "_")
    assert found.notes[0] == "s: 'a.b' is exposed as 'a_b', which clients accept"


def test_characters_of_prefix_and_separator_are_the_operators_will():
    (found,) = names_of(("s", "my/", ["a/b", "c.d"]), separator=".")
    assert found.exposed == ("my/a/b", "my/c.d")


def test_no_name_is_empty():
    (found,) = names_of(("s", "", [""]))
    assert found.exposed == ("_",)


def test_long_names_are_cut_and_told_apart_by_a_hash():
    long = "x" * 60
    (found,) = names_of(("s", "p_", [long + "1", long + "2"]))
    assert all(len(name) == 56 for name in found.exposed)
    assert all(re.fullmatch(r"p_x+_[0-9a-f]{8}", name) for name in found.exposed)
    assert found.exposed[0] != found.exposed[1]
    assert len(found.notes) == 2


def test_a_name_of_just_the_limit_stays():
    (found,) = names_of(("s", "p_", ["x" * 54]))
    assert found.exposed == ("p_" + "x" * 54,)


def test_a_collision_is_resolved_and_reported():
    first, second = names_of(("a", "", ["add"]), ("b", "", ["add"]))
    assert first.exposed == ("add",)
    assert re.fullmatch(r"add_[0-9a-f]{8}", second.exposed[0])
    assert second.notes == (f"b: 'add' is exposed as {second.exposed[0]!r}, for 'add' is taken",)


def test_an_unchanged_name_wins_over_a_changed_one_of_its_backend():
    (found,) = names_of(("s", "", ["a.b", "a_b"]))
    assert found.exposed[1] == "a_b"
    assert found.exposed[0].startswith("a_b_")


def test_a_hash_that_is_taken_is_salted():
    (plain,) = names_of(("b", "", ["add"]), ("b", "", ["add"]))[1:]
    squatter = plain.exposed[0]
    found = names_of(("a", "", ["add", squatter]), ("b", "", ["add"]))[1]
    assert found.exposed[0] not in ("add", squatter)


def test_notes_are_short_whatever_a_backend_lists():
    (found,) = names_of(("s", "", ["ä" * 100_000]))
    assert len(found.notes[0]) < 250
    assert brief("x" * 101) == repr("x" * 100 + "…")


# Names that meet often: short ones of few characters, and what makes trouble.
NAMES = st.one_of(st.text("ab._/ü", max_size=4), st.text(max_size=80), st.text("ab", min_size=50, max_size=70))
BACKENDS = st.lists(
    st.tuples(
        st.text("ab.", min_size=1, max_size=3),
        st.sampled_from([None, "", "weather_", "a.", "p" * 60]),
        st.lists(NAMES, unique=True, max_size=8),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda backend: backend[0],
)


@given(BACKENDS, st.sampled_from(["_", ".", "__", "-"]), st.sampled_from([24, 56, 64]))
def test_names_are_injective_short_and_of_few_characters(backends, separator, name_max):
    found = names_of(*backends, separator=separator, name_max=name_max)
    exposed = [name for names in found for name in names.exposed]
    assert len(set(exposed)) == len(exposed)
    for names, (server, prefix, real) in zip(found, backends, strict=True):
        allowed = separator + (default_prefix(server, separator) if prefix is None else prefix)
        assert len(names.exposed) == len(real)
        for name in names.exposed:
            assert 1 <= len(name) <= name_max
            assert re.fullmatch(r"[A-Za-z0-9_-]", re.sub(f"[{re.escape(allowed)}]", "_", name[:1]))
            assert all(re.fullmatch(r"[A-Za-z0-9_-]", c) or c in allowed for c in name)


@given(BACKENDS, st.sampled_from(["_", "."]))
def test_names_are_stable_and_later_servers_rename_nothing(backends, separator):
    whole = names_of(*backends, separator=separator)
    assert whole == names_of(*backends, separator=separator)
    for count in range(len(backends)):
        assert whole[:count] == names_of(*backends[:count], separator=separator)


@pytest.mark.parametrize("name_max", [24, 128])
def test_the_configurations_bounds_leave_room_for_the_hash(name_max):
    assert name_max > SUFFIX + 2
    (found,) = names_of(("s", "p" * 200, ["a", "b"]), name_max=name_max)
    assert {len(name) for name in found.exposed} == {name_max}


def test_the_default_limit_fits_all_clients_with_a_prefix_of_their_own():
    assert Naming().name_max <= 64 - len("mcp_")
