from __future__ import annotations

import os
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from mcpd.config.model import Config, Secrets
from mcpd.control.refusal import Refusal
from mcpd.control.token import CREDENTIAL, FILE, LEAST, NOBODY, find_token

SECRET = "a-token-that-nobody-guesses"
NOBODY_ELSE = 12345
"""A user that is not the one who runs the tests."""


def admits(token, value):
    try:
        token.require(value)
    except Refusal as found:
        refusal = found
    else:
        return True
    assert (refusal.status, refusal.code) == (401, "unauthorized")
    assert b"WWW-Authenticate: Bearer" in refusal.headers
    assert token.where in refusal.remedy or "mcpd's log says why" in refusal.remedy
    return False


def written(path, mode=0o600, text=SECRET):
    path.write_text(text)
    path.chmod(mode)
    return path


@contextmanager
def without_privileges():
    """As a user to whom modes apply; root would read everything. The directory is one that this user can enter."""
    with tempfile.TemporaryDirectory(prefix="mcpd-") as directory:
        if os.geteuid() != 0:
            yield Path(directory)
            return
        os.chown(directory, NOBODY_ELSE, -1)
        os.seteuid(NOBODY_ELSE)
        try:
            yield Path(directory)
        finally:
            os.seteuid(0)


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
        written(target, text="the-other-mcpd-was-faster")
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
    path = written(tmp_path / FILE, text="")
    path.write_bytes(content)
    token = find_token(tmp_path, None)
    assert not admits(token, b"Bearer " + content.strip())
    assert not admits(token, b"Bearer ")
    assert f"event=no_admin_token file={path}" in caplog.text
    assert "remedy='delete it and restart mcpd" in caplog.text
    assert path.read_bytes() == content, "it is not for mcpd to replace what somebody wrote"


def test_where_none_can_be_made_nobody_is_admitted(tmp_path, caplog):
    token = find_token(tmp_path / "none", None)
    assert not admits(token, b"Bearer ")
    assert "event=no_admin_token" in caplog.text


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644, 0o777])
def test_a_file_that_others_may_know_admits_nobody_until_that_is_mended(mode, tmp_path, caplog):
    path = written(tmp_path / FILE, mode)
    assert not admits(find_token(tmp_path, None), b"Bearer " + SECRET.encode())
    assert f"event=no_admin_token file={path} reason=its mode is {mode:o}" in caplog.text
    assert "chmod 600" in caplog.text
    assert SECRET not in caplog.text
    path.chmod(0o600)
    assert admits(find_token(tmp_path, None), b"Bearer " + SECRET.encode())
    path.chmod(mode)
    path.unlink()
    find_token(tmp_path, None)
    assert admits(find_token(tmp_path, None), b"Bearer " + path.read_bytes().strip()), "or a new one is made"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_so_does_a_file_of_another_user(tmp_path, caplog):
    path = written(tmp_path / FILE)
    os.chown(path, NOBODY_ELSE, -1)
    assert not admits(find_token(tmp_path, None), b"Bearer " + SECRET.encode())
    assert f"file={path} reason=it belongs to another user, {NOBODY_ELSE}" in caplog.text
    assert "'chown'" in caplog.text


def test_of_a_credential_the_service_manager_takes_care(tmp_path):
    written(tmp_path / CREDENTIAL, 0o440)
    assert admits(find_token(tmp_path / "state", tmp_path), b"Bearer " + SECRET.encode())


def test_credentials_of_others_alone_leave_the_file_in_use(tmp_path, caplog):
    (tmp_path / "github").write_text("x")
    for credentials in (tmp_path, tmp_path / "gone", tmp_path / "github"):
        token = find_token(tmp_path, credentials)
        assert token.where == str(tmp_path / FILE)
        assert admits(token, b"Bearer " + (tmp_path / FILE).read_bytes().strip())
    assert caplog.text == ""


@pytest.mark.parametrize("closed", ["directory", "file"])
def test_a_credential_that_cannot_be_read_is_not_replaced_by_another_secret(closed, caplog):
    with without_privileges() as directory:
        credentials = directory / "credentials"
        credentials.mkdir()
        path = written(credentials / CREDENTIAL)
        written(directory / FILE)
        (credentials if closed == "directory" else path).chmod(0)
        token = find_token(directory, credentials)
        credentials.chmod(0o700)
    assert not admits(token, b"Bearer " + SECRET.encode())
    assert f"event=no_admin_token file={path} reason=" in caplog.text
    assert "Permission denied" in caplog.text
    assert f"LoadCredential={CREDENTIAL}:" in caplog.text


def test_nor_is_one_that_is_no_token(tmp_path, caplog):
    written(tmp_path / CREDENTIAL, text="short")
    written(tmp_path / FILE)
    assert not admits(find_token(tmp_path, tmp_path), b"Bearer " + SECRET.encode())
    assert f"file={tmp_path / CREDENTIAL} reason=a token has from" in caplog.text


def test_it_is_among_the_secrets_of_a_configuration(tmp_path):
    written(tmp_path / FILE)
    config = Config(secrets=Secrets.of({"another-secret"}))
    hidden = find_token(tmp_path, None).hidden_in(config)
    assert hidden.secrets.redact(f"{SECRET} another-secret x") == "*** *** x"
    assert NOBODY.hidden_in(config) == config
