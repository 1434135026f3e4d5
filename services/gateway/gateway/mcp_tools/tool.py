"""What a tool is, and what it is given for one call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from codecommon.kcp.client import Objects


class ToolError(Exception):
    """The call cannot be done. The message is a sentence that a language model can act on: what is wrong, which argument, what
    to do. It is answered as a result with ``isError``.
    """


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a tool.

    Attributes:
        objects: The caller's workspace, reached with the caller's token.
        arguments: As the input schema admits them.
        user: The caller's name for annotations. Empty: the hub did not say who it is.
        client: The MCP client's name for itself, or ``User-Agent`` and that header. Nobody has verified it. Empty: it said
            neither.
        arrived: When the request began to arrive, by the loop's clock. None: it was not measured.
    """

    objects: Objects
    arguments: Mapping[str, Any]
    user: str = ""
    client: str = ""
    arrived: float | None = None


Handler = Callable[[Call], Awaitable[dict[str, Any]]]
"""Returns what ``output_schema`` describes. Raises ``ToolError``; kcp's refusals may pass through (``KcpError``)."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One entry of the table. Schemas are JSON Schema 2020-12 of type ``object``; ``annotations`` as MCP names the hints.

    ``bulk``: arguments with the content of files, which is long and may hold anything. Nothing but the handler looks into them.
    """

    name: str
    title: str
    description: str
    input_schema: Mapping[str, Any]
    output_schema: Mapping[str, Any]
    handler: Handler
    annotations: Mapping[str, bool] = field(default_factory=dict[str, bool])
    bulk: frozenset[str] = frozenset()

    @property
    def is_read_only(self) -> bool:
        return self.annotations.get("readOnlyHint", False)
