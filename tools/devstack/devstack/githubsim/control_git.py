"""What the control API does to the contents of repositories and to the runs of workflows."""

from __future__ import annotations

import base64
from dataclasses import asdict
from typing import Any

from aiohttp import web

from devstack.githubsim.control_request import TEXT_OR_NULL, ControlError, Route, find_repository, read_fields
from devstack.githubsim.gitstore import GitRefused
from devstack.githubsim.records import WorkflowJob, WorkflowRun
from devstack.githubsim.simulation import Simulation

_PERSON = "a person"


async def _push(simulation: Simulation, request: web.Request) -> Any:
    """One commit on `branch`; `files`: (mode, path, base64 or null) of each change."""
    world, repository = simulation.world, find_repository(simulation.world, request)
    fields = await read_fields(request, {"branch": str, "message": str, "files": list}, required=("branch", "files"))
    git, branch = world.git, fields["branch"]
    head = repository.branches.get(branch)
    parent = git.commit(repository.id, head) if head is not None else None
    entries: list[tuple[str, str, str | None]] = []
    for mode, path, encoded in fields["files"]:
        if encoded is None:
            entries.append((mode, path, None))
            continue
        content = base64.b64decode(encoded)
        # A submodule's entry names a commit of another repository.
        sha = content.decode() if mode == "160000" else git.write(repository.id, "blob", content)
        entries.append((mode, path, sha))
    try:
        tree = git.build_tree(repository.id, parent.tree if parent is not None else None, entries)
    except GitRefused as refused:
        raise ControlError(400, str(refused)) from None
    person = (_PERSON, "person@example.com", int(simulation.clock()))
    sha = git.write_commit(repository.id, tree, [head] if head else [], fields.get("message", "A change"), person)
    world.set_head(repository, branch, sha)
    return {"sha": sha}


async def _read_files(simulation: Simulation, request: web.Request) -> Any:
    """Path to (mode, base64) at the head of a branch."""
    world, repository = simulation.world, find_repository(simulation.world, request)
    branch = request.query.get("branch", repository.default_branch)
    head = repository.branches.get(branch)
    commit = world.git.commit(repository.id, head) if head is not None else None
    if commit is None:
        return {}
    entries = world.git.tree(repository.id, commit.tree, recursive=True) or []
    return {
        entry.path: (entry.mode, base64.b64encode(world.git.read(repository.id, entry.sha, "blob") or b"").decode())
        for entry in entries
        if entry.kind != "tree"
    }


async def _read_commits(simulation: Simulation, request: web.Request) -> Any:
    """The branch's commits, the newest first."""
    world, repository = simulation.world, find_repository(simulation.world, request)
    head = repository.branches.get(request.query.get("branch", repository.default_branch))
    history = world.git.history(repository.id, head) if head is not None else ()
    return [{"sha": c.sha, "message": c.message, "parents": c.parents, "tree": c.tree} for c in history]


async def _create_run(simulation: Simulation, request: web.Request) -> Any:
    world, repository = simulation.world, find_repository(simulation.world, request)
    kinds = {"workflow": str, "branch": str, "head_sha": str, "status": str, "conclusion": TEXT_OR_NULL, "jobs": list}
    fields = await read_fields(request, kinds, required=("workflow",))
    branch = fields.get("branch", repository.default_branch)
    run = world.new_run(repository, fields["workflow"], branch, head_sha=fields.get("head_sha"))
    run.status = fields.get("status", run.status)
    run.conclusion = fields.get("conclusion", run.conclusion)
    if "jobs" in fields:
        run.jobs = [WorkflowJob(id=world.allocate("job"), **job) for job in fields["jobs"]]
    return _view(run)


async def _read_runs(simulation: Simulation, request: web.Request) -> Any:
    repository = find_repository(simulation.world, request)
    return [_view(run) for run in simulation.world.runs.values() if run.repository_id == repository.id]


async def _read_downloads(simulation: Simulation, request: web.Request) -> Any:
    return {"served": simulation.downloads.served, "refused": simulation.downloads.refused}


def _view(run: WorkflowRun) -> dict[str, Any]:
    return asdict(run)


_REPOSITORY = "/repos/{owner}/{name}"
ROUTES: tuple[Route, ...] = (
    ("POST", _REPOSITORY + "/commits", _push),
    ("GET", _REPOSITORY + "/commits", _read_commits),
    ("GET", _REPOSITORY + "/files", _read_files),
    ("POST", _REPOSITORY + "/runs", _create_run),
    ("GET", _REPOSITORY + "/runs", _read_runs),
    ("GET", "/downloads", _read_downloads),
)
