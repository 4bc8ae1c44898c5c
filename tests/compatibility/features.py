"""All rows, in the order of the document."""

from __future__ import annotations

from tests.compatibility.asking import ASKING
from tests.compatibility.calls import TOOLS
from tests.compatibility.content import CONTENT
from tests.compatibility.failing import FAILING
from tests.compatibility.news import NEWS
from tests.compatibility.opening import OPENING
from tests.compatibility.running import RUNNING
from tests.compatibility.wire import WIRE

THEMES = (OPENING, TOOLS, CONTENT, ASKING, RUNNING, NEWS, WIRE, FAILING)
ROWS = [row for theme in THEMES for row in theme.rows]
