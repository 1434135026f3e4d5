"""RepositoryBuildStatus: report the newest run of a workflow, or start the workflow again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from codecommon.api.reasons import Reason
from codecommon.api.repository_build_status import RERUN, RepositoryBuildStatus
from codecommon.api.request import PENDING, RUNNING, SUCCEEDED
from codecommon.api.results import Interruption, Outcome, Retryable, Terminal
from codecommon.controller.connections import Connections
from codecommon.controller.context import ReconcileContext
from codecommon.controller.target import Target
from codecommon.githost.builds import BuildJob, BuildRun, LogEnd
from codecommon.githost.protocol import CredentialRejected, HostBusy
from codecommon.messaging.bus import Bus
from repository_svc.build import decide
from repository_svc.request import KEPT, answer_once, ask_for_crawl, begin

_LOGS_SECONDS: Final = 60.0
"""For all logs of a run. Reading them holds a slot of the process."""

_TURN_SECONDS: Final = 1.0
"""Between two tries to get a turn at the host for the next log."""

_UNCLEAR: Final = frozenset({Reason.HOST_UNAVAILABLE, Reason.UNEXPECTED_ANSWER})
"""After these the host may have done what it was asked for."""


class BuildReconciler:
    """Answer one RepositoryBuildStatus."""

    def __init__(
        self,
        connections: Connections,
        bus: Bus,
        logs_seconds: float = _LOGS_SECONDS,
        turn_seconds: float = _TURN_SECONDS,
    ) -> None:
        self._connections = connections
        self._bus = bus
        self._logs_seconds = logs_seconds
        self._turn_seconds = turn_seconds

    async def reconcile(self, ctx: ReconcileContext[RepositoryBuildStatus]) -> Outcome:
        is_rerun = ctx.object.spec.action == RERUN
        answer = partial(self._rerun if is_rerun else self._report, ctx)
        afterwards = partial(self._ask_for_crawl, ctx) if is_rerun else None
        return await answer_once(ctx, self._connections, answer, afterwards=afterwards, kept=KEPT)

    async def _report(self, ctx: ReconcileContext[RepositoryBuildStatus], target: Target) -> Mapping[str, Any]:
        spec, builds = ctx.object.spec, target.host.builds
        await begin(ctx)
        branch = target.repository.spec.default_branch or ""
        run = await builds.find_run(target.repo_id, spec.workflow_file_name, spec.ref or branch)
        if run is None:
            return {"run": decide.run_status(None)}
        jobs = await builds.list_jobs(target.repo_id, run.id)
        logs = await self._logs(ctx, target, decide.jobs_with_logs(jobs))
        return {"run": decide.run_status(run, jobs, logs)}

    async def _logs(
        self, ctx: ReconcileContext[RepositoryBuildStatus], target: Target, jobs: Sequence[BuildJob]
    ) -> dict[str, str]:
        """By the id of the job: the end of its log, or why that cannot be had. The rest of the report is worth having anyway."""
        builds, lines = target.host.builds, ctx.object.spec.max_log_lines
        # Those that there is no time for stay so.
        logs = {job.id: decide.NO_TIME for job in jobs}
        space = decide.LogSpace()
        has_read = False
        limit = asyncio.timeout(self._logs_seconds)
        try:
            async with limit:
                for job in jobs:
                    read = partial(builds.read_log_end, target.repo_id, job.id, lines)
                    try:
                        end = await (self._in_turn(read) if has_read else read())
                    except (HostBusy, CredentialRejected):
                        raise
                    except (Terminal, Retryable) as failure:
                        logs[job.id] = decide.no_log(failure.message)
                        continue
                    has_read = True
                    if end is None:
                        logs.pop(job.id, None)
                    else:
                        logs[job.id] = await asyncio.to_thread(space.take, end)
        except TimeoutError:
            if not limit.expired():
                raise
        return logs

    async def _in_turn(self, read: Callable[[], Awaitable[LogEnd | None]]) -> LogEnd | None:
        """Wait for a turn at the host. To come back later would be to read anew what was read."""
        while True:
            try:
                return await read()
            except HostBusy:
                await asyncio.sleep(self._turn_seconds)

    async def _rerun(self, ctx: ReconcileContext[RepositoryBuildStatus], target: Target) -> Mapping[str, Any]:
        spec, builds = ctx.object.spec, target.host.builds
        branch = spec.ref or target.repository.spec.default_branch or ""
        newest = await builds.find_run(target.repo_id, spec.workflow_file_name, branch)
        if not self._has_dispatched(ctx.object, newest):
            # To start a workflow twice is no harm, and not to start it is. What was the newest run before tells most of it.
            await begin(ctx, run=decide.run_status(newest))
            try:
                await builds.dispatch(target.repo_id, spec.workflow_file_name, branch)
            except Interruption as failure:
                if isinstance(failure, HostBusy) or failure.reason not in _UNCLEAR:
                    # Nothing was started, so a run that comes up is somebody else's. The next try begins anew.
                    await ctx.record_status({"phase": PENDING, "run": None})
                raise
        return {"dispatched": True, "run": None}

    async def _ask_for_crawl(self, ctx: ReconcileContext[RepositoryBuildStatus]) -> None:
        if ctx.object.status.phase == SUCCEEDED:
            await ask_for_crawl(ctx, self._bus)

    def _has_dispatched(self, request: RepositoryBuildStatus, newest: BuildRun | None) -> bool:
        if request.status.phase != RUNNING or request.status.run is None:
            return False
        return decide.is_another(request.status.run.run_id, newest)
