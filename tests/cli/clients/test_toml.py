from __future__ import annotations

import pytest

from mcpd.cli.clients.toml import put, read, written

PATH = ("mcp_servers", "mcpd")

TEXT = """\
# mine
model = "x"

[mcp_servers.mcpd]
url = "old"

[mcp_servers.mcpd.tools]
a = 1

# about the other
[mcp_servers.other]
command = "o"  # [not a header]
"""


def test_a_table_is_put_at_the_end():
    new = put('model = "x" # mine', PATH, {"url": "u"})
    assert new == 'model = "x" # mine\n\n[mcp_servers.mcpd]\nurl = "u"\n'
    assert put("", PATH, {"url": "u"}) == written(PATH, {"url": "u"})


def test_one_that_is_there_is_replaced():
    new = put(TEXT, PATH, {"command": 'a\x7f"b', "args": ["1", "é"]})
    assert read(new)["mcp_servers"] == {"mcpd": {"command": 'a\x7f"b', "args": ["1", "é"]}, "other": {"command": "o"}}
    assert new.startswith('# mine\nmodel = "x"\n\n[mcp_servers.mcpd]\n')
    assert new.endswith(TEXT[TEXT.index("\n# about") :])
    assert put(new, PATH, read(new)["mcp_servers"]["mcpd"]) == new


def test_what_is_no_toml_is_refused():
    with pytest.raises(ValueError, match=r"."):
        put("a = ", PATH, {})


def test_names_that_need_it_are_quoted():
    text = written(("mcp_servers", "a b"), {"x.y": "1"})
    assert read(text) == {"mcp_servers": {"a b": {"x.y": "1"}}}
