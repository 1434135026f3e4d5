"""Which tools a request may see and call: the operator's bounds, and within them the caller's narrower choice."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from codecommon.process.service import CannotRun
from gateway.mcp_settings import McpSettings
from gateway.mcp_tools.tool import Tool

READ_ONLY_HEADER: Final = "x-mcp-readonly"
TOOLS_HEADER: Final = "x-mcp-tools"
EXCLUDE_HEADER: Final = "x-mcp-exclude-tools"
_OFF: Final = frozenset({"", "0", "false", "no", "off"})


class Bounds:
    """What the operator offers. Exclusion wins over inclusion, and read-only over both."""

    def __init__(self, tools: Sequence[Tool], settings: McpSettings) -> None:
        """Raises ``CannotRun`` if a setting names a tool that is not there: a typing error must not leave a tool on."""
        names = {tool.name for tool in tools}
        for variable, given in (
            ("CODE_MCP_TOOLS", settings.mcp_tools or frozenset[str]()),
            ("CODE_MCP_EXCLUDE_TOOLS", settings.mcp_exclude_tools),
        ):
            for name in sorted(given - names):
                raise CannotRun(f"{variable}: there is no tool {name!r}{nearest(name, names)}")
        self._offered = tuple(
            tool
            for tool in tools
            if (settings.mcp_tools is None or tool.name in settings.mcp_tools)
            and tool.name not in settings.mcp_exclude_tools
            and not (settings.mcp_read_only and not tool.is_read_only)
        )
        self._all = tuple(tool.name for tool in self._offered)

    def chosen(self, headers: Mapping[str, str]) -> tuple[str, ...]:
        """The names of the tools that this request sees, in the order of the table."""
        only, excluded = headers.get(TOOLS_HEADER, ""), headers.get(EXCLUDE_HEADER, "")
        # A word that nobody knows means yes: who sends the header wants less.
        read_only = headers.get(READ_ONLY_HEADER, "").strip().lower() not in _OFF
        if not (only or excluded or read_only):
            return self._all
        wanted, unwanted = _names(only), _names(excluded)
        return tuple(
            tool.name
            for tool in self._offered
            if (not wanted or tool.name in wanted)
            and tool.name not in unwanted
            and (tool.is_read_only or not read_only)
        )


def nearest(name: str, known: Collection[str]) -> str:
    """``; did you mean 'x'?`` with the known name that is like ``name``. Empty if there is none."""
    like = difflib.get_close_matches(name[:64], sorted(known), n=1, cutoff=0.5)
    return f"; did you mean {like[0]!r}?" if like else ""


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(",") if name.strip())
