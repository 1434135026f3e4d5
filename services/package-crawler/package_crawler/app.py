"""Composition root of package-crawler."""

from __future__ import annotations

import logging

from codecommon.process.service import Service
from codecommon.process.settings import ServiceSettings

_log = logging.getLogger(__name__)


async def main(service: Service[ServiceSettings]) -> None:
    """Run, ready and without any work, until told to stop.

    This release serves the kind Package without crawling any (``codecommon.api.kinds``). The process connects to nothing, so it
    registers no ping.
    """
    _log.info("Packages are served but not crawled in this release; there is nothing to do")
    service.ready()
    await service.stopping.wait()
