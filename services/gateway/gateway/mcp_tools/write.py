"""The tools that change something. One module per group of objects; this is their table."""

from __future__ import annotations

from gateway.mcp_tools.tool import Tool
from gateway.mcp_tools.write_access import access_tools
from gateway.mcp_tools.write_connection import connection_tools
from gateway.mcp_tools.write_repository import repository_tools
from gateway.mcp_tools.writing import PATIENCE_SECONDS


def write_tools(*, confirm_deletes: bool = False, patience: float = PATIENCE_SECONDS) -> tuple[Tool, ...]:
    """The table. ``confirm_deletes``: a repository is deleted only with ``confirm``.

    ``patience``: for how many seconds a call waits for the result of what it wrote.
    """
    return (
        *connection_tools(patience),
        *repository_tools(patience, confirm_deletes=confirm_deletes),
        *access_tools(patience),
    )
