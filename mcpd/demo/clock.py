"""A clock: the time anywhere, countdowns that report progress, reminders that ask.

Run it with `python -m mcpd.demo.clock`.
"""

from __future__ import annotations

import datetime
import zoneinfo

from mcpd.demo.call import JSON, Call, ToolError
from mcpd.demo.stdio_server import Server

MAX_SECONDS = 24 * 3600
"""The longest countdown and reminder: beyond a day a calendar does better than a call that stays open."""
MAX_STEPS = 1000
MAX_SNOOZES = 10

server = Server(
    "clock",
    title="Clock",
    instructions="Tells the time in any time zone, counts down, and reminds the user after a while.",
)


@server.tool(
    "now",
    "Tells the current date and time in a time zone (UTC unless one is given).",
    title="What time is it?",
    inputs={
        "timezone": {
            "type": "string",
            "description": "IANA name such as Europe/Berlin or America/New_York",
            "default": "UTC",
            "maxLength": 100,
        }
    },
    required=[],
    output={
        "time": {"type": "string", "description": "ISO 8601 with the offset from UTC"},
        "timezone": {"type": "string", "description": "The zone it was asked for"},
        "weekday": {"type": "string", "description": "Name of the day"},
    },
    readOnlyHint=True,
    openWorldHint=False,
)
def now(call: Call, timezone: str = "UTC") -> JSON:
    try:
        zone = datetime.UTC if timezone == "UTC" else zoneinfo.ZoneInfo(timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ToolError(f"there is no time zone {timezone!r}; try a name like Europe/Berlin") from None
    moment = datetime.datetime.now(zone)
    return {
        "time": moment.isoformat(timespec="seconds"),
        "timezone": timezone,
        "weekday": moment.strftime("%A"),
    }


@server.tool(
    "countdown",
    "Waits the given number of seconds and then answers. Reports progress step by step; can be cancelled.",
    title="Count down",
    inputs={
        "seconds": {"type": "number", "description": "How long", "minimum": 0, "maximum": MAX_SECONDS},
        "steps": {
            "type": "integer",
            "description": "How many progress reports to make on the way",
            "minimum": 1,
            "maximum": MAX_STEPS,
            "default": 10,
        },
    },
    required=["seconds"],
    readOnlyHint=True,
    openWorldHint=False,
)
def countdown(call: Call, seconds: float, steps: int = 10) -> str:
    call.log("info", f"countdown of {seconds:g} s started")
    for step in range(steps):
        left = seconds * (steps - step) / steps
        call.progress(step, steps, f"{left:g} s left")
        call.wait(seconds / steps)
    call.progress(steps, steps, "done")
    call.log("info", "countdown done")
    return f"{seconds:g} seconds are over."


@server.tool(
    "remind",
    "Waits, then shows the user a reminder and asks whether it is done; if not, it comes again later.",
    title="Remind me",
    inputs={
        "text": {"type": "string", "description": "What to remind of", "maxLength": 500},
        "seconds": {
            "type": "number",
            "description": "When, in seconds from now",
            "minimum": 0,
            "maximum": MAX_SECONDS,
        },
    },
    openWorldHint=False,
)
def remind(call: Call, text: str, seconds: float) -> str:
    if not call.can("elicitation"):
        call.wait(seconds)
        return f"Reminder: {text}. (This client cannot ask the user, so please pass it on.)"
    wait = seconds
    for _ in range(MAX_SNOOZES):
        call.wait(wait)
        entered = call.elicit(
            f"Reminder: {text}",
            {
                "done": {"type": "boolean", "title": "Done?", "description": "No reminds you again later"},
                "again_in": {
                    "type": "number",
                    "title": "Remind again in (seconds)",
                    "minimum": 0,
                    "maximum": MAX_SECONDS,
                },
            },
            ["done"],
        )
        if entered is None:
            return f"The user dismissed the reminder: {text}"
        if entered.get("done"):
            return f"The user has done it: {text}"
        again = entered.get("again_in")
        wait = min(max(float(again), 0.0), MAX_SECONDS) if isinstance(again, int | float) else max(seconds, 1.0)
    return f"The user put it off {MAX_SNOOZES} times: {text}"


if __name__ == "__main__":
    server.run()
