"""Composition root of package-crawler: the only place that constructs clients."""

from __future__ import annotations

import logging

from codecommon.process.service import Service
from codecommon.process.settings import ServiceSettings

_log = logging.getLogger(__name__)


async def main(service: Service[ServiceSettings]) -> None:
    """Be there, healthy and stoppable, for a kind that this release serves without crawling (``codecommon.api.kinds``).

    It connects to nothing, so it has nothing to ping.
    """
    _log.info("Packages are served but not crawled in this release; there is nothing to do")
    service.ready()
    await service.stopping.wait()
