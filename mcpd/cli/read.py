"""`mcpctl read URI`: read a resource as a client would."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from mcpd.cli import content, statuses
from mcpd.cli.asking import ask
from mcpd.cli.table import json_text
from mcpd.control.client import Refused

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from mcpd.control.client import Client

SUMMARY: Final = "read a resource"


def arguments(parser: ArgumentParser) -> None:
    """Those of this verb."""
    parser.add_argument("uri", metavar="URI", help="the resource")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write its contents there, as they are")


def run(client: Client, options: Namespace) -> int:
    """Raises: Unreachable, Refused."""
    result = ask(client, "resources/read", {"uri": options.uri})
    found = result.get("contents")
    contents = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    if options.output is not None:
        try:
            size = content.write(contents, options.output)
        except (OSError, ValueError) as error:
            why = f"cannot write {options.output}: {error}"
            raise Refused(0, {"code": "not_written", "message": why, "remedy": "choose another file"}) from None
        print(json_text({"file": str(options.output), "bytes": size}) if options.json else f"{size} bytes written")
    elif options.json:
        print(json_text(result))
    else:
        content.show_contents(contents)
    return statuses.OK
