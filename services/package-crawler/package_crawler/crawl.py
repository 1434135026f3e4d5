"""One look at what an owner has published: list, compare with the Package objects, write what differs.

Nothing is held of a list but the rows of packages that are mirrored. Each object is written as soon as it is known, so a look
that is cut short has done a part of the work. Objects are removed only after the list of their type was read to its end.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from codecommon.api.meta import Workspace
from codecommon.api.reasons import ConditionType, Reason
from codecommon.api.results import Interruption, Retryable, Terminal
from codecommon.controller.bindings import BoundWorkspaces
from codecommon.controller.conditions import condition
from codecommon.controller.connections import Connections, OpenConnection, require_validated
from codecommon.controller.delivery import Ack, PutBack, Settlement
from codecommon.githost.protocol import CredentialRejected, GitBackend, HostBusy, HostPackage, HostUnavailable
from codecommon.kcp.client import Conflict, Invalid, JsonObject, NotFound, ProviderObjects
from codecommon.messaging.events import ObjectEvent, Versions
from codecommon.process.backoff import Backoff
from package_crawler import decide
from package_crawler.decide import Home, Images, Mirrored, State, Wanted
from package_crawler.findings import Findings
from package_crawler.metrics import CRAWLS, PACKAGES
from package_crawler.states import States

T = TypeVar("T")

_log = logging.getLogger(__name__)

_AT_ONCE: Final = 4
"""Packages of one owner that are worked on at once. Hosts ask for few requests at a time; kcp takes longer than most of them."""

# Of one package, a hundred versions each. What is older than a thousand versions is not looked through for images.
_MOST_PAGES_OF_VERSIONS: Final = 10
# A host that does not know a type of packages.
_NOT_OFFERED: Final = frozenset({Reason.VALIDATION_FAILED, Reason.GONE})
# The host takes the credential for good, and does not let it see packages.
_ABOUT_PACKAGES: Final = frozenset({Reason.MISSING_PERMISSION, Reason.PACKAGES_UNSUPPORTED_BY_TOKEN})


@dataclass(slots=True)
class _Lists:
    """What the lists of an owner brought. ``complete``: the types whose list was read to its end, with its pages."""

    wanted: dict[str, Wanted] = field(default_factory=dict[str, Wanted])
    complete: dict[str, int] = field(default_factory=dict[str, int])
    failed: dict[str, Retryable] = field(default_factory=dict[str, Retryable])


@dataclass(slots=True)
class _Look:
    """One look: what it found, and what came of it."""

    objects: ProviderObjects
    backend: GitBackend
    owner: str
    homes: Mapping[str, Home]
    """By the id of the repository."""
    mirrored: dict[str, Mirrored]
    """The objects of these homes, by name."""
    state: State
    began: datetime
    failures: list[Interruption] = field(default_factory=list[Interruption])
    actions: Counter[str] = field(default_factory=Counter[str])

    def failed(self, failure: Interruption) -> None:
        """Something of one package could not be read. Raises what is not about that package."""
        if _ends_the_look(failure) or isinstance(failure, CredentialRejected):
            raise failure
        self.failures.append(failure)


class Crawl:
    """Looks at the packages of owners.

    ``interval``: the pause after a look at which something has moved. ``now``: the time of day, UTC.
    """

    def __init__(
        self,
        connections: Connections,
        states: States,
        findings: Findings,
        *,
        interval: timedelta,
        now: Callable[[], datetime],
        backoff: Backoff | None = None,
    ) -> None:
        self._connections = connections
        self._states = states
        self._findings = findings
        self._bound = BoundWorkspaces()
        self._interval = interval
        self._now = now
        self._backoff = backoff or Backoff()

    async def run(self, event: ObjectEvent, objects: ProviderObjects) -> Settlement:
        """Look at the owner that the event names, and say when to look again.

        Raises what kcp raises, the interruptions of ``codecommon.api.results``, and ``BusUnavailable``.
        """
        state = await self._states.of(event.cluster, event.uid, event.owner)
        early = state.too_early(self._now(), self._interval)
        if early is not None:
            return PutBack(early.total_seconds())
        if not await self._bound.confirm(objects):
            return self._over("over")

        async def look() -> Settlement:
            opened = await self._connections.for_object(
                objects,
                event.name,
                Versions(connection=event.resource_version, secret=event.versions.secret),
                owner=event.owner,
            )
            require_validated(opened.connection)
            if opened.connection.metadata.uid != event.uid or opened.connection.paused:
                return self._over("over")
            return await self._look(event, objects, opened, state)

        return await self._connections.with_fresh_credential(objects, event.name, look)

    async def _look(
        self, event: ObjectEvent, objects: ProviderObjects, opened: OpenConnection, state: State
    ) -> Settlement:
        began = self._now()
        homes = await self._homes(objects, opened, event.owner)
        if not homes:
            return self._over("over")
        try:
            lists = await self._list(opened.backend, event.owner, homes)
        except Terminal as refused:
            await self._tell_refusal(objects.workspace, opened, homes.values(), refused)
            raise
        except Retryable as limited:
            if limited.reason == Reason.RATE_LIMITED and state.is_overdue(began):
                _, mirrored = await self._mirrored(objects, homes.values())
                look = _Look(objects, opened.backend, event.owner, homes, mirrored, state, began)
                await _each(mirrored.values(), lambda known: self._mark_stale(look, known))
            raise
        others, mirrored = await self._mirrored(objects, homes.values())
        look = _Look(objects, opened.backend, event.owner, homes, mirrored, state, began, list(lists.failed.values()))
        kept, left_out = decide.within_limits(
            lists.wanted, mirrored, others + sum(known.type in lists.failed for known in mirrored.values())
        )
        try:
            await _each(kept.items(), lambda item: self._mirror(look, *item))
            await _each(self._gone(look, lists, kept), lambda known: self._remove(look, known, lists))
            await _each(self._uncertain(look, lists), lambda known: self._mark_stale(look, known))
        finally:
            for action, count in look.actions.items():
                PACKAGES.labels(action).inc(count)
        for home in homes.values():
            if left_out[home.name]:
                await self._findings.tell(objects.workspace, (home,), decide.over_limit(left_out[home.name]))
            elif not look.failures:
                await self._findings.tell(objects.workspace, (home,), decide.AVAILABLE)
        if state.at is None and not look.failures:
            await self._tell_success(opened)
        return await self._settle(event, look)

    # ---- reading

    async def _homes(self, objects: ProviderObjects, opened: OpenConnection, owner: str) -> dict[str, Home]:
        def keep(raw: JsonObject) -> Home | None:
            home = decide.home_of(raw, objects.workspace, opened.connection.spec.owner)
            if home is None or home.owner.lower() != owner.lower() or home.host != opened.backend.host:
                return None
            return home

        found = await objects.list("repositories", fields={"spec.connectionRef": opened.connection.name}, keep=keep)
        return {home.repo_id: home for home in found}

    async def _mirrored(self, objects: ProviderObjects, homes: Iterable[Home]) -> tuple[int, dict[str, Mirrored]]:
        """How many Packages the workspace has besides those of ``homes``, and these."""
        names = {home.name for home in homes}
        others = 0

        def keep(raw: JsonObject) -> Mirrored | None:
            nonlocal others
            known = decide.mirrored_of(raw, objects.workspace)
            if known is not None and known.repository in names:
                return known
            others += 1
            return None

        found = await objects.list("packages", keep=keep)
        return others, {known.name: known for known in found}

    async def _list(self, backend: GitBackend, owner: str, homes: Mapping[str, Home]) -> _Lists:
        """Every list to its end, or to where it cannot be read on."""
        lists = _Lists()
        for package_type in backend.package_types:
            wanted: dict[str, Wanted] = {}
            pages = 0
            try:
                async for page in backend.list_packages(owner, package_type):
                    pages += 1
                    wanted |= decide.wanted_of(homes, page)
            except Terminal as refused:
                if refused.reason not in _NOT_OFFERED:
                    raise
                continue
            except Retryable as failure:
                if _ends_the_look(failure):
                    raise
                lists.failed[package_type] = failure
                if len(lists.failed) > 1 and isinstance(failure, HostUnavailable):
                    # The host is away. Nothing else can be read now, either.
                    lists.failed |= dict.fromkeys(set(backend.package_types) - set(lists.complete), failure)
                    break
                continue
            lists.complete[package_type] = pages
            lists.wanted |= wanted
        return lists

    async def _versions(self, look: _Look, row: HostPackage) -> JsonObject | None:
        """Status fields by wire name; None where the host does not show the versions, so the package keeps its state."""
        images, pages = Images(), 0
        try:
            async for page in look.backend.list_versions(row):
                images.add(page)
                pages += 1
                if images.enough or pages == _MOST_PAGES_OF_VERSIONS:
                    return images.status(row, whole=False)
        except (Retryable, Terminal) as failure:
            look.failed(failure)
            return None
        # A package without a page is gone by now.
        return images.status(row, whole=True) if pages else None

    # ---- writing

    async def _mirror(self, look: _Look, name: str, wanted: Wanted) -> None:
        home, row, known = wanted.home, wanted.row, look.mirrored.get(name)
        if known is not None and known.owner_uid != home.uid:
            # It went with a Repository that had the name before.
            await self._delete(look, known)
            known = None
        status = decide.shown(row)
        if row.image_repository is None:
            status["versionCount"] = row.version_count
        elif decide.wants_versions(name, row, known, look.state.at, look.began):
            versions = await self._versions(look, row)
            if versions is None:
                if known is not None and look.state.is_stale:
                    await self._mark_stale(look, known, Reason.VERSIONS_INCOMPLETE)
                return
            status |= versions
        if known is None:
            try:
                made = await look.objects.create("packages", decide.manifest(name, home))
            except Conflict:
                # Made by somebody else since the list was read.
                look.actions["created"] += 1
                return
            known = decide.mirrored_of(made, look.objects.workspace)
            if known is None:
                return
            look.actions["created"] += 1
        elif decide.status_patch(known, status, self._now()):
            look.actions["updated"] += 1
        await self._patch(look, known, decide.status_patch(known, status, self._now()))

    def _gone(self, look: _Look, lists: _Lists, kept: Mapping[str, Wanted]) -> Iterator[Mirrored]:
        """The objects whose package a complete list does not have."""
        for name, known in look.mirrored.items():
            complete = known.type in lists.complete if known.type is not None else not lists.failed
            if name not in kept and complete:
                yield known

    async def _remove(self, look: _Look, known: Mirrored, lists: _Lists) -> None:
        name, package_type = known.content.get("packageName"), known.type
        if name is not None and package_type is not None and lists.complete[package_type] > 1:
            # A package that was deleted while the pages were read moves another one from a page to the one before it.
            try:
                still = await look.backend.get_package(look.owner, package_type, name)
            except (Retryable, Terminal) as failure:
                look.failed(failure)
                return
            if still is not None and still.repository_id in look.homes:
                return
        await self._delete(look, known)

    async def _delete(self, look: _Look, known: Mirrored) -> None:
        try:
            await look.objects.delete("packages", known.name, uid=known.uid)
        except (NotFound, Conflict):
            return
        look.actions["removed"] += 1

    def _uncertain(self, look: _Look, lists: _Lists) -> Iterator[Mirrored]:
        """The objects whose list could not be read, where that is so for longer than a moment."""
        if look.state.is_stale:
            yield from (known for known in look.mirrored.values() if known.type in lists.failed)

    async def _mark_stale(self, look: _Look, known: Mirrored, reason: Reason = Reason.LISTING_INCOMPLETE) -> None:
        patch = decide.stale_patch(known, reason, look.state.at, self._now())
        if patch:
            look.actions["stale"] += 1
            await self._patch(look, known, patch)

    async def _patch(self, look: _Look, known: Mirrored, patch: JsonObject) -> None:
        if not patch:
            return
        guard = {"uid": known.uid, "resourceVersion": known.version}
        try:
            await look.objects.merge_patch(
                "packages", known.name, {"metadata": guard, "status": patch}, subresource="status"
            )
        except (NotFound, Conflict):
            # Somebody else wrote or deleted it. The next look compares again.
            return
        except Invalid as error:
            _log.warning("kcp refused the status of a Package: %s", error)

    # ---- what comes of it

    async def _tell_refusal(
        self, workspace: Workspace, opened: OpenConnection, homes: Iterable[Home], refused: Terminal
    ) -> None:
        finding = decide.unavailable(refused.reason, f"packages are not mirrored: {refused.message}")
        await self._findings.tell(workspace, homes, finding)
        known = _packages_capability(opened)
        if refused.reason in _ABOUT_PACKAGES and (
            known != "Yes" or refused.reason == Reason.PACKAGES_UNSUPPORTED_BY_TOKEN
        ):
            await self._findings.tell_connection(opened.connection, decide.unavailable(refused.reason, refused.message))

    async def _tell_success(self, opened: OpenConnection) -> None:
        if _packages_capability(opened) == "Unknown":
            await self._findings.tell_connection(
                opened.connection,
                condition(ConditionType.PACKAGES_AVAILABLE, "True", Reason.PACKAGES_MIRRORED),
            )

    async def _settle(self, event: ObjectEvent, look: _Look) -> Settlement:
        moved, failed = bool(look.actions), bool(look.failures)
        after = look.state.after(look.began, moved=moved, failed=failed)
        await self._states.store(event.cluster, event.uid, event.owner, after)
        pause = after.pause(self._interval)
        if failed:
            waits = [f.after for f in look.failures if isinstance(f, Retryable) and f.after is not None]
            named = max(waits, default=timedelta())
            pause = max(pause, named)
            _log.info("a list of %s could not be read: %s", event.owner, look.failures[0].message)
        CRAWLS.labels("failed" if failed else "moved" if moved else "quiet").inc()
        _log.debug("looked at %s: %s", event.owner, dict(look.actions) or "nothing has moved")
        return PutBack(self._backoff.jitter(pause.total_seconds()))

    @staticmethod
    def _over(result: str) -> Ack:
        CRAWLS.labels(result).inc()
        return Ack()


def _packages_capability(opened: OpenConnection) -> str:
    found = (c.status for c in opened.connection.status.capabilities or () if c.name == "packages")
    return next(found, "Unknown")


def _ends_the_look(failure: Interruption) -> bool:
    """Whether it is not this owner's turn at the host, which says nothing about a list."""
    return isinstance(failure, HostBusy) or failure.reason == Reason.RATE_LIMITED


async def _each(items: Iterable[T], work: Callable[[T], Awaitable[Any]]) -> None:
    """Do ``work`` on each, a few at a time. The first error ends it, once what has begun is over."""
    left = iter(items)
    errors: list[Exception] = []

    async def worker() -> None:
        for item in left:
            if errors:
                return
            try:
                await work(item)
            except Exception as error:  # noqa: BLE001 - raised below
                errors.append(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(worker())
    if errors:
        raise errors[0]
