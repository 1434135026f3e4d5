"""From a Connection to the owners of its Repositories: one job for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from pydantic import ValidationError

from codecommon.api.connection import Connection
from codecommon.api.meta import Condition
from codecommon.api.reasons import Reason
from codecommon.controller.connections import require_validated
from codecommon.controller.delivery import Ack, PutBack, Settlement
from codecommon.kcp.client import NotFound, ProviderObjects
from codecommon.messaging.bus import Bus
from codecommon.messaging.events import ObjectEvent, Versions
from package_crawler import decide
from package_crawler.findings import Findings

REQUEST_EVERY: Final = timedelta(seconds=30)
REQUEST_LASTS: Final = timedelta(minutes=10)

# Credentials to whose kind GitHub serves no packages; the words of ``Connection.status.tokenType``.
_UNSUPPORTED: Final = frozenset({"fine-grained", "installation", "app-user"})


class FanOut:
    """Sees to it that every owner of a Connection's Repositories is looked at. ``now``: the time of day, UTC."""

    def __init__(self, bus: Bus, findings: Findings, now: Callable[[], datetime]) -> None:
        self._bus = bus
        self._findings = findings
        self._now = now

    async def run(self, event: ObjectEvent, objects: ProviderObjects) -> Settlement:
        """Publish the jobs of a Connection. Raises what kcp raises, and ``NotReady``, ``BusUnavailable``."""
        try:
            connection = Connection.parse(await objects.get("connections", event.name), objects.workspace)
        except (NotFound, ValidationError):
            return Ack()
        if connection.paused:
            return Ack()
        require_validated(connection)
        homes = await objects.list(
            "repositories",
            fields={"spec.connectionRef": connection.name},
            keep=lambda raw: decide.home_of(raw, objects.workspace, connection.spec.owner),
        )
        refusal = _refusal(connection)
        if refusal is not None:
            await self._findings.tell(objects.workspace, homes, refusal)
            return Ack()
        owners = decide.owners_of(homes)
        for owner in list(owners)[: decide.MOST_OWNERS]:
            await self._start(event, connection, owner)
        for owner in list(owners)[decide.MOST_OWNERS :]:
            await self._findings.tell(objects.workspace, owners[owner], decide.TOO_MANY_OWNERS)
        return self._again(event)

    async def _start(self, event: ObjectEvent, connection: Connection, owner: str) -> None:
        job = replace(
            event,
            uid=connection.metadata.uid,
            resource_version=connection.metadata.resource_version,
            # The Secret that the Connection was validated with is there, so what is older must not be used.
            versions=Versions(secret=connection.status.observed_secret_version or event.versions.secret),
            reason="crawl",
            owner=owner,
        )
        if event.reason == "crawl-resync":
            # Where there is a job, it has its own time.
            await self._bus.publish_if_none(job)
        else:
            await self._bus.publish(job)

    def _again(self, event: ObjectEvent) -> Settlement:
        """A request is put back for its next look, until it is over."""
        if event.reason != "crawl-request" or event.time is None or self._now() - event.time >= REQUEST_LASTS:
            return Ack()
        return PutBack(REQUEST_EVERY.total_seconds())


def _refusal(connection: Connection) -> Condition | None:
    """What its Repositories are told where the credential cannot see packages, so that the host need not be asked."""
    packages = next((c for c in connection.status.capabilities or () if c.name == "packages"), None)
    if packages is None or packages.status != "No":
        return None
    unsupported = connection.status.token_type in _UNSUPPORTED
    reason = Reason.PACKAGES_UNSUPPORTED_BY_TOKEN if unsupported else Reason.MISSING_PERMISSION
    why = packages.message or "the credential may not read packages"
    return decide.unavailable(reason, f"packages are not mirrored: {why}")
