"""No input of a tenant keeps an event loop busy for more than 100 ms.

Each text of each kind's schema, each annotation that we read and each entry of a Secret that we read is given every hostile
text. What reads it is the watcher's decoder, the event, the reconciler and, where the text can get so far, the GitHub backend
in front of the simulator. Workspaces are in memory. A new kind takes part as soon as `controllers` has its reconciler.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, cast

import pytest
from hostile import LONGEST, Path_, keys, places, put, reconciled, texts
from loop_steps import steps_of_the_loop
from pydantic import ValidationError

from access_svc.collaborator import decide as collaborator
from access_svc.collaborator.reconciler import CollaboratorReconciler
from access_svc.deploykey import decide as deploykey
from access_svc.deploykey.pair import NEXT, PRIVATE, PUBLIC, Pairs
from access_svc.deploykey.reconciler import DeployKeyReconciler
from access_svc.deploykey.rotation import step_due
from codecommon.api import annotations
from codecommon.api.bundle import Bundle, BundleFile, is_bundle_name
from codecommon.api.kinds import (
    COLLABORATORS,
    CONNECTIONS,
    DEPLOY_KEYS,
    KINDS,
    REPOSITORIES,
    REPOSITORY_BUILD_STATUSES,
    REPOSITORY_CHECKOUTS,
    REPOSITORY_COMMITS,
)
from codecommon.controller.connections import Connections
from codecommon.controller.reconciler import Controller
from codecommon.githost.github.provider import GithubProvider
from codecommon.githost.http.proxy import ProxyRules
from codecommon.githost.http.transport import HostTransport
from codecommon.githost.provider import Registry
from codecommon.messaging.bundles import FoundBundle
from codecommon.messaging.bus import Bus
from codecommon.messaging.events import ObjectEvent, UndecodableEvent
from codecommon.process.logs import JsonFormatter, TextFormatter
from codecommon.testing.builders import (
    RESOURCES,
    api_binding,
    collaborator_object,
    connection_object,
    deploy_key_object,
    event_for,
    manifest,
    repository_object,
    secret_object,
)
from codecommon.testing.git_host import StubBackend
from codecommon.testing.harness import NAMESPACE, World
from connection_svc.decide import VALIDATED
from connection_svc.reconciler import ConnectionReconciler
from devstack.githubsim import SimControl
from devstack.scenario import Scenario
from devstack.simulator import SimulatorProcess
from repository_svc.build.reconciler import BuildReconciler
from repository_svc.bundle_memory import BundleMemory
from repository_svc.checkout.reconciler import CheckoutReconciler
from repository_svc.commit.reconciler import CommitReconciler
from repository_svc.decide import CONDITIONS, look_due
from repository_svc.reconciler import RepositoryReconciler
from watcher.decode import UndecodableObject, object_decoder

pytestmark = pytest.mark.slow

ALLOWED_SECONDS = 0.1
NAMES = {
    "connections": "main",
    "repositories": "site",
    "deploykeys": "key",
    "collaborators": "alice",
    "repositorycommits": "commit",
    "repositorycheckouts": "checkout",
    "repositorybuildstatuses": "build",
}
"""The object of each kind."""
OURS = sorted(value for name, value in vars(annotations).items() if name.isupper() and isinstance(value, str))

SECRETS = {
    "token": ("connections", "credential", "pat"),
    "githubAppID": ("connections", "credential", "github-app"),
    "githubAppInstallationID": ("connections", "credential", "github-app"),
    "githubAppPrivateKey": ("connections", "credential", "github-app"),
    "githubAppBaseURL": ("connections", "credential", "github-app"),
    **{prefix + half: ("deploykeys", "deploykey-key", "") for prefix in ("", NEXT) for half in (PRIVATE, PUBLIC)},
}
"""Each entry that we read of a Secret: the kind that reads it, the Secret's name and the Connection's type."""


BUNDLE = Bundle.build([BundleFile("README.md", b"Hello")])


class OneBundle:
    """A bundle store that has one bundle, in every workspace and under every name."""

    async def put(self, cluster: str, bundle: Bundle, name: str | None = None) -> None:
        return

    async def require_room_for_checkout(self, cluster: str) -> None:
        return

    async def find(self, cluster: str, name: str) -> FoundBundle | None:
        return FoundBundle(BUNDLE.name, 100, "1") if is_bundle_name(name) else None

    async def read(self, cluster: str, found: FoundBundle) -> Bundle | None:
        return BUNDLE

    async def remove(self, cluster: str, found: FoundBundle) -> None:
        return

    async def remove_all(self, cluster: str) -> None:
        return

    async def sweep(self) -> None:
        return


class Provider:
    """The reconcilers over one workspace. ``url``: of the simulator; empty: the git host is a stub."""

    def __init__(self, url: str, stored: list[dict[str, Any]]) -> None:
        self.world = World(StubBackend("octocat", users=["alice"]))
        self.transport = HostTransport(proxies=ProxyRules(), deadline=5)
        self.connections = self.world.connections
        if url:
            self.connections = Connections(
                Registry([GithubProvider([url])], self.transport),
                bus=cast(Bus, self.world.bus),
                credentials_namespace=NAMESPACE,
                clock=self.world.clock,
            )
        self.controllers: dict[str, Controller[Any]] = {
            "connections": Controller(CONNECTIONS, ConnectionReconciler(self.connections), frozenset({VALIDATED})),
            "repositories": Controller(REPOSITORIES, RepositoryReconciler(self.connections), CONDITIONS, look_due),
            "deploykeys": Controller(
                DEPLOY_KEYS, DeployKeyReconciler(self.connections, Pairs(NAMESPACE)), deploykey.CONDITIONS, step_due
            ),
            "collaborators": Controller(
                COLLABORATORS, CollaboratorReconciler(self.connections), collaborator.CONDITIONS, collaborator.due
            ),
        }
        bus, bundles, memory = cast(Bus, self.world.bus), OneBundle(), BundleMemory()
        self.controllers |= {
            "repositorycommits": Controller(
                REPOSITORY_COMMITS, CommitReconciler(self.connections, bundles, memory, bus)
            ),
            "repositorycheckouts": Controller(
                REPOSITORY_CHECKOUTS, CheckoutReconciler(self.connections, bundles, memory)
            ),
            "repositorybuildstatuses": Controller(REPOSITORY_BUILD_STATUSES, BuildReconciler(self.connections, bus)),
        }
        self.world.add(*stored)

    async def reconcile(self, resource: str) -> None:
        """What a change of the kind's object leads to, from the watcher's line to the object's status."""
        raw = self.world.stored(resource, NAMES[resource])
        try:
            object_decoder(KINDS[resource], NAMESPACE)(json.loads(json.dumps(raw)))
            ObjectEvent.decode(event_for(raw).encode("2026-01-01T00:00:00+00:00"))
        except (UndecodableObject, UndecodableEvent):
            pass
        try:
            await self.world.reconcile(self.controllers[resource], NAMES[resource])
        except ValidationError:
            # As the engine does with an object that no model fits.
            logging.getLogger().exception("handling failed")


@pytest.fixture(scope="module")
async def scenario(github_sim: SimulatorProcess) -> AsyncIterator[Scenario]:
    async with SimControl(github_sim.url) as control:
        yield Scenario(github_sim, control)


Stored = Mapping[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
async def stored(scenario: Scenario) -> Stored:
    """By the host's address (empty: the stub): one object of each kind, which has been reconciled, and the Secrets."""
    account, friend = await scenario.account("loop"), await scenario.account("friend")
    return {
        "": await _reconciled("", "octocat", "ghp_" + "b" * 36, "alice"),
        scenario.url: await _reconciled(scenario.url, account.login, account.token.value, friend.login),
    }


async def _reconciled(url: str, owner: str, token: str, friend: str) -> list[dict[str, Any]]:
    provider = Provider(
        url,
        [
            api_binding(),
            secret_object(token=token),
            connection_object(owner=owner, baseURL=url or None),
            repository_object(),
            deploy_key_object(),
            collaborator_object(username=friend),
            *_requests(),
        ],
    )
    kcp = provider.world.kcp
    for resource in (resource for resource in reconciled() if not KINDS[resource].request):
        await provider.reconcile(resource)
        assert kcp.stored(resource, NAMES[resource])["status"]["conditions"], resource
    await provider.transport.aclose()
    objects = [kcp.stored(resource, NAMES[resource]) for resource in reconciled()]
    secrets = [kcp.stored("secrets", name, namespace=NAMESPACE) for name in ("credential", "deploykey-key")]
    return [api_binding(), *(raw for raw in (*secrets, *objects) if raw is not None)]


def _requests() -> list[dict[str, Any]]:
    """Requests that nobody has answered, because nothing is read of others. With the finalizer of the Go provider."""
    made = [
        manifest(REPOSITORY_COMMITS, "commit", repositoryRef="site", source={"bundleRef": {"name": BUNDLE.name}}),
        manifest(REPOSITORY_CHECKOUTS, "checkout", repositoryRef="site"),
        manifest(REPOSITORY_BUILD_STATUSES, "build", repositoryRef="site", workflowFileName="ci.yaml"),
    ]
    for raw in made:
        raw["metadata"]["finalizers"] = [KINDS[RESOURCES[raw["kind"]]].finalizer]
    return made


@pytest.fixture(autouse=True)
def formatted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line that is logged is formatted and redacted on the loop as in production, and by nobody else."""
    handlers = list[logging.Handler]()
    for formatter in (JsonFormatter("test"), TextFormatter("test")):
        handlers.append(logging.StreamHandler(io.StringIO()))
        handlers[-1].setFormatter(formatter)
    monkeypatch.setattr(logging.getLogger(), "handlers", handlers)
    monkeypatch.setattr(logging.getLogger(), "level", logging.DEBUG)


async def longest(
    url: str, stored: Stored, resource: str, change: Callable[[World], object], *, finalized: bool = True
) -> float:
    """In seconds: the longest step while the changed object is reconciled and, if ``finalized``, while it is deleted.

    What is too long is measured three times, and the shortest counts. An input is slow each time, a busy machine is not.
    """
    times = list[float]()
    while not times or (times[-1] >= ALLOWED_SECONDS and len(times) < 3):
        with steps_of_the_loop() as measured:
            for deleted in (False, True)[: 1 + finalized]:
                provider = Provider(url, stored[url])
                change(provider.world)
                if deleted:
                    provider.world.kcp.remove(resource, NAMES[resource])
                await provider.reconcile(resource)
                await provider.transport.aclose()
        times.append(measured.seconds)
    return min(times)


WHERE = [(resource, path, length) for resource in reconciled() for path, length in places(resource)]


@pytest.mark.parametrize(("resource", "path", "length"), WHERE, ids=[f"{r}-{'.'.join(p)}" for r, p, _ in WHERE])
async def test_no_text_of_an_object_holds_the_loop(
    scenario: Scenario, stored: Stored, resource: str, path: Path_, length: int
) -> None:
    url = scenario.url if path[0] == "spec" else ""
    for name, text in texts(length).items():
        patch = {**put(path, text), "metadata": {"generation": 2}}
        seconds = await longest(
            url,
            stored,
            resource,
            lambda world, p=patch: world.kcp.edit(resource, NAMES[resource], p),
            # What becomes of an object that is deleted is read from its status.
            finalized=path[0] == "status",
        )
        assert seconds < ALLOWED_SECONDS, f"{name} at {'.'.join(path)} took {seconds:.3f} s"


@pytest.mark.parametrize("annotation", OURS)
@pytest.mark.parametrize("resource", reconciled())
async def test_no_annotation_holds_the_loop(stored: Stored, resource: str, annotation: str) -> None:
    # kcp admits 256 KiB of annotations.
    for name, text in texts(250_000).items():
        patch = {"metadata": {"annotations": {annotation: text}}}
        seconds = await longest(
            "", stored, resource, lambda world, p=patch: world.kcp.edit(resource, NAMES[resource], p)
        )
        assert seconds < ALLOWED_SECONDS, f"{name} in {annotation} took {seconds:.3f} s"


@pytest.mark.parametrize("entry", SECRETS)
async def test_no_entry_of_a_secret_holds_the_loop(scenario: Scenario, stored: Stored, entry: str) -> None:
    resource, name_of_secret, type_ = SECRETS[entry]
    url = scenario.url if resource == "connections" else ""
    for name, text in (texts(LONGEST) | keys()).items():
        encoded = base64.b64encode(text.encode()).decode()

        def change(world: World, value: str = encoded) -> None:
            data = {"githubAppID": base64.b64encode(b"7").decode(), entry: value}
            world.kcp.edit("secrets", name_of_secret, {"data": data}, namespace=NAMESPACE)
            if type_:
                world.kcp.edit("connections", "main", {"spec": {"type": type_}, "metadata": {"generation": 2}})

        seconds = await longest(url, stored, resource, change)
        assert seconds < ALLOWED_SECONDS, f"{name} in {entry} took {seconds:.3f} s"


async def test_a_step_that_takes_long_is_seen() -> None:
    """The measurement itself, without which the tests above would prove nothing."""

    async def busy() -> None:
        until = time.thread_time() + 0.05
        while time.thread_time() < until:
            pass

    with steps_of_the_loop() as measured:
        await asyncio.create_task(busy())
    assert measured.seconds >= 0.05
