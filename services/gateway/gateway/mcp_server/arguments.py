"""Checks the arguments of a call against the tool's schema, and says in a sentence what is wrong.

No sentence quotes a value: a caller may have put a token where none belongs.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

import jsonschema_rs
import orjson

from gateway.mcp_server.bounds import nearest
from gateway.mcp_tools.tool import Tool, ToolError
from gateway.plain_text import plain

_MOST_PROBLEMS: Final = 5
_LONGEST_NAME: Final = 64


class Arguments:
    """The schema of one tool's arguments, compiled."""

    def __init__(self, tool: Tool) -> None:
        self._tool = tool
        self._known: tuple[str, ...] = tuple(tool.input_schema.get("properties", {}))
        self._validator = jsonschema_rs.Draft202012Validator(dict(tool.input_schema), mask="the value")

    def require_valid(self, arguments: Mapping[str, Any]) -> None:
        """Raises ``ToolError`` for arguments that the schema does not admit, or that it does not name."""
        for name in arguments:
            if name not in self._known:
                raise ToolError(self._unknown(name, self._known, ""))
        try:
            # The newest protocol's parser lets halves of characters through, which no later step can send on.
            orjson.dumps(arguments)
            errors = list(islice(self._validator.iter_errors(dict(arguments)), _MOST_PROBLEMS))
        except (TypeError, ValueError):
            raise ToolError(
                f"{self._tool.name} was not called: its arguments hold a text that is not valid Unicode, a number that is "
                "too large, or too many levels. Correct this and call again."
            ) from None
        problems = [self._problem(error) for error in errors]
        if problems:
            raise ToolError(f"{self._tool.name} was not called: {'; '.join(problems)}. Correct this and call again.")

    def _problem(self, error: jsonschema_rs.ValidationError) -> str:
        where = ".".join(str(part) for part in error.instance_path)[:256]
        if error.schema_path and error.schema_path[-1] == "additionalProperties":
            schema: Any = self._tool.input_schema
            for part in list(error.schema_path)[:-1]:
                schema = schema[part]
            unexpected: list[str] = getattr(error.kind, "unexpected", [])
            if unexpected:
                return self._unknown(unexpected[0], tuple(schema.get("properties", {})), where).rstrip(".")
        return plain(f"argument {where}: {error.message}" if where else error.message, 512)

    def _unknown(self, name: str, known: tuple[str, ...], where: str) -> str:
        place = f" in {where}" if where else ""
        return plain(
            f"{self._tool.name} has no argument {name[:_LONGEST_NAME]!r}{place}{nearest(name, known) or '.'} "
            f"Known: {', '.join(known) or 'none'}.",
            2048,
        )
