from __future__ import annotations

import json

from mcpd.config.load import loads
from mcpd.config.shown import shown

TEXT = """
instructions: "ask ${WHO}"
mcpServers:
  a:
    command: x
    args: [--token=tok-1, --key, k2, --verbose, "${ARG}"]
    env: {SHORT: s, PATH: /bin, LONG: a-long-secret}
    inherit_env: [HOME]
  b:
    url: "https://h.example/mcp?api_key=q-secret"
    headers: {Authorization: Bearer h-secret, X: "1"}
"""
PLANTED = ("tok-1", "k2", '"s"', "a-long-secret", "arg-secret", "q-secret", "h-secret", '"1"', "who-secret")


def test_nothing_secret_is_shown_however_short():
    tree = shown(loads(TEXT, name="c.yaml", environ={"ARG": "arg-secret", "WHO": "who-secret"}))
    text = json.dumps(tree)
    assert [each for each in PLANTED if each in text] == []
    a, b = tree["servers"]["a"], tree["servers"]["b"]
    assert a["args"] == ["--token=***", "--key", "***", "--verbose", "***"]
    assert a["env"] == {"SHORT": "***", "PATH": "/bin", "LONG": "***"}
    assert (a["command"], a["inherit_env"]) == ("x", ["HOME"])
    assert (b["url"], b["headers"]) == ("https://h.example/mcp?***", {"Authorization": "***", "X": "***"})


def test_everything_else_is():
    tree = shown(loads(TEXT, name="c.yaml", environ={"ARG": "arg-secret", "WHO": "who-secret"}))
    assert tree["sources"] == ["c.yaml"]
    assert tree["settings"]["limits"]["calls"] == 2048
    assert tree["settings"]["instructions"] == "ask ***"
    assert tree["origins"]["a"]["line"] == 4
    assert set(tree["servers"]) == {"a", "b"}
    assert (tree["conflicts"], tree["problems"]) == ((), [])
