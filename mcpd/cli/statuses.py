"""The exit statuses of `mcpctl`; the larger ones are those of sysexits(3)."""

from __future__ import annotations

from typing import Final

OK: Final = 0
FAILED: Final = 1
"""mcpd refused it, or could not do it."""
USAGE: Final = 2
"""The command line is wrong."""
ATTENTION: Final = 3
"""Nothing is broken, but somebody should look at something."""
TOOL_FAILED: Final = 4
"""The tool was called, and says that it failed."""
UNAVAILABLE: Final = 69
"""mcpd cannot be reached."""
NOT_PERMITTED: Final = 77
"""This user may not do it."""
INVALID: Final = 78
"""The configuration has a fault."""
INTERRUPTED: Final = 130
"""Ended by the keyboard, as a shell says it of SIGINT."""

ALL: Final = (OK, FAILED, USAGE, ATTENTION, TOOL_FAILED, UNAVAILABLE, NOT_PERMITTED, INVALID, INTERRUPTED)
