"""RepositoryCommit: take the files out of the bundle store and put them on a branch, in one commit."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from codecommon.api.bundle import Bundle, InvalidBundle
from codecommon.api.reasons import Reason
from codecommon.api.repository_commit import RepositoryCommit
from codecommon.api.request import SUCCEEDED, is_finished
from codecommon.api.results import Outcome, Retryable, Terminal
from codecommon.api.times import rfc3339
from codecommon.controller.connections import Connections
from codecommon.controller.context import ReconcileContext
from codecommon.controller.target import Target
from codecommon.kcp.client import Conflict, JsonObject, NotFound
from codecommon.messaging.bundles import BundleStore, FoundBundle
from codecommon.messaging.bus import Bus, BusUnavailable
from codecommon.process.shared_cache import SharedCache
from repository_svc.bundle_memory import BundleMemory, NotYet
from repository_svc.commit import decide
from repository_svc.request import answer_once, ask_for_crawl, begin

_MOST_UPLOADS: Final = 256
_MOST_UPLOADS_OF_A_WORKSPACE: Final = 32


class CommitReconciler:
    """Make the commit that one RepositoryCommit asks for."""

    def __init__(self, connections: Connections, bundles: BundleStore, memory: BundleMemory, bus: Bus) -> None:
        self._connections = connections
        self._bundles = bundles
        self._memory = memory
        self._bus = bus
        self._uploads = SharedCache[tuple[str, str], dict[str, str]](
            _MOST_UPLOADS, _MOST_UPLOADS_OF_A_WORKSPACE, lambda key: key[0]
        )
        """By cluster and uid: what the host has of commits that wait."""

    async def reconcile(self, ctx: ReconcileContext[RepositoryCommit]) -> Outcome:
        return await answer_once(
            ctx, self._connections, partial(self._commit, ctx), afterwards=partial(self._tidy_up, ctx)
        )

    async def _commit(self, ctx: ReconcileContext[RepositoryCommit], target: Target) -> Mapping[str, Any]:
        cluster, uid = ctx.objects.workspace.cluster, ctx.object.metadata.uid
        found = await self._find(ctx)
        with self._memory.hold(cluster, found.stored_bytes):
            bundle = await self._read(ctx, found)
            await begin(ctx, startedAt=rfc3339(ctx.now))
            uploads = self._uploads.get((cluster, uid)) or {}
            self._uploads.put((cluster, uid), uploads)
            request = decide.host_request(ctx.object, target.repository, bundle)
            committed = await target.host.contents.commit(target.repo_id, request, uploads)
            self._uploads.drop((cluster, uid))
            return await asyncio.to_thread(decide.status_of, bundle, committed)

    async def _find(self, ctx: ReconcileContext[RepositoryCommit]) -> FoundBundle:
        name = ctx.object.spec.source.bundle_ref.name
        try:
            found = await self._bundles.find(ctx.objects.workspace.cluster, name)
        except BusUnavailable as error:
            raise _unreadable(error) from None
        if found is None:
            raise self._missing(ctx)
        return found

    async def _read(self, ctx: ReconcileContext[RepositoryCommit], found: FoundBundle) -> Bundle:
        wanted = ctx.object.spec.source.bundle_ref.digest
        try:
            bundle = await self._bundles.read(ctx.objects.workspace.cluster, found)
        except BusUnavailable as error:
            raise _unreadable(error) from None
        except InvalidBundle as error:
            raise Terminal(Reason.BUNDLE_INVALID, f"bundle {found.name} cannot be used: {error}") from None
        if bundle is None:
            raise self._missing(ctx)
        if bundle.name != found.name or wanted not in (None, "", bundle.digest):
            raise Terminal(
                Reason.BUNDLE_INVALID,
                f"bundle {found.name} has the digest {bundle.digest}, and not that of the request",
            )
        return bundle

    def _missing(self, ctx: ReconcileContext[RepositoryCommit]) -> Retryable | Terminal:
        name = ctx.object.spec.source.bundle_ref.name
        age = decide.age(ctx.object.metadata.creation_timestamp, ctx.now)
        again = decide.wait_for_bundle(age)
        if again is not None:
            message = f"bundle {name!r} is not stored yet"
            # Most are there a moment later, and a write of status would take longer.
            if age < decide.USUAL_WAIT:
                return NotYet(message, again)
            return Retryable(Reason.BUNDLE_NOT_FOUND, message, after=again)
        return Terminal(
            Reason.BUNDLE_NOT_FOUND,
            f"bundle {name!r} is not stored, or not any more; ask for the commit again with its files",
        )

    async def _tidy_up(self, ctx: ReconcileContext[RepositoryCommit]) -> None:
        """The bundle has been used, older commits of the Repository go, and packages may be built."""
        await self._remove_bundle(ctx)
        for old in decide.surplus(await self._answered(ctx), ctx.now):
            try:
                await ctx.objects.delete(ctx.kind.resource, old.name, uid=old.uid)
            except (NotFound, Conflict):
                continue
        if ctx.object.status.phase == SUCCEEDED:
            await ask_for_crawl(ctx, self._bus)

    async def _remove_bundle(self, ctx: ReconcileContext[RepositoryCommit]) -> None:
        """Remove the bundle, unless another commit with the same files waits for it."""
        name, cluster = ctx.object.spec.source.bundle_ref.name, ctx.objects.workspace.cluster
        found = await self._bundles.find(cluster, name)
        if found is None:
            return
        # Whoever comes after this list stores the bundle anew, and then it is another one than that which was found.
        others = await ctx.others(
            lambda other: None if other.status.finished else True, fields={"spec.source.bundleRef.name": name}, most=1
        )
        if not others:
            await self._bundles.remove(cluster, found)

    async def _answered(self, ctx: ReconcileContext[RepositoryCommit]) -> list[decide.Kept]:
        def keep(raw: JsonObject) -> decide.Kept | None:
            metadata, status = raw["metadata"], raw.get("status") or {}
            if metadata.get("deletionTimestamp") or not is_finished(status):
                return None
            created = metadata["creationTimestamp"]
            return decide.Kept(status.get("completedAt") or created, created, metadata["name"], metadata["uid"])

        fields = {"spec.repositoryRef": ctx.object.spec.repository_ref}
        return await ctx.objects.list(ctx.kind.resource, keep=keep, fields=fields)


def _unreadable(error: BusUnavailable) -> Retryable:
    return Retryable(Reason.BUNDLE_NOT_FOUND, f"the bundle store does not answer ({error}); trying again")
