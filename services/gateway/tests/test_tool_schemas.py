"""What clients and models see of each tool, as it was reviewed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

import pytest

from gateway.mcp_tools.table import tools
from gateway.mcp_tools.tool import Tool

SNAPSHOTS: Final = Path(__file__).parent / "snapshots"
RENEW: Final = "CODE_RENEW_SNAPSHOTS"

TABLE: Final = {tool.name: tool for tool in tools("default", confirm_deletes=False)}
STRICTER: Final = {
    f"{tool.name}.confirmed": tool
    for tool in tools("default", confirm_deletes=True)
    if (tool.description, tool.input_schema) != (TABLE[tool.name].description, TABLE[tool.name].input_schema)
}
"""The tools that look different where a deletion has to be confirmed."""


@pytest.mark.parametrize(("name", "tool"), [*TABLE.items(), *STRICTER.items()], ids=[*TABLE, *STRICTER])
def test_every_schema_is_the_one_that_was_reviewed(name: str, tool: Tool) -> None:
    path = SNAPSHOTS / f"{name}.json"
    described = {
        "name": tool.name,
        "title": tool.title,
        "description": tool.description,
        "annotations": dict(tool.annotations),
        "inputSchema": tool.input_schema,
        "outputSchema": tool.output_schema,
    }
    now = json.dumps(described, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    if os.environ.get(RENEW):
        path.write_text(now, encoding="utf-8")
    reviewed = path.read_text(encoding="utf-8") if path.exists() else ""
    assert now == reviewed, (
        f"{tool.name} is not as in {path.name}. If that is meant, run this test once with {RENEW}=1 and commit the file."
    )


def test_there_is_no_snapshot_of_a_tool_that_is_gone() -> None:
    assert {path.stem for path in SNAPSHOTS.glob("*.json")} == {*TABLE, *STRICTER}
