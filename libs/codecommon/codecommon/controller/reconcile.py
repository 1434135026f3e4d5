"""The one way to reconcile an object: decide and act, then write what came of it. The engine and the tests both go
this way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import aiohttp

from codecommon.api.reasons import Reason
from codecommon.api.results import Interruption, NotReady, Outcome, Released, Retryable, Terminal, Unchanged
from codecommon.controller.context import Gone, ReconcileContext, Superseded
from codecommon.controller.reconciler import Controller
from codecommon.githost.protocol import HostBusy
from codecommon.kcp.client import KcpError
from codecommon.kcp.kubeconfig import KubeconfigError

_log = logging.getLogger(__name__)

ANNOUNCE_AFTER_SECONDS: Final = 2.0
UNFORESEEN_AFTER: Final = timedelta(seconds=30)
"""A defect of ours is tried again after this long."""

KCP_UNAVAILABLE: Final = (aiohttp.ClientError, TimeoutError, KubeconfigError)
"""How kcp fails without an answer."""

_MOST_DECISIONS: Final = 3


@dataclass(frozen=True, slots=True)
class Skipped:
    """There is nothing for us to do: the object is paused, or it is being deleted and does not have our finalizer."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What came of an object. ``result`` None: the object is gone.

    ``put_off``: it had no turn now and nothing to record. A comparison by the clock waits for its next one.
    """

    result: Outcome | Interruption | Skipped | None
    put_off: bool = False

    @property
    def name(self) -> str:
        """For metrics: the result as docs/architecture.md lists it, whatever its subclass."""
        for kind in (Terminal, NotReady, Retryable):
            if isinstance(self.result, kind):
                return kind.__name__
        return type(self.result).__name__ if self.result is not None else "Gone"


async def reconcile(
    controller: Controller[Any],
    ctx: ReconcileContext[Any],
    *,
    is_drift: bool = False,
    announce_after: float = ANNOUNCE_AFTER_SECONDS,
) -> Reconciled:
    """Let the reconciler decide and act, and write the result. When somebody else wrote in between, decide again.

    ``is_drift``: nothing changed, and the clock alone asks for the comparison. ``announce_after``: seconds after which
    status says that the object is being worked on. Raises ``KcpError`` and ``KCP_UNAVAILABLE`` when kcp fails.
    """
    try:
        for _ in range(_MOST_DECISIONS):
            try:
                return await _reconcile_once(controller, ctx, is_drift, announce_after)
            except Superseded:
                await ctx.reload()
    except Gone:
        return Reconciled(None)
    busy = Retryable(Reason.CONFLICT, "the object is being written by others; trying again")
    return Reconciled(busy, put_off=is_drift)


async def _reconcile_once(
    controller: Controller[Any], ctx: ReconcileContext[Any], is_drift: bool, announce_after: float
) -> Reconciled:
    obj = ctx.object
    if obj.deleting and not ctx.has_finalizer:
        return Reconciled(Skipped())
    if obj.paused and not obj.deleting:
        return Reconciled(Skipped())
    if obj.status.bound and not obj.deleting:
        # A finalizer that somebody took off comes back before anything else. The portal does that: it replaces whole
        # objects.
        await ctx.ensure_finalizer()
    result = await _decide_and_act(controller, ctx, None if is_drift else announce_after)
    if isinstance(result, Released):
        await ctx.remove_finalizer()
    elif isinstance(result, Unchanged):
        pass
    elif isinstance(result, Retryable if is_drift else HostBusy) and not ctx.learns_from(result):
        return Reconciled(result, put_off=True)
    else:
        await ctx.commit(result)
    return Reconciled(result)


async def _decide_and_act(
    controller: Controller[Any], ctx: ReconcileContext[Any], announce_after: float | None
) -> Outcome | Interruption:
    """Run the reconciler. Every exception becomes a result, but for those that speak of kcp or of the object itself."""
    try:
        async with _announced_when_long(ctx, announce_after):
            return await controller.reconciler.reconcile(ctx)
    except Interruption as interruption:
        return interruption
    except (Superseded, Gone, KcpError, *KCP_UNAVAILABLE):
        raise
    except Exception as error:  # noqa: BLE001 - the top-level handler of a reconciler: what we do not understand is retryable
        _log.exception("reconciling failed")
        return Retryable(
            Reason.INTERNAL_ERROR,
            f"{type(error).__name__}; the log of {ctx.kind.service} says more",
            after=UNFORESEEN_AFTER,
        )


@asynccontextmanager
async def _announced_when_long(ctx: ReconcileContext[Any], after: float | None) -> AsyncIterator[None]:
    """Say in status that the object is being worked on, once the body takes longer than ``after`` seconds; None: never.

    An announcement that has begun is seen through. kcp would carry it out all the same, and the result would meet a
    conflict.
    """
    over = asyncio.Event()

    async def announce() -> None:
        try:
            async with asyncio.timeout(after):
                await over.wait()
        except TimeoutError:
            await ctx.announce(Reason.PROGRESSING, "working on it")

    announcing = asyncio.create_task(announce())
    try:
        yield
    except asyncio.CancelledError:
        announcing.cancel()
        raise
    finally:
        over.set()
        await asyncio.gather(announcing, return_exceptions=True)
