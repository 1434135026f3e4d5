"""Commits, checkouts and builds on the real parts: objects and bundles in, and what `git clone` shows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from codecommon.api.bundle import Bundle, BundleFile
from codecommon.messaging.bundles import BundleStore, open_bundle_store
from codecommon.messaging.bus import Bus
from codecommon.process.settings import NatsSettings
from devstack.nats import NatsServer
from devstack.processes import Process
from devstack.resources import CODE_API, Manifest, condition, is_ready
from devstack.scenario import Account, Scenario, repository, unique
from devstack.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

WITHIN = 60.0


@pytest_asyncio.fixture
async def bundles(services: Process, services_nats: NatsServer) -> AsyncIterator[BundleStore]:
    """The store of the services, as the gateway has it."""
    async with (
        Bus.connect(NatsSettings(url=(services_nats.url,)), "test") as bus,
        open_bundle_store(bus, None) as store,
    ):
        yield store


def files(*changes: tuple[str, str | None]) -> Bundle:
    return Bundle.build(
        BundleFile(path, delete=True) if text is None else BundleFile.of_text(path, text) for path, text in changes
    )


def commit(name: str, of: str, bundle: Bundle, **spec: Any) -> Manifest:
    source = {"bundleRef": {"name": bundle.name, "digest": bundle.digest}}
    fields = {"repositoryRef": of, "source": source, **spec}
    return {"apiVersion": CODE_API, "kind": "RepositoryCommit", "metadata": {"name": name}, "spec": fields}


def is_over(manifest: Manifest | None) -> bool:
    return manifest is not None and bool((manifest.get("status") or {}).get("completedAt"))


async def ask(tenant: Tenant, bundles: BundleStore, manifest: Manifest, bundle: Bundle) -> None:
    """As the gateway: the bundle is stored once kcp has taken the object, under the cluster of its answer."""
    taken = await tenant.apply(manifest)
    await bundles.put(taken["metadata"]["annotations"]["kcp.io/cluster"], bundle)


async def over(tenant: Tenant, plural: str, name: str, timeout: float = WITHIN) -> Manifest:
    found = await tenant.wait_for(plural, name, is_over, timeout)
    assert found is not None
    return found


async def made(tenant: Tenant, bundles: BundleStore, name: str, of: str, bundle: Bundle, **spec: Any) -> Manifest:
    await ask(tenant, bundles, commit(name, of, bundle, **spec), bundle)
    found = await over(tenant, "repositorycommits", name)
    assert found["status"]["phase"] == "Succeeded", found["status"]
    return found


async def a_repository(scenario: Scenario, tenant: Tenant, **spec: Any) -> tuple[Account, str]:
    account = await scenario.account()
    name = unique("site")
    await scenario.connect(tenant, account, name)
    await tenant.apply(repository(name, name, **spec))
    await tenant.wait_for("repositories", name, is_ready)
    return account, name


async def git(*args: str, cwd: Path | None = None) -> str:
    running = await asyncio.create_subprocess_exec("git", *args, cwd=cwd, stdout=-1, stderr=-1)
    out, err = await running.communicate()
    assert running.returncode == 0, err.decode()
    return out.decode()


class Clone:
    """What `git clone` shows of a repository."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    async def of(cls, scenario: Scenario, account: Account, name: str, to: Path) -> Clone:
        url = scenario.url.replace("://", f"://x:{account.token.value}@") + f"/{account.login}/{name}.git"
        await git("clone", "--quiet", url, str(to))
        return cls(to)

    def files(self) -> dict[str, bytes]:
        paths = (path for path in self.root.rglob("*") if path.is_file() and ".git" not in path.parts)
        return {str(path.relative_to(self.root)): path.read_bytes() for path in paths}

    async def log(self, form: str = "%s") -> list[str]:
        return (await git("log", "--first-parent", f"--format={form}", cwd=self.root)).splitlines()


async def test_git_clone_shows_exactly_the_files_that_were_committed(
    services: Process, scenario: Scenario, tenant: Tenant, bundles: BundleStore, tmp_path: Path
) -> None:
    account, name = await a_repository(scenario, tenant)
    first = await made(tenant, bundles, f"{name}-1", name, files(("README.md", "# é\n"), ("src/a.py", "a"), ("b", "b")))
    second = await made(
        tenant, bundles, f"{name}-2", name, files(("src/a.py", "A"), ("b", None), ("nowhere", None)), message="Second"
    )
    assert condition(second, "Ready") is not None
    clone = await Clone.of(scenario, account, name, tmp_path / "clone")
    assert clone.files() == {"README.md": "# é\n".encode(), "src/a.py": b"A"}
    assert (await clone.log("%H"))[0] == second["status"]["commitSHA"]
    assert first["status"]["commitSHA"] in await clone.log("%H")
    assert (await clone.log())[0] == "Second"
