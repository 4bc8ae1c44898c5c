"""Who may do what: by the user and the groups of the process that asks, which the kernel vouches for.

Rules.
1. root, the user that mcpd runs as, and members of the group `mcpd`, if there is one, may do everything.
2. But no process that mcpd itself started (`supervisor/descent`): servers run as its user, and one that is confined
   would have a command run outside of what confines it. Landlock does not keep it from a socket.
3. Whoever else can connect may look, unless that is for operators too (`control.look`). Who can connect, the mode of
   the socket decides.
"""

from __future__ import annotations

import grp
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from mcpd.control.refusal import Refusal

if TYPE_CHECKING:
    from mcpd.config.model import Look
    from mcpd.wire.credentials import Credentials

GROUP: Final = "mcpd"


@dataclass(frozen=True, slots=True)
class Permission:
    """`uid` is mcpd's own; `gid` the group's, None where there is none."""

    uid: int
    gid: int | None
    look: Look = "everyone"

    def may_change(self, who: Credentials | None) -> bool:
        """Whether this process may change things."""
        if who is None or who.ours:
            return False
        return who.uid in (0, self.uid) or (self.gid is not None and self.gid in who.groups)

    def require_change(self, who: Credentials | None) -> None:
        """Raises: Refusal."""
        if not self.may_change(who):
            may = "look, but not change anything" if self.look == "everyone" else "neither look nor change anything"
            raise self._refusal(who, may)

    def require_look(self, who: Credentials | None) -> None:
        """Raises: Refusal."""
        if self.look == "operators" and not self.may_change(who):
            raise self._refusal(who, "not look (control.look)")

    def _refusal(self, who: Credentials | None, may: str) -> Refusal:
        if who is not None and who.ours:
            remedy = "ask from outside of its servers, or over HTTP with the admin token"
            message = f"process {who.pid}, which mcpd itself started or which has ended, may {may}"
            return Refusal(HTTPStatus.FORBIDDEN, "not_permitted", message, remedy)
        remedy = "use sudo" if self.gid is None else f"use sudo, or become a member of the group '{GROUP}'"
        user = who.uid if who is not None else "unknown"
        return Refusal(HTTPStatus.FORBIDDEN, "not_permitted", f"user {user} may {may}", remedy)


def group_id() -> int | None:
    """The group whose members operate mcpd, None where there is none."""
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return None
