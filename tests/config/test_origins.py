from __future__ import annotations

from mcpd.config.origins import Conflict, Origin, Provenance

ADDED = Provenance(at="2026-11-28T10:00:00Z", by="uid=1000 (alice) pid=7", how="mcpctl")


def test_who_when_and_how_are_one_phrase():
    assert str(ADDED) == "2026-11-28T10:00:00Z by uid=1000 (alice) pid=7 with mcpctl"


def test_a_place_has_its_line_if_there_is_one():
    assert Origin(file="/etc/x.yaml", line=3).place == "/etc/x.yaml:3"
    assert Origin(file="/etc/x.yaml").place == "/etc/x.yaml"


def test_a_conflict_names_both_and_the_remedy():
    text = str(Conflict(name="a", file="/etc/x.yaml", line=3, added=ADDED))
    assert text.startswith("a: /etc/x.yaml:3 defines it, so what was added at 2026-11-28T10:00:00Z has no effect")
    assert "mcpctl remove-server a" in text
