"""Workflows, runs and jobs in GitHub's JSON."""

from __future__ import annotations

import zlib
from typing import Any

from devstack.githubsim.calls import Call
from devstack.githubsim.records import Repository, WorkflowJob, WorkflowRun
from devstack.githubsim.views import repository_stub
from devstack.githubsim.views_account import account_stub, timestamp
from devstack.githubsim.views_git import api_url, web_url


def workflow_id(repository: Repository, name: str) -> int:
    return repository.id * 1000 + zlib.crc32(name.encode()) % 1000


def workflow(call: Call, repository: Repository, name: str) -> dict[str, Any]:
    number = workflow_id(repository, name)
    html = web_url(call, repository)
    moment = timestamp(repository.created_at)
    return {
        "id": number,
        "node_id": f"W_{number}",
        "name": name,
        "path": f".github/workflows/{name}",
        "state": "active",
        "created_at": moment,
        "updated_at": moment,
        "url": f"{api_url(call, repository)}/actions/workflows/{number}",
        "html_url": f"{html}/blob/{repository.default_branch}/.github/workflows/{name}",
        "badge_url": f"{html}/workflows/{name}/badge.svg",
    }


def run(call: Call, repository: Repository, made: WorkflowRun) -> dict[str, Any]:
    number = workflow_id(repository, made.workflow)
    url = f"{api_url(call, repository)}/actions/runs/{made.id}"
    commit = call.world.git.commit(repository.id, made.head_sha)
    actor = account_stub(call.urls, call.world.owner(repository))
    moment = timestamp(made.created_at)
    head_commit = None
    if commit is not None:
        name, email, seconds = commit.author
        head_commit = {
            "id": commit.sha,
            "tree_id": commit.tree,
            "message": commit.message,
            "timestamp": timestamp(seconds),
            "author": {"name": name, "email": email},
            "committer": {"name": name, "email": email},
        }
    return {
        "id": made.id,
        "name": made.workflow,
        "node_id": f"WFR_{made.id}",
        "check_suite_id": made.id,
        "check_suite_node_id": f"CS_{made.id}",
        "head_branch": made.branch,
        "head_sha": made.head_sha,
        "path": f".github/workflows/{made.workflow}",
        "display_title": made.workflow,
        "run_number": made.number,
        "run_attempt": 1,
        "event": made.event,
        "status": made.status,
        "conclusion": made.conclusion,
        "workflow_id": number,
        "url": url,
        "html_url": f"{web_url(call, repository)}/actions/runs/{made.id}",
        "pull_requests": [],
        "created_at": moment,
        "updated_at": moment,
        "run_started_at": moment,
        "actor": actor,
        "triggering_actor": actor,
        "jobs_url": f"{url}/jobs",
        "logs_url": f"{url}/logs",
        "check_suite_url": f"{api_url(call, repository)}/check-suites/{made.id}",
        "artifacts_url": f"{url}/artifacts",
        "cancel_url": f"{url}/cancel",
        "rerun_url": f"{url}/rerun",
        "previous_attempt_url": None,
        "workflow_url": f"{api_url(call, repository)}/actions/workflows/{number}",
        "head_commit": head_commit,
        "repository": repository_stub(call, repository),
        "head_repository": repository_stub(call, repository),
    }


def job(call: Call, repository: Repository, made: WorkflowRun, one: WorkflowJob) -> dict[str, Any]:
    url = api_url(call, repository)
    moment = timestamp(made.created_at)
    return {
        "id": one.id,
        "run_id": made.id,
        "run_url": f"{url}/actions/runs/{made.id}",
        "run_attempt": 1,
        "node_id": f"CR_{one.id}",
        "head_sha": made.head_sha,
        "url": f"{url}/actions/jobs/{one.id}",
        "html_url": f"{web_url(call, repository)}/actions/runs/{made.id}/job/{one.id}",
        "status": one.status,
        "conclusion": one.conclusion,
        "created_at": moment,
        "started_at": moment,
        "completed_at": moment if one.conclusion is not None else None,
        "name": one.name,
        "steps": [],
        "check_run_url": f"{url}/check-runs/{one.id}",
        "labels": ["ubuntu-latest"],
        "runner_id": 1,
        "runner_name": "runner",
        "runner_group_id": 1,
        "runner_group_name": "Default",
        "workflow_name": made.workflow,
        "head_branch": made.branch,
    }
