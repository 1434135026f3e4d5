"""MCP in the gateway as a process."""

import json
import re
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from codecommon.kcp.client import ProviderKcp
from codecommon.kcp.identity import ProviderIdentity
from devstack.devhub.certificate import server_context
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


async def test_the_callers_rate_holds_for_calls_of_tools(tmp_path: Path) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "list_connections"}}
    async with gateway(tmp_path, CODE_CALLER_LIMIT="1/minute") as process:
        listening = await process.line(r"listening on port (\d+)", timeout=60)
        said: list[str] = []
        async with aiohttp.ClientSession() as session:
            for _ in range(2):
                async with session.post(f"http://127.0.0.1:{listening[1]}/mcp", json=body) as response:
                    assert response.status == 200
                    said.append((await response.json())["result"]["content"][0]["text"])

    assert ["Wait" in text for text in said] == [False, True]


# Whose rights a tool has

CLUSTER = "2x5yknxhwy4dkw5f"
IDENTITY = {"X-Kedge-Tenant": CLUSTER, "X-Kedge-Cluster": CLUSTER, "Authorization": "Bearer caller-token"}
PROVIDER_TOKEN = "provider-token"


@dataclass
class Kcp:
    """kcp over TLS. The provider may do everything, by its client certificate or its token, and nobody else may do anything.

    ``asked``: method and path of each request, the Authorization, and the client certificate's common name.
    """

    folder: Path
    port: int = 0
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        certificate = request.transport.get_extra_info("peercert")
        names = dict(pair for part in (certificate or {}).get("subject", ()) for pair in part)
        authorization = request.headers.get("Authorization")
        self.asked.append((f"{request.method} {request.path}", authorization, names.get("commonName")))
        if certificate or authorization == f"Bearer {PROVIDER_TOKEN}":
            return web.json_response({"kind": "List", "metadata": {"name": "main"}, "items": []})
        refusal = {"kind": "Status", "code": 403, "reason": "Forbidden", "message": 'User "caller" cannot do that'}
        return web.json_response(refusal, status=403)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        for name in ("kcp", "provider"):
            (self.folder / name).mkdir()
        server_context(self.folder / "provider")
        context = server_context(self.folder / "kcp")
        context.load_verify_locations(self.folder / "provider" / "devhub.pem")
        context.verify_mode = ssl.CERT_OPTIONAL
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        self.port = runner.addresses[0][1]
        try:
            yield
        finally:
            await runner.cleanup()

    def kubeconfig(self, verification: dict[str, Any]) -> Path:
        """The provider's, with a client certificate and a token."""
        certificate = str(self.folder / "provider" / "devhub.pem")
        user = {"client-certificate": certificate, "client-key": certificate, "token": PROVIDER_TOKEN}
        cluster = {"server": f"https://127.0.0.1:{self.port}/clusters/provider", **verification}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
        }
        path = self.folder / "kubeconfig"
        path.write_text(yaml.safe_dump(content))
        return path


@pytest.mark.parametrize("verified", [True, False], ids=["certificate-authority", "insecure-skip-tls-verify"])
async def test_kcp_refuses_a_caller_without_rights_though_the_kubeconfig_holds_the_providers(
    tmp_path: Path, verified: bool
) -> None:
    kcp = Kcp(tmp_path)
    calls: list[tuple[str, dict[str, Any]]] = [
        ("list_connections", {}),
        ("explain", {"kind": "Repository", "name": "site"}),
        ("create_connection", {"name": "main", "owner": "octocat", "secretName": "credential"}),
        ("delete_repository", {"name": "site"}),
    ]
    async with kcp.serving():
        authority = {"certificate-authority": str(tmp_path / "kcp" / "devhub.pem")}
        kubeconfig = kcp.kubeconfig(authority if verified else {"insecure-skip-tls-verify": True})
        async with ProviderIdentity(kubeconfig) as provider:
            await ProviderKcp(provider).request("GET", "/api/v1/secrets")
        # With this kubeconfig, kcp does take the provider for the provider.
        assert kcp.asked == [("GET /clusters/provider/api/v1/secrets", f"Bearer {PROVIDER_TOKEN}", "devhub")]
        kcp.asked.clear()

        async with gateway(tmp_path, KEDGE_PROVIDER_KUBECONFIG=str(kubeconfig)) as process:
            listening = await process.line(r"listening on port (\d+)", timeout=60)
            async with aiohttp.ClientSession(headers=IDENTITY) as session:
                for name, arguments in calls:
                    params = {"name": name, "arguments": arguments}
                    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
                    async with session.post(f"http://127.0.0.1:{listening[1]}/mcp", json=body) as response:
                        result = (await response.json())["result"]
                    assert result["isError"] is True, result
                    assert re.search(r'permission.* User "caller" cannot do that', result["content"][0]["text"]), result

    assert len(kcp.asked) >= len(calls)
    assert {(authorization, certificate) for _, authorization, certificate in kcp.asked} == {
        ("Bearer caller-token", None)
    }
    assert all(f" /clusters/{CLUSTER}/" in path for path, _, _ in kcp.asked)
