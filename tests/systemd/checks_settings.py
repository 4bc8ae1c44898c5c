"""What operators change: configuration, drop-ins, sockets, users, secrets."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import trio

from tests.systemd.service import UNITS, mini

if TYPE_CHECKING:
    from tests.systemd.service import Service


async def stays_down_and_says_why_when_misconfigured(service: Service) -> None:
    await service.configure(nonsense=1)
    assert (await service.box.ask("systemctl", "start", "mcpd.service")).returncode
    assert await service.show("ExecMainStatus") == "78"
    assert await service.show("ActiveState") == "failed", "a restart would not mend it"
    status = (await service.box.ask("systemctl", "status", "--no-pager", "mcpd")).stdout
    assert "nonsense" in status, status
    await service.configure()
    await service.systemctl("start", "mcpd.service")
    assert await service.call("echo", text="mended") == "mended"


async def reloads_and_waits_for_the_outcome(service: Service) -> None:
    await service.systemctl("start", "mcpd.service")
    pid, child = await service.pid(), await service.call("pid")
    await service.configure({"mini": mini(), "more": mini(prefix="more_")})
    await service.systemctl("reload", "mcpd.service")
    assert await service.call("more_echo", text="new") == "new", "it is there when the command returns"
    assert (await service.pid(), await service.call("pid")) == (pid, child), "the rest goes on"
    await service.configure(nonsense=1)
    failed = await service.box.ask("systemctl", "reload", "mcpd.service")
    assert failed.returncode
    assert await service.call("more_echo", text="still") == "still", "a fault changes nothing"
    assert await service.show("ActiveState") == "active"
    status = (await service.box.ask("systemctl", "status", "--no-pager", "mcpd")).stdout
    assert "nonsense" in status, status
    words = (await service.box.ask("mcpctl", "reload")).stderr
    assert "nonsense" in words, words
    stranger = await service.box.ask("setpriv", "--reuid=nobody", "--clear-groups", "mcpctl", "status")
    assert stranger.returncode, "the control socket is for root and mcpd's group"


async def closes_the_port_when_clients_keep_starting_what_cannot_start(service: Service) -> None:
    await service.configure(nonsense=1)
    limits = "[Socket]\nTriggerLimitIntervalSec=60s\nTriggerLimitBurst=4\n"
    await service.drop_in(limits, "mcpd.socket")
    await service.systemctl("start", "mcpd.socket")
    with socket.create_connection(("127.0.0.1", 8080), timeout=10):

        async def closed() -> bool:
            return await service.show("ActiveState", "mcpd.socket") == "failed"

        await service.until(closed, "systemd closed the socket")
    await service.configure()
    await service.systemctl("start", "mcpd.service")
    assert await service.call("echo", text="open") == "open", "who mends it needs no other command"


async def refuses_to_serve_others_unasked(service: Service) -> None:
    await service.drop_in("[Socket]\nListenStream=\nListenStream=0.0.0.0:8080\n", "mcpd.socket")
    assert (await service.box.ask("systemctl", "start", "mcpd.service")).returncode
    assert await service.show("ExecMainStatus") == "78"
    assert "others can reach 0.0.0.0:8080" in await service.show("StatusText")


async def keeps_its_own_port_while_it_restarts(service: Service) -> None:
    await service.systemctl("mask", "--runtime", "mcpd.socket")
    await service.configure(listen={"port": 8081})
    await service.systemctl("start", "mcpd.service")
    refused = 0
    restarted = trio.Event()

    async def knock() -> None:
        nonlocal refused
        while not restarted.is_set():
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", 8081)
            except OSError:
                refused += 1
            else:
                await stream.aclose()
            await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(knock)
        for _ in range(3):
            await service.systemctl("restart", "mcpd.service")
        old = await service.pid()
        await service.box.run("kill", "-KILL", str(old))
        await service.until_new(old)
        restarted.set()
    assert refused == 0
    await service.configure(listen={"port": 8082})
    await service.systemctl("restart", "mcpd.service")
    socket.create_connection(("127.0.0.1", 8082), timeout=10).close()
    try:
        socket.create_connection(("127.0.0.1", 8081), timeout=10).close()
    except ConnectionRefusedError:
        return
    raise AssertionError("the port that is not configured any more is still open")


async def hands_credentials_to_the_server_they_are_for(service: Service) -> None:
    await service.box.write("/etc/mcpd/credentials/token", "s3cret-of-github", mode="600")
    await service.drop_in("[Service]\nLoadCredential=token:/etc/mcpd/credentials/token\n")
    await service.configure({"mini": mini(env={"TOKEN": "${credential:token}"})})
    await service.systemctl("start", "mcpd.service")
    child = await service.call("pid")
    environ = await service.box.read(f"/proc/{child}/environ")
    assert "TOKEN=s3cret-of-github" in environ.split("\0")
    mcpd = await service.box.read(f"/proc/{await service.pid()}/environ")
    assert "s3cret-of-github" not in mcpd
    forbidden = await service.box.ask("setpriv", "--reuid=mcpd", "--clear-groups", "cat", "/etc/mcpd/credentials/token")
    assert forbidden.returncode, "mcpd's user cannot read the file itself"


async def runs_as_a_user_that_nobody_made(service: Service) -> None:
    # The group is for the configuration, which the package gives to mcpd's own user.
    user = "User=mcpd-dynamic\nGroup=mcpd-dynamic\nSupplementaryGroups=mcpd\n"
    await service.drop_in(f"[Service]\nDynamicUser=yes\n{user}")
    await service.box.run("sh", "-c", "mv /var/lib/mcpd /var/lib/mcpd.aside; mv /var/cache/mcpd /var/cache/mcpd.aside")
    try:
        await service.systemctl("start", "mcpd.service")
        assert await service.call("echo", text="hi") == "hi"
        status = await service.box.read(f"/proc/{await service.pid()}/status")
        uid = int(next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1])
        assert 61184 <= uid <= 65519, "systemd's range of dynamic users"
        pid = await service.pid()
        await service.systemctl("restart", "mcpd.service")
        await service.until_new(pid)
        assert await service.call("echo", text="hi") == "hi"
    finally:
        await service.systemctl("stop", *reversed(UNITS))
        script = (
            "rm -rf /var/lib/mcpd /var/lib/private/mcpd /var/cache/mcpd /var/cache/private/mcpd /run/private/mcpd "
            "/run/mcpd && mv /var/lib/mcpd.aside /var/lib/mcpd && mv /var/cache/mcpd.aside /var/cache/mcpd && "
            "systemd-tmpfiles --create mcpd.conf"
        )
        await service.box.run("sh", "-c", script)


async def serves_one_user_from_the_manager_of_that_user(service: Service) -> None:
    box = service.box
    await box.run("useradd", "--create-home", "me")
    uid = (await box.run("id", "-u", "me")).strip()
    await service.systemctl("start", f"user@{uid}.service")  # as a login does
    environ = ("env", f"XDG_RUNTIME_DIR=/run/user/{uid}", "HOME=/home/me", "SYSTEMD_PAGER=")
    mine = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--init-groups", *environ, "systemctl", "--user")
    try:
        # Nothing is configured yet.
        assert (await box.ask(*mine, "start", "mcpd.service")).returncode
        assert (await box.run(*mine, "show", "--value", "--property=ExecMainStatus", "mcpd.service")).strip() == "78"
        await box.run(*mine, "stop", "mcpd.socket")
        await box.write("/home/me/.config/mcpd/mcpd.yaml", json.dumps({"mcpServers": {"mini": mini()}}))
        await box.run("chown", "-R", "me:", "/home/me/.config")
        await box.run(*mine, "start", "mcpd.socket")
        child = await service.call("pid")
        assert (await box.run("ps", "-o", "user=", "-p", child)).strip() == "me"

        async def ready() -> bool:
            return 'Status: "1 ready"' in (await box.ask(*mine, "status", "--no-pager", "mcpd.service")).stdout

        await service.until(ready, "the user's own manager knows the status")
        await box.run(*mine, "restart", "mcpd.service")
        assert await service.call("echo", text="hi") == "hi"
    finally:
        await box.ask(*mine, "stop", "mcpd.service", "mcpd.socket", "mcpd-control.socket")
        await service.systemctl("stop", f"user@{uid}.service")


CHECKS = (
    stays_down_and_says_why_when_misconfigured,
    reloads_and_waits_for_the_outcome,
    closes_the_port_when_clients_keep_starting_what_cannot_start,
    refuses_to_serve_others_unasked,
    keeps_its_own_port_while_it_restarts,
    hands_credentials_to_the_server_they_are_for,
    runs_as_a_user_that_nobody_made,
    serves_one_user_from_the_manager_of_that_user,
)
