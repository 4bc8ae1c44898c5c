"""Names for ids that must not be mixed up with other strings."""

from __future__ import annotations

from typing import NewType

SessionKey = NewType("SessionKey", str)
"""What everything that belongs to one client is keyed by; never sent anywhere."""
