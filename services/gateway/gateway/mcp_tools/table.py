"""The table of all tools: the groups, joined."""

from __future__ import annotations

from gateway.mcp_tools.tool import Tool


def tools() -> tuple[Tool, ...]:
    """Every tool, in the order in which clients see them."""
    return ()
