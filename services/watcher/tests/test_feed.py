"""What the feed of one endpoint publishes, and when."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from codecommon.api.annotations import CLUSTER_ANNOTATION
from codecommon.api.kinds import KINDS
from codecommon.messaging.events import ObjectEvent, Versions
from watcher.feed import AT_ONCE, BINDINGS, SECRETS, Feed
from watcher.index import Binding, Entry, ObjectKey, SecretEntry, SecretKey, SeenObject
from watcher.resync import SOON_SECONDS, ResyncSchedule

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ENDPOINT = "https://kcp/services/apiexport/p/e"
TOKEN = SecretKey("default", "token")
BOUND = Binding("c1", "code", "1", bound=True, terminating=False)


def entry(resource: str, name: str, version: str = "10", **fields: Any) -> Entry:
    settled: dict[str, Any] = {
        "cluster": "c1",
        "key": ObjectKey(resource, name),
        "uid": f"uid-{name}",
        "version": version,
        "generation": 1,
        "observed_generation": 1,
        "deleting": False,
        "has_finalizer": True,
        "ready_condition": True,
        "metadata_hash": 0,
        "identity_hash": 0,
        "reconcile_requested": False,
        "finished": False,
        "left_by_go_provider": False,
        "duplicate_hash": None,
        "rival_hash": None,
        "created": "2026-01-01T00:00:00Z",
        "parent": None,
        "secret": None,
        "observed_secret": None,
    }
    return Entry(**{**settled, **fields})


def connection(version: str = "10", **fields: Any) -> Entry:
    return entry("connections", "conn", version, **{"secret": TOKEN, "observed_secret": "5", **fields})


def repository(name: str = "repo", version: str = "10", **fields: Any) -> Entry:
    return entry("repositories", name, version, **{"parent": "conn", **fields})


def seen(item: Any, **raw: Any) -> Any:
    """What a stream passes on: an object with what kcp sent of it, anything else as it is."""
    if not isinstance(item, Entry):
        return item
    metadata = {"name": item.key.name, "uid": item.uid, "resourceVersion": item.version, **raw.pop("metadata", {})}
    metadata["annotations"] = {CLUSTER_ANNOTATION: item.cluster, **metadata.get("annotations", {})}
    return SeenObject(item, {"metadata": metadata, "spec": {}, **raw})


class Harness:
    """A feed with scripted lists. ``published``: name and reason of the events since it was read last. ``crawls``: of what the
    crawler is to do, which is kept apart from those."""

    def __init__(self) -> None:
        self.events: list[ObjectEvent] = []
        self.crawls: list[tuple[str, str]] = []
        self.departed: list[str] = []
        self.schedule = ResyncSchedule(timedelta(minutes=10))
        self.feed = Feed(ENDPOINT, self.take, self.schedule, self.departed.append, now=lambda: NOW)
        self.sinks: dict[str, Any] = {resource: self.feed.objects(resource) for resource in KINDS}
        self.sinks |= {SECRETS: self.feed.secrets(), BINDINGS: self.feed.bindings()}

    def take(self, event: ObjectEvent) -> None:
        if event.is_crawl:
            self.crawls.append((event.name, event.reason))
        else:
            self.events.append(event)

    def list(self, resource: str, *items: Any) -> None:
        sink = self.sinks[resource]
        sink.list_began()
        for item in items:
            sink.put(seen(item))
        sink.list_ended()

    def start(self, *entries: Entry, secret: str | None = "5", bindings: tuple[Binding, ...] = (BOUND,)) -> Harness:
        for resource in KINDS:
            self.list(resource, *(e for e in entries if e.key.resource == resource))
        self.list(SECRETS, *([SecretEntry("c1", TOKEN, secret)] if secret else []))
        self.list(BINDINGS, *bindings)
        return self

    def put(self, item: Entry, **raw: Any) -> None:
        self.sinks[item.key.resource].put(seen(item, **raw))

    def delete(self, item: Entry) -> None:
        self.sinks[item.key.resource].delete(seen(item))

    @property
    def published(self) -> list[tuple[str, str]]:
        found = [(event.name, event.reason) for event in self.events]
        self.events.clear()
        return found


def test_nothing_is_published_before_every_resource_is_listed_and_then_only_what_is_unsettled() -> None:
    harness = Harness()
    for resource in KINDS:
        harness.list(resource, *[connection()] if resource == "connections" else [])
    harness.put(repository(ready_condition=False))
    harness.list(BINDINGS, BOUND)
    assert harness.published == []
    harness.list(SECRETS, SecretEntry("c1", TOKEN, "5"))
    assert harness.published == [("repo", "unsettled")]


def test_a_start_publishes_a_connection_that_has_not_seen_its_secret() -> None:
    assert Harness().start(connection(), secret="6").published == [("conn", "unsettled")]


def test_an_event_names_the_versions_of_its_dependencies_and_the_endpoint() -> None:
    harness = Harness().start(connection(), repository())
    harness.put(repository(version="11", generation=2))
    (event,) = harness.events
    assert event.versions == Versions(connection="10", secret="5")
    assert (event.endpoint, event.resource_version, event.generation) == (ENDPOINT, "11", 2)


def test_kinds_that_nobody_reconciles_are_not_published_but_hold_their_parent() -> None:
    harness = Harness().start(connection(), repository(deleting=True))
    assert harness.published == [("repo", "unsettled")]
    package = entry("packages", "package", parent="repo")
    harness.put(package)
    assert harness.published == []
    harness.delete(package)
    assert harness.published == [("repo", "dependency")]


def test_an_event_says_whether_another_object_may_stand_for_the_same_thing() -> None:
    harness = Harness().start(connection(), repository("one", duplicate_hash=1))
    harness.put(repository("one", "11", duplicate_hash=1, generation=2))
    harness.put(repository("two", duplicate_hash=1))
    harness.delete(repository("one", "12"))
    harness.put(repository("two", "13", duplicate_hash=1, generation=2))
    assert [(e.name, e.possible_duplicates) for e in harness.events] == [
        ("one", False),
        ("two", True),
        ("two", False),
    ]


def test_what_one_change_leads_to_is_published_in_parts_and_others_have_their_turn_in_between() -> None:
    many = [repository(f"r{n}") for n in range(5 * AT_ONCE)]
    harness = Harness().start(connection(), *many)
    harness.put(connection(version="11", identity_hash=1))
    published = {name for name, _ in harness.published}
    assert len(published) == AT_ONCE
    harness.put(repository("of-another", version="12", cluster="c2"))
    harness.sinks[BINDINGS].put(BOUND._replace(cluster="c2"))
    assert harness.published == [("of-another", "changed")]
    *_, changed, gone = (each for each in many if each.key.name not in published)
    harness.put(replace(changed, version="13", generation=2))
    harness.delete(gone)
    harness.events.clear()
    parts = 0
    while harness.feed.publish_part():
        parts += 1
        assert len(harness.events) <= parts * AT_ONCE
    rest = [name for name, _ in harness.published]
    assert len(rest) == len(set(rest)) == 4 * AT_ONCE - 2, "one has had its own event, and one is gone"
    assert parts == 4
    assert published.isdisjoint(rest)


def test_what_is_to_be_told_waits_while_its_cluster_is_not_engaged() -> None:
    harness = Harness().start(connection(), *[repository(f"r{n}") for n in range(AT_ONCE + 1)])
    harness.put(connection(version="11", identity_hash=1))
    harness.events.clear()
    harness.sinks[BINDINGS].delete(BOUND)
    harness.feed.publish_part()
    assert harness.published == []
    harness.sinks[BINDINGS].put(BOUND)
    assert len(harness.published) == 1


def test_a_cause_that_is_left_to_be_told_outlives_an_event_without_one() -> None:
    many = [repository(f"r{n}", deleting=True) for n in range(AT_ONCE + 1)]
    harness = Harness().start(connection(), *many)
    harness.feed.publish_part()
    harness.sinks[BINDINGS].put(BOUND._replace(version="30", terminating=True))
    harness.put(replace(many[-1], metadata_hash=1))
    harness.events.clear()
    assert harness.feed.publish_part()
    assert [(event.name, event.cause) for event in harness.events] == [(many[-1].key.name, "30")]


def test_the_first_lists_are_told_in_parts_whichever_clusters_the_objects_are_in() -> None:
    bindings = tuple(BOUND._replace(cluster=f"c{n}") for n in range(AT_ONCE + 9))
    waiting = [repository("r", cluster=each.cluster, ready_condition=False) for each in bindings]
    harness = Harness().start(*waiting, bindings=bindings)
    assert len(harness.published) == AT_ONCE
    assert harness.feed.publish_part()
    assert len(harness.published) == 9


def test_two_children_gone_are_two_events_although_the_parent_has_not_changed() -> None:
    harness = Harness().start(connection(deleting=True), repository("one"), repository("two"))
    harness.events.clear()
    harness.delete(repository("one", version="20"))
    harness.delete(repository("two", version="21"))
    first, second = harness.events
    assert (first.name, second.name) == ("conn", "conn")
    assert first.message_id != second.message_id


def test_the_event_of_a_change_that_it_contains_has_no_cause() -> None:
    harness = Harness().start(connection())
    harness.put(connection(version="11", generation=2))
    (event,) = harness.events
    assert event.cause == ""


def test_a_secret_change_is_published_once_for_each_version() -> None:
    harness = Harness().start(connection(), repository(ready_condition=False), repository("settled"))
    harness.events.clear()
    harness.sinks[SECRETS].put(SecretEntry("c1", TOKEN, "6"))
    assert sorted(harness.published) == [("conn", "dependency"), ("repo", "dependency")]
    harness.sinks[SECRETS].put(SecretEntry("c1", TOKEN, "6"))
    assert harness.published == []
    harness.sinks[SECRETS].delete(SecretEntry("c1", TOKEN, "7"))
    assert ("conn", "dependency") in harness.published


def test_a_cluster_without_a_bound_binding_is_published_when_it_is_engaged() -> None:
    binding = BOUND._replace(bound=False)
    harness = Harness().start(connection(), repository("new", ready_condition=False), bindings=(binding,))
    harness.put(connection(version="11", metadata_hash=1))
    harness.sinks[SECRETS].put(SecretEntry("c1", TOKEN, "5"))
    assert harness.published == []
    harness.sinks[BINDINGS].put(BOUND)
    assert sorted(harness.published) == [("conn", "changed"), ("new", "unsettled")]
    harness.sinks[BINDINGS].put(BOUND._replace(version="2"))
    assert harness.published == []


def test_a_binding_that_serves_other_schemas_has_what_lost_its_status_resynced_soon() -> None:
    pruned = repository("pruned", left_by_go_provider=True)
    harness = Harness().start(connection(), repository(), pruned)
    assert list(harness.schedule.due(0)) == []
    for version, schemas in (("20", 1), ("21", 2), ("22", 2)):
        harness.sinks[BINDINGS].put(BOUND._replace(version=version, schemas=schemas))
    assert list(harness.schedule.due(0)) == []
    assert list(harness.schedule.due(SOON_SECONDS)) == [("c1", pruned.key)]
    harness.events.clear()
    harness.feed.resync("c1", pruned.key)
    assert harness.published == [("pruned", "resync")]


def test_secrets_of_an_unbound_workspace_requeue_nobody() -> None:
    harness = Harness().start(connection(), bindings=())
    harness.sinks[SECRETS].put(SecretEntry("c1", TOKEN, "6"))
    harness.sinks[SECRETS].put(SecretEntry("never-bound", TOKEN, "6"))
    assert harness.published == []


def test_a_terminating_binding_stays_engaged_and_requeues_what_is_being_deleted() -> None:
    harness = Harness().start(connection(deleting=True), repository())
    harness.events.clear()
    going = BOUND._replace(version="30", bound=False, terminating=True)
    harness.sinks[BINDINGS].put(going)
    assert harness.published == [("conn", "dependency")]
    harness.put(repository(version="31", deleting=True))
    assert ("repo", "changed") in harness.published


def test_a_relist_publishes_what_changed_what_is_gone_and_what_is_unsettled() -> None:
    harness = Harness().start(
        connection(deleting=True), repository("same"), repository("waits", ready_condition=False), repository("lost")
    )
    harness.events.clear()
    harness.list(
        "repositories", repository("same"), repository("waits", ready_condition=False), repository("new", "12")
    )
    assert harness.published == [("new", "changed"), ("conn", "dependency"), ("waits", "unsettled")]
    assert ObjectKey("repositories", "lost") not in harness.feed.index.cluster("c1").objects


def test_a_relist_of_secrets_publishes_connections_that_have_not_seen_theirs() -> None:
    harness = Harness().start(connection(), repository(ready_condition=False), secret="6")
    harness.events.clear()
    harness.list(SECRETS, SecretEntry("c1", TOKEN, "6"))
    assert harness.published == [("conn", "unsettled")]
    harness.list(SECRETS)
    assert ("conn", "dependency") in harness.published


def test_a_list_that_is_broken_off_deletes_nothing() -> None:
    harness = Harness().start(connection(), repository("one"), repository("two"))
    sink = harness.sinks["repositories"]
    sink.list_began()
    sink.put(seen(repository("one")))
    harness.list("repositories", repository("one"), repository("two"))
    assert harness.published == []


def test_what_only_a_broken_off_list_named_is_gone() -> None:
    harness = Harness().start(connection(), repository("lost"))
    sink = harness.sinks["repositories"]
    sink.list_began()
    sink.put(seen(repository("lost")))
    harness.list("repositories")
    assert list(harness.feed.index.cluster("c1").objects) == [connection().key]


def test_an_answered_request_is_told_of_only_when_it_is_deleted() -> None:
    def request(name: str, version: str = "10", **fields: Any) -> Entry:
        return entry("repositorycommits", name, version, **{"parent": "repo", "ready_condition": False, **fields})

    over = request("over", finished=True)
    harness = Harness().start(connection(), repository(), over, request("open"))
    assert harness.published == [("open", "unsettled")]
    harness.put(repository(version="11", identity_hash=1))
    harness.put(request("over", version="12", finished=True, metadata_hash=1))
    harness.feed.resync("c1", over.key)
    assert harness.published == [("open", "dependency")]
    harness.put(request("over", version="13", finished=True, deleting=True))
    assert harness.published == [("over", "changed")]


@pytest.mark.parametrize("resource", ["repositorycheckouts", "repositorybuildstatuses"])
def test_an_answer_that_goes_after_a_while_keeps_its_turn_in_the_resync(resource: str) -> None:
    over = entry(resource, "over", "10", parent="repo", ready_condition=False, finished=True)
    harness = Harness().start(connection(), repository(), over)
    assert harness.published == []
    harness.feed.resync("c1", over.key)
    assert harness.published == [("over", "resync")]


def test_the_resync_of_an_engaged_cluster_is_published_on_its_own_lane() -> None:
    harness = Harness().start(connection())
    harness.feed.resync("c1", connection().key)
    (event,) = harness.events
    assert (event.reason, event.lane, event.message_id) == ("resync", "resync", None)
    harness.events.clear()
    harness.sinks[BINDINGS].delete(BOUND)
    harness.feed.resync("c1", connection().key)
    assert harness.published == []


# ---- the copy of the object


def copy_in(event: ObjectEvent) -> Any:
    return orjson.loads(event.copy) if event.copy else None


def test_the_event_of_a_change_carries_the_object_as_it_was_seen_and_when() -> None:
    harness = Harness().start(connection())
    harness.put(repository(version="11"), spec={"name": "site"}, status={"repoID": "7"}, metadata={"generation": 2})
    (event,) = harness.events
    assert event.seen_at == NOW
    assert copy_in(event) == {
        "metadata": {
            "name": "repo",
            "uid": "uid-repo",
            "resourceVersion": "11",
            "generation": 2,
            "annotations": {CLUSTER_ANNOTATION: "c1"},
        },
        "spec": {"name": "site"},
        "status": {"repoID": "7"},
    }


def test_no_other_event_carries_one() -> None:
    harness = Harness().start(connection(), repository(ready_condition=False))
    harness.put(connection(version="11", identity_hash=1))
    harness.feed.resync("c1", repository().key)
    harness.put(repository(version="12", deleting=True), metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    assert [(event.reason, event.copy, event.seen_at) for event in harness.events] == [
        ("unsettled", b"", None),
        ("dependency", b"", None),
        ("resync", b"", None),
        ("changed", b"", None),
    ]


def test_an_object_that_changed_before_its_workspace_was_bound_goes_without_a_copy() -> None:
    harness = Harness().start(connection(), bindings=())
    harness.put(repository())
    harness.sinks[BINDINGS].put(BOUND)
    assert [(event.name, event.copy) for event in harness.events] == [("repo", b"")]


def test_the_index_keeps_no_copy() -> None:
    harness = Harness().start(connection())
    count = 200
    tracemalloc.start()
    try:
        for number in range(count):
            harness.put(repository(f"r{number}"), status={"message": f"{number:05}" * 4_000})
        assert all(len(event.copy) > 20_000 for event in harness.events)
        harness.events.clear()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept / count < 4_000


def test_a_cluster_departs_when_its_last_binding_is_gone_and_not_before() -> None:
    second = BOUND._replace(name="second")
    harness = Harness().start(connection(), bindings=(BOUND, second))
    harness.sinks[BINDINGS].put(BOUND._replace(terminating=True))
    harness.sinks[BINDINGS].delete(BOUND)
    assert harness.departed == []
    assert harness.feed.index.is_bound("c1")
    harness.sinks[BINDINGS].delete(second)
    assert harness.departed == ["c1"]
    assert not harness.feed.index.is_bound("c1")


def test_a_cluster_whose_last_binding_is_missing_from_a_list_departs() -> None:
    harness = Harness().start(connection())
    harness.list(BINDINGS)
    assert harness.departed == ["c1"]


def test_nothing_of_a_departed_cluster_is_kept_though_no_stream_says_that_its_objects_are_gone() -> None:
    harness = Harness().start(connection(), repository(deleting=True), secret=None)
    list(harness.schedule.due(0.0))
    assert {key.name for _, key in harness.schedule.due(3600.0)} == {"conn", "repo"}
    harness.events.clear()
    harness.sinks[BINDINGS].delete(BOUND._replace(version="30"))
    assert (harness.feed.index.size, harness.feed.index.clusters()) == (0, [])
    assert list(harness.schedule.due(7200.0)) == []
    harness.delete(repository(version="29"))
    assert harness.feed.index.clusters() == []
    assert harness.published == []


def test_an_object_that_is_seen_before_its_new_binding_outlives_the_old_one() -> None:
    harness = Harness().start(connection())
    harness.put(repository("old", version="29"))
    harness.put(repository("new", version="31", ready_condition=False))
    harness.events.clear()
    harness.sinks[BINDINGS].delete(BOUND._replace(version="30"))
    harness.sinks[BINDINGS].put(BOUND._replace(version="32"))
    assert harness.published == [("new", "unsettled")]


def test_a_cluster_that_binds_again_is_told_of_the_secrets_that_it_has_kept() -> None:
    harness = Harness().start(connection())
    harness.sinks[BINDINGS].delete(BOUND._replace(version="30"))
    harness.sinks[BINDINGS].put(BOUND._replace(version="31"))
    harness.put(connection(version="32"))
    (event,) = harness.events
    assert event.versions.secret == "5"


def test_a_repository_that_became_ready_or_another_one_has_its_packages_looked_at_through_its_connection() -> None:
    harness = Harness().start(connection(), repository(ready_condition=False))
    assert harness.crawls == []
    harness.put(repository(version="11", ready_condition=False, metadata_hash=1))
    assert harness.crawls == []
    harness.put(repository(version="12"))
    harness.put(repository(version="13", metadata_hash=2))
    assert harness.crawls == [("conn", "crawl")]
    harness.put(repository(version="14", identity_hash=1))
    assert harness.crawls == [("conn", "crawl")] * 2
    harness.put(repository("new", version="15"))
    assert harness.crawls == [("conn", "crawl")] * 3
    harness.put(repository("new", version="16", deleting=True, identity_hash=5))
    assert harness.crawls == [("conn", "crawl")] * 3


def test_a_connection_that_works_again_or_with_another_secret_has_its_packages_looked_at() -> None:
    harness = Harness().start(connection(ready_condition=False))
    harness.put(connection(version="11"))
    harness.put(connection(version="12", metadata_hash=1))
    assert harness.crawls == [("conn", "crawl")]
    harness.put(connection(version="13", observed_secret="6"))
    assert harness.crawls == [("conn", "crawl")] * 2


def test_the_start_of_a_watcher_asks_for_no_crawl_and_each_connections_resync_sees_to_it() -> None:
    harness = Harness().start(connection(), *(repository(f"r{number}") for number in range(50)))
    assert harness.crawls == []
    harness.feed.resync("c1", ObjectKey("connections", "conn"))
    harness.feed.resync("c1", ObjectKey("repositories", "r1"))
    assert harness.crawls == [("conn", "crawl-resync")]


def test_nothing_is_crawled_for_a_workspace_that_leaves() -> None:
    leaving = BOUND._replace(terminating=True)
    harness = Harness().start(connection(), bindings=(leaving,))
    harness.put(connection(version="11", observed_secret="6"))
    harness.feed.resync("c1", ObjectKey("connections", "conn"))
    assert harness.crawls == []
