"""A kube-apiserver of its own with its own etcd: no nodes and no controllers, so nothing runs, but everything is checked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from devstack.kubeconfig import kubeconfig, write_private
from devstack.ports import free_ports
from devstack.processes import Process
from devstack.tools import require_chart_tool

TOKEN = "admin-of-this-run"
START_SECONDS = 180

Object = dict[str, Any]


@dataclass(frozen=True)
class Kubernetes:
    """``kubeconfig``: of its administrator."""

    kubeconfig: Path
    http: httpx.AsyncClient

    async def get(self, path: str) -> Object:
        answer = await self.http.get(path)
        answer.raise_for_status()
        return answer.json()

    async def apply(self, o: Object, *, dry_run: bool = False) -> Object:
        """Server-side apply, with unknown fields refused. Raises ``AssertionError`` with what the server says."""
        api = o["apiVersion"]
        root = f"/api/{api}" if "/" not in api else f"/apis/{api}"
        resources = (await self.get(root))["resources"]
        (resource,) = [r for r in resources if r["kind"] == o["kind"] and "/" not in r["name"]]
        scope = f"/namespaces/{o['metadata']['namespace']}" if resource["namespaced"] else ""
        answer = await self.http.patch(
            f"{root}{scope}/{resource['name']}/{o['metadata']['name']}",
            params={
                "fieldManager": "test",
                "fieldValidation": "Strict",
                "force": "true",
                **({"dryRun": "All"} if dry_run else {}),
            },
            headers={"Content-Type": "application/apply-patch+yaml"},
            json=o,
        )
        assert answer.is_success, f"{o['kind']} {o['metadata']['name']}: {answer.json()['message']}"
        return answer.json()

    async def wait_established(self, crd: str) -> None:
        """Return once the server serves the kind."""
        async with asyncio.timeout(30):
            while True:
                found = await self.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd}")
                conditions = {c["type"]: c["status"] for c in found.get("status", {}).get("conditions") or ()}
                if conditions.get("Established") == "True":
                    return
                await asyncio.sleep(0.1)


@asynccontextmanager
async def start_kubernetes(folder: Path) -> AsyncIterator[Kubernetes]:
    """Runs etcd and kube-apiserver in ``folder`` until the end of the block."""
    client, peer, port = free_ports(3)
    etcd_url = f"http://127.0.0.1:{client}"
    key = write_private(
        folder / "service-accounts.pem",
        rsa.generate_private_key(65537, 2048)
        .private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        .decode(),
    )
    tokens = write_private(folder / "tokens.csv", f'{TOKEN},admin,admin,"system:masters"\n')
    etcd = Process(
        "etcd",
        [
            require_chart_tool("etcd"),
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={etcd_url}",
            f"--advertise-client-urls={etcd_url}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
        ],
        log_file=folder / "etcd.log",
    )
    apiserver = Process(
        "kube-apiserver",
        [
            require_chart_tool("kube-apiserver"),
            f"--etcd-servers={etcd_url}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            # It has to be an address that others could reach, which nobody does.
            "--advertise-address=192.0.2.1",
            "--endpoint-reconciler-type=none",
            f"--cert-dir={folder / 'certificates'}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            # A pod of a dry run names a ServiceAccount that is not stored.
            "--disable-admission-plugins=ServiceAccount",
        ],
        log_file=folder / "kube-apiserver.log",
    )
    url = f"https://127.0.0.1:{port}"
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, verify=False, timeout=60)
        )

        async def serves() -> bool:
            try:
                return (await http.get("/readyz")).status_code == 200
            except httpx.HTTPError:
                return False

        await stack.enter_async_context(etcd)
        await stack.enter_async_context(apiserver)
        await apiserver.wait_ready(serves, timeout=START_SECONDS)
        yield Kubernetes(write_private(folder / "kubeconfig", kubeconfig(url, TOKEN)), http)
