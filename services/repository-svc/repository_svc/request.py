"""What the requests (RepositoryCommit, RepositoryCheckout, RepositoryBuildStatus) have in common: each is answered once.

    Pending → Running → Succeeded, or Failed where a person would have to act

A request waits for its Repository, for the host and for its limits, as other objects do. Whatever is final for another object
ends a request, because its caller waits for an answer.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Final, TypeVar

from codecommon.api.connection import Connection
from codecommon.api.kinds import REPOSITORIES
from codecommon.api.meta import Resource
from codecommon.api.reasons import Reason
from codecommon.api.repository import Repository
from codecommon.api.request import FAILED, PENDING, RUNNING, SUCCEEDED, RequestStatus
from codecommon.api.results import Interruption, NotReady, Outcome, Ready, Released, Retryable, Terminal, Unchanged
from codecommon.api.times import rfc3339
from codecommon.controller.connections import Connections
from codecommon.controller.context import ReconcileContext
from codecommon.controller.target import Target, open_target, require_repository, require_staying
from codecommon.githost.protocol import HostBusy
from codecommon.kcp.client import NotFound
from codecommon.messaging.bus import Bus, BusUnavailable
from codecommon.messaging.events import crawl_request
from repository_svc.bundle_memory import NotYet

_log = logging.getLogger(__name__)

PATIENCE: Final = timedelta(hours=6)
"""For so long a request waits. Whoever asked has gone by then, and would not expect a commit any more."""

KEPT: Final = timedelta(minutes=10)
"""For so long an answer stays that nobody keeps. Who reads it deletes it, usually within seconds."""

_AGAIN: Final = timedelta(seconds=1)

RequestT = TypeVar("RequestT", bound=Resource[Any, Any])


Answer = Callable[[Target], Awaitable[Mapping[str, Any]]]
"""Does what was asked for and returns status fields, by wire name."""


async def answer_once(
    ctx: ReconcileContext[RequestT],
    connections: Connections,
    answer: Answer,
    *,
    afterwards: Callable[[], Awaitable[object]] | None = None,
    kept: timedelta | None = None,
    at_end: Callable[[], Awaitable[object]] | None = None,
) -> Outcome:
    """Answer the request, unless it has been answered.

    ``afterwards``: what is to be done once the answer is in status. ``kept``: how long the answered request stays; None: for as
    long as its Repository. ``at_end``: what is to be done before it goes. Both are run again if the process dies meanwhile, so
    they must be safe to run twice.
    """
    request = ctx.object
    if request.deleting:
        return Released()
    status: RequestStatus = request.status
    if not status.finished:
        result = await _result(ctx, connections, answer)
        if not isinstance(result, Ready | Terminal):
            raise result
        # The answer comes first: what follows must not cost it.
        await ctx.commit(result)
        if isinstance(result, Terminal):
            _log.info("failed, %s: %s", result.reason, result.message)
    left = timedelta()
    if kept is not None:
        # What the Go provider answered may not say when.
        answered_at = ctx.object.status.completed_at or ctx.object.metadata.creation_timestamp
        left = max(answered_at + kept - ctx.now, left)
    is_over = kept is not None and not left
    what_follows = at_end if is_over else afterwards
    try:
        if what_follows is not None:
            await what_follows()
    except BusUnavailable:
        raise NotYet("NATS does not answer; the rest is done later", _AGAIN) from None
    if is_over:
        await ctx.objects.delete(ctx.kind.resource, ctx.object.name, uid=ctx.object.metadata.uid)
    return Unchanged(requeue_after=left or None)


async def begin(ctx: ReconcileContext[RequestT], **status: Any) -> None:
    """The guard before anything is done on the host: say that the request is being worked on. ``status``: fields to add."""
    if ctx.object.status.phase == RUNNING:
        await ctx.confirm_current()
    else:
        await ctx.record_status({"phase": RUNNING, **status})
    await ctx.confirm_not_leaving()


async def ask_for_crawl(ctx: ReconcileContext[RequestT], bus: Bus) -> None:
    """Ask for the packages of the Repository to be looked at often for a while, because something is being built.

    Raises ``BusUnavailable``.
    """
    connection = await _connection_of(ctx)
    if connection is not None:
        await bus.publish(crawl_request(connection))


async def _result(ctx: ReconcileContext[RequestT], connections: Connections, answer: Answer) -> Ready | Interruption:
    try:
        repository = await require_repository(ctx)
        _require_same(ctx.object, repository)
        require_staying(repository)

        async def work() -> Mapping[str, Any]:
            return await answer(await open_target(ctx, connections, repository))

        status = await connections.with_fresh_credential(ctx.objects, repository.spec.connection_ref, work)
    except Terminal as failed:
        return _failed(ctx, failed)
    except (NotReady, Retryable) as waiting:
        if ctx.now - ctx.object.metadata.creation_timestamp >= PATIENCE:
            return _failed(ctx, Terminal(waiting.reason, f"{waiting.message}; given up after six hours"))
        if isinstance(waiting, HostBusy) or ctx.object.status.phase:
            return waiting
        return waiting.learned({"phase": PENDING})
    return Ready({**status, "phase": SUCCEEDED, "completedAt": rfc3339(ctx.now)})


def _failed(ctx: ReconcileContext[Any], why: Terminal) -> Terminal:
    return why.learned({"phase": FAILED, "completedAt": rfc3339(ctx.now)})


def _require_same(request: Resource[Any, Any], repository: Repository) -> None:
    """Raises ``Terminal`` (``RepositoryNotFound``) when the request belongs to another Repository that had the name before."""
    owners = request.metadata.owner_references
    if any(owner.kind == REPOSITORIES.kind and owner.uid != repository.metadata.uid for owner in owners):
        raise Terminal(
            Reason.REPOSITORY_NOT_FOUND,
            f"the Repository {repository.name!r} of this request is gone, and another one has its name now",
        )


async def _connection_of(ctx: ReconcileContext[Any]) -> Connection | None:
    try:
        raw = await ctx.objects.get(REPOSITORIES.resource, ctx.object.spec.repository_ref)
        raw = await ctx.objects.get("connections", raw["spec"]["connectionRef"])
    except NotFound:
        return None
    return Connection.parse(raw, ctx.objects.workspace)
