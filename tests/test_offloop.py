from __future__ import annotations

import threading

from mcpd.config.model import Config, Secrets
from mcpd.config.sources import Reading
from mcpd.control.token import NOBODY, Token
from mcpd.offloop import OffLoop

SECRET = "a-token-that-nobody-guesses"


class Files:
    """Sources that say in which thread they were used."""

    def __init__(self):
        self.threads = set()

    def read(self, change=None):
        self.threads.add(threading.current_thread())
        return Reading(Config(secrets=Secrets.of({"of-the-file"})), before=change)

    def write(self, reading):
        self.threads.add(threading.current_thread())
        return reading.before == b"x"

    def stamp(self):
        self.threads.add(threading.current_thread())
        return (("a", 1, 2, 3),)


async def test_files_are_used_in_another_thread():
    files = Files()
    off = OffLoop(files, NOBODY)
    reading = await off.read(b"x")
    assert reading.before == b"x"
    assert await off.write(reading) is True
    assert await off.stamp() == (("a", 1, 2, 3),)
    assert threading.main_thread() not in files.threads
    assert files.threads


async def test_whatever_is_read_has_the_admin_token_among_its_secrets():
    off = OffLoop(Files(), Token(SECRET, "x"))
    for _ in range(2):
        reading = await off.read()
        assert reading.config.secrets.redact(f"{SECRET} of-the-file") == "*** ***"
