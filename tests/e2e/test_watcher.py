"""The watcher alone, on a real kcp and a nats-server of its own: what it publishes and what it does not."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from devstack.cluster import Cluster
from devstack.kcp import SECRETS_CLAIM, Kcp, service_account_token
from devstack.kubeconfig import kubeconfig, write_private
from devstack.nats import NatsServer
from devstack.own_instance import EXPORT
from devstack.processes import Process
from devstack.resources import Manifest, by_plural
from devstack.scenario import connection, repository, secret

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

LEASE_TTL = 15.0
QUIET = "1h"
"""A resync interval longer than any test."""

Event = dict[str, Any]


class Provider:
    """A provider workspace of this module's own, so that no service acts on its tenants."""

    def __init__(self, path: str, kubeconfig: Path) -> None:
        self.path = path
        self.kubeconfig = kubeconfig


async def provider_workspace(kcp: Kcp, folder: Path) -> Provider:
    path = f"root:watcher-{uuid4().hex[:12]}"
    cluster = kcp.cluster(await kcp.create_workspace(path))
    token = await service_account_token(cluster, "provider", admin_binding="kedge:providers:sa:provider")
    file = write_private(folder / "kubeconfig", kubeconfig(cluster.server, token))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "code_provider",
        "init",
        env=dict(os.environ) | {"KEDGE_PROVIDER_KUBECONFIG": str(file), "CODE_WORKSPACE_PATH": path},
    )
    assert await asyncio.wait_for(process.wait(), 60) == 0
    return Provider(path, file)


@pytest_asyncio.fixture(scope="module")
async def watched_provider(kcp: Kcp, tmp_path_factory: pytest.TempPathFactory) -> Provider:
    return await provider_workspace(kcp, tmp_path_factory.mktemp("provider"))


class Workspace(Cluster):
    """A tenant's workspace, with the writes that a service would make."""

    id: str

    async def add_finalizer(self, plural: str, name: str) -> None:
        """What ``ensure_finalizer`` writes."""
        finalizers = [f"{plural}.code.kedge.faros.sh/finalizer"]
        await self.patch(plural, name, {"metadata": {"finalizers": finalizers}})

    async def ready(self, plural: str, name: str, **status: Any) -> Manifest:
        """Status says Ready for the current generation."""
        found = await self.get(plural, name)
        assert found is not None
        conditions = [
            {
                "type": "Ready",
                "status": "True",
                "reason": "Reconciled",
                "message": "",
                "lastTransitionTime": "2026-11-23T00:00:00Z",
            }
        ]
        merged = {"observedGeneration": found["metadata"]["generation"], "conditions": conditions, **status}
        return await self.patch_status(plural, name, merged)

    async def settle(self, plural: str, name: str, **status: Any) -> None:
        await self.add_finalizer(plural, name)
        await self.ready(plural, name, **status)

    async def settled_connection(self, name: str = "conn") -> None:
        """A Connection with its Secret, as it looks once connection-svc is done with it."""
        stored = await self.apply(secret(f"{name}-token", "first"))
        await self.create(connection(name, "acme", None))
        await self.settle(
            "connections", name, observedSecretVersion=stored["metadata"]["resourceVersion"], login="acme"
        )

    async def settled_repository(self, name: str, of: str = "conn") -> None:
        await self.create(repository(name, of))
        await self.settle("repositories", name, repoID="1", origin="Created", host="github.com", owner="acme")


async def new_workspace(kcp: Kcp) -> Workspace:
    cluster = await kcp.create_workspace(f"root:watcher-tenant-{uuid4().hex[:12]}")
    made = Workspace(kcp.session, kcp.cluster(cluster).access)
    made.id = cluster
    return made


@pytest_asyncio.fixture
async def workspace(kcp: Kcp, watched_provider: Provider) -> Workspace:
    made = await new_workspace(kcp)
    await kcp.bind(made.id, watched_provider.path, EXPORT, [SECRETS_CLAIM])
    return made


@pytest_asyncio.fixture
async def bus(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with NatsServer(tmp_path / "nats") as running:
        await running.declare()
        yield running


@pytest_asyncio.fixture
async def client(bus: NatsServer) -> AsyncIterator[Client]:
    connected = await nats.connect(bus.url)
    yield connected
    await connected.close()


class Published:
    """The events of one workspace, without those for the crawler."""

    def __init__(self, subscription: Subscription, cluster: str) -> None:
        self._subscription = subscription
        self._cluster = cluster
        self.bodies: list[bytes] = []

    async def event(self, timeout: float = 10.0) -> Event:
        async with asyncio.timeout(timeout):
            while True:
                message = await self._subscription.next_msg(timeout=timeout)
                self.bodies.append(message.data)
                data: Event = json.loads(message.data)["data"]
                if data["cluster"] == self._cluster and ".crawls." not in message.subject:
                    return data

    async def next(self, timeout: float = 10.0) -> tuple[str, str]:
        event = await self.event(timeout)
        return event["name"], event["reason"]

    async def all(self, *wanted: tuple[str, str], timeout: float = 10.0) -> None:
        """Return once exactly ``wanted`` has been published, in any order."""
        assert sorted([await self.next(timeout) for _ in wanted]) == sorted(wanted)

    async def until(self, wanted: Callable[[Event], bool], timeout: float = 20.0) -> Event:
        async with asyncio.timeout(timeout):
            while not wanted(event := await self.event(timeout)):
                pass
        return event


@pytest_asyncio.fixture
async def published(client: Client, workspace: Workspace) -> Published:
    subscription = await client.subscribe("code.events.>")
    await client.flush()
    return Published(subscription, workspace.id)


class Watchers:
    """Starts replicas of the watcher."""

    def __init__(self, stack: AsyncExitStack, provider: Provider, bus: NatsServer, folder: Path) -> None:
        self._stack = stack
        self._provider = provider
        self._bus = bus
        self._folder = folder
        self._count = 0

    async def start(self, *, resync: str = QUIET) -> Process:
        self._count += 1
        process = Process(
            f"watcher {self._count}",
            [sys.executable, "-m", "watcher"],
            log_file=self._folder / f"watcher-{self._count}.log",
            env=dict(os.environ)
            | {
                "KEDGE_PROVIDER_KUBECONFIG": str(self._provider.kubeconfig),
                **self._bus.environment,
                "CODE_RESYNC_INTERVAL": resync,
                "CODE_LOG_FORMAT": "text",
                "CODE_LOG_LEVEL": "debug",
            },
        )
        return await self._stack.enter_async_context(process)

    async def active(self, *, resync: str = QUIET) -> Process:
        """A replica that holds the lease."""
        process = await self.start(resync=resync)
        await process.wait_ready(_logged(process, "active for"), timeout=30)
        return process

    async def standby(self) -> Process:
        process = await self.start()
        await process.wait_ready(_logged(process, "standing by for"), timeout=30)
        return process


def _logged(process: Process, text: str) -> Any:
    async def logged() -> bool:
        return text in process.log_file.read_text()

    return logged


@pytest_asyncio.fixture
async def watchers(watched_provider: Provider, bus: NatsServer, tmp_path: Path) -> AsyncIterator[Watchers]:
    async with AsyncExitStack() as stack:
        yield Watchers(stack, watched_provider, bus, tmp_path)


async def live(workspace: Workspace, published: Published) -> None:
    """Return once the watcher publishes changes. Leaves a Repository ``fence`` without a Connection."""
    await workspace.create(repository("fence", "nowhere"))
    await published.until(lambda event: event["name"] == "fence")
    await workspace.patch("repositories", "fence", {"metadata": {"labels": {"mark": "live"}}})
    await published.until(lambda event: event["name"] == "fence" and event["reason"] == "changed")


async def fence(workspace: Workspace, published: Published) -> None:
    """Change ``fence``, and check that nothing was published before that."""
    mark = uuid4().hex
    await workspace.patch("repositories", "fence", {"metadata": {"labels": {"mark": mark}}})
    assert await published.next() == ("fence", "changed")


async def test_a_change_is_published_and_what_we_write_ourselves_is_not(
    workspace: Workspace, watchers: Watchers, published: Published
) -> None:
    await watchers.active()
    await live(workspace, published)
    await workspace.create(repository("repo", "conn"))
    event = await published.event()
    assert (event["name"], event["reason"], event["generation"]) == ("repo", "changed", 1)

    await workspace.add_finalizer("repositories", "repo")
    await workspace.ready("repositories", "repo", repoID="7")
    await fence(workspace, published)

    await workspace.patch("repositories", "repo", {"spec": {"description": "new"}})
    event = await published.event()
    assert (event["name"], event["reason"], event["generation"]) == ("repo", "changed", 2)
    await workspace.patch("repositories", "repo", {"metadata": {"annotations": {"somebody/else": "x"}}})
    await fence(workspace, published)
    await workspace.request_reconcile("repositories", "repo")
    assert await published.next() == ("repo", "changed")
    await workspace.delete("repositories", "repo")
    event = await published.event()
    assert (event["name"], event["reason"], event["deleting"]) == ("repo", "changed", True)


async def test_a_finalizer_that_a_whole_object_put_drops_is_published(
    workspace: Workspace, watchers: Watchers, published: Published
) -> None:
    await watchers.active()
    await live(workspace, published)
    await workspace.create(repository("repo", "conn"))
    assert await published.next() == ("repo", "changed")
    await workspace.settle("repositories", "repo")
    stored = await workspace.get("repositories", "repo")
    assert stored is not None
    del stored["metadata"]["finalizers"]
    await workspace.request("PUT", by_plural("repositories").path("repo"), stored)
    event = await published.event()
    assert (event["name"], event["reason"], event["generation"]) == ("repo", "changed", 1)


async def test_a_secret_requeues_its_connection_within_a_second(
    workspace: Workspace, watchers: Watchers, published: Published
) -> None:
    await workspace.settled_connection()
    await workspace.settled_repository("settled")
    await workspace.create(repository("waiting", "conn"))
    await watchers.active()
    await live(workspace, published)
    began = time.monotonic()
    changed = await workspace.apply(secret("conn-token", "second"))
    await published.all(("conn", "dependency"), ("waiting", "dependency"))
    assert time.monotonic() - began < 1.0

    version = changed["metadata"]["resourceVersion"]
    await workspace.ready("connections", "conn", observedSecretVersion=version)
    event = await published.event()
    assert (event["name"], event["reason"], event["versions"]["secret"]) == ("waiting", "dependency", version)

    await workspace.ready("connections", "conn", login="another")
    await published.all(("settled", "dependency"), ("waiting", "dependency"))
    await workspace.delete("secrets", "conn-token")
    await published.all(("conn", "dependency"), ("waiting", "dependency"))


async def test_a_parent_is_requeued_when_its_last_child_is_gone(
    workspace: Workspace, watchers: Watchers, published: Published
) -> None:
    await workspace.settled_connection()
    await workspace.settled_repository("one")
    await workspace.settled_repository("two")
    await watchers.active()
    await live(workspace, published)
    await workspace.delete("connections", "conn")
    await published.all(("conn", "changed"), ("one", "dependency"), ("two", "dependency"))
    for name in ("one", "two"):
        await workspace.delete("repositories", name)
        assert await published.next() == (name, "changed")
        await workspace.patch("repositories", name, {"metadata": {"finalizers": []}})
        event = await published.event()
        assert (event["name"], event["reason"]) == ("conn", "dependency")


async def test_a_restart_publishes_what_is_unsettled_and_nothing_else(
    workspace: Workspace, watchers: Watchers, published: Published
) -> None:
    await workspace.settled_connection()
    await workspace.settled_repository("settled")
    await workspace.settled_repository("edited")
    await workspace.create(repository("new", "conn"))
    first = await watchers.active()
    assert await published.next() == ("new", "unsettled")
    await first.stop()
    await workspace.patch("repositories", "edited", {"spec": {"description": "while nobody watched"}})
    await watchers.active()
    await published.all(("edited", "unsettled"), ("new", "unsettled"))
    await workspace.create(repository("fence", "nowhere"))
    assert await published.next() == ("fence", "changed")


async def test_a_standby_takes_over_at_once_from_a_replica_that_stops(
    workspace: Workspace, watchers: Watchers, published: Published
) -> None:
    first = await watchers.active()
    await live(workspace, published)
    second = await watchers.standby()
    stopping = asyncio.create_task(first.stop())
    began = time.monotonic()
    await second.wait_ready(_logged(second, "active for"), timeout=10)
    assert time.monotonic() - began < 3.0
    await stopping
    assert await published.next() == ("fence", "unsettled")
    await fence(workspace, published)


async def test_a_standby_takes_over_from_a_replica_that_was_killed(
    workspace: Workspace, watchers: Watchers, published: Published
) -> None:
    first = await watchers.active()
    await live(workspace, published)
    second = await watchers.standby()
    await first.kill()
    await workspace.patch("repositories", "fence", {"metadata": {"labels": {"while": "nobody-watched"}}})
    await second.wait_ready(_logged(second, "active for"), timeout=LEASE_TTL + 5)
    assert await published.next() == ("fence", "unsettled")
    await fence(workspace, published)


async def test_a_terminating_binding_requeues_what_is_being_deleted(
    kcp: Kcp, workspace: Workspace, watchers: Watchers, published: Published
) -> None:
    await workspace.settled_connection()
    await workspace.settled_repository("repo")
    await watchers.active()
    await live(workspace, published)
    await workspace.delete("repositories", "repo")
    assert await published.next() == ("repo", "changed")
    await kcp.unbind(workspace.id)
    await published.until(lambda event: (event["name"], event["reason"]) == ("repo", "dependency"))
    # Everything that was bound is deleted with the binding, and is still published.
    await published.until(lambda event: event["name"] == "conn" and event["deleting"])
    for plural, name in (("repositories", "repo"), ("connections", "conn")):
        await workspace.patch(plural, name, {"metadata": {"finalizers": []}})
    await workspace.wait_for("apibindings", "code", lambda found: found is None)


@pytest.mark.parametrize("watched", [True, False], ids=["seen", "while nobody watches"])
async def test_no_message_of_a_workspace_outlives_its_last_binding(
    kcp: Kcp,
    watched_provider: Provider,
    workspace: Workspace,
    watchers: Watchers,
    published: Published,
    client: Client,
    watched: bool,
) -> None:
    # kcp takes back the endpoint when nobody is bound any more.
    stays = await new_workspace(kcp)
    await kcp.bind(stays.id, watched_provider.path, EXPORT, [SECRETS_CLAIM])
    await stays.create(repository("repo", "conn"))
    await workspace.settled_connection()
    await workspace.settled_repository("repo")
    watcher = await watchers.active(resync="2s")
    await live(workspace, published)
    # No service takes the messages, so they wait, as those do that were put back.
    await _until_stream_has(client, workspace.id, "events")
    await _until_stream_has(client, workspace.id, "resync")
    await _until_stream_has(client, stays.id, "events")
    if not watched:
        await watcher.stop()
    await kcp.unbind(workspace.id)
    for plural, name in (("repositories", "repo"), ("connections", "conn")):
        await workspace.patch(plural, name, {"metadata": {"finalizers": []}})
    await workspace.wait_for("apibindings", "code", lambda found: found is None)
    if not watched:
        assert await _subjects(client, workspace.id)
        watcher = await watchers.active()
    async with asyncio.timeout(30):
        while await _subjects(client, workspace.id):
            await asyncio.sleep(0.1)
    assert await _subjects(client, stays.id)
    watcher.check_alive()


async def _subjects(client: Client, cluster: str, lane: str = "*") -> set[str]:
    """The subjects of a cluster that have a message."""
    info = await client.jetstream().stream_info("CODE_EVENTS", subjects_filter=f"code.{lane}.*.{cluster}.>")
    return set(info.state.subjects or ())


async def _until_stream_has(client: Client, cluster: str, lane: str) -> None:
    async with asyncio.timeout(20):
        while not await _subjects(client, cluster, lane):
            await asyncio.sleep(0.1)


async def test_objects_of_a_workspace_that_is_bound_later_are_published_then(
    kcp: Kcp, watched_provider: Provider, watchers: Watchers, workspace: Workspace, published: Published, client: Client
) -> None:
    await watchers.active()
    await live(workspace, published)
    later = await new_workspace(kcp)
    subscription = await client.subscribe(f"code.events.*.{later.id}.>")
    await client.flush()
    await kcp.bind(later.id, watched_provider.path, EXPORT, [SECRETS_CLAIM])
    await later.create(repository("repo", "conn"))
    assert (await Published(subscription, later.id).event())["name"] == "repo"


async def test_objects_of_the_first_workspace_that_binds_a_new_export_are_published(
    kcp: Kcp, bus: NatsServer, client: Client, tmp_path: Path
) -> None:
    provider = await provider_workspace(kcp, tmp_path)
    subscription = await client.subscribe("code.events.>")
    await client.flush()
    async with AsyncExitStack() as stack:
        # kcp publishes no endpoint before.
        await Watchers(stack, provider, bus, tmp_path).start()
        first = await new_workspace(kcp)
        await kcp.bind(first.id, provider.path, EXPORT, [SECRETS_CLAIM])
        await first.create(repository("repo", "conn"))
        assert (await Published(subscription, first.id).event())["name"] == "repo"


async def test_settled_objects_have_their_turn_in_the_resync(
    workspace: Workspace, watchers: Watchers, client: Client
) -> None:
    await workspace.settled_connection()
    subscription = await client.subscribe(f"code.resync.*.{workspace.id}.>")
    await client.flush()
    await watchers.active(resync="2s")
    resyncs = Published(subscription, workspace.id)
    assert [await resyncs.next() for _ in range(3)] == [("conn", "resync")] * 3


async def test_no_secret_reaches_a_message_or_the_log(
    workspace: Workspace, watchers: Watchers, published: Published
) -> None:
    marker = "ghp_MARKEDmarkedMARKEDmarkedMARKEDmarked00"
    process = await watchers.active()
    await live(workspace, published)
    token = secret("conn-token", marker)
    token["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(token)}
    await workspace.create(token)
    applied = {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(token)}}
    conn, described = (
        connection("conn", "acme", None),
        repository("described", "conn", description=f"push with {marker}"),
    )
    await workspace.create({**conn, "metadata": conn["metadata"] | applied})
    await published.until(lambda event: event["name"] == "conn" and event["versions"]["secret"] is not None)
    await workspace.create(described)
    await published.until(lambda event: event["name"] == "described")
    site = repository("site", "conn")
    await workspace.create({**site, "metadata": site["metadata"] | applied})
    await published.until(lambda event: event["name"] == "site" and "object" in event)
    await workspace.patch("secrets", "conn-token", {"metadata": {"labels": {"again": "true"}}})
    await published.until(lambda event: event["reason"] == "dependency")
    assert marker not in process.log_file.read_text()
    assert published.bodies
    assert not any(marker.encode() in body for body in published.bodies)
