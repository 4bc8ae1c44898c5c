"""`mcpctl completion`: what a shell needs to complete its command lines.

A shell gets a small script that asks mcpctl itself, so that what it offers is what the parsers take, and names are
those that mcpd has at the moment.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mcpd.cli import statuses
from mcpd.cli.clients.places import TITLES
from mcpd.cli.verbs import VALUED, VERBS, asked_for, load
from mcpd.control.client import Refused, Unreachable

if TYPE_CHECKING:
    from argparse import Action, ArgumentParser, Namespace
    from collections.abc import Iterable, Sequence

    from mcpd.control.client import Client

SUMMARY: Final = "print what a shell needs to complete mcpctl's command lines"

SCRIPTS: Final = {
    "bash": """\
# Completion of mcpctl for bash. Printed by: mcpctl completion bash
_mcpctl() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        [[ -n $line ]] && COMPREPLY+=("${line%%$'\\t'*}")
    done < <(mcpctl completion bash --complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o bashdefault -o default -F _mcpctl mcpctl
""",
    "zsh": """\
#compdef mcpctl
# Completion of mcpctl for zsh. Printed by: mcpctl completion zsh
_mcpctl() {
    local -a found
    local line
    while IFS= read -r line; do
        [[ -n $line ]] && found+=("${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}")
    done < <(mcpctl completion zsh --complete "${(@)words[2,CURRENT]}" 2>/dev/null)
    if (( $#found )); then
        _describe mcpctl found
    else
        _files
    fi
}
if [[ $funcstack[1] == _mcpctl ]]; then
    _mcpctl "$@"
else
    compdef _mcpctl mcpctl
fi
""",
    "fish": """\
# Completion of mcpctl for fish. Printed by: mcpctl completion fish
function __mcpctl_complete
    set -l words (commandline -opc) (commandline -ct)
    mcpctl completion fish --complete $words[2..-1] 2>/dev/null
end
complete -c mcpctl -f -n 'count (__mcpctl_complete) >/dev/null' -a '(__mcpctl_complete)'
complete -c mcpctl -F -n 'not count (__mcpctl_complete) >/dev/null'
""",
}

LISTS: Final = {
    "NAME": ("/v1/servers", "servers", "name"),
    "SERVER": ("/v1/servers", "servers", "name"),
    "TOOL": ("/v1/tools", "tools", "name"),
    "PROMPT": ("/v1/prompts", "prompts", "name"),
    "URI": ("/v1/resources", "resources", "uri"),
}
"""Where the names are that an argument takes, by what the help calls it."""

NEW_NAMES: Final = frozenset({"add-server"})
"""Verbs whose NAME is one that there is not yet."""

NAME_OF: Final = {"prompt": "PROMPT"}
"""What NAME is for a verb, where it is no server."""

Candidate = tuple[str, str]
"""A word and what is said of it."""


def arguments(parser: ArgumentParser) -> None:
    """Those of this verb."""
    parser.add_argument("shell", metavar="SHELL", choices=tuple(SCRIPTS), help=", ".join(SCRIPTS))
    parser.add_argument(
        "--complete",
        metavar="WORD",
        nargs=argparse.REMAINDER,
        help="print what the last word of a command line may become, as the script asks for it",
    )


def run(client: Client, options: Namespace) -> int:
    """The script, or candidates: never a complaint, which would be in the way of who types."""
    if options.complete is None:
        print(SCRIPTS[options.shell], end="")
        return statuses.OK
    words = joined(options.complete) if options.shell == "bash" else list(options.complete)
    words = words or [""]
    for word, about in candidates(words, client):
        print(f"{_rest(word, words[-1]) if options.shell == 'bash' else word}\t{about}")
    return statuses.OK


def candidates(words: Sequence[str], client: Client) -> list[Candidate]:
    """What the last of these words may become. They are what follows `mcpctl` up to the cursor."""
    *before, partial = words
    verb = asked_for(before)
    named = VALUED.intersection(before)
    if before and before[-1] in VALUED:
        return []
    if verb is None:
        if len(before) > 2 * len(named) + before.count("--json"):
            return []  # a word that is no verb was there
        found = _options(_shared()) if partial.startswith("-") else [(name, load(name).SUMMARY) for name in VERBS]
        return _fitting(found, partial)
    parser = argparse.ArgumentParser(add_help=False, parents=[_shared()])
    load(verb).arguments(parser)
    own = before[before.index(verb) + 1 :]
    return _fitting(_for(parser, verb, own, partial, client), partial)


def _for(parser: ArgumentParser, verb: str, own: list[str], partial: str, client: Client) -> list[Candidate]:
    flags = {flag: action for action in parser._actions for flag in action.option_strings}
    positionals = [action for action in parser._actions if not action.option_strings]
    plain = "--" in own
    open_action: Action | None = None
    count = 0
    for word in own:
        if not plain and word in flags:
            open_action = flags[word] if flags[word].nargs != 0 else None
        elif open_action is not None:
            open_action = open_action if open_action.nargs in ("+", "*") else None
        elif word != "--":
            count += 1
    if open_action is not None and not (open_action.nargs in ("?", "*", "+") and partial.startswith("-")):
        return _values(open_action, verb, client)
    if partial.startswith("-") and not plain:
        return _options(parser)
    if not positionals:
        return []
    action = positionals[min(count, len(positionals) - 1)]
    if count >= len(positionals) and action.nargs not in ("*", "+", argparse.REMAINDER):
        return []
    return _values(action, verb, client)


def _values(action: Action, verb: str, client: Client) -> list[Candidate]:
    if action.choices is not None:
        return [(str(each), TITLES.get(str(each), "")) for each in action.choices]
    metavar = str(action.metavar or action.dest).upper()
    if metavar.startswith("CLIENT"):
        return list(TITLES.items())
    if verb in NEW_NAMES or action.type is Path or metavar not in LISTS:
        return []
    path, key, name = LISTS[NAME_OF.get(verb, metavar) if metavar == "NAME" and not action.option_strings else metavar]
    try:
        entries = client.get(path)[key]
    except (Unreachable, Refused):
        return []
    return [(each[name], _about(each)) for each in entries if each[name].isprintable()]


def _about(entry: dict[str, object]) -> str:
    definition = entry.get("definition")
    about = definition.get("description", "") if isinstance(definition, dict) else entry.get("state", "")
    line = " ".join(str(about).split())[:80]
    return line if line.isprintable() else ""


def _options(parser: ArgumentParser) -> list[Candidate]:
    return [
        (flag, action.help or "")
        for action in parser._actions
        for flag in action.option_strings
        if flag.startswith("--") or len(action.option_strings) == 1
    ]


def _shared() -> ArgumentParser:
    """The options that every verb takes."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--help", action="store_true", help="print what there is and exit")
    parser.add_argument("--json", action="store_true", help="print the answer as JSON, for scripts")
    parser.add_argument("--socket", type=Path, help="mcpd's control socket")
    return parser


def _fitting(found: Iterable[Candidate], partial: str) -> list[Candidate]:
    return [(word, about) for word, about in dict(found).items() if word.startswith(partial)]


def joined(pieces: Sequence[str]) -> list[str]:
    """Words as they were typed: bash takes them apart at `:` and `=`."""
    words: list[str] = []
    glue = False
    for piece in pieces:
        if words and (glue or (piece and not piece.strip(":="))):
            words[-1] += piece
        else:
            words.append(piece)
        glue = bool(piece) and not piece.strip(":=")
    return words


def _rest(word: str, partial: str) -> str:
    """What bash puts behind the last `:` that it took the word apart at."""
    at = max(partial.rfind(":"), partial.rfind("=")) + 1
    return word[at:]
