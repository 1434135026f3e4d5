"""Metrics of the calls of tools."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter

CALLS: Final = Counter(
    "code_mcp_calls",
    "Calls of tools. Result: done, refused (the caller is told what to do) or failed (see the log).",
    ("tool", "result"),
)
