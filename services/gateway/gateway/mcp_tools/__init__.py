"""The MCP tools: one declarative table, one module per group.

A new tool is a function and an entry in its group's table. A tool acts as the caller and as nobody else: what it is given reaches
kcp with the caller's token alone.
"""
