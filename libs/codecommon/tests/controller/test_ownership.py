"""Who made what: of several objects one has it, and what NATS lost is asked of status."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from codecommon.api.claim import Claim
from codecommon.api.repository import Repository
from codecommon.api.results import Retryable
from codecommon.controller.owner_record import (
    MOST_HOLDERS,
    OwnerRecord,
    Standing,
    Thing,
    access,
    deploy_key,
    repository,
)
from codecommon.controller.ownership import Ownership
from codecommon.controller.ownership_rebuild import REBUILT
from codecommon.kcp.client import JsonObject, KcpError
from codecommon.testing.builders import collaborator_object, deploy_key_object, made_repository, repository_object
from codecommon.testing.objects import InMemoryKcp, workspace
from codecommon.testing.records import InMemoryRecords

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
SITE = repository("git.example", "7")


class Store:
    """Two buckets in memory and a kcp, as a settled installation has them."""

    def __init__(self) -> None:
        self.kcp = InMemoryKcp()
        self.owners, self.claims = InMemoryRecords(), InMemoryRecords()
        self.ownership = self.process()

    def process(self) -> Ownership:
        """As one process sees it."""
        return Ownership(self.owners, self.claims, self.kcp, lambda: NOW)

    def add(self, raw: JsonObject, cluster: str = "c1") -> JsonObject:
        return self.kcp.add(raw, cluster)

    def record(self, thing: Thing) -> OwnerRecord | None:
        stored = self.owners.stored.get(thing.key)
        return OwnerRecord.decode(stored.value) if stored is not None else None

    def holders(self, thing: Thing) -> list[str]:
        record = self.record(thing)
        return [holder.uid for holder in record.holders] if record is not None else []


@pytest.fixture
def store() -> Store:
    return Store()


def claimant(store: Store, cluster: str, repo_id: str = "7", **status: Any) -> Repository:
    """A Repository of that workspace, whose status says that it made the repository."""
    raw = made_repository(repo_id=repo_id)
    raw["status"] |= status
    return Repository.parse(store.add(raw, cluster), workspace(cluster))


# ---- one has it


async def test_of_two_whom_the_host_tells_that_they_made_it_the_first_to_record_it_has_it(store: Store) -> None:
    first, second = claimant(store, "c1"), claimant(store, "c2")
    assert await store.ownership.record_made(SITE, first, NOW) is Standing.OURS
    assert await store.ownership.record_made(SITE, second, NOW) is Standing.ANOTHERS
    assert await store.ownership.record_made(SITE, first, NOW) is Standing.OURS, "also when the first answer was lost"
    assert store.holders(SITE) == [first.metadata.uid]


async def test_many_at_once_leave_one_owner(store: Store) -> None:
    objects = [claimant(store, f"c{number}") for number in range(8)]
    await store.owners.put(REBUILT, b"")
    standings = await asyncio.gather(*(store.ownership.require_standing(SITE, obj) for obj in objects))
    assert standings.count(Standing.OURS) == 1
    assert standings.count(Standing.ANOTHERS) == 7


async def test_a_record_that_the_host_has_shown_to_be_of_a_thing_gone_is_replaced(store: Store) -> None:
    """A grant has no id of its own: the same user may get access again."""
    alice = access("git.example", "7", "1", "alice")
    first, second = claimant(store, "c1"), claimant(store, "c2")
    await store.ownership.record_made(alice, first, NOW)
    assert await store.ownership.record_made(alice, second, NOW + timedelta(minutes=9)) is Standing.ANOTHERS
    assert await store.ownership.record_made(alice, second, NOW + timedelta(minutes=10)) is Standing.OURS
    assert store.holders(alice) == [second.metadata.uid]


async def test_only_the_owner_is_forgotten(store: Store) -> None:
    first, second = claimant(store, "c1"), claimant(store, "c2")
    await store.ownership.record_made(SITE, first, NOW)
    await store.ownership.forget(SITE, second)
    assert store.holders(SITE) == [first.metadata.uid]
    await store.ownership.forget(SITE, first)
    await store.ownership.forget(SITE, first)
    assert store.record(SITE) is None


async def test_without_nats_nobody_is_said_to_have_made_it(store: Store) -> None:
    obj = claimant(store, "c1")
    store.owners.down = store.claims.down = True
    for asked in (
        store.ownership.record_made(SITE, obj, NOW),
        store.ownership.require_standing(SITE, obj),
        store.ownership.confirm(SITE, obj),
        store.ownership.forget(SITE, obj),
        store.ownership.claim_of(obj.metadata.uid),
        store.ownership.store_claim(obj, Claim(NOW)),
    ):
        with pytest.raises(Retryable) as raised:
            await asked
        assert raised.value.reason == "OwnershipUnknown"


async def test_hosts_and_kinds_do_not_mix(store: Store) -> None:
    keys = {
        repository("git.example", "7").key,
        repository("other.example", "7").key,
        deploy_key("git.example", "7", "1").key,
        deploy_key("git.example", "71", "").key,
        access("git.example", "7", "1", "alice").key,
        access("git.example", "7", None, "1").key,
    }
    assert len(keys) == 6
    assert repository("GIT.example", "7").key == repository("git.example", "7").key


async def test_a_withdrawn_claim_is_gone(store: Store) -> None:
    obj = claimant(store, "c1")
    await store.ownership.store_claim(obj, Claim(NOW, "ssh-ed25519 AAAA"))
    assert await store.ownership.claim_of(obj.metadata.uid) == Claim(NOW, "ssh-ed25519 AAAA")
    await store.ownership.withdraw_claim(obj)
    assert await store.ownership.claim_of(obj.metadata.uid) is None


# ---- NATS lost its data


async def test_lost_records_are_rebuilt_from_the_status_of_all_workspaces(store: Store) -> None:
    site = claimant(store, "c1")
    key = store.add(deploy_key_object(status={"keyID": "2", "previousKeyID": "1", "origin": "Created"}))
    user = store.add(collaborator_object(status={"userID": "9", "origin": "Created", "host": "git.example"}))
    store.add(repository_object("found", status={"repoID": "8", "host": "git.example", "origin": "Adopted"}), "c2")
    asking = claimant(store, "c2", repo_id="6")

    assert await store.ownership.require_standing(repository("git.example", "6"), asking) is Standing.OURS

    assert store.holders(SITE) == [site.metadata.uid]
    assert store.holders(deploy_key("git.example", "7", "2")) == [key["metadata"]["uid"]]
    assert store.holders(deploy_key("git.example", "7", "1")) == [key["metadata"]["uid"]]
    assert store.holders(access("git.example", "7", "9", "alice")) == [user["metadata"]["uid"]]
    assert store.holders(repository("git.example", "8")) == [], "who adopted it has not made it"


async def test_whether_a_record_contradicts_an_object_is_known_after_the_rebuild_only(store: Store) -> None:
    claimant(store, "c1")
    asking = claimant(store, "c2", origin="Adopted")
    assert await store.ownership.is_contradicted(SITE, asking)
    assert not await store.ownership.is_contradicted(repository("git.example", "8"), asking), "nobody claims it"
    assert len([r for r in store.kcp.requests if r.resource == "repositories"]) == 1


async def test_a_rebuild_reads_page_by_page_and_from_every_shard(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codecommon.kcp.lists.PAGE_OBJECTS", 2)
    claimants = [claimant(store, f"c{number}", repo_id=str(number)) for number in range(5)]
    await store.ownership.require_standing(SITE, claimant(store, "c9"))
    for number, obj in enumerate(claimants):
        assert store.holders(repository("git.example", str(number))) == [obj.metadata.uid]
    pages = [r for r in store.kcp.requests if r.resource == "repositories"]
    assert [r.cluster for r in pages] == ["*"] * 3


async def test_it_is_rebuilt_once_and_nobody_waits_for_it(store: Store) -> None:
    """Whoever waited would hold a slot for as long as it takes."""
    objects = [claimant(store, f"c{number}", repo_id=str(number)) for number in range(4)]

    async def ask(obj: Repository) -> Standing | str:
        try:
            return await store.ownership.require_standing(repository("git.example", obj.status.repo_id or ""), obj)
        except Retryable as later:
            return later.reason

    first = await asyncio.gather(*(ask(obj) for obj in objects))
    assert first == [Standing.OURS, *["OwnershipUnknown"] * 3]
    assert [await ask(obj) for obj in objects] == [Standing.OURS] * 4
    assert len([r for r in store.kcp.requests if r.resource == "repositories"]) == 1


async def test_two_statuses_that_claim_one_thing_are_a_dispute(store: Store) -> None:
    first, second = claimant(store, "c1"), claimant(store, "c2")
    for obj in (first, second):
        assert await store.ownership.require_standing(SITE, obj) is Standing.DISPUTED
    third = claimant(store, "c3")
    assert await store.ownership.require_standing(SITE, third) is Standing.ANOTHERS, "it came after the rebuild"


async def test_a_dispute_ends_when_one_lets_go(store: Store) -> None:
    first, second = claimant(store, "c1"), claimant(store, "c2")
    await store.ownership.require_standing(SITE, first)
    await store.ownership.forget(SITE, second)
    assert await store.ownership.require_standing(SITE, first) is Standing.OURS


async def test_what_the_go_provider_left_counts_as_a_claim(store: Store) -> None:
    """Whether it made the thing is worked out from times, which may fit two objects."""
    status = {"repoID": "7", "htmlURL": "https://git.example/octocat/site"}
    left = store.add(repository_object(status=status), "c1")
    ours = claimant(store, "c2")
    assert await store.ownership.require_standing(SITE, ours) is Standing.DISPUTED
    assert store.holders(SITE) == [left["metadata"]["uid"], ours.metadata.uid]


async def test_a_record_that_is_there_stands_against_every_status(store: Store) -> None:
    maker, forger = claimant(store, "c1"), claimant(store, "c2")
    await store.ownership.record_made(SITE, maker, NOW)
    await store.ownership.require_standing(repository("git.example", "5"), claimant(store, "c3", repo_id="5"))
    assert await store.ownership.require_standing(SITE, maker) is Standing.OURS
    assert await store.ownership.require_standing(SITE, forger) is Standing.ANOTHERS


async def test_a_rebuild_that_was_cut_short_gives_nobody_anything(store: Store) -> None:
    """The first claimant is recorded by then, and the second is not."""
    first, second = claimant(store, "c1"), claimant(store, "c2")

    def fail_at_the_second(method: str, key: str) -> None:
        if method == "update":
            store.owners.down = True

    store.owners.before = fail_at_the_second
    with pytest.raises(Retryable):
        await store.ownership.require_standing(SITE, first)
    store.owners.before, store.owners.down = (lambda method, key: None), False
    assert store.holders(SITE) == [first.metadata.uid]
    assert await store.process().confirm(SITE, second), "its status still counts in the next rebuild"
    for obj in (first, second):
        assert await store.process().require_standing(SITE, obj) is Standing.DISPUTED


async def test_two_processes_that_rebuild_at_once_find_the_same(store: Store) -> None:
    first, second = claimant(store, "c1"), claimant(store, "c2")
    one, other = store.process(), store.process()
    assert await asyncio.gather(one.require_standing(SITE, first), other.require_standing(SITE, second)) == [
        Standing.DISPUTED,
        Standing.DISPUTED,
    ]


async def test_without_an_endpoint_nothing_counts_as_rebuilt(store: Store) -> None:
    obj = claimant(store, "c1")
    store.kcp.endpoints.clear()
    with pytest.raises(KcpError):
        await store.ownership.require_standing(SITE, obj)
    assert REBUILT not in store.owners.stored


async def test_an_object_that_no_model_fits_does_not_hold_up_the_others(store: Store) -> None:
    broken = made_repository("broken", repo_id="7")
    broken["spec"]["connectionRef"] = {"not": "a name"}
    store.add(broken, "c2")
    assert await store.ownership.require_standing(SITE, claimant(store, "c1")) is Standing.OURS


async def test_a_dispute_of_many_stays_small(store: Store) -> None:
    objects = [claimant(store, f"c{number}") for number in range(MOST_HOLDERS + 3)]
    assert await store.ownership.require_standing(SITE, objects[0]) is Standing.DISPUTED
    assert len(store.holders(SITE)) == MOST_HOLDERS
    assert await store.ownership.require_standing(SITE, objects[-1]) is Standing.DISPUTED, "it may be the one"


# ---- what status may go on saying


async def test_an_object_without_a_record_is_recorded_when_it_is_looked_at_after_the_rebuild(store: Store) -> None:
    """A replica of an earlier version made it meanwhile."""
    await store.owners.put(REBUILT, b"")
    obj = claimant(store, "c1")
    assert await store.ownership.confirm(SITE, obj)
    assert store.holders(SITE) == [obj.metadata.uid]
    assert not await store.ownership.confirm(SITE, claimant(store, "c2"))


async def test_before_the_rebuild_a_look_records_nothing_and_lists_nothing(store: Store) -> None:
    """Whoever comes first would have it, also who only wrote it into status."""
    assert await store.ownership.confirm(SITE, claimant(store, "c2"))
    assert store.record(SITE) is None
    assert store.kcp.requests == []
