"""Commits, checkouts and builds on the real parts: objects and bundles in, and what `git clone` shows."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from codecommon.api.bundle import Bundle, BundleFile
from codecommon.messaging.bundles import BundleStore, open_bundle_store
from codecommon.messaging.bus import Bus
from codecommon.process.settings import NatsSettings
from devstack.devhub import DevHub
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
        open_bundle_store(bus) as store,
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


async def test_ten_writers_on_one_branch_all_land_once_in_a_linear_history(
    services: Process, scenario: Scenario, tenant: Tenant, bundles: BundleStore, tmp_path: Path
) -> None:
    account, name = await a_repository(scenario, tenant, autoInit=True)
    numbers = range(10)
    await asyncio.gather(
        *(
            made(tenant, bundles, f"{name}-{n}", name, files((f"file-{n}", f"{n}\n")), message=f"Writer {n}")
            for n in numbers
        )
    )
    clone = await Clone.of(scenario, account, name, tmp_path / "clone")
    written = {path: text for path, text in clone.files().items() if path.startswith("file-")}
    assert written == {f"file-{n}": f"{n}\n".encode() for n in numbers}
    every = await git("log", "--format=%s", cwd=clone.root)
    assert sorted(s for s in every.splitlines() if s.startswith("Writer")) == [f"Writer {n}" for n in numbers]
    assert every.splitlines() == await clone.log()


async def test_500_files_and_16_mib_beside_what_is_no_text(
    services: Process, scenario: Scenario, tenant: Tenant, bundles: BundleStore, tmp_path: Path
) -> None:
    account, name = await a_repository(scenario, tenant, autoInit=True)
    before = {"logo.png": b"\x89PNG\x00\xff", "link": b"logo.png", "run.sh": b"#!/bin/sh\n", "lib": b"a" * 40}
    modes = {"link": "120000", "run.sh": "100755", "lib": "160000"}
    await scenario.control.push(account.login, name, dict(before), modes=modes)
    size = 16 * 1024 * 1024 // 500 - 20
    many = [(f"dir-{n % 7}/file-{n}", f"{n:06} é\n".ljust(size - 1, "x")) for n in range(498)]
    await made(tenant, bundles, f"{name}-1", name, files(*many, ("run.sh", "#!/bin/sh\necho\n"), ("gone", None)))
    assert {**await scenario.control.modes(account.login, name)}.items() >= modes.items()
    shown = await scenario.control.files(account.login, name)
    assert (shown["logo.png"], shown["link"], shown["run.sh"]) == (
        before["logo.png"],
        b"logo.png",
        b"#!/bin/sh\necho\n",
    )
    assert {path: text.decode() for path, text in shown.items() if path.startswith("dir-")} == dict(many)


async def test_files_that_are_there_already_make_no_commit(
    services: Process, scenario: Scenario, tenant: Tenant, bundles: BundleStore
) -> None:
    _, name = await a_repository(scenario, tenant)
    first = await made(tenant, bundles, f"{name}-1", name, files(("a", "1")))
    second = await made(tenant, bundles, f"{name}-2", name, files(("a", "1"), ("b", None)))
    assert second["status"]["commitSHA"] == first["status"]["commitSHA"]


async def test_what_the_host_refuses_is_named_and_not_tried_again(
    services: Process, scenario: Scenario, tenant: Tenant, bundles: BundleStore
) -> None:
    account, name = await a_repository(scenario, tenant, autoInit=True)

    async def refusal(number: int, *changes: tuple[str, str | None], **spec: Any) -> str:
        bundle = files(*changes)
        await ask(tenant, bundles, commit(f"{name}-{number}", name, bundle, **spec), bundle)
        found = await over(tenant, "repositorycommits", f"{name}-{number}")
        assert found["status"]["phase"] == "Failed"
        stalled = condition(found, "Stalled")
        assert stalled is not None
        return str(stalled["reason"])

    assert await refusal(1, (".github/workflows/ci.yaml", "on: push\n")) == "MissingPermission"
    await scenario.control.edit_repository(account.login, name, branches=["safe"], protected=["safe"])
    assert await refusal(2, ("a", "1"), branch="safe") == "BranchProtected"
    await scenario.control.edit_repository(account.login, name, archived=True)
    assert await refusal(3, ("a", "1")) == "RepositoryArchived"


async def test_a_checkout_holds_the_texts_and_lists_the_rest(
    services: Process, scenario: Scenario, tenant: Tenant, bundles: BundleStore
) -> None:
    account, name = await a_repository(scenario, tenant)

    async def checkout(number: int, **spec: Any) -> Manifest:
        fields = {"repositoryRef": name, **spec}
        meta = {"name": f"{name}-{number}"}
        await tenant.apply({"apiVersion": CODE_API, "kind": "RepositoryCheckout", "metadata": meta, "spec": fields})
        return await over(tenant, "repositorycheckouts", f"{name}-{number}")

    async def content(found: Manifest) -> dict[str, bytes]:
        stored = await bundles.find(tenant.cluster, found["status"]["bundleRef"]["name"])
        assert stored is not None
        bundle = await bundles.read(tenant.cluster, stored)
        assert bundle is not None
        return {file.path: file.content for file in bundle.files}

    empty = await checkout(0)
    assert (empty["status"]["phase"], empty["status"].get("bundleRef")) == ("Succeeded", None)
    texts = {"README.md": "# é\n".encode(), "docs/a.txt": b"A", ".gitattributes": b"docs/* export-ignore\n"}
    other = {"logo.png": b"\x00\xff", "link": b"logo.png"}
    sha = await scenario.control.push(account.login, name, {**texts, **other}, modes={"link": "120000"})
    found = await checkout(1)
    assert (found["status"]["phase"], found["status"]["commitSHA"]) == ("Succeeded", sha)
    assert await content(found) == texts
    assert found["status"]["skipped"] == ["link: symlink", "logo.png: binary"]
    await scenario.control.push(account.login, name, {"docs/a.txt": b"B"})
    assert (await content(await checkout(2, ref=sha)))["docs/a.txt"] == b"A"
    missing = await checkout(3, ref="nowhere")
    assert (missing["status"]["phase"], (condition(missing, "Ready") or {})["reason"]) == ("Failed", "RefNotFound")


async def test_a_build_is_reported_and_started_again(
    services: Process, scenario: Scenario, tenant: Tenant, bundles: BundleStore
) -> None:
    account, name = await a_repository(scenario, tenant)
    control = scenario.control

    async def build(number: int, **spec: Any) -> Manifest:
        fields = {"repositoryRef": name, "workflowFileName": "ci.yaml", **spec}
        meta = {"name": f"{name}-{number}"}
        await tenant.apply({"apiVersion": CODE_API, "kind": "RepositoryBuildStatus", "metadata": meta, "spec": fields})
        return await over(tenant, "repositorybuildstatuses", f"{name}-{number}")

    workflow = b"on: [push, workflow_dispatch]\njobs: {}\n"
    await control.push(account.login, name, {".github/workflows/ci.yaml": workflow})
    assert (await build(1))["status"]["run"] == {"found": False}
    jobs = [
        {"name": "test", "status": "completed", "conclusion": "failure", "log": "".join(f"{n}\n" for n in range(500))}
    ]
    run = await control.create_run(account.login, name, "ci.yaml", status="completed", conclusion="failure", jobs=jobs)
    shown = (await build(2, maxLogLines=3, ref=run.head_sha))["status"]["run"]
    assert (shown["runID"], shown["conclusion"]) == (run.id, "failure")
    head, *lines = shown["jobs"][0]["failureLog"].splitlines()
    assert "untrusted" in head
    assert [line.split()[-1] for line in lines] == ["497", "498", "499"]
    rerun = await build(3, action="rerun")
    assert (rerun["status"]["phase"], rerun["status"]["dispatched"]) == ("Succeeded", True)
    assert len(await control.runs(account.login, name)) == 2
    await control.set_switches(actions=False)
    try:
        refused = await build(4)
        assert (condition(refused, "Ready") or {})["reason"] == "BuildsUnsupported"
    finally:
        await control.set_switches(actions=True)


async def test_a_workspace_that_disables_the_provider_leaves_no_bundle(
    services: Process, scenario: Scenario, devhub: DevHub, bundles: BundleStore
) -> None:
    going = await devhub.create_tenant()
    await devhub.enable(going)
    bundle = files(("a", "1"))
    # It waits for a Repository that never comes.
    await ask(going, bundles, commit("waiting", "nowhere", bundle), bundle)
    assert await bundles.find(going.cluster, bundle.name) is not None
    await devhub.disable(going)

    async def found() -> bool:
        return await bundles.find(going.cluster, bundle.name) is not None

    await scenario.wait_until(found, False, timeout=60, what="the end of the bundle")


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task")
    return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]


async def test_services_that_are_killed_in_the_middle_of_commits_lose_none_and_double_none(
    services: Process, scenario: Scenario, tenant: Tenant, bundles: BundleStore, tmp_path: Path
) -> None:
    """Slow, because NATS delivers what the killed services held again only after 15 s."""
    account, name = await a_repository(scenario, tenant, autoInit=True)
    control, numbers = scenario.control, range(12)
    await control.set_switches(latency=0.1)
    try:
        for n in numbers:
            bundle = files((f"file-{n}", f"{n}\n"))
            await ask(tenant, bundles, commit(f"{name}-{n}", name, bundle, message=f"Writer {n}"), bundle)

        async def landed() -> bool:
            return any(c.message.startswith("Writer") for c in await control.commits(account.login, name))

        await scenario.wait_until(landed, True, timeout=60, what="the first commit")
        for pid in _children(services.pid):
            os.kill(pid, signal.SIGKILL)
        for n in numbers:
            found = await over(tenant, "repositorycommits", f"{name}-{n}", 150)
            assert found["status"]["phase"] == "Succeeded", found["status"]
    finally:
        await control.set_switches(latency=0.0)
    subjects = [c.message.splitlines()[0] for c in await control.commits(account.login, name)]
    assert sorted(s for s in subjects if s.startswith("Writer")) == sorted(f"Writer {n}" for n in numbers)
    shown = await control.files(account.login, name)
    assert {f"file-{n}": f"{n}\n".encode() for n in numbers}.items() <= shown.items()
