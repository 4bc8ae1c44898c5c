from __future__ import annotations

import os

import pytest

from mcpd.config.model import Config, Limits
from mcpd.gateway import handover
from mcpd.gateway.gateway import Gateway
from mcpd.gateway.sessions import Sessions
from mcpd.gateway.vault import Vault
from mcpd.supervisor.adoption import ChildState, SupervisorState
from mcpd.upgrade.state import State
from mcpd.wire.http_carrying import ConnectionState

CHILD = ChildState(name="a", pid=2, start=3, marker="m", stdin=20, stdout=21, stderr=-1, age=1.0)


@pytest.fixture
def make_state(tmp_path):
    """Makes what a program without sessions leaves; to be called inside of Trio."""

    def make() -> State:
        limits = Limits()
        vault = Vault(tmp_path, now=0, session_age=limits.session_age)
        gateway = Gateway(Config(), sessions=Sessions(vault, limits, clock=lambda: 0.0, first_serial=1))
        return State(
            pid=os.getpid(),
            version="1",
            left_at=1.0,
            listeners=(("http", 10),),
            supervisor=SupervisorState(since=1, serial=2, children=(CHILD,)),
            backends=(),
            connections=(ConnectionState(fd=30),),
            sessions=handover.capture(gateway),
        )

    return make
