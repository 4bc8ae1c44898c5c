from __future__ import annotations

from mcpd.cli.doctoring.finding import Level, error, ok, warning


def test_what_is_not_there_is_not_told():
    assert ok("a", "fine").describe() == {"code": "a", "level": "ok", "message": "fine"}
    assert warning("a", "m", "r", "s").describe() == {
        "code": "a",
        "level": "warning",
        "message": "m",
        "subject": "s",
        "remedy": "r",
    }
    assert max(Level) is error("a", "m", "r").level
