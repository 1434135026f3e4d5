"""RepositoryCheckout: read the texts of a repository at a ref and put them into the bundle store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Final

from codecommon.api.reasons import Reason
from codecommon.api.repository_checkout import RepositoryCheckout
from codecommon.api.results import Outcome, Retryable
from codecommon.api.times import rfc3339
from codecommon.controller.connections import Connections
from codecommon.controller.context import ReconcileContext
from codecommon.controller.target import Target
from codecommon.messaging.bundles import BundlesFull, BundleStore
from codecommon.messaging.bus import BusUnavailable
from repository_svc.bundle_memory import BundleMemory
from repository_svc.checkout import decide
from repository_svc.request import KEPT, answer_once, begin

_HELD_TIMES: Final = 2
"""The snapshot, and the bundle as it is stored."""


class CheckoutReconciler:
    """Read what one RepositoryCheckout asks for."""

    def __init__(self, connections: Connections, bundles: BundleStore, memory: BundleMemory) -> None:
        self._connections = connections
        self._bundles = bundles
        self._memory = memory

    async def reconcile(self, ctx: ReconcileContext[RepositoryCheckout]) -> Outcome:
        return await answer_once(
            ctx, self._connections, partial(self._read, ctx), kept=KEPT, at_end=partial(self._remove_bundle, ctx)
        )

    async def _read(self, ctx: ReconcileContext[RepositoryCheckout], target: Target) -> Mapping[str, Any]:
        cluster, name = ctx.objects.workspace.cluster, decide.bundle_name(ctx.object.metadata.uid)
        with ExitStack() as held:

            def reserve(size: int) -> None:
                held.enter_context(self._memory.hold(cluster, _HELD_TIMES * size))

            await begin(ctx, startedAt=rfc3339(ctx.now))
            ref = ctx.object.spec.ref or target.repository.spec.default_branch or ""
            contents = target.host.contents
            with _stored():
                # Before the archive is read, which takes long and counts on the host.
                await self._bundles.require_room_for_checkout(cluster)
            snapshot = await contents.read_snapshot(target.repo_id, ref, decide.CAPS, reserve)
            bundle, snapshot = await asyncio.to_thread(decide.bundle_of, snapshot)
            if bundle is not None:
                with _stored():
                    await self._bundles.put(cluster, bundle, name)
            return decide.status_of(bundle, name, snapshot)

    async def _remove_bundle(self, ctx: ReconcileContext[RepositoryCheckout]) -> None:
        cluster = ctx.objects.workspace.cluster
        found = await self._bundles.find(cluster, decide.bundle_name(ctx.object.metadata.uid))
        if found is not None:
            await self._bundles.remove(cluster, found)


@contextmanager
def _stored() -> Iterator[None]:
    """Makes of the errors of the bundle store a reason to wait."""
    try:
        yield
    except BundlesFull as full:
        raise Retryable(Reason.BUNDLES_FULL, str(full)) from None
    except BusUnavailable as error:
        raise Retryable(Reason.BUNDLE_NOT_FOUND, f"the bundle store does not answer ({error}); trying again") from None
