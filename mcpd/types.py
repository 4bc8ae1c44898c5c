"""Names for ids that must not be mixed up with other strings, and who mcpd says it is."""

from __future__ import annotations

from typing import Final, NewType

from mcpd import __version__

SessionKey = NewType("SessionKey", str)
"""What everything that belongs to one client is keyed by; never sent anywhere."""

IMPLEMENTATION: Final = b'{"name":"mcpd","title":"mcpd gateway","version":"%b"}' % __version__.encode()
"""mcpd as client and as server: `clientInfo` and `serverInfo`, an Implementation of every version."""
