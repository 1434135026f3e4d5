"""RepositoryBuildStatus: the newest run, the end of its failure logs, and another run."""

from __future__ import annotations

import asyncio
import re
from typing import Any, cast

import orjson
import pytest

from codecommon.api.kinds import REPOSITORY_BUILD_STATUSES
from codecommon.api.reasons import Reason
from codecommon.api.repository_build_status import RepositoryBuildStatus
from codecommon.api.results import Retryable, Terminal
from codecommon.controller.reconciler import Controller
from codecommon.githost.builds import BuildJob, BuildRun, LogEnd
from codecommon.githost.protocol import HostBusy, HostRepository, HostUnavailable
from codecommon.kcp.client import JsonObject, KcpError
from codecommon.messaging.bus import Bus
from codecommon.testing.builders import manifest
from codecommon.testing.clock import Clock
from codecommon.testing.git_contents import StubRun, StubTree
from codecommon.testing.harness import World, conditions
from repository_svc.build import decide
from repository_svc.build.reconciler import BuildReconciler
from repository_svc.request import KEPT

Builds = Controller[RepositoryBuildStatus]

FAILED = BuildJob("7", "test", "completed", "failure", has_failed=True)
PASSED = BuildJob("8", "lint", "completed", "success", has_failed=False)


async def ask(world: World, builds: Builds, name: str = "ask", **spec: Any) -> JsonObject:
    fields = {"repositoryRef": "site", "workflowFileName": "ci.yaml"} | spec
    world.add(manifest(REPOSITORY_BUILD_STATUSES, name, **fields))
    await world.reconcile(builds, name)
    return world.stored("repositorybuildstatuses", name)


def tree(world: World, site: HostRepository) -> StubTree:
    return world.host.repositories[site.id].tree


def run(number: int, *, branch: str = "main", sha: str = "a" * 40, status: str = "completed") -> StubRun:
    made = BuildRun(str(number), status, "failure" if status == "completed" else "", sha, f"https://host/{number}")
    return StubRun("ci.yaml", branch, made, [FAILED, PASSED], {"7": "one\ntwo\nthree\n"})


async def test_the_newest_run_is_reported_with_the_end_of_its_failure_logs(
    world: World, site: HostRepository, builds: Builds
) -> None:
    tree(world, site).runs += [run(1), run(2)]
    stored = await ask(world, builds, maxLogLines=2)
    shown = stored["status"]["run"]
    assert (stored["status"]["phase"], shown["found"], shown["runID"]) == ("Succeeded", True, 2)
    assert (shown["conclusion"], shown["headSHA"], shown["htmlURL"]) == ("failure", "a" * 40, "https://host/2")
    failed, passed = shown["jobs"]
    head, *lines = failed["failureLog"].splitlines()
    assert "untrusted" in head
    assert lines == ["two", "three"]
    assert passed == {"name": "lint", "status": "completed", "conclusion": "success"}
    assert conditions(stored) == {"Ready": ("True", "Reconciled")}


async def test_a_run_is_found_by_its_branch_or_commit(world: World, site: HostRepository, builds: Builds) -> None:
    tree(world, site).runs += [run(1, sha="b" * 40), run(2, branch="topic", status="queued")]
    by_sha = await ask(world, builds, "by-sha", ref="b" * 40)
    assert by_sha["status"]["run"]["runID"] == 1
    by_branch = (await ask(world, builds, "by-branch", ref="topic"))["status"]["run"]
    assert (by_branch["runID"], by_branch["status"], "conclusion" in by_branch) == (2, "queued", False)
    assert (await ask(world, builds, "none", ref="other"))["status"]["run"] == {"found": False}


async def test_a_host_that_runs_no_builds_is_a_failure_that_says_so(
    world: World, site: HostRepository, builds: Builds
) -> None:
    tree(world, site).offers_builds = False
    stored = await ask(world, builds)
    assert (stored["status"]["phase"], conditions(stored)["Ready"]) == ("Failed", ("False", "BuildsUnsupported"))


async def test_a_rerun_starts_the_workflow_once_and_asks_the_crawler_to_look_often(
    world: World, site: HostRepository, builds: Builds
) -> None:
    world.host.repositories[site.id].branches |= {"main", "topic"}
    tree(world, site).workflows["ci.yaml"] = True
    stored = await ask(world, builds, action="rerun")
    assert (stored["status"]["phase"], stored["status"]["dispatched"]) == ("Succeeded", True)
    assert "run" not in stored["status"]
    assert [event.reason for event in world.bus.published] == ["crawl-request"]
    await world.reconcile(builds, "ask")
    await ask(world, builds, "other", action="rerun", ref="topic")
    assert tree(world, site).dispatched == [("ci.yaml", "main"), ("ci.yaml", "topic")]


async def test_a_rerun_whose_process_died_is_not_started_again_once_its_run_is_there(
    world: World, site: HostRepository, builds: Builds
) -> None:
    world.host.repositories[site.id].branches.add("main")
    tree(world, site).workflows["ci.yaml"] = True
    tree(world, site).runs.append(run(1))

    def die() -> None:
        raise KcpError(503, "", "died")

    world.kcp.once(lambda r: r.subresource == "status" and r.body["status"]["phase"] == "Succeeded", die)
    with pytest.raises(KcpError):
        await ask(world, builds, action="rerun")
    tree(world, site).runs.append(run(2, status="queued"))
    await world.reconcile(builds, "ask")
    assert world.stored("repositorybuildstatuses", "ask")["status"]["dispatched"]
    assert tree(world, site).dispatched == [("ci.yaml", "main")]


async def test_a_log_that_cannot_be_had_does_not_cost_the_report(
    world: World, site: HostRepository, builds: Builds
) -> None:
    made = run(1)
    made.jobs[:] = [BuildJob(str(n), f"job {n}", "completed", "failure", has_failed=True) for n in (1, 2, 3, 4)]
    made.logs |= {"3": "three\n", "4": "four\n"}
    tree(world, site).runs.append(made)
    refused = Terminal(Reason.HOST_NOT_ALLOWED, "leads to a private address")
    world.host.builds.raise_next("read_log_end", refused, HostUnavailable("answered 403"), HostBusy("host", 5))
    assert isinstance(await _again(world, builds), HostBusy)
    world.host.builds.raise_next("read_log_end", refused, HostUnavailable("answered 403"))
    await world.reconcile(builds, "ask")
    stored = world.stored("repositorybuildstatuses", "ask")
    logs = [job["failureLog"] for job in stored["status"]["run"]["jobs"]]
    assert stored["status"]["phase"] == "Succeeded"
    assert "private address" in logs[0]
    assert "answered 403" in logs[1]
    assert [log.splitlines()[-1] for log in logs[2:]] == ["three", "four"]


async def test_logs_that_were_read_are_not_read_anew_for_want_of_a_turn_for_the_next(
    world: World, site: HostRepository
) -> None:
    made = run(1)
    made.jobs[:] = [BuildJob(str(n), f"job {n}", "completed", "failure", has_failed=True) for n in (1, 2)]
    made.logs |= {"1": "one\n", "2": "two\n"}
    tree(world, site).runs.append(made)
    world.host.builds.raise_next("read_log_end", None, HostBusy("host", 5), HostBusy("host", 5))
    reconciler = BuildReconciler(world.connections, cast(Bus, world.bus), turn_seconds=0)
    stored = await ask(world, Controller(REPOSITORY_BUILD_STATUSES, reconciler))
    logs = [job["failureLog"] for job in stored["status"]["run"]["jobs"]]
    assert [log.splitlines()[-1] for log in logs] == ["one", "two"]


async def _again(world: World, builds: Builds) -> object:
    world.add(manifest(REPOSITORY_BUILD_STATUSES, "ask", repositoryRef="site", workflowFileName="ci.yaml"))
    return await world.reconcile(builds, "ask")


async def test_the_report_comes_without_logs_that_take_too_long(
    world: World, site: HostRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run(1)
    made.jobs.append(BuildJob("9", "slow", "completed", "failure", has_failed=True))
    tree(world, site).runs.append(made)
    read = world.host.builds.read_log_end

    async def slow(repo_id: str, job_id: str, lines: int) -> LogEnd | None:
        if job_id == "9":
            await asyncio.Event().wait()
        return await read(repo_id, job_id, lines)

    monkeypatch.setattr(world.host.builds, "read_log_end", slow)
    reconciler = BuildReconciler(world.connections, cast(Bus, world.bus), logs_seconds=0.5)
    async with asyncio.timeout(30):
        stored = await ask(world, Controller(REPOSITORY_BUILD_STATUSES, reconciler))
    logs = [job.get("failureLog") for job in stored["status"]["run"]["jobs"]]
    assert logs[0].endswith("three")
    assert logs[2] == decide.NO_TIME


async def test_a_dispatch_that_the_host_refused_for_now_is_made_although_another_run_came_up(
    world: World, site: HostRepository, builds: Builds
) -> None:
    world.host.repositories[site.id].branches.add("main")
    tree(world, site).workflows["ci.yaml"] = True
    tree(world, site).runs.append(run(1))
    world.host.builds.raise_next("dispatch", Retryable(Reason.RATE_LIMITED, "later"))
    await ask(world, builds, action="rerun")
    tree(world, site).runs.append(run(2, status="queued"))
    # The second try notes what was the newest run, as the first did.
    world.host.builds.raise_next("dispatch", HostUnavailable("the answer is lost"))
    await world.reconcile(builds, "ask")
    assert world.stored("repositorybuildstatuses", "ask")["status"]["run"]["runID"] == 2
    await world.reconcile(builds, "ask")
    assert tree(world, site).dispatched == [("ci.yaml", "main")]


async def test_a_crawl_that_cannot_be_asked_for_starts_the_workflow_no_second_time(
    world: World, site: HostRepository, builds: Builds
) -> None:
    world.host.repositories[site.id].branches.add("main")
    tree(world, site).workflows["ci.yaml"] = True

    def away() -> None:
        raise KcpError(503, "", "away")

    world.kcp.once(lambda r: r.resource == "connections" and bool(tree(world, site).dispatched), away)
    with pytest.raises(KcpError):
        await ask(world, builds, action="rerun")
    await world.reconcile(builds, "ask")
    assert tree(world, site).dispatched == [("ci.yaml", "main")]
    assert [event.reason for event in world.bus.published] == ["crawl-request"]


async def test_without_a_ref_the_run_is_that_of_the_default_branch(
    world: World, site: HostRepository, builds: Builds
) -> None:
    tree(world, site).runs += [run(1), run(2, branch="topic")]
    assert (await ask(world, builds))["status"]["run"]["runID"] == 1


async def test_an_answer_goes_after_a_while(world: World, site: HostRepository, builds: Builds) -> None:
    clock = Clock()
    world.now = clock.now
    await ask(world, builds)
    clock.advance(KEPT.total_seconds() + 1)
    await world.reconcile(builds, "ask")
    assert world.kcp.stored("repositorybuildstatuses", "ask") is None


def test_the_logs_of_a_run_are_bounded_together_and_each_keeps_its_end() -> None:
    space = decide.LogSpace()
    texts = [space.take(LogEnd([f"{n}" * 50_000, "x" * 50_000, f"end of {n}"], is_whole=True)) for n in range(9)]
    assert sum(map(len, texts)) < 270_000
    assert texts[0].endswith("end of 0")
    assert len(texts[0]) < 66_000
    assert "untrusted" in texts[8]


@pytest.mark.parametrize("character", ["\x01", "<", '"', "é", "\U0001f600", "\u2028x"])
def test_logs_are_bounded_by_what_kcp_stores(character: str) -> None:
    space = decide.LogSpace()
    jobs = [BuildJob(str(number), "j", "completed", "failure", has_failed=True) for number in range(20)]
    logs = {job.id: space.take(LogEnd([character * 65_536], is_whole=True)) for job in jobs}
    status = decide.run_status(run(1).run, jobs, logs)
    # As Go writes it.
    stored = re.sub("[<>&\u2028]", r"\\u0000", orjson.dumps(status).decode())
    assert 200_000 < len(stored.encode()) < 300_000


def test_a_token_in_a_log_is_not_shown() -> None:
    token = "ghp_" + "a" * 36
    assert token not in decide.log_text(LogEnd([f"export T={token}"], is_whole=True), 1000)
