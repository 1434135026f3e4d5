"""Settings of the MCP endpoint."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from codecommon.process.settings import Exactly, ServiceSettings

_NAMES: Final = "names of tools, separated by commas"


def _names(value: object) -> object:
    return frozenset(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value


Names = Annotated[frozenset[str], BeforeValidator(_names)]


class McpSettings(ServiceSettings):
    """What the operator decides about MCP. A caller may narrow it for a request and never widen it."""

    mcp_read_only: bool = Field(
        default=False,
        validation_alias="CODE_MCP_READ_ONLY",
        description="true or false; true offers no tool that writes",
    )
    mcp_tools: Names | None = Field(default=None, validation_alias="CODE_MCP_TOOLS", description=_NAMES)
    """None: all tools."""
    mcp_exclude_tools: Names = Field(default=frozenset(), validation_alias="CODE_MCP_EXCLUDE_TOOLS", description=_NAMES)
    mcp_confirm_deletes: bool = Field(
        default=False,
        validation_alias="CODE_MCP_CONFIRM_DELETES",
        description="true or false; true requires the repository's name for its deletion",
    )
    dev_allow_tenant_query: Exactly = Field(default=False, validation_alias="KEDGE_DEV_ALLOW_TENANT_QUERY")
    """For development. ``true`` alone lets the query of the URL say who the caller is."""
