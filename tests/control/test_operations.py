from __future__ import annotations

import re

import pytest

from mcpd.control.operations import TABLE, find
from mcpd.control.refusal import Refusal


def test_the_table_is_found_by_method_and_path():
    for each in TABLE:
        path = re.sub(r"\{\w+\}", "x%2Fy%20%c3%a9", each.path)
        operation, values = find(each.method, path)
        assert operation is each
        assert set(values.values()) <= {"x/y é"}
        assert each.path.startswith("/v1/")
    assert find("HEAD", "/v1/status") == find("GET", "/v1/status")


def test_every_row_is_whole():
    assert len({each.id for each in TABLE}) == len(TABLE), "the names are for programs"
    for each in TABLE:
        assert each.summary.endswith("."), each.path
        assert len({parameter.name for parameter in each.query}) == len(each.query)
        assert each.method != "GET" or (not each.changes and each.body is None), "who looks changes nothing"
        assert each.changes or each.method == "GET" or each.path.endswith("/check"), "who changes must be permitted to"


def test_what_is_not_in_the_table_is_refused():
    with pytest.raises(Refusal) as caught:
        find("GET", "/v1/nothing")
    assert (caught.value.status, caught.value.code) == (404, "not_found")
    assert "/v1/status" in caught.value.remedy
    with pytest.raises(Refusal) as caught:
        find("GET", "/v1/reload")
    assert (caught.value.status, caught.value.headers) == (405, b"Allow: POST\r\n")
    with pytest.raises(Refusal) as caught:
        find("PATCH", "/v1/status")
    assert (caught.value.status, caught.value.headers) == (405, b"Allow: GET, HEAD\r\n")
