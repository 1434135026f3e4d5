"""RepositoryCheckout: what the host has at a ref becomes a bundle, and goes again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import orjson
import pytest

from codecommon.api.bundle import Bundle
from codecommon.api.kinds import REPOSITORY_CHECKOUTS
from codecommon.api.repository_checkout import RepositoryCheckout
from codecommon.api.results import Retryable, Unchanged
from codecommon.api.times import rfc3339
from codecommon.controller.context import utc_now
from codecommon.controller.reconciler import Controller
from codecommon.githost.contents import Skipped, Snapshot, SnapshotFile
from codecommon.githost.protocol import HostBusy, HostRepository
from codecommon.kcp.client import JsonObject
from codecommon.messaging.bundles import BundlesFull, DirectoryBundles
from codecommon.testing.builders import manifest
from codecommon.testing.clock import Clock
from codecommon.testing.git_contents import StubFile
from codecommon.testing.harness import World, conditions
from repository_svc.bundle_memory import BundleMemory
from repository_svc.checkout import decide
from repository_svc.request import KEPT

Checkouts = Controller[RepositoryCheckout]


async def checkout(world: World, checkouts: Checkouts, name: str = "look", **spec: Any) -> JsonObject:
    world.add(manifest(REPOSITORY_CHECKOUTS, name, repositoryRef="site", **spec))
    await world.reconcile(checkouts, name)
    return world.stored("repositorycheckouts", name)


async def files_of(bundles: DirectoryBundles, stored: JsonObject) -> dict[str, bytes]:
    found = await bundles.find("c1", stored["status"]["bundleRef"]["name"])
    assert found is not None
    bundle = await bundles.read("c1", found)
    assert bundle is not None
    assert stored["status"]["bundleRef"]["digest"] == bundle.digest
    return {file.path: file.content for file in bundle.files}


async def test_the_texts_at_the_head_become_a_bundle_and_the_rest_is_listed(
    world: World, site: HostRepository, checkouts: Checkouts, bundles: DirectoryBundles
) -> None:
    files = {
        "a.txt": StubFile(b"A"),
        "logo.png": StubFile(b"\x00\xff"),
        "link": StubFile(b"a.txt", "120000"),
    }
    sha = world.host.contents.add_commit(site.id, "main", "files", files)
    stored = await checkout(world, checkouts)
    status = stored["status"]
    assert (status["phase"], status["ref"], status["commitSHA"]) == ("Succeeded", "main", sha)
    assert await files_of(bundles, stored) == {"a.txt": b"A"}
    assert status["skipped"] == ["link: symlink", "logo.png: binary"]
    assert status["source"]["fileCount"] == 1
    assert conditions(stored) == {"Ready": ("True", "Reconciled")}


async def test_an_empty_repository_is_an_empty_success(
    world: World, site: HostRepository, checkouts: Checkouts
) -> None:
    status = (await checkout(world, checkouts))["status"]
    assert status["phase"] == "Succeeded"
    assert not {"bundleRef", "commitSHA", "skipped"} & status.keys()


async def test_a_ref_that_is_not_there_fails(world: World, site: HostRepository, checkouts: Checkouts) -> None:
    world.host.contents.add_commit(site.id, "main", "x", {"a": StubFile(b"A")})
    stored = await checkout(world, checkouts, ref="nowhere")
    assert (stored["status"]["phase"], conditions(stored)["Ready"]) == ("Failed", ("False", "RefNotFound"))


async def test_an_answer_that_nobody_took_goes_after_a_while_with_its_bundle(
    world: World, site: HostRepository, checkouts: Checkouts, bundles: DirectoryBundles
) -> None:
    clock = Clock()
    world.now = clock.now
    world.host.contents.add_commit(site.id, "main", "x", {"a": StubFile(b"A")})
    await checkout(world, checkouts, "one")
    two = await checkout(world, checkouts, "two", ref="nowhere")
    assert two["status"]["phase"] == "Failed"
    clock.advance(1)
    assert await world.reconcile(checkouts, "one") == Unchanged(requeue_after=KEPT - timedelta(seconds=1))
    name = world.stored("repositorycheckouts", "one")["status"]["bundleRef"]["name"]
    clock.advance(KEPT.total_seconds())
    for each in ("one", "two"):
        await world.reconcile(checkouts, each)
        assert world.kcp.stored("repositorycheckouts", each) is None
    assert await bundles.find("c1", name) is None


async def test_two_checkouts_of_the_same_files_have_a_bundle_each(
    world: World, site: HostRepository, checkouts: Checkouts, bundles: DirectoryBundles
) -> None:
    world.host.contents.add_commit(site.id, "main", "x", {"a": StubFile(b"A")})
    one, two = [await checkout(world, checkouts, name) for name in ("one", "two")]
    found = await bundles.find("c1", one["status"]["bundleRef"]["name"])
    assert found is not None
    await bundles.remove("c1", found)
    assert await files_of(bundles, two) == {"a": b"A"}


async def test_a_checkout_holds_only_what_its_files_have_and_only_while_they_come(
    world: World,
    site: HostRepository,
    checkouts: Checkouts,
    memory: BundleMemory,
) -> None:
    world.host.contents.add_commit(site.id, "main", "x", {"a": StubFile(b"A" * 100)})
    # Of this workspace 300 bytes are left, and of all others 300 together.
    with memory.hold("c1", 32 * 1024 * 1024 - 300), memory.hold("c2", 32 * 1024 * 1024 - 300):
        assert (await checkout(world, checkouts))["status"]["phase"] == "Succeeded"
        world.host.contents.add_commit(site.id, "main", "y", {"a": StubFile(b"A" * 200)})
        two = await checkout(world, checkouts, "two")
        # It is said to be running, and comes back.
        assert (two["status"]["phase"], isinstance(await world.reconcile(checkouts, "two"), HostBusy)) == (
            "Running",
            True,
        )
    await world.reconcile(checkouts, "two")
    assert world.stored("repositorycheckouts", "two")["status"]["phase"] == "Succeeded"


async def test_an_answer_of_the_go_provider_goes_too(world: World, site: HostRepository, checkouts: Checkouts) -> None:
    raw = manifest(REPOSITORY_CHECKOUTS, "old", repositoryRef="site")
    raw["metadata"]["creationTimestamp"] = rfc3339(utc_now() - timedelta(hours=1))
    world.add({**raw, "status": {"phase": "Succeeded"}})
    await world.reconcile(checkouts, "old")
    assert world.kcp.stored("repositorycheckouts", "old") is None


async def test_a_workspace_with_too_many_bundles_waits(
    world: World, site: HostRepository, checkouts: Checkouts, bundles: DirectoryBundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(cluster: str, bundle: Bundle, name: str | None = None) -> None:
        raise BundlesFull("too many")

    world.host.contents.add_commit(site.id, "main", "x", {"a": StubFile(b"A")})
    monkeypatch.setattr(bundles, "put", full)
    stored = await checkout(world, checkouts)
    assert isinstance(await world.reconcile(checkouts, "look"), Retryable)
    assert (stored["status"]["phase"], conditions(stored)["Reconciling"]) == ("Running", ("True", "BundlesFull"))


def test_paths_that_are_too_long_together_are_listed() -> None:
    files = tuple(SnapshotFile(f"{number:03}" + '"' * 1000, b"") for number in range(500))
    bundle, left = decide.bundle_of(Snapshot("main", "0" * 40, files))
    assert bundle is not None
    assert len(bundle.files) + left.skipped_count == 500
    assert len(orjson.dumps([file.path for file in bundle.files])) < 300_000


async def test_a_checkout_without_room_for_it_reads_nothing(
    world: World, site: HostRepository, checkouts: Checkouts, bundles: DirectoryBundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(cluster: str) -> None:
        raise BundlesFull("too many")

    async def read(*given: Any) -> Snapshot:
        pytest.fail("it read the archive")

    monkeypatch.setattr(bundles, "require_room_for_checkout", full)
    monkeypatch.setattr(world.host.contents, "read_snapshot", read)
    stored = await checkout(world, checkouts)
    assert conditions(stored)["Reconciling"] == ("True", "BundlesFull")


def test_a_path_that_no_bundle_can_hold_is_listed_and_the_list_is_bounded() -> None:
    odd = "é" * 600
    snapshot = Snapshot(
        "main", "0" * 40, (SnapshotFile("a", b""), SnapshotFile(odd, b"")), (Skipped("b", "binary"),) * 150, 400
    )
    bundle, left = decide.bundle_of(snapshot)
    assert bundle is not None
    assert [file.path for file in bundle.files] == ["a"]
    skipped = decide.status_of(bundle, "n", left)["skipped"]
    assert skipped[0] == f"{'é' * 300}: unreadable"
    assert (len(skipped), skipped[-1]) == (100, "302 more")
