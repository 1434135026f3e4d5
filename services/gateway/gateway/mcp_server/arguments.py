"""Checks the arguments of a call, and says in a sentence what is wrong: no credentials, and what the tool's schema admits.

No sentence quotes a value: a caller may have put a token where none belongs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

import jsonschema_rs
import orjson

from codecommon.process.redact import redact
from gateway.mcp_server.bounds import nearest
from gateway.mcp_tools.tool import Tool, ToolError
from gateway.plain_text import plain

_MOST_PROBLEMS: Final = 5
_LONGEST_NAME: Final = 64
_LONGEST_PATH: Final = 256
# Of all arguments as JSON. Looking for secrets in 128 KiB of hostile text takes 20 ms, in which nobody else is served. The
# longest value that a CRD admits is a public key of 8 KiB; those of a whole call are shorter than this.
_MOST_BYTES: Final = 64 * 1024
# Personal access tokens of GitHub had this form once, and some still work. Nothing but its place tells it from a hash.
_HEX_TOKEN: Final = re.compile(r"(?:secretName|secretNamespace|secretKey)=[0-9a-fA-F]{40}")


class Arguments:
    """The schema of one tool's arguments, compiled."""

    def __init__(self, tool: Tool) -> None:
        self._tool = tool
        self._known: tuple[str, ...] = tuple(tool.input_schema.get("properties", {}))
        self._validator = jsonschema_rs.Draft202012Validator(dict(tool.input_schema), mask="the value")

    def require_valid(self, arguments: Mapping[str, Any]) -> None:
        """Raises ``ToolError`` for a credential among the arguments, for too much text to look for one without delay, and for
        arguments that the schema does not admit or does not name. Into ``Tool.bulk`` it does not look.
        """
        small = {name: value for name, value in arguments.items() if name not in self._tool.bulk}
        try:
            # The newest protocol's parser lets halves of characters through, which no later step can send on.
            length = len(orjson.dumps(small))
            if length > _MOST_BYTES:
                raise ToolError(
                    f"{self._tool.name} was not called: its arguments have {length} bytes together, and at most {_MOST_BYTES} "
                    "are taken. Shorten them; content of files does not belong in this tool."
                )
            # Before the names: the likeliest mistake is an argument "token", which no tool has.
            _require_no_credential(small)
            for name in arguments:
                if name not in self._known:
                    raise ToolError(self._unknown(name, self._known, ""))
            errors = list(islice(self._validator.iter_errors(small), _MOST_PROBLEMS))
        except (TypeError, ValueError):
            raise ToolError(
                f"{self._tool.name} was not called: its arguments hold a text that is not valid Unicode, a number that is "
                "too large, or too many levels. Correct this and call again."
            ) from None
        problems = [self._problem(error) for error in errors]
        if problems:
            raise ToolError(f"{self._tool.name} was not called: {'; '.join(problems)}. Correct this and call again.")

    def _problem(self, error: jsonschema_rs.ValidationError) -> str:
        where = ".".join(str(part) for part in error.instance_path)[:_LONGEST_PATH]
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


def _require_no_credential(arguments: Mapping[str, Any]) -> None:
    """Raises ``ToolError`` for what looks like a token or a private key. Its text is in neither error nor log."""
    for path, text in _texts(arguments, ""):
        if redact(text) != text or _HEX_TOKEN.fullmatch(text):
            place = f"The argument {plain(path, _LONGEST_PATH)}" if path else "The name of an argument"
            # Raised here and not in an except block: nothing keeps the text in the error's context.
            raise ToolError(
                f"{place} looks like it holds a token, a password or a private key. It was neither stored nor logged. Tools "
                "never take credentials: let a person store the token in a Secret of the workspace (the portal does that too), "
                "and give create_connection the name of that Secret as secretName. Tell the person that the credential was "
                "part of this conversation and should be revoked."
            )


def _texts(value: Any, path: str, name: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a JSON value and the end of the path to it.

    The names in it are texts, too. The value of a name follows it, because what is called a token or a password is one, whatever
    it looks like.
    """
    if isinstance(value, str):
        yield path, f"{name}={value}" if name else value
    elif isinstance(value, Mapping):
        for key, item in value.items():  # pyright: ignore[reportUnknownVariableType]
            yield path, f"{key}"
            yield from _texts(item, f"{path}.{key}".lstrip(".")[-_LONGEST_PATH:], f"{key}"[-_LONGEST_NAME:])
    elif isinstance(value, list):
        for index, item in enumerate(value):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            yield from _texts(item, f"{path}[{index}]"[-_LONGEST_PATH:])
