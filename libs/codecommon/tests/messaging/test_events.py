"""Object events: what is in one, where it goes, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from codecommon.api.annotations import CLUSTER_ANNOTATION, RECONCILE_REQUESTED_AT
from codecommon.api.kinds import KINDS
from codecommon.api.meta import Condition
from codecommon.messaging import object_copy
from codecommon.messaging.events import ObjectEvent, UndecodableEvent, Versions, subject
from codecommon.testing.builders import event_for, validated_connection

EVENT = ObjectEvent(
    resource="repositories",
    cluster="2hj3k4",
    name="my.site",
    uid="u1",
    generation=3,
    resource_version="100",
    deleting=False,
    reason="changed",
    endpoint="https://kcp.example/services/apiexport/p/code",
    versions=Versions(connection="90", secret="80"),
)
TIME = "2026-01-01T00:00:00+00:00"


def test_an_event_reads_back_as_it_was_written() -> None:
    assert ObjectEvent.decode(EVENT.encode(TIME)) == EVENT


def test_an_event_is_a_cloud_event_that_says_which_object_and_nothing_of_what_it_holds() -> None:
    body: dict[str, Any] = orjson.loads(EVENT.encode(TIME))
    assert body["specversion"] == "1.0"
    assert body["type"] == "code.kedge.faros.sh.object.changed"
    assert (body["source"], body["subject"], body["time"]) == (EVENT.endpoint, "2hj3k4/repositories/my.site", TIME)
    assert set(body["data"]) == {
        "kind", "resource", "cluster", "name", "uid", "generation", "resourceVersion", "deleting", "reason", "versions",
        "possibleDuplicates",
    }  # fmt: skip
    assert body["data"]["kind"] == "Repository"


def test_the_subject_names_lane_resource_cluster_and_object() -> None:
    assert EVENT.subject == "code.events.repositories.2hj3k4.my_site"
    assert replace(EVENT, reason="resync").subject == "code.resync.repositories.2hj3k4.my_site"


@pytest.mark.parametrize("reason", ["changed", "dependency", "unsettled", "revalidate"])
def test_only_the_resync_has_a_lane_of_its_own(reason: Any) -> None:
    assert replace(EVENT, reason=reason).lane == "events"


def test_names_with_dots_do_not_collide() -> None:
    names = ["a.b-c", "a-b.c", "a.b.c", "abc"]
    assert len({subject("events", "repositories", "c", name) for name in names}) == len(names)


def test_a_second_wrong_token_gets_another_message_id_than_the_first() -> None:
    other_secret = replace(EVENT, versions=Versions(connection="90", secret="81"))
    assert EVENT.message_id == replace(EVENT).message_id
    assert other_secret.message_id != EVENT.message_id


def test_a_cause_that_versions_do_not_contain_is_part_of_the_message_id_and_not_sent() -> None:
    first, second = replace(EVENT, cause="101"), replace(EVENT, cause="102")
    assert len({EVENT.message_id, first.message_id, second.message_id}) == 3
    assert first.message_id == f"{EVENT.message_id}/101"
    assert replace(EVENT, reason="resync", cause="101").message_id is None
    assert orjson.loads(first.encode(TIME))["data"] == orjson.loads(EVENT.encode(TIME))["data"]


@pytest.mark.parametrize(
    "change",
    [{"possible_duplicates": not EVENT.possible_duplicates}, {"endpoint": "https://kcp/services/apiexport/p/other"}],
)
def test_an_event_that_corrects_another_is_no_repetition_of_it(change: Any) -> None:
    assert replace(EVENT, **change).message_id != EVENT.message_id


@pytest.mark.parametrize("reason", ["resync", "revalidate"])
def test_an_event_that_is_never_a_repetition_has_no_message_id(reason: Any) -> None:
    event = replace(EVENT, reason=reason)
    assert event.message_id is None
    assert orjson.loads(event.encode(TIME))["id"]


def without(path: str) -> bytes:
    body: dict[str, Any] = orjson.loads(EVENT.encode(TIME))
    *parents, last = path.split(".")
    parent = body
    for part in parents:
        parent = parent[part]
    del parent[last]
    return orjson.dumps(body)


def having(path: str, value: Any) -> bytes:
    body: dict[str, Any] = orjson.loads(EVENT.encode(TIME))
    *parents, last = path.split(".")
    parent = body
    for part in parents:
        parent = parent[part]
    parent[last] = value
    return orjson.dumps(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[1]",
        b'"text"',
        *(
            without(path)
            for path in ("specversion", "type", "source", "data", "data.uid", "data.name", "data.versions")
        ),
        having("specversion", "0.3"),
        having("type", "another"),
        having("data", None),
        having("data", "text"),
        having("data.resource", "configmaps"),
        having("data.resource", ["repositories"]),
        having("data.reason", "because"),
        having("data.generation", "many"),
        *(
            having("data.cluster", value)
            for value in ("", "root:acme", "*", "c1/../c2", "c1?x", "C1", "a" * 64, ["c1"], None)
        ),
        having("data.versions", {"colour": "red"}),
        having("data.versions", None),
    ],
)
def test_what_is_no_event_is_refused_without_being_quoted(body: bytes) -> None:
    with pytest.raises(UndecodableEvent) as refused:
        ObjectEvent.decode(body)
    assert refused.value.__cause__ is None
    assert "my.site" not in str(refused.value)


def test_there_are_events_for_every_kind() -> None:
    for resource in KINDS:
        event = replace(EVENT, resource=resource)
        assert ObjectEvent.decode(event.encode(TIME)) == event


# ---- the copy of the object


def site(**changes: Any) -> dict[str, Any]:
    """The object of ``EVENT`` as kcp sends it, with all that a copy leaves out."""
    metadata = {
        "name": "my.site",
        "uid": "u1",
        "resourceVersion": "100",
        "generation": 3,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "finalizers": ["theirs/x"],
        "annotations": {
            CLUSTER_ANNOTATION: "2hj3k4",
            RECONCILE_REQUESTED_AT: "2026-01-01T00:00:00Z",
            "kubectl.kubernetes.io/last-applied-configuration": "the whole object",
        },
        "labels": {"team": "a"},
        "managedFields": [{"manager": "kubectl"}],
        "ownerReferences": [{"uid": "u0"}],
    }
    whole = {"apiVersion": "v1", "kind": "Repository", "metadata": metadata, "spec": {"name": "site"}, "status": {}}
    return whole | {name: metadata | value if name == "metadata" else value for name, value in changes.items()}


COPY = object_copy.encode(site())
COPIED = replace(EVENT, copy=COPY, seen_at=datetime(2026, 1, 1, tzinfo=UTC))


def test_a_copy_holds_what_a_reconciler_reads_and_nothing_of_other_tools() -> None:
    assert orjson.loads(COPY) == {
        "metadata": {
            "name": "my.site",
            "uid": "u1",
            "resourceVersion": "100",
            "generation": 3,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "finalizers": ["theirs/x"],
            "annotations": {CLUSTER_ANNOTATION: "2hj3k4", RECONCILE_REQUESTED_AT: "2026-01-01T00:00:00Z"},
        },
        "spec": {"name": "site"},
        "status": {},
    }


def test_an_event_with_a_copy_reads_back_as_it_was_written() -> None:
    assert COPY
    assert ObjectEvent.decode(COPIED.encode(TIME)) == COPIED
    assert COPIED.message_id == EVENT.message_id


@pytest.mark.parametrize(
    "raw",
    [
        site(status={"conditions": [{"message": "x" * 40_000}]}),
        site(spec={"name": "site", "description": "x" * 1_100}),
        site(spec={"publicKey": "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END"}),
        site(spec={"description": "push with ghp_" + "a" * 36}),
        site(metadata={"annotations": {CLUSTER_ANNOTATION: "c", f"{RECONCILE_REQUESTED_AT}-by": "ghp_" + "a" * 36}}),
        site(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
    ],
    ids=["a long status", "a long spec", "a private key", "a token", "a token in an annotation", "being deleted"],
)
def test_an_object_that_is_long_or_holds_a_secret_or_is_being_deleted_has_no_copy(raw: Any) -> None:
    assert object_copy.encode(raw) == b""


def test_a_status_with_a_big_message_is_copied() -> None:
    assert object_copy.encode(site(status={"conditions": [{"message": "x" * 30_000}]}))


def changed(path: str, value: Any) -> bytes:
    body: dict[str, Any] = orjson.loads(COPIED.encode(TIME))
    *parents, last = path.split("/")
    parent = body["data"]
    for part in parents:
        parent = parent[part]
    parent[last] = value
    return orjson.dumps(body)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("uid", "u2"),
        ("name", "another"),
        ("resourceVersion", "101"),
        ("cluster", "c2"),
        ("deleting", True),
        ("object", None),
        ("object", "text"),
        ("object", ["metadata"]),
        ("object/metadata", None),
        ("object/metadata/uid", "u2"),
        ("object/metadata/name", ["my.site"]),
        ("object/metadata/resourceVersion", 100),
        ("object/metadata/annotations", ["kcp.io/cluster"]),
        ("object/metadata/annotations", {CLUSTER_ANNOTATION: "c2"}),
        ("object/spec", {"description": "x" * 40_000}),
        ("seenAt", None),
        ("seenAt", 7),
        ("seenAt", "yesterday"),
        ("seenAt", "2026-01-01T00:00:00"),
    ],
)
def test_an_event_whose_copy_is_not_of_its_object_is_an_event_without_a_copy(path: str, value: Any) -> None:
    event = ObjectEvent.decode(changed(path, value))
    assert (event.copy, event.seen_at) == (b"", None)


def test_a_copy_that_is_nested_without_end_is_dropped() -> None:
    deep = b'{"a":' * 500 + b"1" + b"}" * 500
    body = COPIED.encode(TIME).replace(b'{"name":"site"}', deep)
    assert ObjectEvent.decode(body).copy == b""


# ---- crawls and findings


def _of_connection(**fields: Any) -> ObjectEvent:
    raw = {
        **validated_connection(),
        "metadata": {"name": "my.conn", "uid": "u", "resourceVersion": "7", "generation": 1},
    }
    return replace(event_for(raw), **fields)


def test_each_kind_of_crawl_has_a_subject_that_replaces_no_other() -> None:
    plain = _of_connection()
    events = [
        _of_connection(reason="crawl"),
        _of_connection(reason="crawl-resync"),
        _of_connection(reason="crawl-request"),
        _of_connection(reason="crawl", owner="acme"),
        _of_connection(reason="crawl", owner="group/sub.group"),
        _of_connection(reason="found"),
        plain,
    ]
    subjects = [event.subject for event in events]
    assert len(set(subjects)) == len(subjects)
    assert subjects[0] == "code.events.crawls.c1.my_conn"
    assert subjects[1] == "code.resync.crawls.c1.my_conn"
    assert subjects[5] == f"{plain.subject}.found"
    assert _of_connection(reason="crawl", owner="ACME").subject == subjects[3]
    assert [event.message_id for event in events[:-1]] == [None] * 6


def test_an_owner_and_a_finding_survive_and_words_that_nobody_knows_do_not() -> None:
    finding = Condition(type="PackagesAvailable", status="False", reason="PackageLimit", message="m")
    for event in (_of_connection(reason="crawl", owner="acme"), _of_connection(reason="found", finding=finding)):
        assert ObjectEvent.decode(event.encode(TIME)) == event
    for wrong in ({"type": "Nonsense"}, {"reason": "Nonsense"}, {"status": "Perhaps"}):
        odd = finding.model_copy(update=wrong)
        with pytest.raises(UndecodableEvent):
            ObjectEvent.decode(_of_connection(reason="found", finding=odd).encode(TIME))
