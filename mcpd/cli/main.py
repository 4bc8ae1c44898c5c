"""`mcpctl`: command line → verb → request → what people or scripts read → exit status."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from mcpd import __version__
from mcpd.cli import statuses
from mcpd.cli.table import json_text
from mcpd.cli.verbs import GROUPS, VERBS, asked_for, load
from mcpd.control.client import Client, Refused, Unreachable, default_path

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mcpd.cli.verbs import Running, Verb

STATUS_OF: Final = {
    "not_permitted": statuses.NOT_PERMITTED,
    "invalid_configuration": statuses.INVALID,
    "invalid_arguments": statuses.USAGE,
}
"""By mcpd's word for what went wrong."""


def main() -> None:
    """Run mcpctl; ends the process."""
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever reads has read enough (`| head`); what is left must not be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = statuses.OK
    except KeyboardInterrupt:
        code = statuses.INTERRUPTED
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run mcpctl with these arguments; returns its exit status."""
    verb = asked_for(arguments)
    words, command = arguments, []
    if verb is not None and "--" in arguments and hasattr(load(verb), "COMMAND_BEHIND"):
        # A parser takes each further '--' away, and which one differs between versions of Python.
        behind = arguments.index("--")
        words, command = arguments[:behind], arguments[behind + 1 :]
    options = _parse(parser([verb] if verb is not None else VERBS), words)
    options.command = command
    client = Client(options.socket or default_path(os.environ, uid=os.geteuid()))
    try:
        return _carry_out(load(options.verb), client, options)
    except Unreachable as error:
        return _unreachable(error, as_json=options.json)
    except Refused as error:
        return _refused(error, as_json=options.json)


def _carry_out(verb: Verb, client: Client, options: argparse.Namespace) -> int:
    if hasattr(verb, "run"):
        return cast("Running", verb).run(client, options)
    answer = verb.ask(client, options)
    if options.json:
        print(json_text(answer))
    else:
        verb.show(answer, options)
    return statuses.OK


def _parse(parser: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
    """`parse_args`, where what may be there any number of times (`words`) may have options in between."""
    options, rest = parser.parse_known_args(arguments)
    if rest and (not hasattr(options, "words") or any(each.startswith("-") for each in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.words += rest
    return options


def parser(names: Iterable[str] = VERBS) -> argparse.ArgumentParser:
    """The parser of these verbs, for `run` and for the test that holds the manual page to it."""
    shared = argparse.ArgumentParser(add_help=False)
    # Before or after the verb; what is not given after it must not undo what was given before.
    for target, default in ((shared, argparse.SUPPRESS), (result := _top(), None)):
        target.add_argument("--socket", type=Path, metavar="PATH", default=default, help="mcpd's control socket")
        target.add_argument(
            "--json", action="store_true", default=default or False, help="print the answer as JSON, for scripts"
        )
    verbs = result.add_subparsers(dest="verb", metavar="VERB", required=True, help="see below")
    modules = {name: load(name) for name in names}
    for name, verb in modules.items():
        each = verbs.add_parser(name, parents=[shared], description=verb.SUMMARY, allow_abbrev=False)
        verb.arguments(each)
    result.epilog = listed({name: verb.SUMMARY for name, verb in modules.items()})
    return result


def listed(summaries: dict[str, str]) -> str:
    """The verbs in their groups, a line each."""
    left = dict(summaries)
    groups = {title: {name: left.pop(name) for name in names if name in left} for title, names in GROUPS.items()}
    lines: list[str] = []
    for title, verbs in {**groups, "more": left}.items():
        if verbs:
            lines += ["", f"{title}:", *(f"  {name:14}{summary}" for name, summary in verbs.items())]
    return "\n".join([*lines[1:], "", "'mcpctl VERB --help' says what a verb takes, mcpctl(1) everything."])


def _top() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="mcpctl",
        description="Operate a running mcpd.",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--version", action="version", version=f"mcpctl {__version__}")
    return result


def _unreachable(error: Unreachable, *, as_json: bool) -> int:
    if error.permitted:
        code, remedy = "unreachable", "is it running? see 'systemctl status mcpd', or name its socket with --socket"
    else:
        code, remedy = "not_permitted", "use sudo, or become a member of the group 'mcpd'"
    _complain({"code": code, "message": str(error), "remedy": remedy}, as_json=as_json)
    return statuses.UNAVAILABLE if error.permitted else statuses.NOT_PERMITTED


def _refused(error: Refused, *, as_json: bool) -> int:
    _complain(error.body, as_json=as_json)
    return STATUS_OF.get(error.code, statuses.FAILED)


def _complain(body: dict[str, object], *, as_json: bool) -> None:
    """What went wrong: to people on stderr, to scripts on stdout, where the answer would have been."""
    if as_json:
        print(json_text(body))
        return
    remedy = f" ({body['remedy']})" if body.get("remedy") else ""
    print(f"mcpctl: {body.get('message')}{remedy}", file=sys.stderr)
    errors = body.get("errors")
    for each in errors if isinstance(errors, list) else ():
        where = ":".join(str(part) for part in (each.get("file"), each.get("line")) if part)
        parts = [part for part in (where, each.get("path"), each.get("message")) if part]
        print("  " + ": ".join(parts) + (f" ({each['remedy']})" if each.get("remedy") else ""), file=sys.stderr)


if __name__ == "__main__":
    main()
