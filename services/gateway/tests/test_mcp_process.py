"""MCP in the gateway as a process."""

import json
import sys
from pathlib import Path

import aiohttp
import pytest

from devstack.processes import Process
from gateway.mcp_tools.table import tools

pytestmark = pytest.mark.slow


def gateway(folder: Path, **environ: str) -> Process:
    return Process(
        "gateway",
        [sys.executable, "-m", "gateway"],
        log_file=folder / "gateway.log",
        env={"CODE_GATEWAY_HOST": "127.0.0.1", "PORT": "0", **environ},
    )


async def test_without_a_kubeconfig_the_tools_are_listed_and_the_query_is_warned_about(tmp_path: Path) -> None:
    environ = {"KEDGE_PROVIDER_KUBECONFIG": str(tmp_path / "missing"), "KEDGE_DEV_ALLOW_TENANT_QUERY": "true"}
    async with gateway(tmp_path, **environ) as process:
        warning = json.loads((await process.line("KEDGE_DEV_ALLOW_TENANT_QUERY", timeout=60)).string)
        listening = await process.line(r"listening on port (\d+)", timeout=60)
        await process.line('"started"')
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"http://127.0.0.1:{listening[1]}/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
            ) as response,
        ):
            answer = await response.json()

    assert warning["severity"] == "WARNING"
    assert [tool["name"] for tool in answer["result"]["tools"]] == [
        tool.name for tool in tools("default", confirm_deletes=False)
    ]


async def test_a_bound_that_names_no_tool_is_one_clear_line_and_exit_code_1(tmp_path: Path) -> None:
    async with gateway(tmp_path, CODE_MCP_EXCLUDE_TOOLS="no_such_tool") as process:
        line = json.loads((await process.line("CODE_MCP_EXCLUDE_TOOLS", timeout=60)).string)

        assert line["message"] == "CODE_MCP_EXCLUDE_TOOLS: there is no tool 'no_such_tool'"
        assert await process.wait(10) == 1
