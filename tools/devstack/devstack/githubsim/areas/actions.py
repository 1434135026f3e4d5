"""Actions: runs of a workflow, their jobs and logs, and starting a workflow by hand.

Workflows are the files below .github/workflows on the default branch. A run begins with a dispatch or with a call of the control
API, and goes on only by the latter.
"""

from __future__ import annotations

from devstack.githubsim import views_actions
from devstack.githubsim.access import out_of_reach, requested_repository, require_contents_write, require_writable
from devstack.githubsim.calls import Answer, ApiError, Call, Operation, found, not_found
from devstack.githubsim.paging import page
from devstack.githubsim.records import Repository, WorkflowJob, WorkflowRun

_FOLDER = ".github/workflows/"


def list_workflows(call: Call) -> Answer:
    repository = _offering(call)
    names, headers = page(call, sorted(call.world.workflows(repository)))
    shown = [views_actions.workflow(call, repository, name) for name in names]
    return Answer(body={"total_count": len(call.world.workflows(repository)), "workflows": shown}, headers=headers)


def list_runs(call: Call) -> Answer:
    """The newest first."""
    repository = _offering(call)
    workflow = _requested_workflow(call, repository)
    head_sha, branch = call.query.get("head_sha"), call.query.get("branch")
    found = [
        run
        for run in call.world.runs.values()
        if run.repository_id == repository.id
        and run.workflow == workflow
        and head_sha in (None, run.head_sha)
        and branch in (None, run.branch)
    ]
    runs, headers = page(call, found[::-1])
    shown = [views_actions.run(call, repository, run) for run in runs]
    return Answer(body={"total_count": len(found), "workflow_runs": shown}, headers=headers)


def list_jobs(call: Call) -> Answer:
    repository = _offering(call)
    run = call.world.runs.get(int(call.params["run_id"]))
    if run is None or run.repository_id != repository.id:
        raise not_found()
    jobs, headers = page(call, run.jobs)
    shown = [views_actions.job(call, repository, run, job) for job in jobs]
    return Answer(body={"total_count": len(run.jobs), "jobs": shown}, headers=headers)


def download_log(call: Call) -> Answer:
    """A redirect to the other host. A job that has not ended has no log yet, and an old one none any more."""
    repository = _offering(call)
    token = call.caller.token
    if token is not None and token.by_permissions and "actions" not in token.permissions:
        raise out_of_reach(token)
    job = _requested_job(call, repository)
    if job.log is None:
        raise ApiError(410, "Server Error") if job.conclusion else not_found()
    return found(call.downloads.offer(job.log.encode(), f"{job.id}.txt"))


def dispatch(call: Call) -> Answer:
    repository = _offering(call)
    require_contents_write(call, repository, permission="actions")
    require_writable(repository)
    workflow = _requested_workflow(call, repository)
    branch = str(call.json().get("ref", "")).removeprefix("refs/heads/")
    if branch not in repository.branches:
        raise ApiError(422, f"No ref found for: {branch}")
    text = call.world.file_at(repository, branch, _FOLDER + workflow)
    if text is None or b"workflow_dispatch" not in text:
        raise ApiError(422, "Workflow does not have 'workflow_dispatch' trigger")
    call.world.new_run(repository, workflow, branch, event="workflow_dispatch")
    return Answer(204)


def _offering(call: Call) -> Repository:
    """Raises ApiError 404 where this host has no Actions."""
    if not call.switches.actions:
        raise not_found()
    return requested_repository(call)


def _requested_workflow(call: Call, repository: Repository) -> str:
    """Named by its file's name or by its id."""
    named = call.params["workflow_id"]
    known = call.world.workflows(repository) | {
        run.workflow for run in call.world.runs.values() if run.repository_id == repository.id
    }
    found = next((name for name in known if named in (name, str(views_actions.workflow_id(repository, name)))), None)
    if found is None:
        raise not_found()
    return found


def _requested_job(call: Call, repository: Repository) -> WorkflowJob:
    number = int(call.params["job_id"])
    runs: list[WorkflowRun] = [run for run in call.world.runs.values() if run.repository_id == repository.id]
    found = next((job for run in runs for job in run.jobs if job.id == number), None)
    if found is None:
        raise not_found()
    return found


_ACTIONS = "/repos/{owner}/{repo}/actions"
OPERATIONS = (
    Operation(
        method="GET",
        path=_ACTIONS + "/workflows",
        handler=list_workflows,
        docs="actions/workflows#list-repository-workflows",
        permissions="actions=read",
        anonymous=True,
    ),
    Operation(
        method="GET",
        path=_ACTIONS + "/workflows/{workflow_id}/runs",
        handler=list_runs,
        docs="actions/workflow-runs#list-workflow-runs-for-a-workflow",
        permissions="actions=read",
        anonymous=True,
    ),
    Operation(
        method="GET",
        path=_ACTIONS + r"/runs/{run_id:\d+}/jobs",
        handler=list_jobs,
        docs="actions/workflow-jobs#list-jobs-for-a-workflow-run",
        permissions="actions=read",
        anonymous=True,
    ),
    Operation(
        method="GET",
        path=_ACTIONS + r"/jobs/{job_id:\d+}/logs",
        handler=download_log,
        docs="actions/workflow-jobs#download-job-logs-for-a-workflow-run",
        permissions="actions=read",
    ),
    Operation(
        method="POST",
        path=_ACTIONS + "/workflows/{workflow_id}/dispatches",
        handler=dispatch,
        docs="actions/workflows#create-a-workflow-dispatch-event",
        scopes="repo",
        permissions="actions=write",
    ),
)
