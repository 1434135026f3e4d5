"""What a test or demonstration sets up again and again: an account on the simulated host, and objects that use it."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from devstack.errors import WaitTimeout
from devstack.githubsim.control import SimControl
from devstack.githubsim.control_answers import IssuedApp, IssuedToken, SimRepository
from devstack.githubsim.journal import Entry
from devstack.resources import CODE_API, Manifest, condition, is_ready
from devstack.simulator import SimulatorProcess
from devstack.tenant import Tenant

_numbers = itertools.count(1)


def unique(prefix: str) -> str:
    """A name that nobody else in this run, or in another run on the same kcp, has."""
    return f"{prefix}-{os.getpid()}-{next(_numbers)}"


@dataclass(frozen=True)
class Account:
    """A user of the simulated host with a classic token that may do everything."""

    login: str
    token: IssuedToken


def secret(name: str, token: str, *, key: str = "token") -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "default"},
        "stringData": {key: token},
    }


def app_secret(name: str, app: IssuedApp, **data: str) -> Manifest:
    """The Secret of a Connection of type ``github-app``; ``data`` replaces or adds entries."""
    manifest = secret(name, "")
    manifest["stringData"] = {"githubAppID": str(app.id), "githubAppPrivateKey": app.private_key, **data}
    return manifest


def connection(name: str, owner: str, base_url: str | None, *, secret_name: str = "", **spec: Any) -> Manifest:
    """A Connection whose Secret is ``<name>-token``, as the portal makes them."""
    fields: dict[str, Any] = {
        "provider": "github",
        "type": "pat",
        "owner": owner,
        "secretRef": {"name": secret_name or f"{name}-token"},
        **({"baseURL": base_url} if base_url else {}),
        **spec,
    }
    return {"apiVersion": CODE_API, "kind": "Connection", "metadata": {"name": name}, "spec": fields}


def repository(object_name: str, connection_ref: str, **spec: Any) -> Manifest:
    """A Repository whose name on the host is its own unless ``spec`` says otherwise."""
    fields = {"connectionRef": connection_ref, "name": object_name, **spec}
    return {"apiVersion": CODE_API, "kind": "Repository", "metadata": {"name": object_name}, "spec": fields}


def deploy_key(name: str, repository_ref: str, **spec: Any) -> Manifest:
    fields = {"repositoryRef": repository_ref, **spec}
    return {"apiVersion": CODE_API, "kind": "DeployKey", "metadata": {"name": name}, "spec": fields}


def collaborator(name: str, repository_ref: str, username: str, **spec: Any) -> Manifest:
    fields = {"repositoryRef": repository_ref, "username": username, **spec}
    return {"apiVersion": CODE_API, "kind": "Collaborator", "metadata": {"name": name}, "spec": fields}


def has(kind: str, status: str, reason: str | None = None) -> Any:
    """A predicate for ``wait_for``: the object has that condition, for its current spec."""

    def predicate(manifest: Manifest | None) -> bool:
        found = condition(manifest, kind) if manifest else None
        return (
            manifest is not None
            and found is not None
            and found["status"] == status
            and (reason is None or found["reason"] == reason)
            and found.get("observedGeneration", 0) >= manifest["metadata"].get("generation", 0)
        )

    return predicate


class Scenario:
    """Accounts on one simulator, and tenants that use them."""

    def __init__(self, simulator: SimulatorProcess, control: SimControl) -> None:
        self.url = simulator.url
        self.authority = simulator.authority
        self.control = control

    async def account(self, prefix: str = "user") -> Account:
        login = unique(prefix)
        await self.control.create_user(login)
        return Account(login, await self.control.create_token(login))

    async def connect(
        self, tenant: Tenant, account: Account, name: str = "acme", timeout: float = 30.0, *, authority: str = ""
    ) -> Manifest:
        """Apply Secret and Connection; returns the Connection once it is ready. `authority`: another name of the simulator."""
        await tenant.apply(secret(f"{name}-token", account.token.value))
        await tenant.apply(connection(name, account.login, f"http://{authority}" if authority else self.url))
        ready = await tenant.wait_for("connections", name, is_ready, timeout)
        assert ready is not None
        return ready

    async def use_up(self, account: Account, requests: int) -> None:
        """Spend some of the account's quota, as another program with the same token would."""
        headers = {"Authorization": f"Bearer {account.token.value}"}
        async with aiohttp.ClientSession(self.url, headers=headers, raise_for_status=True) as session:
            for _ in range(requests):
                async with session.get("/user"):
                    pass

    async def requests_of(self, login: str, *, writes_only: bool = False) -> list[Entry]:
        """What the host was asked with credentials of ``login`` since the journal was cleared."""
        entries = (await self.control.journal()).entries
        return [e for e in entries if e.login == login and (not writes_only or e.method not in ("GET", "HEAD"))]

    async def wait_until(
        self, look: Callable[[], Awaitable[object]], wanted: object, *, timeout: float, what: str
    ) -> None:
        """Return once ``look()`` gives ``wanted``. The simulator has no watch, so it is asked again and again."""
        seen: object = None
        try:
            async with asyncio.timeout(timeout):
                while (seen := await look()) != wanted:
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise WaitTimeout(f"{what}: wanted {wanted!r} within {timeout:g} s, last seen {seen!r}") from None

    async def repositories_of(self, login: str) -> dict[str, SimRepository]:
        return {r.name: r for r in await self.control.repositories() if r.owner == login}
