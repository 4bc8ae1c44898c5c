"""How much of everything: the whole, and a quick run of the same."""

from __future__ import annotations

WHOLE = {"servers": 100, "cycles": 2000, "kills": 100, "recoveries": 200}
QUICK = {"servers": 20, "cycles": 40, "kills": 3, "recoveries": 10}

SLACK = 10.0
"""Times as long, and as much more memory, as a quick run allows: it runs beside other things, and is too short to tell
drift from noise. Processes, descriptors and cgroups are counted as strictly as ever."""

LIMIT = 3600.0
"""Seconds for the whole; a soak that hangs is a finding, too."""
