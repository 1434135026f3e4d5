"""The table of all tools: the groups, joined."""

from __future__ import annotations

from gateway.mcp_tools.read import read_tools
from gateway.mcp_tools.tool import Tool
from gateway.mcp_tools.write import write_tools


def tools(credentials_namespace: str, *, confirm_deletes: bool) -> tuple[Tool, ...]:
    """Every tool, in the order in which clients see them. The arguments are those of the groups."""
    return (*read_tools(credentials_namespace), *write_tools(confirm_deletes=confirm_deletes))
