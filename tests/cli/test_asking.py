from __future__ import annotations

import pytest
import trio

from mcpd.cli.asking import CLEAR, Meanwhile, definition, progress
from mcpd.control.client import Client, Refused
from tests.control.parts import controlled


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"progress": 3, "total": 10, "message": "on"}, "3/10 (30%) on"),
        ({"progress": 0.5}, "0.5"),
        ({"progress": 1, "total": 0}, "1"),
        ({"progress": "x", "message": 7}, ""),
    ],
)
def test_progress_is_said_in_a_line(params, text):
    assert progress(params) == text


def test_on_a_terminal_one_report_replaces_the_other(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    meanwhile = Meanwhile()
    meanwhile.hear("notifications/progress", {"progress": 1, "message": "a\x1b"})
    meanwhile.hear("notifications/message", {"level": "warning", "data": {"x": 1}})
    meanwhile.hear("notifications/other", {})
    meanwhile.clear()
    assert capsys.readouterr().err == f"{CLEAR}1 a?{CLEAR}" + 'warning: {"x": 1}\n'


def test_a_log_gets_no_line_for_each_step(capsys):
    meanwhile = Meanwhile()
    meanwhile.hear("notifications/progress", {"progress": 1})
    meanwhile.hear("notifications/message", {"data": "text"})
    meanwhile.clear()
    assert capsys.readouterr().err == "info: text\n"


async def test_a_tool_is_known_by_the_name_that_clients_see(tmp_path):
    async with controlled(tmp_path) as (path, _):
        client = Client(path)
        assert (await trio.to_thread.run_sync(definition, client, "tools", "b_x"))["name"] == "b_x"
        for name, remedy in (("x", "did you mean b_x?"), ("y", "mcpctl tools lists them")):
            with pytest.raises(Refused) as caught:
                await trio.to_thread.run_sync(definition, client, "tools", name)
            assert (caught.value.remedy, str(caught.value)) == (remedy, f"there is no tool '{name}'")
