"""What the crawl finds out about a Repository or a Connection, told to the service that writes its status."""

from __future__ import annotations

from collections.abc import Iterable

from codecommon.api.connection import Connection
from codecommon.api.meta import Condition, Workspace
from codecommon.messaging.bus import Bus
from codecommon.messaging.events import ObjectEvent, connection_event
from package_crawler.decide import Home, is_news


class Findings:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def tell(self, workspace: Workspace, homes: Iterable[Home], finding: Condition) -> None:
        """Tell the Repositories that do not say so already. Raises ``BusUnavailable``.

        One that was told and does not say so yet is told again at the next look, so no finding is lost.
        """
        for home in homes:
            if is_news(home.shown, finding):
                await self._bus.publish(
                    ObjectEvent(
                        resource="repositories",
                        cluster=workspace.cluster,
                        name=home.name,
                        uid=home.uid,
                        generation=home.generation,
                        resource_version=home.version,
                        deleting=False,
                        reason="found",
                        endpoint=workspace.endpoint,
                        finding=finding,
                    )
                )

    async def tell_connection(self, connection: Connection, finding: Condition) -> None:
        """Raises ``BusUnavailable``."""
        await self._bus.publish(connection_event(connection, "found", finding))
