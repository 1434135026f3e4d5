"""repository-svc is killed at each step of a commit, a checkout and a build: each ends, and is done once.

The simulator holds the answer to one request of each object, before or after the request took effect. Once all are held, the
process is killed. One kill serves all steps, because NATS delivers what the process held again only after 15 s.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from codecommon.api.bundle import Bundle, BundleFile
from codecommon.githost.contents import TRAILER
from codecommon.messaging.bundles import BundleStore, open_bundle_store
from codecommon.messaging.bus import Bus
from codecommon.process.settings import NatsSettings
from devstack.nats import NatsServer
from devstack.processes import Process, wait_gone
from devstack.resources import CODE_API, Manifest, is_ready
from devstack.scenario import Account, Scenario, repository, unique
from devstack.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

WITHIN = 150.0
SERVICE = "repository-svc"
COMMITS, CHECKOUTS, BUILDS = "repositorycommits", "repositorycheckouts", "repositorybuildstatuses"
FILES = {"README.md": b"# Hello\n", "src/a.py": b"a\n", "empty": b""}
"""An empty file is uploaded on its own, so a commit of these has all requests that a commit can have."""
CI = ".github/workflows/ci.yaml"


@dataclass(frozen=True)
class Step:
    """A request of a commit. ``path``: below that of the repository. ``branch``: a new one. ``empty``: so is the repository."""

    method: str
    path: str
    branch: str = ""
    empty: bool = False


STEPS = {
    "read the head": Step("GET", "/git/ref/.*"),
    "read the latest commits": Step("GET", "/commits"),
    "read the tree": Step("GET", "/git/trees/.*"),
    "upload a file": Step("POST", "/git/blobs"),
    "make the tree": Step("POST", "/git/trees"),
    "make the commit": Step("POST", "/git/commits"),
    "move the branch": Step("PATCH", "/git/refs/.*"),
    "make the branch": Step("POST", "/git/refs", branch="next"),
    "begin the repository": Step("PUT", "/contents/.*", empty=True),
}


@pytest_asyncio.fixture
async def bundles(services: Process, services_nats: NatsServer) -> AsyncIterator[BundleStore]:
    """The store of the services, as the gateway has it."""
    async with (
        Bus.connect(NatsSettings(url=(services_nats.url,)), "test") as bus,
        open_bundle_store(bus) as store,
    ):
        yield store


@pytest_asyncio.fixture
async def account(services: Process, scenario: Scenario, tenant: Tenant) -> AsyncIterator[Account]:
    """Whose Connection is ``acme``. No fault that a test has added outlives it."""
    made = await scenario.account()
    await scenario.connect(tenant, made)
    yield made
    await scenario.control.clear_faults()


def pid_of(services: Process) -> int:
    """The process of repository-svc that runs now."""
    tasks = Path(f"/proc/{services.pid}/task")
    children = [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]
    [found] = [pid for pid in children if Path(f"/proc/{pid}/comm").read_text().strip() == SERVICE]
    return found


async def kill(services: Process) -> None:
    """End repository-svc as a crash would. Its supervisor starts it again."""
    pid = pid_of(services)
    os.kill(pid, signal.SIGKILL)
    await wait_gone(pid)


async def make_repositories(
    scenario: Scenario, tenant: Tenant, account: Account, names: Mapping[str, bool]
) -> dict[str, int]:
    """The ids of the repositories that are to be, by their names. The values of ``names``: whether it has a first commit."""
    for name, has_commit in names.items():
        await tenant.apply(repository(name, "acme", autoInit=has_commit))
    for name in names:
        await tenant.wait_for("repositories", name, is_ready, WITHIN)
    return {name: found.id for name, found in (await scenario.repositories_of(account.login)).items()}


async def held(scenario: Scenario, account: Account, wanted: set[tuple[str, int]]) -> None:
    """Return once requests are held with these methods, at the repositories with these ids."""

    async def look() -> set[tuple[str, int]]:
        requests = await scenario.requests_of(account.login)
        held = (r for r in requests if r.fault == "hang" and r.finished is None)
        return {(r.method, int(r.path.split("/")[2])) for r in held}

    await scenario.wait_until(look, wanted, timeout=WITHIN, what="a held request at each step")


async def hold(scenario: Scenario, repository_id: int, method: str, path: str, *, applied: bool) -> None:
    address = f"/repositories/{repository_id}{path}"
    await scenario.control.add_fault("hang", method=method, path=address, applied=applied)


def request(kind: str, name: str, of: str, **spec: Any) -> Manifest:
    fields = {"repositoryRef": of, **spec}
    return {"apiVersion": CODE_API, "kind": kind, "metadata": {"name": name}, "spec": fields}


async def ask_for_commit(tenant: Tenant, bundles: BundleStore, of: str, **spec: Any) -> Bundle:
    """As the gateway: the bundle is stored once kcp has taken the object."""
    # What it says of the repository makes it a bundle of its own.
    bundle = Bundle.build(BundleFile(path, content) for path, content in {**FILES, "name": of.encode()}.items())
    source = {"bundleRef": {"name": bundle.name, "digest": bundle.digest}}
    await tenant.apply(request("RepositoryCommit", of, of, source=source, **spec))
    await bundles.put(tenant.cluster, bundle)
    return bundle


def is_over(manifest: Manifest | None) -> bool:
    return manifest is not None and bool((manifest.get("status") or {}).get("completedAt"))


async def over(tenant: Tenant, plural: str, name: str) -> Manifest:
    found = await tenant.wait_for(plural, name, is_over, WITHIN)
    assert found is not None
    return found


async def gone(scenario: Scenario, tenant: Tenant, bundles: BundleStore, wanted: Mapping[str, Bundle]) -> None:
    """Return once none of these bundles is stored."""

    async def left() -> set[str]:
        return {name for name, bundle in wanted.items() if await bundles.find(tenant.cluster, bundle.name) is not None}

    await scenario.wait_until(left, set(), timeout=WITHIN, what="the end of the bundles")


@dataclass(frozen=True)
class Landed:
    """What came of a commit. ``made``: commits in the branch for a RepositoryCommit. ``wrong``: paths of other contents."""

    phase: str
    made: int
    is_named: bool
    wrong: frozenset[str]
    commits: int


# GitHub lets nothing but one file be put into an empty repository, so there is a commit before it everywhere.
ONCE = Landed("Succeeded", made=1, is_named=True, wrong=frozenset(), commits=2)


async def landed(scenario: Scenario, tenant: Tenant, account: Account, name: str, branch: str) -> Landed:
    found = await over(tenant, COMMITS, name)
    commits = await scenario.control.commits(account.login, name, branch)
    trailer = f"{TRAILER}: {found['metadata']['uid']}"
    own = [commit.sha for commit in commits if trailer in commit.message.splitlines()]
    shown = await scenario.control.files(account.login, name, branch)
    expected = {**FILES, "name": name.encode()}
    return Landed(
        found["status"]["phase"],
        made=sum(TRAILER in commit.message for commit in commits),
        is_named=own == [found["status"]["commitSHA"]],
        wrong=frozenset(path for path, content in expected.items() if shown.get(path) != content),
        commits=len(commits),
    )


@pytest.mark.parametrize("applied", [False, True], ids=["before it took effect", "after it took effect"])
async def test_a_process_that_is_killed_at_any_request_of_a_commit_makes_it_once(
    services: Process, scenario: Scenario, tenant: Tenant, bundles: BundleStore, account: Account, applied: bool
) -> None:
    names = {step: unique("site") for step in STEPS}
    has_commit = {names[step]: not at.empty for step, at in STEPS.items()}
    ids = await make_repositories(scenario, tenant, account, has_commit)
    await scenario.control.clear_journal()
    for step, at in STEPS.items():
        await hold(scenario, ids[names[step]], at.method, at.path, applied=applied)
    asked = {
        step: await ask_for_commit(tenant, bundles, names[step], **({"branch": at.branch} if at.branch else {}))
        for step, at in STEPS.items()
    }
    await held(scenario, account, {(at.method, ids[names[step]]) for step, at in STEPS.items()})
    await kill(services)

    expected = dict.fromkeys(STEPS, ONCE)
    if applied:
        # The commit is in the branch. Who made it does not know, and must not undo what a person does meanwhile.
        for step in ("move the branch", "make the branch"):
            edited = {"README.md": b"edited\n"}
            await scenario.control.push(account.login, names[step], edited, branch=STEPS[step].branch or "main")
            expected[step] = replace(ONCE, wrong=frozenset(edited), commits=3)
    ended = {
        step: await landed(scenario, tenant, account, names[step], at.branch or "main") for step, at in STEPS.items()
    }
    assert ended == expected
    await gone(scenario, tenant, bundles, asked)


@contextmanager
def stopped(process: Process) -> Iterator[None]:
    """The process does nothing while the body runs."""
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


async def test_a_process_that_is_killed_once_the_answer_is_in_status_does_what_follows_later(
    services: Process,
    services_nats: NatsServer,
    scenario: Scenario,
    tenant: Tenant,
    bundles: BundleStore,
    account: Account,
) -> None:
    name = unique("site")
    ids = await make_repositories(scenario, tenant, account, {name: True})
    # The last answer of the host comes when NATS has stopped. So status is written, and nothing after it is done.
    path = f"/repositories/{ids[name]}/git/refs/.*"
    await scenario.control.add_fault("slow", method="PATCH", path=path, applied=True, seconds=60.0)
    bundle = await ask_for_commit(tenant, bundles, name)

    async def is_moved() -> int:
        return len(await scenario.control.commits(account.login, name))

    await scenario.wait_until(is_moved, 2, timeout=WITHIN, what="the commit")
    with stopped(services_nats.process):
        await scenario.control.clear_faults()
        answered = await over(tenant, COMMITS, name)
        await kill(services)

    assert await bundles.find(tenant.cluster, bundle.name) is not None
    await gone(scenario, tenant, bundles, {name: bundle})
    assert await landed(scenario, tenant, account, name, "main") == ONCE
    assert (await over(tenant, COMMITS, name))["status"] == answered["status"]


async def test_a_process_that_is_killed_while_it_reads_or_starts_builds_ends_each_and_starts_each_run_once(
    services: Process, scenario: Scenario, tenant: Tenant, bundles: BundleStore, account: Account
) -> None:
    steps = {
        "checkout: read the commit": ("GET", "/commits", False),
        "checkout: read the tree": ("GET", "/git/trees/.*", False),
        "checkout: read the archive": ("GET", "/tarball/.*", False),
        "checkout: read what the archive lacks": ("GET", "/git/blobs/.*", False),
        "report: read the run": ("GET", "/actions/workflows/.*", False),
        "report: read the jobs": ("GET", "/actions/runs/.*/jobs", False),
        "report: read the log": ("GET", "/actions/jobs/.*/logs", False),
        "rerun: before it started": ("POST", "/actions/workflows/.*", False),
        "rerun: after it started": ("POST", "/actions/workflows/.*", True),
    }
    names = {step: unique("site") for step in steps}
    ids = await make_repositories(scenario, tenant, account, dict.fromkeys(names.values(), False))
    texts = {**FILES, ".gitattributes": b"src/* export-ignore\n", CI: b"on: [push, workflow_dispatch]\n"}
    job = {"name": "test", "status": "completed", "conclusion": "failure", "log": "the end\n"}
    for step, name in names.items():
        await scenario.control.push(account.login, name, texts)
        if step.startswith("report"):
            await scenario.control.create_run(
                account.login, name, "ci.yaml", status="completed", conclusion="failure", jobs=[job]
            )
    await scenario.control.clear_journal()
    for step, (method, path, applied) in steps.items():
        await hold(scenario, ids[names[step]], method, path, applied=applied)
        await tenant.apply(_reads_or_starts(step, names[step]))
    await held(scenario, account, {(method, ids[names[step]]) for step, (method, *_) in steps.items()})
    await kill(services)

    async def came_of(step: str, name: str) -> Any:
        found = await over(tenant, CHECKOUTS if step.startswith("checkout") else BUILDS, name)
        status, runs = found["status"], len(await scenario.control.runs(account.login, name))
        if step.startswith("checkout"):
            stored = await bundles.find(tenant.cluster, status["bundleRef"]["name"])
            bundle = await bundles.read(tenant.cluster, stored) if stored is not None else None
            read = {file.path: file.content for file in bundle.files} if bundle is not None else {}
            return status["phase"], read == texts
        if step.startswith("report"):
            return status["phase"], [job["failureLog"].splitlines()[1] for job in status["run"]["jobs"]]
        return status["phase"], status["dispatched"], runs

    expected = {"checkout": ("Succeeded", True), "report": ("Succeeded", ["the end"]), "rerun": ("Succeeded", True, 1)}
    ended = await asyncio.gather(*(came_of(step, name) for step, name in names.items()))
    assert dict(zip(names, ended, strict=True)) == {step: expected[step.partition(":")[0]] for step in steps}


def _reads_or_starts(step: str, name: str) -> Manifest:
    if step.startswith("checkout"):
        return request("RepositoryCheckout", name, name)
    action = {"action": "rerun"} if step.startswith("rerun") else {}
    return request("RepositoryBuildStatus", name, name, workflowFileName="ci.yaml", **action)
