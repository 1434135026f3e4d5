"""Object events: what is in one, where it goes, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from codecommon.api.kinds import KINDS
from codecommon.messaging.events import ObjectEvent, UndecodableEvent, Versions, subject

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
