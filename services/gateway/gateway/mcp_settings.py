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
    """Whether MCP offers tools that read only. A caller narrows it with the header `X-MCP-Readonly`."""
    mcp_tools: Names | None = Field(default=None, validation_alias="CODE_MCP_TOOLS", description=_NAMES)
    """The only tools that MCP offers. Unset: all. A caller narrows it with the header ``X-MCP-Tools``."""
    mcp_exclude_tools: Names = Field(default=frozenset(), validation_alias="CODE_MCP_EXCLUDE_TOOLS", description=_NAMES)
    """Tools that MCP does not offer; exclusion wins. A caller adds to it with `X-MCP-Exclude-Tools`."""
    mcp_confirm_deletes: bool = Field(
        default=False,
        validation_alias="CODE_MCP_CONFIRM_DELETES",
        description="true or false; true requires the repository's name for its deletion",
    )
    """Whether `delete_repository` needs `confirm` with the full name of the repository."""
    dev_allow_tenant_query: Exactly = Field(default=False, validation_alias="KEDGE_DEV_ALLOW_TENANT_QUERY")
    """For development. ``true`` alone lets the query of a URL say who calls (``tenant``, ``cluster``, ``user``, ``token``)."""
