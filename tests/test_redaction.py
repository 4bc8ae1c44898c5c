from __future__ import annotations

import pytest

from mcpd.redaction import redact_tokens

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.s5Qe-7z_w"
# In pieces: what scans repositories for tokens should find none in here.
GITHUB, OPENAI, SLACK = "gh" + "p_" + "a1B2" * 9, "sk" + "-proj-" + "a1B2" * 6, "xo" + "xb-" + "123456789012-abc"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"using {GITHUB}.", "using ***."),
        (f"key {OPENAI}", "key ***"),
        (f"slack {SLACK} joined", "slack *** joined"),
        (f"jwt={JWT}", "jwt=***"),
        ("Authorization: Bearer abc-123-def", "Authorization: Bearer ***"),
        ("authorization: Basic dXNlcjpwYXNzd29yZA==", "authorization: Basic ***"),
        ('{"access_token": "AbC123xyz789", "expires_in": 3600}', '{"access_token": "***", "expires_in": 3600}'),
        ("POST /token?client_secret=hunter2hunter2&x=1", "POST /token?client_secret=***&x=1"),
        ("API_KEY=abcdef123456 npm start", "API_KEY=*** npm start"),
        ("password='correct horse'", "password='*** horse'"),
        ("cloning https://bob:hunter2@example.org/x.git", "cloning https://***@example.org/x.git"),
        ("Set-Cookie: sid1234567890=abc", "Set-Cookie: ***"),
        ("refresh token: 1//0abcDEF-ghiJKL", "refresh token: ***"),
    ],
)
def test_what_looks_like_a_secret_is_replaced(text, shown):
    assert redact_tokens(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "backend=github event=started pid=123",
        "the access token: expired, please sign in again",
        "Unexpected token: } in JSON at position 12",
        "KeyError: 'token'",
        "no API key configured; set GITHUB_TOKEN",
        "listening on http://127.0.0.1:8080/mcp",
        "event=call tool=github_search name=search client=claude-code/2.0",
        "mail bob@example.org about https://example.org",
        "basic authentication is required",
        "token=abc",
        "sk-learn 1.5 is installed",
    ],
)
def test_prose_stays_as_it_is(text):
    assert redact_tokens(text) == text


def test_a_long_line_costs_no_more_than_its_length():
    """No pattern goes back and forth over what it has seen."""
    for filler in ("token", "a" * 50, "://", "eyJ", "authorization: ", 'key":"'):
        text = filler * (200_000 // len(filler))
        redact_tokens(text)  # the time limit of the test run is the assertion
