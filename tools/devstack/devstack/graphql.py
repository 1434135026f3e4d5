"""The real kubernetes-graphql-gateway: its listener makes a schema for each workspace, its gateway answers with it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

from devstack.kcp import Kcp
from devstack.ports import LOOPBACK, free_ports
from devstack.processes import Process
from devstack.tools import require_tool

PROGRAM = "kubernetes-graphql-gateway"
START_TIMEOUT = 60.0


class GraphqlGateway:
    """An async context manager. While it is entered, ``<url>/api/clusters/<id>/graphql`` answers for bound workspaces.

    `workspace` (path or ID) holds the APIExportEndpointSlice, which is named as its export is. A schema covers all APIs of
    a workspace, and comes about a second after the export's binding is Bound.
    """

    def __init__(self, kcp: Kcp, folder: Path, *, workspace: str, export: str) -> None:
        self._kcp = kcp
        self._folder = folder
        self._workspace = workspace
        self._export = export
        self._stack = AsyncExitStack()
        (self._port,) = free_ports(1)
        self.url = f"http://{LOOPBACK}:{self._port}"
        self._gateway: Process | None = None

    async def __aenter__(self) -> Self:
        schemas = self._folder / "schemas"
        schemas.mkdir(parents=True, exist_ok=True)
        async with AsyncExitStack() as stack:
            listener = self._process("listener", self._listener_flags(schemas))
            gateway = self._process("gateway", self._gateway_flags(schemas))
            for process in (listener, gateway):
                await stack.enter_async_context(process)
            # The listener has no address that says so.
            await listener.line(r"Starting workers", timeout=START_TIMEOUT)
            await gateway.wait_ready(self._answers, timeout=START_TIMEOUT)
            self._gateway = gateway
            self._stack = stack.pop_all()
        return self

    async def kill(self) -> None:
        """Ends the gateway as a crash would. The listener stays, and its schemas with it. `start` brings it back."""
        assert self._gateway is not None, "it was entered"
        await self._gateway.kill()

    async def start(self) -> None:
        """Starts the killed gateway again, at the same address. It answers when this returns."""
        assert self._gateway is not None, "it was entered"
        await self._gateway.start()
        await self._gateway.wait_ready(self._answers, timeout=START_TIMEOUT)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def _process(self, part: str, flags: dict[str, str]) -> Process:
        argv = [require_tool(PROGRAM), part, *(f"--{name}={value}" for name, value in flags.items())]
        return Process(f"graphql {part}", argv, log_file=self._folder / f"graphql-{part}.log")

    def _listener_flags(self, schemas: Path) -> dict[str, str]:
        # No --workspace-schema-host-override: it replaces the whole URL, and discovery fails.
        return {
            "kubeconfig": str(self._kcp.kubeconfig),
            "multicluster-runtime-provider": "kcp",
            "apiexport-endpoint-slice-name": self._export,
            "apiexport-endpoint-slice-logicalcluster": self._workspace,
            "reconciler-gvr": "apibindings.v1alpha2.apis.kcp.io",
            "anchor-resource": f'object.spec.reference.export.name == "{self._export}"',
            "workspace-schema-kubeconfig-override": str(self._kcp.kubeconfig),
            "schema-handler": "file",
            "schemas-dir": str(schemas),
            "health-probe-bind-address": "0",
            "metrics-bind-address": "0",
        }

    def _gateway_flags(self, schemas: Path) -> dict[str, str]:
        return {
            "schema-handler": "file",
            "schemas-dir": str(schemas),
            "gateway-address": LOOPBACK,
            "gateway-port": str(self._port),
            # Tests revoke rights and expect the next request to notice.
            "token-review-cache-ttl": "0s",
        }

    async def _answers(self) -> bool:
        try:
            async with self._kcp.session.get(self.url, timeout=aiohttp.ClientTimeout(total=2)):
                return True
        except (aiohttp.ClientError, TimeoutError):
            return False
