"""The bundle stores: the same cases in NATS and in a directory."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from prometheus_client import REGISTRY

from codecommon.api.bundle import Bundle, BundleFile, InvalidBundle, scope_of
from codecommon.messaging import bundles as module
from codecommon.messaging.bundles import BundlesFull, BundleStore, DirectoryBundles, open_bundle_store
from codecommon.messaging.bus import BUNDLE_TTL_SECONDS, BUNDLES, Bus
from codecommon.process.settings import NatsSettings

SMALL = Bundle.build([BundleFile("a", b"1"), BundleFile("b", delete=True)])


@pytest_asyncio.fixture(params=["nats", "directory"])
async def store(request: pytest.FixtureRequest, bus: Bus, tmp_path: Path) -> AsyncIterator[BundleStore]:
    async with open_bundle_store(tmp_path / "bundles" if request.param == "directory" else bus) as opened:
        yield opened


async def read(store: BundleStore, cluster: str, name: str) -> Bundle | None:
    found = await store.find(cluster, name)
    return None if found is None else await store.read(cluster, found)


async def test_a_bundle_is_read_as_it_was_put(store: BundleStore) -> None:
    await store.put("c1", SMALL)
    assert await read(store, "c1", SMALL.name) == SMALL


async def test_what_is_done_with_bundles_is_counted(store: BundleStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def counted() -> dict[str, float]:
        pairs = ("find done", "find missing", "put done", "put full", "read done", "read missing", "remove done")
        found = {pair: dict(zip(("operation", "result"), pair.split(), strict=True)) for pair in pairs}
        values = {pair: REGISTRY.get_sample_value("code_bundle_operations_total", by) for pair, by in found.items()}
        for operation in ("put", "read"):
            by = {"operation": operation}
            values[f"bytes {operation}"] = REGISTRY.get_sample_value("code_bundle_bytes_total", by)
            values[f"times {operation}"] = REGISTRY.get_sample_value("code_bundle_operation_seconds_count", by)
        return {name: value or 0 for name, value in values.items()}

    before = counted()
    assert await store.find("c1", SMALL.name) is None
    await store.put("c1", SMALL)
    found = await store.find("c1", SMALL.name)
    assert found is not None
    await store.read("c1", found)
    await store.remove("c1", found)
    assert await store.read("c1", found) is None
    monkeypatch.setattr(module, "MOST_OF_A_WORKSPACE", 0)
    monkeypatch.setattr(module, "_FEW", 0)
    with pytest.raises(BundlesFull):
        await store.put("c1", SMALL)

    after = counted()
    assert {name: after[name] - before[name] for name in after} == {
        **dict.fromkeys(
            ("find done", "find missing", "put done", "put full", "read done", "read missing", "remove done"), 1
        ),
        **{"bytes put": SMALL.size, "times put": 2, "bytes read": SMALL.size, "times read": 2},
    }


async def test_a_bundle_of_the_greatest_size_is_read_whole(store: BundleStore) -> None:
    large = Bundle.build(BundleFile(f"f{n}", bytes([97 + n]) * (2 * 1024 * 1024)) for n in range(8))
    await store.put("c1", large)
    found = await store.find("c1", large.name)
    assert found is not None
    assert found.stored_bytes > large.size
    assert await store.read("c1", found) == large


async def test_no_workspace_finds_the_bundle_of_another(store: BundleStore) -> None:
    await store.put("c1", SMALL)
    assert await store.find("c2", SMALL.name) is None
    for name in (f"../{scope_of('c1')}/{SMALL.name}", f"{scope_of('c1')}/{SMALL.name}", "", "."):
        assert await store.find("c2", name) is None


async def test_a_bundle_that_was_removed_is_gone_and_leaves_nothing(store: BundleStore, bus: Bus) -> None:
    await store.put("c1", SMALL)
    found = await store.find("c1", SMALL.name)
    assert found is not None
    await store.remove("c1", found)
    assert await store.find("c1", SMALL.name) is None
    assert await store.read("c1", found) is None
    await store.remove("c1", found)
    assert (await bus.js.stream_info(f"OBJ_{BUNDLES}")).state.messages == 0


async def test_a_bundle_that_was_put_again_survives_the_removal_of_the_first(store: BundleStore) -> None:
    await store.put("c1", SMALL)
    first = await store.find("c1", SMALL.name)
    assert first is not None
    await store.put("c1", SMALL)
    await store.remove("c1", first)
    assert await store.read("c1", first) == SMALL


async def test_a_workspace_that_is_gone_leaves_no_bundle(store: BundleStore, bus: Bus) -> None:
    other = Bundle.build([BundleFile("x")])
    await asyncio.gather(store.put("c1", SMALL), store.put("c1", other), store.put("c2", SMALL))
    await store.remove_all("c1")
    await store.remove_all("c3")
    assert await store.find("c1", SMALL.name) is None
    assert await store.find("c1", other.name) is None
    assert await read(store, "c2", SMALL.name) == SMALL


async def test_a_workspace_that_has_its_share_is_refused_and_no_other_one(
    store: BundleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_OF_A_WORKSPACE", 17)
    made = [Bundle.build([BundleFile("a", b"%d" % n)]) for n in range(18)]
    for bundle in made[:17]:
        await store.put("c1", bundle)
    with pytest.raises(BundlesFull):
        await store.put("c1", made[17])
    await store.put("c1", made[3])
    await store.put("c2", made[17])
    monkeypatch.setattr(module, "MOST_OF_A_WORKSPACE", 100)
    monkeypatch.setattr(module, "MOST_BYTES_OF_A_WORKSPACE", 2000)
    with pytest.raises(BundlesFull):
        await store.put("c1", made[17])


@pytest.mark.parametrize("bound", ["MOST_OF_A_WORKSPACE", "MOST_BYTES_OF_A_WORKSPACE"])
async def test_checkouts_leave_room_for_commits(
    store: BundleStore, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(module, bound, {"MOST_OF_A_WORKSPACE": 8, "MOST_BYTES_OF_A_WORKSPACE": 8000}[bound])
    made = [Bundle.build([BundleFile("a", b"%d" % n * 500)]) for n in range(6)]
    stored = 0
    with suppress(BundlesFull):
        for number, bundle in enumerate(made):
            await store.put("c1", bundle, f"bundle-{number:024x}")
            stored += 1
    assert 2 <= stored <= 4
    await store.put("c1", made[0], f"bundle-{0:024x}")
    await store.put("c1", made[4])
    await store.put("c1", made[5])
    with pytest.raises(BundlesFull):
        await store.require_room_for_checkout("c1")
    await store.require_room_for_checkout("c2")


async def test_a_workspace_leaves_three_quarters_of_what_is_free_to_others(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_bundle_store(bus) as store:
        first, second = (Bundle.build([BundleFile(name, b"x" * 10_000)]) for name in "ab")
        await store.put("greedy", first)
        await store.put("greedy", second)
        # The store is nearly full: what is free is a little more than three of these.
        stream = await bus.js.stream_info(f"OBJ_{BUNDLES}")
        config = replace(stream.config, max_bytes=stream.state.bytes + 35_000)
        monkeypatch.setattr(bus.js, "stream_info", partial(_as_configured, bus.js.stream_info, config))
        with pytest.raises(BundlesFull, match="as many bundles as it can"):
            await store.put("greedy", SMALL)
        await store.put("another", first)


async def _as_configured(real: Any, config: Any, *args: Any, **kwargs: Any) -> Any:
    return replace(await real(*args, **kwargs), config=config)


async def test_a_bundle_that_is_put_again_while_it_is_read_is_read_whole(store: BundleStore) -> None:
    large = Bundle.build(BundleFile(f"f{n}", bytes([97 + n]) * 1_000_000) for n in range(8))
    await store.put("c1", large)
    found = await store.find("c1", large.name)
    assert found is not None
    _, first = await asyncio.gather(store.put("c1", large), store.read("c1", found))
    assert first == large


async def test_a_store_that_is_full_says_so(bus: Bus) -> None:
    async with open_bundle_store(bus) as store:
        config = (await bus.js.stream_info(f"OBJ_{BUNDLES}")).config
        config.max_bytes = 100
        await bus.js.update_stream(config)
        with pytest.raises(BundlesFull, match="as many bundles as it can"):
            await store.put("c1", SMALL)


async def test_what_one_process_has_put_another_one_reads(bus: Bus, nats_settings: NatsSettings) -> None:
    async with Bus.connect(nats_settings) as other, open_bundle_store(bus) as one:
        await one.put("c1", SMALL)
        async with open_bundle_store(other) as two:
            assert await read(two, "c1", SMALL.name) == SMALL


# ---- the directory alone


async def test_an_old_file_is_not_found_and_is_swept_away(tmp_path: Path) -> None:
    now = 1_000_000_000.0
    store = DirectoryBundles(tmp_path, lambda: now)
    await store.put("c1", SMALL)
    path = tmp_path / scope_of("c1") / f"{SMALL.name}.json"
    os.utime(path, (now, now))
    assert await store.find("c1", SMALL.name) is not None
    await store.sweep()
    assert path.exists()
    now += BUNDLE_TTL_SECONDS + 1
    assert await store.find("c1", SMALL.name) is None
    await store.sweep()
    assert list(tmp_path.iterdir()) == []


async def test_a_full_disk_leaves_no_part_of_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    store = DirectoryBundles(tmp_path)
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(BundlesFull):
        await store.put("c1", SMALL)
    assert list((tmp_path / scope_of("c1")).iterdir()) == []


@pytest.mark.parametrize(("total", "reserve"), [(1 << 30, 256 << 20), (64 << 30, 256 << 20), (400 << 20, 100 << 20)])
async def test_a_bundle_that_would_take_the_reserve_of_the_file_system_is_refused(
    total: int, reserve: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DirectoryBundles(tmp_path)
    await store.put("c1", SMALL)
    size = (tmp_path / scope_of("c1") / f"{SMALL.name}.json").stat().st_size
    seen = list(os.statvfs(tmp_path))

    def disk_with(free: int) -> None:
        figures = os.statvfs_result([1, 1, total, free, free, *seen[5:]])
        monkeypatch.setattr(module.os, "statvfs", lambda _path: figures)

    disk_with(reserve + size)
    await store.put("c2", SMALL)
    disk_with(reserve + size - 1)
    with pytest.raises(BundlesFull, match="as many bundles as it can"):
        await store.put("c3", SMALL)
    assert await read(store, "c3", SMALL.name) is None
    assert await read(store, "c2", SMALL.name) == SMALL


async def test_a_file_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    store = DirectoryBundles(tmp_path)
    await store.put("c1", SMALL)
    (tmp_path / scope_of("c1") / f"{SMALL.name}.json").write_text("{}")
    with pytest.raises(InvalidBundle):
        await read(store, "c1", SMALL.name)
