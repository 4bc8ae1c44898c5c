from __future__ import annotations

import msgspec

from mcpd.config.model import Config
from mcpd.gateway import views
from tests.gateway.fakes import FakeBackend, make_gateway

OFF = {"name": "off", "state": "disabled"}


def test_servers_are_in_the_order_of_the_configuration_with_those_that_are_disabled(tmp_path):
    a, b = FakeBackend("a"), FakeBackend("b")
    off = msgspec.structs.replace(a.spec, name="off", enabled=False)
    gateway = make_gateway(tmp_path, a, b, config=Config(servers=(b.spec, off, a.spec)))
    assert views.servers(gateway) == [{"name": "b", "state": "ready"}, OFF, {"name": "a", "state": "ready"}]
    assert views.server(gateway, "off") == OFF
    assert views.server(gateway, "other") is None
