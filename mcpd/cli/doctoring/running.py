"""What mcpd says of itself and of where it runs, and what follows from it."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mcpd import __version__
from mcpd.cli.doctoring.finding import Finding, error, ok, warning
from mcpd.cli.table import duration

if TYPE_CHECKING:
    from collections.abc import Callable

Body = dict[str, Any]

PORT_TIME: Final = 3.0
"""Seconds for the port to answer; mcpd has the answer ready."""
LITTLE: Final = 64 << 20
"""Bytes. Catalogues and what sessions leave is a few MiB; a file system with less than this is about to be full."""
NONE_LEFT: Final = 1 << 20
FEW_FILES: Final = 100
SKEW: Final = 5.0
"""Seconds between two clocks of one machine; more than this and one of them is in a container of its own."""
NAMES_TOLD: Final = 5


def version(status: Body) -> list[Finding]:
    """Of mcpctl and mcpd: after an installation, and before an upgrade, they differ."""
    if status["version"] == __version__:
        return [ok("version", f"mcpd and mcpctl are both {__version__}")]
    message = f"mcpd is {status['version']} and mcpctl {__version__}"
    return [warning("version", message, "'mcpctl upgrade' makes mcpd the one that is installed")]


def configuration(status: Body) -> list[Finding]:
    """Whether what is in effect is what the files say."""
    last, found = status["last_reload"], []
    if last is not None and not last["ok"]:
        told = "; ".join(last["errors"])
        message = f"the last reload failed, and what was in effect before still is: {told}"
        found.append(error("configuration", message, "mend it, then 'mcpctl reload'"))
    else:
        found.append(ok("configuration", f"{status['configuration'] or 'the configuration'} is in effect"))
    if status["needs_restart"]:
        message = f"changed, and not in effect: {', '.join(status['needs_restart'])}"
        found.append(warning("restart", message, "'systemctl restart mcpd', when it suits"))
    return found


def files(different: Body) -> list[Finding]:
    """What is wrong with the files as they are now: it has not been tried yet."""
    told = [": ".join(str(each[key]) for key in ("path", "message") if each.get(key)) for each in different["errors"]]
    if not told:
        return []
    message = f"the next reload, and the next start, will fail: {'; '.join(told)}"
    return [error("configuration", message, "mend it; 'mcpctl config check' says whether it is")]


def servers(listed: list[Body]) -> list[Finding]:
    """One finding for each that does not work."""
    found = []
    for each in listed:
        failure = each.get("failure") or {}
        if not each.get("error") and not failure and not each.get("crash_looping"):
            continue
        name, kind = each["name"], failure.get("kind") or each["state"]
        reason = failure.get("reason") or each.get("error") or "it ends again and again"
        again = each.get("next_attempt_in")
        wait = f"; tried again in {duration(again)}" if again is not None else ""
        remedy = failure.get("remedy") or f"see 'mcpctl show {name}' and 'mcpctl logs {name}'"
        make = warning if each["state"] == "ready" else error
        found.append(make("server", f"{name} is {each['state']}, {kind}: {reason}{wait}", remedy, name))
    if not found:
        # One that sleeps or is switched off is as it should be.
        found.append(
            ok("server", f"none of {len(listed)} servers has a failure" if listed else "no servers are configured")
        )
    return found


def names(diagnosis: Body) -> list[Finding]:
    """That clients see in another form than servers have them."""
    told = diagnosis["names"]
    if not told:
        return [ok("names", "every name is as its server has it")]
    more = f"; and {len(told) - NAMES_TOLD} more" if len(told) > NAMES_TOLD else ""
    return [
        warning(
            "names",
            "; ".join(told[:NAMES_TOLD]) + more,
            "give servers another 'prefix', or see 'naming' in mcpd.yaml(5)",
        )
    ]


def ports(diagnosis: Body, get: Callable[[str], str] | None = None) -> list[Finding]:
    """Whether clients get an answer. `get` gives the problem with a URL, empty if there is none."""
    if not diagnosis["listen"]:
        return [ok("port", "no clients are served over HTTP")]
    found = []
    for address in diagnosis["listen"]:
        here = address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
        problem = (get or problem_with)(f"{here}/healthz")
        if problem:
            remedy = "is a firewall, or a container's network, between? see also 'mcpctl status'"
            found.append(error("port", f"{address} does not answer: {problem}", remedy, address))
        else:
            found.append(ok("port", f"{address} answers", address))
    return found


def problem_with(url: str) -> str:
    """Why a URL gives no answer of mcpd. Proxies are for other machines."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=PORT_TIME) as answer:
            answer.read(1 << 16)
    except urllib.error.HTTPError as problem:
        problem.close()
        # It has answered; that it is not well is told by what it says of itself.
        return "" if problem.code == 503 else f"HTTP {problem.code}"
    except (OSError, ValueError) as problem:
        return str(getattr(problem, "reason", problem)).lower()
    return ""


def state_directory(diagnosis: Body) -> list[Finding]:
    """Whether there is room for what is to outlive a restart."""
    about = diagnosis["state_directory"]
    if about is None:
        return []
    code, path = "state-directory", about["path"]
    if "error" in about:
        return [error(code, f"{path}: {about['error']}", "make it again, owned by mcpd's user, and restart mcpd")]
    if not about["writable"]:
        return [error(code, f"mcpd may not write to {path}", "give it to mcpd's user")]
    free = f"{about['free'] / (1 << 20):,.0f} MiB free in {path}"
    if about["free"] < NONE_LEFT:
        return [error(code, free, "make room: nothing can be kept over a restart")]
    # Some file systems have no bound on files, and say that there are none left.
    if about["free"] < LITTLE or 0 < about["free_files"] < FEW_FILES:
        return [warning(code, free, "make room before it is full")]
    return [ok(code, free)]


def cgroup(diagnosis: Body) -> list[Finding]:
    """Whether servers can be limited and ended as a whole."""
    if diagnosis["cgroup"]:
        return [ok("cgroup", f"servers have cgroups of their own in {diagnosis['cgroup']}")]
    # Right on a desktop. A limit that is configured and not enforced is told where it is: in the log of the server.
    why = diagnosis["cgroup_missing"]
    return [ok("cgroup", f"servers have no cgroups, so that memory_max, pids_max and cpu_max have no effect: {why}")]


def programs(diagnosis: Body, which: Callable[[str], str | None] = shutil.which) -> list[Finding]:
    """What mcpd does not find where it looks for commands."""
    found = []
    for name, place in diagnosis["programs"].items():
        here = which(name)
        if place is None and here is not None and "/" not in name:
            message = f"{name} is {here} for you, and is not in mcpd's PATH ({diagnosis['path']})"
            remedy = "give servers its full path, or mcpd another PATH: 'systemctl edit mcpd', Environment=PATH=…"
            found.append(warning("program", message, remedy, name))
    there = [name for name, place in diagnosis["programs"].items() if place is not None]
    return found or [ok("program", f"in mcpd's PATH: {', '.join(there) or 'none of what servers are started with'}")]


def clock(diagnosis: Body, now: float, installed: float | None = None) -> list[Finding]:
    """Whether it is right: certificates and sessions count on it."""
    if installed is None:
        installed = Path(__file__).stat().st_mtime
    away = abs(diagnosis["time"] - now)
    if away > SKEW:
        return [warning("clock", f"mcpd's clock and this one differ by {duration(away)}", "set them by NTP")]
    if now < installed - SKEW:
        message = "the clock says a time before mcpd was installed: certificates will not be valid"
        return [error("clock", message, "set it: 'timedatectl set-ntp true'")]
    return [ok("clock", "the clock is not obviously wrong")]
