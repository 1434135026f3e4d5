"""Runs, jobs, logs and starting a workflow by hand."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from devstack.githubsim import SimControl

REPO = "/repos/alice/demo"
WORKFLOW = f"{REPO}/actions/workflows/build.yml"


@pytest.fixture
async def head(control: SimControl, alice: Any) -> str:
    await control.create_repository("alice", "demo")
    return await control.push(
        "alice",
        "demo",
        {
            ".github/workflows/build.yml": b"on:\n  push:\n  workflow_dispatch:\n",
            ".github/workflows/nightly.yml": b"on: schedule\n",
        },
    )


async def test_the_newest_run_of_a_workflow_comes_first(api: Any, alice: Any, control: SimControl, head: str) -> None:
    first = await control.create_run("alice", "demo", "build.yml", status="completed", conclusion="failure")
    second = await control.create_run("alice", "demo", "build.yml")
    await control.create_run("alice", "demo", "nightly.yml")
    listed = (await api("GET", f"{WORKFLOW}/runs?head_sha={head}", token=alice)).body
    assert [run["id"] for run in listed["workflow_runs"]] == [second.id, first.id]
    assert (await api("GET", f"{WORKFLOW}/runs?branch=other", token=alice)).body["total_count"] == 0
    assert (await api("GET", f"{REPO}/actions/workflows/none.yml/runs", token=alice)).status == 404
    assert (await api("GET", f"{REPO}/actions/workflows", token=alice)).body["total_count"] == 2


async def test_a_jobs_log_is_on_another_host(
    api: Any, alice: Any, control: SimControl, head: str, session: aiohttp.ClientSession
) -> None:
    jobs = [{"name": "test", "conclusion": "failure", "log": "line\n"}, {"name": "old"}]
    run = await control.create_run("alice", "demo", "build.yml", status="completed", conclusion="failure", jobs=jobs)
    listed = (await api("GET", f"{REPO}/actions/runs/{run.id}/jobs", token=alice)).body["jobs"]
    assert [(job["name"], job["conclusion"]) for job in listed] == [("test", "failure"), ("old", "success")]
    redirect = await api("GET", f"{REPO}/actions/jobs/{listed[0]['id']}/logs", token=alice)
    async with session.get(redirect.headers["Location"]) as response:
        assert await response.text() == "line\n"
    assert (await api("GET", f"{REPO}/actions/jobs/{listed[1]['id']}/logs", token=alice)).status == 410


async def test_a_workflow_is_started_by_hand_where_its_file_says_so(
    api: Any, alice: Any, control: SimControl, head: str
) -> None:
    assert (await api("POST", f"{WORKFLOW}/dispatches", token=alice, json={"ref": "main"})).status == 204
    (run,) = await control.runs("alice", "demo")
    assert (run.event, run.status, run.head_sha) == ("workflow_dispatch", "queued", head)
    for path, ref, message in (
        (WORKFLOW, "none", "No ref found for: none"),
        (
            f"{REPO}/actions/workflows/nightly.yml",
            "main",
            "Workflow does not have 'workflow_dispatch' trigger",
        ),
    ):
        refused = await api("POST", f"{path}/dispatches", token=alice, json={"ref": ref})
        assert (refused.status, refused.body["message"]) == (422, message)


async def test_a_host_may_have_no_actions(api: Any, alice: Any, control: SimControl, head: str) -> None:
    await control.set_switches(actions=False)
    assert (await api("GET", f"{REPO}/actions/workflows", token=alice)).status == 404
    assert (await api("GET", f"{WORKFLOW}/runs", token=alice)).status == 404
