from __future__ import annotations

import time

import pytest

from mcpd.protocol.uritemplate import TEMPLATE_MAX, URI_MAX, Matcher, compile

MATCHES = {
    "file:///{path}": (
        ["file:///a", "file:///a%2Fb", "file:///a?b#c"],
        ["file:///", "file:///a/b", "file://a"],
    ),
    "file:///{+path}": (["file:///a", "file:///a/b/c.txt"], ["file:///", "http:///a"]),
    "x://{id}/info": (
        ["x://1/info", "x://info/info"],
        ["x:///info", "x://1/2/info", "x://1/info/", "x://1/inf"],
    ),
    "x://{a}-{b}.json": (["x://q-w.json", "x://q-w-e.json", "x://a--b.json"], ["x://q.json", "x://-w.json"]),
    "x://{a}{b}": (["x://12"], ["x://1", "x://1/2"]),
    "x://{a,b}": (["x://1,2", "x://1"], ["x://", "x://1/2"]),
    "x://a{#part}": (["x://a", "x://a#b/c"], ["x://ab", "x://"]),
    "x://a{.ext}": (["x://a", "x://a.tar.gz"], ["x://a/b", "x://ab"]),
    "x://a{/b}": (["x://a", "x://a/1"], ["x://a/1/2", "x://a/", "x://ab"]),
    "x://a{/b,c}/d": (["x://a/d", "x://a/1/d", "x://a/1/2/d"], ["x://a/1/2/3/d", "x://a/1"]),
    "x://a{/b*}": (["x://a", "x://a/1/2/3"], ["x://ab"]),
    "x://a{;p,q}": (["x://a", "x://a;p=1;q=2"], ["x://a/p", "x://ap=1"]),
    "x://a{?q,r}": (["x://a", "x://a?q=1&r=/2"], ["x://a?", "x://ab?q=1", "x://a#?q=1"]),
    "x://a?f=1{&q}": (["x://a?f=1", "x://a?f=1&q=2"], ["x://a?f=1?q=2"]),
    "x://a{?q}{#part}": (["x://a", "x://a?q=1", "x://a#p", "x://a?q=1#p"], ["x://a&q"]),
    "{+any}": (["x", "x://a/b"], [""]),
    "{scheme}://x": (["a://x"], ["://x", "a://y"]),
    "x://{v:3}/{list*}": (["x://abc/1,2"], ["x://abc/"]),
    "x://é/{v}": (["x://é/ü"], ["x://e/u"]),
    "x://plain": (["x://plain"], ["x://plai", "x://plain/", "x://plane"]),
    "": ([""], ["x"]),
}


@pytest.mark.parametrize("template", MATCHES)
def test_match(template):
    matching, others = MATCHES[template]
    matcher = compile(template)
    assert matcher.template == template
    for uri in matching:
        assert matcher.match(uri), uri
    for uri in others:
        assert not matcher.match(uri), uri


@pytest.mark.parametrize(
    "template",
    ["x://{a", "x://a}", "x://{}", "x://{a}{", "x://{a b}", "x://{=a}", "x://{{a}}", "x://{a,}", "{a}}"],
)
def test_what_is_no_template_matches_only_itself(template):
    matcher = compile(template)
    assert matcher.match(template)
    assert not matcher.match("x://1")
    assert not matcher.match("1")


def test_specificity_counts_literal_characters():
    assert compile("x://{id}/info").specificity == len("x:///info")
    assert compile("{+any}").specificity == 0
    assert compile("x://a{?q}").specificity == len("x://a")
    ranked = sorted([compile("x://{+p}"), compile("x://docs/{p}"), compile("x://{p}")], key=lambda m: -m.specificity)
    assert next(matcher for matcher in ranked if matcher.match("x://docs/1")).template == "x://docs/{p}"


def test_bounds():
    assert compile("{+a}").match("x" * URI_MAX)
    assert not compile("{+a}").match("x" * (URI_MAX + 1))
    huge = "x" * TEMPLATE_MAX + "{a}"
    assert not compile(huge).match("x" * TEMPLATE_MAX + "1")
    assert compile(huge).match(huge)
    assert isinstance(compile("{"), Matcher)


@pytest.mark.parametrize(
    ("template", "uri"),
    [
        ("{a}" * 500 + "!", "x" * URI_MAX),
        ("x" + "{a}-" * 400 + "!", "x" + "-" * (URI_MAX - 1)),
        ("{+a}/{+b}/" * 150 + "!", "/" * URI_MAX),
        ("x{?a}{?b}{&c}" * 100 + "!", "x" + "?&" * (URI_MAX // 2 - 1)),
    ],
    ids=["variables side by side", "separators everywhere", "reserved", "optional"],
)
def test_time_is_linear(template, uri):
    # A backtracking regular expression would take longer than the universe has for the first of them.
    matcher = compile(template)
    start = time.process_time()
    assert not matcher.match(uri)
    assert time.process_time() - start < 0.2  # measured: 2 ms


def test_uris_that_are_no_text():
    assert not compile("x://{a}/b").match("x://\ud800")
    assert not compile("x://\ud800{a}").match("y")
