"""A server is started to be looked at; with the daemon round it: tests/e2e/test_check.py."""

from __future__ import annotations

import pytest

from mcpd.config.model import Restart, ServerSpec
from mcpd.errors import METHOD_NOT_FOUND, RpcError
from mcpd.trial import Deaf, for_trial


def test_it_is_the_same_server_but_for_when_it_starts():
    spec = ServerSpec(
        name="a",
        transport="stdio",
        command="x",
        env={"A": "b"},
        start="lazy",
        idle_stop=5.0,
        enabled=False,
        restart=Restart(initial=7.0),
    )
    tried = for_trial(spec)
    same = [name for name in spec.__struct_fields__ if getattr(spec, name) == getattr(tried, name)]
    assert set(spec.__struct_fields__) - set(same) == {"start", "idle_stop", "restart"}
    assert (tried.start, tried.idle_stop, tried.restart.policy, tried.restart.initial) == ("eager", 0.0, "never", 7.0)


async def test_nobody_is_asked():
    with pytest.raises(RpcError) as caught:
        await Deaf().ask_owner(None, None, "sampling/createMessage", b"{}")
    assert caught.value.code == METHOD_NOT_FOUND
