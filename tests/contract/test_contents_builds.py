"""The cases for ``BuildsHost``: runs, jobs, the ends of logs, and starting a workflow."""

from __future__ import annotations

import pytest
from git_hosts import Host, needs
from git_trees import HostTree

from codecommon.api.reasons import Reason
from codecommon.api.results import Terminal
from codecommon.githost.protocol import HostRepository

BUILD = ".github/workflows/build.yml"


@pytest.fixture
def tree(host: Host) -> HostTree:
    return needs(host.tree)


@pytest.fixture
async def repo(host: Host, tree: HostTree) -> HostRepository:
    made = await host.create()
    files = {BUILD: b"on:\n  workflow_dispatch:\n", ".github/workflows/nightly.yml": b"on: schedule\n"}
    await tree.push(made, files)
    return made


async def test_the_newest_run_at_a_branch_or_commit_is_found(host: Host, tree: HostTree, repo: HostRepository) -> None:
    assert await host.backend.builds.find_run(repo.id, "build.yml", "main") is None
    await tree.run(repo, "build.yml", conclusion="failure")
    first = await host.backend.builds.find_run(repo.id, "build.yml", "main")
    assert first is not None
    assert (first.status, first.conclusion) == ("completed", "failure")
    await tree.push(repo, {"a": b""})
    await tree.run(repo, "build.yml")
    await tree.push(repo, {"b": b""}, branch="other")
    await tree.run(repo, "build.yml", branch="other", conclusion="cancelled")
    # Without a ref it is the default branch's.
    newest = await host.backend.builds.find_run(repo.id, "build.yml", "")
    assert newest is not None
    assert newest.conclusion == "success"
    assert await host.backend.builds.find_run(repo.id, "build.yml", first.head_sha) == first
    assert await host.backend.builds.find_run(repo.id, "build.yml", "elsewhere") is None
    assert await host.backend.builds.find_run(repo.id, "none.yml", "main") is None


async def test_jobs_and_the_end_of_a_log_are_read(host: Host, tree: HostTree, repo: HostRepository) -> None:
    log = "".join(f"line {number}\n" for number in range(1000))
    await tree.run(repo, "build.yml", conclusion="failure", jobs=[("lint", "success", None), ("test", "failure", log)])
    run = await host.backend.builds.find_run(repo.id, "build.yml", "main")
    assert run is not None
    jobs = await host.backend.builds.list_jobs(repo.id, run.id)
    assert [(job.name, job.conclusion, job.has_failed) for job in jobs] == [
        ("lint", "success", False),
        ("test", "failure", True),
    ]
    end = await host.backend.builds.read_log_end(repo.id, jobs[1].id, 3)
    assert end is not None
    assert (end.lines, end.is_whole, end.is_cut) == (("line 997", "line 998", "line 999"), False, False)
    whole = await host.backend.builds.read_log_end(repo.id, jobs[1].id, 1000)
    assert whole is not None
    assert (len(whole.lines), whole.is_whole) == (1000, True)
    assert await host.backend.builds.read_log_end(repo.id, jobs[0].id, 3) is None
    assert await host.backend.builds.list_jobs(repo.id, "1") == ()


async def test_a_workflow_is_started_on_a_branch_or_the_default_branch(
    host: Host, tree: HostTree, repo: HostRepository
) -> None:
    await tree.push(repo, {BUILD: b"on:\n  workflow_dispatch:\n"}, branch="other")
    assert await host.backend.builds.dispatch(repo.id, "build.yml", "") == "main"
    assert await host.backend.builds.dispatch(repo.id, "build.yml", "other") == "other"
    assert await tree.dispatched(repo) == [("build.yml", "main"), ("build.yml", "other")]


@pytest.mark.parametrize(
    ("workflow", "branch", "reason"),
    [
        ("none.yml", "", Reason.WORKFLOW_NOT_FOUND),
        ("build.yml", "nowhere", Reason.REF_NOT_FOUND),
        ("nightly.yml", "", Reason.WORKFLOW_NOT_DISPATCHABLE),
    ],
)
async def test_why_a_workflow_does_not_start_is_told(
    host: Host, tree: HostTree, repo: HostRepository, workflow: str, branch: str, reason: Reason
) -> None:
    with pytest.raises(Terminal) as refused:
        await host.backend.builds.dispatch(repo.id, workflow, branch)
    assert refused.value.reason == reason


async def test_a_host_without_builds_says_so(host: Host, tree: HostTree, repo: HostRepository) -> None:
    await tree.offers_builds(repo, False)
    builds = host.backend.builds
    for asked in (
        builds.find_run(repo.id, "build.yml", "main"),
        builds.list_jobs(repo.id, "1"),
        builds.dispatch(repo.id, "build.yml", "main"),
    ):
        with pytest.raises(Terminal) as refused:
            await asked
        assert refused.value.reason == Reason.BUILDS_UNSUPPORTED
