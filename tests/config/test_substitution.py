"""`${…}`: each form, each way it fails, and what is remembered."""

from __future__ import annotations

import os

import pytest

from mcpd.config.faults import ConfigErrors, Faults
from mcpd.config.substitution import MAX_FILE, Substitution, is_public

ENVIRON = {"TOKEN": "tok-12345", "EMPTY": "", "HOME": "/home/alice", "ODD": "a${TOKEN}$$"}


def _apply(value, tmp_path=None, path=()):
    faults = Faults("f")
    substitution = Substitution(ENVIRON, tmp_path, faults)
    result = substitution.apply(value, path)
    faults.raise_any()
    return result, substitution.secrets


@pytest.mark.parametrize(
    ("text", "result", "secrets"),
    [
        ("plain", "plain", set()),
        ("Bearer ${TOKEN}", "Bearer tok-12345", {"tok-12345"}),
        ("${TOKEN}${TOKEN}", "tok-12345tok-12345", {"tok-12345"}),
        ("${MISSING:-default}", "default", set()),
        ("${MISSING:-}", "", set()),
        ("${EMPTY:-default}", "default", set()),
        ("${EMPTY}", "", {""}),
        ("${TOKEN:-default}", "tok-12345", {"tok-12345"}),
        ("${URL:-http://x:1/$y}", "http://x:1/$y", set()),
        ("$${TOKEN}", "${TOKEN}", set()),
        ("$$$$", "$$", set()),
        ("$$${TOKEN}", "$tok-12345", {"tok-12345"}),
        ("$HOME costs 5$", "$HOME costs 5$", set()),
        ("${HOME}/x", "/home/alice/x", set()),
        ("${ODD}", "a${TOKEN}$$", {"a${TOKEN}$$"}),
    ],
)
def test_environment(text, result, secrets):
    assert _apply(text) == (result, secrets)


def test_throughout_a_tree_and_not_in_keys():
    tree = {"${TOKEN}": ["${TOKEN}", 1, None, {"a": "${TOKEN}"}]}
    assert _apply(tree)[0] == {"${TOKEN}": ["tok-12345", 1, None, {"a": "tok-12345"}]}


def test_what_messages_show_is_no_secret():
    for path in (("listen", "host"), ("mcpServers", "a", "cwd"), ("mcpServers", "a", "command")):
        assert _apply("${TOKEN}", path=path)[1] == set()
    for path in (
        ("mcpServers", "listen", "url"),
        ("mcpServers", "a", "env", "cwd"),
        ("mcpServers", "cwd", "args", 0),
    ):
        assert _apply("${TOKEN}", path=path)[1] == {"tok-12345"}


def test_files_and_credentials(tmp_path):
    (tmp_path / "key").write_text("line1\nline2\r\n\n")
    assert _apply(f"<${{file:{tmp_path}/key}}>") == ("<line1\nline2>", {"line1\nline2"})
    assert _apply("${credential:key}", tmp_path) == ("line1\nline2", {"line1\nline2"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${NO}", "f: the environment variable NO is not set (set it for mcpd, or give a default: ${NO:-…})"),
        ("a ${TOKEN", "f: '${' without '}' (write '$${' for the characters themselves)"),
        (
            "${a b}",
            "f: '${a b}' is not understood (there are ${NAME}, ${NAME:-default}, ${file:/path} and "
            "${credential:name}; '$${' is a literal '${')",
        ),
        (
            "${env:TOKEN}",
            "f: '${env:TOKEN}' is not understood (for a variable write ${NAME}; '$${' is a literal '${')",
        ),
        ("${file:key}", "f: 'key' is not an absolute path (write ${file:/…})"),
        (
            "${file:/no/such}",
            "f: /no/such cannot be read: No such file or directory (it must be readable for mcpd's user)",
        ),
        ("${file:/}", "f: / is not a regular file"),
        ("${file:/a\0b}", "f: /a\\x00b cannot be read: not a path (it must be readable for mcpd's user)"),
        (
            "${credential:../x}",
            "f: '../x' is not a name of a credential (letters, digits, '_', '.', '@', '-')",
        ),
        (
            "${credential:key}",
            "f: there are no credentials, so no 'key' "
            "(start mcpd by systemd with LoadCredential=key:/path, or use ${file:/path})",
        ),
    ],
)
def test_faults(text, message):
    with pytest.raises(ConfigErrors) as caught:
        _apply(text)
    assert str(caught.value) == message


def test_faults_of_files(tmp_path):
    (tmp_path / "long").write_bytes(b"x" * (MAX_FILE + 1))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    os.mkfifo(tmp_path / "pipe")
    for name, message in (
        ("long", f"credential long is longer than {MAX_FILE} bytes"),
        ("binary", "credential binary is not UTF-8 text"),
        ("pipe", "credential pipe is not a regular file"),
        ("missing", "add LoadCredential=missing:/path to the unit"),
    ):
        with pytest.raises(ConfigErrors) as caught:
            _apply(f"${{credential:{name}}}", tmp_path)
        assert message in str(caught.value)


def test_public_names():
    assert is_public("HOME")
    assert is_public("LC_ALL")
    assert not is_public("GITHUB_TOKEN")
