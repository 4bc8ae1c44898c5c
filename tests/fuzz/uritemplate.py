"""URI templates: anything compiles, anything can be asked, and what a template expands to belongs to it."""

from __future__ import annotations

from hypothesis import strategies as st

from mcpd.protocol.uritemplate import compile
from tests.fuzz.runner import Target, main

LITERALS = st.text("ab:/.-?#é", min_size=1, max_size=6)
VALUES = st.text("ab.-,~%", min_size=1, max_size=5)
NAMES = st.sampled_from(["v", "var_1", "a,b", "list*", "v:3"])
# Operator, what is put before a value, what may be in it, whether there may be none.
EXPANSIONS = [
    ("", "", "", False),
    ("+", "", "/?#", False),
    ("#", "#", "/?#", True),
    (".", ".", "", True),
    ("/", "/", "", True),
    (";", ";v=", "", True),
    ("?", "?v=", "/", True),
    ("&", "&v=", "/", True),
]


@st.composite
def expanded(draw):
    template, uri = "", ""
    for _ in range(draw(st.integers(0, 6))):
        if draw(st.booleans()):
            literal = draw(LITERALS)
            template += literal
            uri += literal
        else:
            operator, lead, reserved, optional = draw(st.sampled_from(EXPANSIONS))
            template += "{" + operator + draw(NAMES) + "}"
            if not optional or draw(st.booleans()):
                uri += lead + draw(VALUES) + draw(st.text(reserved or "z", max_size=2)) + draw(VALUES)
    return template, uri


def check_expansion(value):
    template, uri = value
    matcher = compile(template)
    assert matcher.match(uri)
    assert matcher.specificity <= len(uri.encode())


def check_anything(value):
    template, uri = value
    matcher = compile(template)
    assert matcher.match(uri) in (True, False)
    assert 0 <= matcher.specificity <= len(template.encode(errors="replace"))


TARGETS = (
    Target("uritemplate expansion", expanded(), check_expansion),
    Target("uritemplate anything", st.tuples(st.text("{}+#/ab*:3,\ud800"), st.text()), check_anything),
)

if __name__ == "__main__":
    main(TARGETS)
