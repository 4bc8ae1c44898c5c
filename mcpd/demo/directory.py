"""What a server offers, and the answers to the requests about it: lists, prompts, resources, completion.

A request whose feature is not offered has no handler, so that it is answered "method not found", as the
missing capability promises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpd.demo.call import JSON, RpcError
from mcpd.demo.offer import Documents, Prompt, Tool, at_least, object_or_empty, shown, text_block

if TYPE_CHECKING:
    from collections.abc import Callable

    Handler = Callable[[JSON, str], JSON]
    Completer = Callable[[str, str, str], list[str] | None]

INVALID_PARAMS = -32602
RESOURCE_NOT_FOUND = -32002
PAGE = 50
"""Entries on one page of a list."""
MAX_COMPLETIONS = 100
"""The protocol's own limit for the values of one completion."""


class Directory:
    """The tools, prompts, resources and completions of one server.

    `complete` gets the prompt name or URI template, the argument, and what was typed so far; it returns None
    when there is nothing of that name.
    """

    def __init__(self) -> None:
        self.tools: dict[str, Tool] = {}
        self.prompts: dict[str, Prompt] = {}
        self.documents: Documents | None = None
        self.complete: Completer | None = None
        self.subscriptions: set[str] = set()

    def capabilities(self, version: str) -> JSON:
        offered: JSON = {}
        if self.tools:
            offered["tools"] = {}
        if self.prompts:
            offered["prompts"] = {}
        if self.documents is not None:
            offered["resources"] = {"subscribe": True, "listChanged": True}
        if self.complete is not None and at_least(version, "2025-03-26"):
            offered["completions"] = {}
        return offered

    def handler(self, method: str) -> Handler | None:
        """What answers a method: a function of params and version. None when the feature is not offered."""
        known: dict[str, Handler] = {}
        if self.tools:
            known["tools/list"] = self._list_tools
        if self.prompts:
            known["prompts/list"] = self._list_prompts
            known["prompts/get"] = self._get_prompt
        if self.documents is not None:
            known["resources/list"] = self._list_resources
            known["resources/templates/list"] = self._list_templates
            known["resources/read"] = self._read
            known["resources/subscribe"] = self._subscribe
            known["resources/unsubscribe"] = self._unsubscribe
        if self.complete is not None:
            known["completion/complete"] = self._completion
        return known.get(method)

    def _list_tools(self, params: JSON, version: str) -> JSON:
        return page("tools", [tool.listing for tool in self.tools.values()], params, version)

    def _list_prompts(self, params: JSON, version: str) -> JSON:
        return page("prompts", [prompt.listing for prompt in self.prompts.values()], params, version)

    def _get_prompt(self, params: JSON, version: str) -> JSON:
        prompt = self.prompts.get(str(params.get("name")))
        if prompt is None:
            raise RpcError(INVALID_PARAMS, f"there is no prompt {params.get('name')!r}")
        arguments = object_or_empty(params.get("arguments"))
        names = [each["name"] for each in prompt.listing["arguments"]]
        missing = [name for name in names if not isinstance(arguments.get(name), str)]
        if missing:
            raise RpcError(INVALID_PARAMS, f"missing: {', '.join(missing)}")
        text = prompt.run(**{name: arguments[name] for name in names})
        message = {"role": "user", "content": text_block(text)}
        return {"description": prompt.listing["description"], "messages": [message]}

    def _list_resources(self, params: JSON, version: str) -> JSON:
        assert self.documents is not None
        return page("resources", self.documents.entries(), params, version)

    def _list_templates(self, params: JSON, version: str) -> JSON:
        assert self.documents is not None
        return page("resourceTemplates", self.documents.templates, params, version)

    def _read(self, params: JSON, version: str) -> JSON:
        assert self.documents is not None
        uri = str(params.get("uri"))
        contents = self.documents.read(uri)
        if contents is None:
            raise RpcError(RESOURCE_NOT_FOUND, "there is no such resource", {"uri": uri})
        return {"contents": [contents]}

    def _subscribe(self, params: JSON, version: str) -> JSON:
        self._read(params, version)  # Refuses what does not exist, which also bounds the set.
        self.subscriptions.add(str(params.get("uri")))
        return {}

    def _unsubscribe(self, params: JSON, version: str) -> JSON:
        self.subscriptions.discard(str(params.get("uri")))
        return {}

    def _completion(self, params: JSON, version: str) -> JSON:
        assert self.complete is not None
        reference = object_or_empty(params.get("ref"))
        argument = object_or_empty(params.get("argument"))
        name = reference.get("name") or reference.get("uri")
        values = self.complete(str(name), str(argument.get("name")), str(argument.get("value", "")))
        if values is None:
            raise RpcError(INVALID_PARAMS, f"nothing to complete for {name!r}")
        some = values[:MAX_COMPLETIONS]
        return {"completion": {"values": some, "total": len(values), "hasMore": len(some) < len(values)}}


def page(member: str, entries: list[JSON], params: JSON, version: str) -> JSON:
    """The page that the cursor names, in the form of the version. Raises: RpcError for a bad cursor."""
    cursor = params.get("cursor")
    if cursor is not None and not (isinstance(cursor, str) and cursor.isascii() and cursor.isdigit()):
        raise RpcError(INVALID_PARAMS, "there is no such cursor")
    start = int(cursor or 0)
    answer: JSON = {member: [shown(entry, version) for entry in entries[start : start + PAGE]]}
    if start + PAGE < len(entries):
        answer["nextCursor"] = str(start + PAGE)
    return answer
