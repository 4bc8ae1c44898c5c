from __future__ import annotations

import os
import pwd

import pytest

from mcpd.control.ask import Who
from mcpd.wire.credentials import Credentials
from tests.control.parts import ask


def test_a_process_is_named_by_its_user():
    who = Who(Credentials(4711, os.getuid(), frozenset()))
    name = pwd.getpwuid(os.getuid()).pw_name
    assert str(who) == f"uid={os.getuid()} ({name}) pid=4711"
    assert who.logged == f"uid={os.getuid()} pid=4711"
    assert who.uid == os.getuid()


def test_a_user_need_not_have_a_name():
    assert str(Who(Credentials(4711, 12345678, frozenset()))) == "uid=12345678 pid=4711"


def test_the_holder_of_a_token_is_named_by_it():
    who = Who(token="admin token", peer="127.0.0.1")
    assert (str(who), who.logged, who.uid) == (
        "admin token from 127.0.0.1",
        "by='admin token' peer=127.0.0.1",
        None,
    )


def test_who_is_not_known_is_told_as_that():
    assert (str(Who()), Who().logged, Who().uid) == ("unknown", "uid=unknown", None)


@pytest.mark.parametrize(("text", "value"), [("1", True), ("true", True), ("YES", True), ("0", False), ("no", False)])
def test_a_flag_is_yes_or_no(text, value):
    assert ask(query={"f": text}).flag("f") is value
    assert ask().flag("f") is False


def test_a_number_has_a_default():
    assert ask(query={"n": "12"}).number("n", 3) == 12
    assert ask().number("n", 3) == 3
