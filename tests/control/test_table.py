from __future__ import annotations

import pytest

from mcpd.control.table import Operation, decoded, flag, number, text


async def work(operations, ask):
    return None


@pytest.mark.parametrize(
    ("template", "path", "values"),
    [
        ("/v1/status", "/v1/status", {}),
        ("/v1/status", "/v1/status/", None),
        ("/v1/status", "/v1/other", None),
        ("/v1/servers/{name}", "/v1/servers/a%20b", {"name": "a%20b"}),
        ("/v1/servers/{name}", "/v1/servers/", None),
        ("/v1/servers/{name}", "/v1/servers/a/b", None),
        ("/v1/servers/{name}/stop", "/v1/servers/a/stop", {"name": "a"}),
        ("/v1/servers/{name}/stop", "/v1/servers//stop", None),
        ("/v1/servers/{name}/stop", "/v1/servers/a/start", None),
    ],
)
def test_a_template_matches_whole_segments(template, path, values):
    assert Operation("GET", template, work, "Works.").match(tuple(path.split("/"))) == values


@pytest.mark.parametrize(
    ("segment", "value"),
    [("a", "a"), ("a%2Fb", "a/b"), ("%c3%A9", "é"), ("a+b", "a+b"), ("%", None), ("%2", None), ("%zz", None)],
)
def test_a_segment_is_decoded(segment, value):
    assert decoded(segment) == value


@pytest.mark.parametrize("segment", ["%ff", "%c3", "%ed%a0%80"])
def test_what_is_no_utf8_is_none(segment):
    assert decoded(segment) is None


@pytest.mark.parametrize(
    ("parameter", "fine", "wrong"),
    [
        (flag("f", "A flag."), ["1", "0", "true", "YES"], ["", "maybe", "2"]),
        (number("n", "A number.", least=2, most=10), ["2", "10"], ["", "1", "11", "02", "-3", "2.0", "٣", "9" * 5000]),
        (text("t", "A text.", most=3), ["", "abc"], ["abcd"]),
    ],
)
def test_a_parameter_of_the_query_has_its_values(parameter, fine, wrong):
    assert [parameter.fits(each) for each in fine] == [True] * len(fine)
    assert [parameter.fits(each) for each in wrong] == [False] * len(wrong)
