"""The table of all tools: the groups, joined."""

from __future__ import annotations

from gateway.bundles import Bundles, no_store
from gateway.mcp_tools.build import build_tools
from gateway.mcp_tools.checkout import checkout_tool
from gateway.mcp_tools.commit import commit_tool
from gateway.mcp_tools.read import read_tools
from gateway.mcp_tools.tool import Tool
from gateway.mcp_tools.write import write_tools
from gateway.time_limits import WAIT


def tools(credentials_namespace: str, *, confirm_deletes: bool, bundles: Bundles | None = None) -> tuple[Tool, ...]:
    """Every tool, in the order in which clients see them. The arguments are those of the groups.

    ``bundles`` None: for a table that is only looked at.
    """
    return (
        *read_tools(credentials_namespace),
        *write_tools(confirm_deletes=confirm_deletes),
        *request_tools(bundles or Bundles(no_store)),
    )


def request_tools(bundles: Bundles, *, patience: float = WAIT) -> tuple[Tool, ...]:
    """The tools whose results other providers read. ``patience``: for how many seconds a call waits for its result."""
    return (commit_tool(bundles, patience), checkout_tool(bundles, patience), *build_tools(patience))
