"""RepositoryBuildStatus: report the newest run of a workflow, or start the workflow again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from codecommon.api.repository_build_status import RERUN, RepositoryBuildStatus
from codecommon.api.request import RUNNING
from codecommon.api.results import Outcome
from codecommon.controller.connections import Connections
from codecommon.controller.context import ReconcileContext
from codecommon.githost.builds import BuildRun
from codecommon.messaging.bus import Bus, BusUnavailable
from repository_svc.build import decide
from repository_svc.request import KEPT, Target, answer_once, ask_for_crawl, begin

_log = logging.getLogger(__name__)


class BuildReconciler:
    """Answer one RepositoryBuildStatus."""

    def __init__(self, connections: Connections, bus: Bus) -> None:
        self._connections = connections
        self._bus = bus

    async def reconcile(self, ctx: ReconcileContext[RepositoryBuildStatus]) -> Outcome:
        is_rerun = ctx.object.spec.action == RERUN
        answer = partial(self._rerun if is_rerun else self._report, ctx)
        return await answer_once(ctx, self._connections, answer, afterwards=_nothing, kept=KEPT)

    async def _report(self, ctx: ReconcileContext[RepositoryBuildStatus], target: Target) -> Mapping[str, Any]:
        spec, builds = ctx.object.spec, target.opened.backend.builds
        await begin(ctx)
        branch = target.repository.spec.default_branch or ""
        run = await builds.find_run(target.repo_id, spec.workflow_file_name, spec.ref or branch)
        if run is None:
            return {"run": decide.run_status(None)}
        jobs = await builds.list_jobs(target.repo_id, run.id)
        logs: dict[str, str] = {}
        space = decide.LogSpace()
        for job in decide.jobs_with_logs(jobs):
            end = await builds.read_log_end(target.repo_id, job.id, spec.max_log_lines)
            if end is not None:
                logs[job.id] = await asyncio.to_thread(space.take, end)
        return {"run": decide.run_status(run, jobs, logs)}

    async def _rerun(self, ctx: ReconcileContext[RepositoryBuildStatus], target: Target) -> Mapping[str, Any]:
        spec, builds = ctx.object.spec, target.opened.backend.builds
        branch = spec.ref or target.repository.spec.default_branch or ""
        newest = await builds.find_run(target.repo_id, spec.workflow_file_name, branch)
        if not self._has_dispatched(ctx.object, newest):
            # To start a workflow twice is no harm, and not to start it is. What was the newest run before tells most of it.
            await begin(ctx, run=decide.run_status(newest))
            await builds.dispatch(target.repo_id, spec.workflow_file_name, branch)
        try:
            await ask_for_crawl(ctx, self._bus)
        except BusUnavailable:
            # The packages are looked at anyway, if later. The workflow must not be started again for that.
            _log.warning("NATS does not answer; the crawler was not asked")
        return {"dispatched": True, "run": None}

    def _has_dispatched(self, request: RepositoryBuildStatus, newest: BuildRun | None) -> bool:
        if request.status.phase != RUNNING or request.status.run is None:
            return False
        return decide.is_another(request.status.run.run_id, newest)


async def _nothing() -> None:
    return
