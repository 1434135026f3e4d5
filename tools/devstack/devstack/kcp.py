"""A real kcp with embedded etcd on the loopback interface, and what an administrator does with it."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from devstack.cluster import Cluster, Predicate, open_session
from devstack.environment import inherited
from devstack.errors import ApiError
from devstack.kubeconfig import Access, load_access
from devstack.ports import LOOPBACK, free_ports
from devstack.processes import Process
from devstack.resources import Manifest
from devstack.static_users import TOKEN_FILE, write_token_file
from devstack.tools import require_tool

START_TIMEOUT = 120.0
"""kcp is ready after 20 to 26 s on two idle cores."""

WORKSPACE_TIMEOUT = 60.0
BIND_TIMEOUT = 60.0
READY_FILE = "ready"
"""The file that ``python -m devstack.kcp FOLDER`` makes in FOLDER once kcp serves."""

GARBAGE_COLLECTION = {"GOGC": "400", "GOMEMLIMIT": "3GiB"}
"""This saves a tenth of the processor time and costs half a gigabyte of memory."""

ADMIN_CONTEXT = "base"
"""The context in kcp's admin.kubeconfig whose user may do everything in every workspace."""

SECRETS_CLAIM: dict[str, Any] = {
    "resource": "secrets",
    "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"],
}
"""What the code provider claims in a tenant's workspace."""


class Kcp:
    """A kcp that is started in `folder`, or the existing one that `kubeconfig` describes; an async context manager.

    A workspace is created by its path (``root:kedge:…``), which returns its logical-cluster ID. All other calls take the ID.
    """

    def __init__(self, folder: Path, *, kubeconfig: Path | None = None) -> None:
        self.folder = folder
        self.kubeconfig = kubeconfig or folder / "admin.kubeconfig"
        self.process: Process | None = None
        self._external = kubeconfig is not None
        self._session: aiohttp.ClientSession | None = None
        self._access: Access | None = None
        self._stack = AsyncExitStack()
        self._ready_workspaces: dict[str, str] = {"root": "root"}

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._session = await stack.enter_async_context(open_session())
            if self._external:
                self._access = load_access(self.kubeconfig)
                await self.cluster("root").request("GET", "/api/v1")
            else:
                await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _start(self, stack: AsyncExitStack) -> None:
        secure, client, peer = free_ports(3)
        self.process = Process(
            "kcp",
            [
                require_tool("kcp"),
                "start",
                f"--root-directory={self.folder}",
                f"--bind-address={LOOPBACK}",
                f"--secure-port={secure}",
                f"--embedded-etcd-client-port={client}",
                f"--embedded-etcd-peer-port={peer}",
                f"--token-auth-file={write_token_file(self.folder)}",
            ],
            log_file=self.folder / "kcp.log",
            env={**inherited(os.environ), **GARBAGE_COLLECTION},
        )
        await stack.enter_async_context(self.process)
        await self.process.wait_ready(lambda: self._serves(f"https://{LOOPBACK}:{secure}"), timeout=START_TIMEOUT)
        self._access = load_access(self.kubeconfig, ADMIN_CONTEXT)

    async def _serves(self, url: str) -> bool:
        # There is no authority to verify with yet: kcp writes its kubeconfig last.
        try:
            async with self.session.get(f"{url}/readyz", ssl=False, timeout=aiohttp.ClientTimeout(total=2)) as answer:
                return answer.status == 200 and self.kubeconfig.is_file()
        except (aiohttp.ClientError, TimeoutError):
            return False

    @property
    def session(self) -> aiohttp.ClientSession:
        assert self._session is not None, "enter the context first"
        return self._session

    @property
    def access(self) -> Access:
        """The administrator's access; its `base` is the URL before ``/clusters/…``."""
        assert self._access is not None, "enter the context first"
        return self._access

    @property
    def url(self) -> str:
        return self.access.base

    @property
    def knows_static_users(self) -> bool:
        """Whether this kcp was started here or by another process of the stack, and accepts `devstack.static_users`."""
        return (self.kubeconfig.parent / TOKEN_FILE).is_file()

    def cluster(self, cluster: str, *, token: str | None = None) -> Cluster:
        """A client for one workspace (ID or path), as the administrator or as the bearer of `token`."""
        access = Access(f"{self.url}/clusters/{cluster}", token or self.access.token, self.access.tls)
        return Cluster(self.session, access)

    async def request(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json", **options: Any
    ) -> Any:
        """One call as the administrator at `path` below the server, such as ``/clusters/<cluster>/api/v1``."""
        whole_server = Cluster(self.session, Access(self.url, self.access.token, self.access.tls))
        return await whole_server.request(method, path, body, content_type, **options)

    async def create_workspace(self, path: str) -> str:
        """Creates the workspace and its parents (type ``universal``) unless they exist, and waits until it is Ready.

        Returns its logical-cluster ID.
        """
        if path in self._ready_workspaces:
            return self._ready_workspaces[path]
        parent_path, _, name = path.rpartition(":")
        parent = self.cluster(await self.create_workspace(parent_path))
        manifest: Manifest = {
            "apiVersion": "tenancy.kcp.io/v1alpha1",
            "kind": "Workspace",
            "metadata": {"name": name},
            "spec": {"type": {"name": "universal", "path": "root"}},
        }
        with _existing_is_fine():
            await _once_served(lambda: parent.create(manifest))
        workspace = await parent.wait_for("workspaces", name, _phase_is("Ready"), WORKSPACE_TIMEOUT)
        assert workspace is not None
        self._ready_workspaces[path] = workspace["spec"]["cluster"]
        return self._ready_workspaces[path]

    async def delete_workspace(self, path: str) -> None:
        """Requests the deletion of the workspace and everything in it, without waiting for it."""
        parent, _, name = path.rpartition(":")
        for known in [known for known in self._ready_workspaces if f"{known}:".startswith(f"{path}:")]:
            del self._ready_workspaces[known]
        await self.cluster(parent).delete("workspaces", name)

    async def bind(
        self, cluster: str, export_path: str, export_name: str, claims: Sequence[dict[str, Any]], *, name: str = "code"
    ) -> str:
        """Creates the APIBinding as the hub does, waits until it is Bound and its API served, and returns its name.

        A claim without a ``state`` is accepted. An existing binding of that name stays as it is.
        """
        target = self.cluster(cluster)
        manifest: Manifest = {
            "apiVersion": "apis.kcp.io/v1alpha2",
            "kind": "APIBinding",
            "metadata": {"name": name},
            "spec": {
                "reference": {"export": {"path": export_path, "name": export_name}},
                "permissionClaims": [
                    {"selector": {"matchAll": True}, "state": "Accepted", **claim} for claim in claims
                ],
            },
        }
        with _existing_is_fine():
            await _once_served(lambda: target.create(manifest))
        bound = await target.wait_for("apibindings", name, _phase_is("Bound"), BIND_TIMEOUT)
        assert bound is not None
        await _until_served(target, bound["status"]["boundResources"])
        return name

    async def unbind(self, cluster: str, *, name: str = "code") -> None:
        """Deletes the APIBinding. It stays until all bound objects have lost their finalizers."""
        await self.cluster(cluster).delete("apibindings", name)


@contextmanager
def _existing_is_fine() -> Iterator[None]:
    try:
        yield
    except ApiError as problem:
        if problem.reason != "AlreadyExists":
            raise


def _phase_is(phase: str) -> Predicate:
    return lambda manifest: manifest is not None and manifest.get("status", {}).get("phase") == phase


async def service_account_token(target: Cluster, name: str, *, admin_binding: str | None, timeout: float = 30.0) -> str:
    """Creates ServiceAccount ``default/<name>`` in its workspace; returns its token, which does not expire.

    `admin_binding` names the ClusterRoleBinding that makes it cluster-admin there. Without one it has no rights.

    The hub makes credentials for providers and for a tenant's MCP server in this way (hub-contract.md §1.3, §5.4). kcp
    writes a token into the Secret about 0.4 s before it accepts it; this returns once kcp accepts it.
    """
    await target.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}})
    await target.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _in_default(name)})
    subject = {"kind": "ServiceAccount", "name": name, "namespace": "default"}
    if admin_binding is not None:
        await target.apply(cluster_admin_binding(admin_binding, subject))
    secret: Manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _in_default(f"{name}-token") | {"annotations": {"kubernetes.io/service-account.name": name}},
        "type": "kubernetes.io/service-account-token",
    }
    await target.apply(secret)
    filled = await target.wait_for(
        "secrets", f"{name}-token", lambda found: bool(found and found.get("data", {}).get("token")), timeout
    )
    assert filled is not None
    token = base64.b64decode(filled["data"]["token"]).decode()
    holder = target.with_token(token)
    # Everybody whom kcp knows may ask for the version.
    await _once_served(lambda: holder.request("GET", "/version"), not_yet=401)
    return token


def cluster_admin_binding(name: str, subject: dict[str, str]) -> Manifest:
    """A ClusterRoleBinding that lets the subject do everything in its workspace."""
    return role_binding(name, "cluster-admin", subject)


def role_binding(name: str, role: str, subject: dict[str, str]) -> Manifest:
    """A ClusterRoleBinding that gives the subject the rights of the ClusterRole `role`."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [subject],
    }


def role(name: str, rules: Sequence[Mapping[str, Sequence[str]]]) -> Manifest:
    """A ClusterRole with these rights, and that of entering its workspace, which kcp wants before it looks at others."""
    enter = {"nonResourceURLs": ["/"], "verbs": ["access"]}
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": [enter, *rules],
    }


def _in_default(name: str) -> dict[str, str]:
    return {"name": name, "namespace": "default"}


async def _until_served(target: Cluster, resources: Sequence[dict[str, Any]]) -> None:
    """Waits for discovery: kcp calls a binding Bound a moment before discovery lists all its resources."""
    missing = {(f"/apis/{r['group']}/{r['storageVersions'][0]}", r["resource"]) for r in resources}
    async with asyncio.timeout(BIND_TIMEOUT):
        while missing:
            for path in {path for path, _ in missing}:
                served = await _once_served(lambda path=path: target.request("GET", path))
                missing -= {(path, found["name"]) for found in served["resources"]}
            await asyncio.sleep(0.1)


async def _once_served(create: Callable[[], Awaitable[Manifest]], *, not_yet: int = 404) -> Manifest:
    """Repeats a call while it is answered with `not_yet`: kcp calls a workspace Ready a moment before it serves its APIs."""
    async with asyncio.timeout(WORKSPACE_TIMEOUT):
        while True:
            try:
                return await create()
            except ApiError as problem:
                if problem.status != not_yet:
                    raise
                await asyncio.sleep(0.1)


async def _keep(folder: Path) -> None:
    """Runs a kcp for other processes until standard input is closed."""
    async with Kcp(folder):
        (folder / READY_FILE).touch()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_keep(Path(sys.argv[1])))
