"""MCP over HTTP: the table of tools, served as the caller who asks."""
