"""Names for the ids that get mixed up."""

from __future__ import annotations

from typing import NewType

BackendName = NewType("BackendName", str)
"""A server's key in the configuration."""

ExposedName = NewType("ExposedName", str)
"""The name of a tool or prompt as clients see it."""

SessionKey = NewType("SessionKey", str)
"""What everything that belongs to one client is keyed by; never sent anywhere."""
