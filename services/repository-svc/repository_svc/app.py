"""Composition root of repository-svc: the only place that constructs clients."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Final, NoReturn

from codecommon.api.kinds import (
    REPOSITORIES,
    REPOSITORY_BUILD_STATUSES,
    REPOSITORY_CHECKOUTS,
    REPOSITORY_COMMITS,
)
from codecommon.controller.composition import host_clients
from codecommon.controller.reconciler import Controller
from codecommon.controller.settings import ReconcilerSettings
from codecommon.messaging.bundles import BundleStore, open_bundle_store
from codecommon.messaging.bus import BusUnavailable
from codecommon.process.service import Service
from repository_svc.build.reconciler import BuildReconciler
from repository_svc.bundle_memory import BundleMemory
from repository_svc.checkout.reconciler import CheckoutReconciler
from repository_svc.commit.reconciler import CommitReconciler
from repository_svc.decide import CONDITIONS, look_due
from repository_svc.reconciler import RepositoryReconciler

_log = logging.getLogger(__name__)

_SWEEP_SECONDS: Final = 600.0
# How long a checkout is, is known after two requests to the host.
_CHECKOUT_AGAIN: Final = timedelta(seconds=5)


async def main(service: Service[ReconcilerSettings]) -> None:
    async with (
        host_clients(service) as clients,
        open_bundle_store(service.settings.commit_bundle_dir or clients.bus) as bundles,
    ):
        connections, bus = clients.connections, clients.bus
        service.spawn(_keep_swept(bundles), "bundles")
        await clients.run(
            Controller(REPOSITORIES, RepositoryReconciler(connections), owned=CONDITIONS, is_due=look_due),
            Controller(REPOSITORY_COMMITS, CommitReconciler(connections, bundles, BundleMemory(), bus)),
            Controller(
                REPOSITORY_CHECKOUTS, CheckoutReconciler(connections, bundles, BundleMemory(again=_CHECKOUT_AGAIN))
            ),
            Controller(REPOSITORY_BUILD_STATUSES, BuildReconciler(connections, bus)),
        )


async def _keep_swept(bundles: BundleStore) -> NoReturn:
    while True:
        try:
            await bundles.sweep()
        except BusUnavailable as error:
            _log.warning("old bundles stay: %s", error)
        await asyncio.sleep(_SWEEP_SECONDS)
