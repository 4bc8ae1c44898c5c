from __future__ import annotations

import base64

import pytest

from mcpd.cli.content import show_blocks, show_contents, write

DATA = base64.b64encode(b"\x00\x01\x02").decode()


def test_texts_are_shown_and_the_rest_is_named(capsys):
    show_blocks(
        [
            {"type": "text", "text": "a\x1b\nb"},
            {"type": "image", "mimeType": "image/png", "data": DATA},
            {"type": "audio", "mimeType": "audio/wav", "data": "?"},
            {"type": "resource_link", "name": "n", "uri": "f:1"},
            {"type": "resource", "resource": {"uri": "f:2", "text": "inside"}},
            {"type": "resource", "resource": {"uri": "f:3", "mimeType": "x/y", "blob": DATA}},
            {"type": "new", "x": 1},
        ]
    )
    assert capsys.readouterr().out.splitlines() == [
        "a\x1b",
        "b",
        "[image image/png, 3 bytes]",
        "[audio audio/wav, not base64]",
        "[n: f:1]",
        "inside",
        "[f:3 x/y, 3 bytes]",
        '{"type": "new", "x": 1}',
    ]


def test_on_a_terminal_nothing_steers_it(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    show_contents([{"uri": "f:1", "text": "a\x1b[2J\tb\nc\r"}])
    assert capsys.readouterr().out == "a?[2J\tb\nc?\n"


def test_a_file_gets_what_it_is(tmp_path):
    assert write([{"text": "ä"}, {"blob": DATA}], tmp_path / "x") == 5
    assert (tmp_path / "x").read_bytes() == "ä".encode() + b"\x00\x01\x02"
    with pytest.raises(ValueError, match=r"\w"):
        write([{"blob": "?"}], tmp_path / "x")
