"""Composition root of access-svc: the only place that constructs clients."""

from __future__ import annotations

import logging

from codecommon.service import Service
from codecommon.settings import ServiceSettings

_log = logging.getLogger(__name__)


async def main(service: Service[ServiceSettings]) -> None:
    """Be there, healthy and stoppable, for kinds that this release serves without reconciling (``codecommon.api.kinds``).

    It connects to nothing, so it has nothing to ping.
    """
    _log.info("DeployKeys and Collaborators are served but not reconciled in this release; there is nothing to do")
    service.ready()
    await service.stopping.wait()
