from __future__ import annotations

import os
import stat

import pytest

from mcpd.control.refusal import Refusal
from mcpd.control.token import CREDENTIAL, FILE, LEAST, find_token


def admits(token, value):
    try:
        token.require(value)
    except Refusal as found:
        refusal = found
    else:
        return True
    assert (refusal.status, refusal.code) == (401, "unauthorized")
    assert b"WWW-Authenticate: Bearer" in refusal.headers
    assert token.where in refusal.remedy
    return False


def test_one_is_made_for_its_owner_alone_and_stays(tmp_path):
    token = find_token(tmp_path, None)
    file = tmp_path / FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    secret = file.read_bytes().strip()
    assert len(secret) > 40
    assert os.listdir(tmp_path) == [FILE]
    assert admits(token, b"Bearer " + secret)
    assert admits(find_token(tmp_path, None), b"bearer  " + secret), "the next run has the same"
    assert secret.decode() not in repr(token)


def test_nobody_else_could_read_it_while_it_was_made(tmp_path, monkeypatch):
    seen = []
    link = os.link

    def look(source, target):
        seen.append(stat.S_IMODE(os.stat(source).st_mode))
        link(source, target)

    monkeypatch.setattr(os, "link", look)
    before = os.umask(0)
    try:
        find_token(tmp_path, None)
    finally:
        os.umask(before)
    assert seen == [0o600]


def test_whoever_was_faster_has_the_token(tmp_path, monkeypatch):
    def faster(source, target):
        target.write_text("the-other-mcpd-was-faster")
        raise FileExistsError

    monkeypatch.setattr(os, "link", faster)
    assert admits(find_token(tmp_path, None), b"Bearer the-other-mcpd-was-faster")
    assert os.listdir(tmp_path) == [FILE]


@pytest.mark.parametrize("value", [None, b"", b"Bearer", b"Bearer ", b"Bearer x", b"Basic %b", b"%b", b"Bearer %bx"])
def test_another_value_is_refused(value, tmp_path):
    token = find_token(tmp_path, None)
    secret = (tmp_path / FILE).read_bytes().strip()
    assert not admits(token, value and value.replace(b"%b", secret))


def test_a_credential_counts_before_the_file(tmp_path):
    given = tmp_path / "credentials"
    given.mkdir()
    (given / CREDENTIAL).write_text("what-the-service-manager-gave\n")
    token = find_token(tmp_path / "state", given)
    assert admits(token, b"Bearer what-the-service-manager-gave")
    assert CREDENTIAL in token.where
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("content", [b"", b"x" * (LEAST - 1), b"\xff" * 40, b"x" * 5000])
def test_what_is_no_token_admits_nobody_and_the_log_says_why(content, tmp_path, caplog):
    (tmp_path / FILE).write_bytes(content)
    token = find_token(tmp_path, None)
    assert not admits(token, b"Bearer " + content.strip())
    assert not admits(token, b"Bearer ")
    assert "event=no_admin_token" in caplog.text


def test_where_none_can_be_made_nobody_is_admitted(tmp_path, caplog):
    token = find_token(tmp_path / "none", None)
    assert not admits(token, b"Bearer ")
    assert "event=no_admin_token" in caplog.text
