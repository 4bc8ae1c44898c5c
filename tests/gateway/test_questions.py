from __future__ import annotations

import pytest

from mcpd.gateway import questions


def test_ids_are_json_numbers_that_grow(monkeypatch):
    monkeypatch.setattr(questions, "_ids", questions._ids)
    questions.number_from(7)
    assert [questions.next_id(), questions.next_id()] == [b"7", b"8"]


@pytest.mark.parametrize("spelt", [b"7", b'"7"', b"7.0"])
def test_an_id_is_known_again_however_a_client_spells_it(spelt):
    assert questions.number(spelt) == b"7"
