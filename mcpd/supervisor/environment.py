"""Which of mcpd's own environment variables a child inherits: few, named, and none that may hold a secret.
Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

INHERITED = frozenset(
    {
        "HOME",  # npx, uvx and most servers keep caches and settings below it
        "LOGNAME",
        "USER",  # who am I, without a look-up
        "PATH",  # to find node, python, git
        "SHELL",
        "TERM",  # what other MCP clients pass on as well
        "LANG",
        "LANGUAGE",  # with LC_*: the encoding of file names and messages
        "TZ",  # times in results should be the operator's
        "TMPDIR",  # with PrivateTmp= or a small /tmp there is only this one
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_STATE_HOME",
        "XDG_RUNTIME_DIR",  # directories: what works in the operator's shell works under mcpd
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "NODE_EXTRA_CA_CERTS",  # paths of a site's own certificate authority
    }
)
"""Left out on purpose: *_PROXY (may carry passwords), *_TOKEN and *_KEY, NOTIFY_SOCKET, LISTEN_* and
WATCHDOG_* (a child that speaks to systemd would speak for mcpd), CREDENTIALS_DIRECTORY, LD_*, PYTHON* and
NODE_OPTIONS. A server that needs one of them has it configured."""

INHERITED_PREFIX = "LC_"

DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
"""When mcpd itself has no PATH; the same as systemd's, without the sbin directories."""


def clean_environment(extra: Mapping[str, str], *, inherited: Mapping[str, str]) -> dict[str, str]:
    """The complete environment of a child: the inherited few of `inherited` (pass os.environ), then `extra`
    over them."""
    result = {
        name: value
        for name, value in inherited.items()
        # "()" is a shell function exported by bash: code, not a value.
        if (name in INHERITED or name.startswith(INHERITED_PREFIX)) and not value.startswith("()")
    }
    result.setdefault("PATH", DEFAULT_PATH)
    result.update(extra)
    return result
