"""Which objects a change requeues."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest

from watcher.index import Binding, Cluster, Entry, ObjectKey, SecretKey
from watcher.translate import (
    Requeue,
    binding_changed,
    concerns_itself,
    object_changed,
    object_deleted,
    secret_changed,
    unsettled,
)

TOKEN = SecretKey("default", "token")
SETTLED: dict[str, Any] = {
    "cluster": "c1",
    "uid": "uid",
    "version": "10",
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


def entry(resource: str, name: str, **fields: Any) -> Entry:
    return Entry(**{**SETTLED, "key": ObjectKey(resource, name), "uid": f"uid-{name}", **fields})


CONNECTION = entry("connections", "conn", secret=TOKEN, observed_secret="5")
REPOSITORY = entry("repositories", "repo", parent="conn")
UNREADY_REPOSITORY = entry("repositories", "waiting", parent="conn", ready_condition=False)
LEAVING_REPOSITORY = entry("repositories", "leaving", parent="conn", deleting=True)
KEY = entry("deploykeys", "key", parent="repo")
GRANT = entry("collaborators", "grant", parent="repo")
UNREADY_KEY = entry("deploykeys", "waiting-key", parent="repo", ready_condition=False)
OTHER = entry("repositories", "other", parent="elsewhere")

EVERYTHING = (CONNECTION, REPOSITORY, UNREADY_REPOSITORY, LEAVING_REPOSITORY, KEY, UNREADY_KEY, OTHER)
OF_CONNECTION = {"repo", "waiting", "leaving", "key", "waiting-key"}
UNREADY_OF_CONNECTION = {"waiting", "leaving", "waiting-key"}


def cluster(*entries: Entry, secret: str | None = "5") -> Cluster:
    made = Cluster("c1")
    for each in entries:
        made.put(each)
    if secret is not None:
        made.secrets[TOKEN] = secret
    return made


def names(requeues: list[Requeue], reason: str) -> set[str]:
    return {requeue.entry.key.name for requeue in requeues if requeue.reason == reason}


def change(before: Entry | None, after: Entry, *others: Entry) -> list[Requeue]:
    made = cluster(*others)
    if before is not None:
        made.put(before)
    made.put(after)
    return object_changed(made, before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({}, {"generation": 2}, id="spec"),
        pytest.param({}, {"deleting": True}, id="deletionTimestamp"),
        pytest.param({}, {"metadata_hash": 1}, id="label or annotation that we act on"),
        pytest.param(
            {"has_finalizer": True}, {"has_finalizer": False}, id="our finalizer dropped from a living object"
        ),
    ],
)
def test_a_change_that_concerns_the_object_itself_requeues_it(before: dict[str, Any], after: dict[str, Any]) -> None:
    old = replace(OTHER, **before)
    assert change(old, replace(old, version="11", **after)) == [Requeue(replace(old, version="11", **after), "changed")]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({}, {}, id="nothing but the resourceVersion"),
        pytest.param({"has_finalizer": False}, {"has_finalizer": True}, id="our finalizer added"),
        pytest.param(
            {"deleting": True}, {"deleting": True, "has_finalizer": False}, id="our finalizer gone while deleting"
        ),
        pytest.param({"observed_generation": None}, {"observed_generation": 1}, id="status.observedGeneration"),
        pytest.param({}, {"ready_condition": False}, id="not Ready any more"),
        pytest.param({"reconcile_requested": True}, {"reconcile_requested": False}, id="lastHandledReconcileAt"),
        pytest.param({"observed_secret": "5"}, {"observed_secret": "6"}, id="observedSecretVersion"),
    ],
)
def test_echoes_of_our_own_writes_requeue_nothing(before: dict[str, Any], after: dict[str, Any]) -> None:
    old = replace(OTHER, **before)
    assert change(old, replace(old, version="11", **after)) == []


def test_a_new_object_concerns_itself() -> None:
    assert concerns_itself(None, OTHER)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param({"ready_condition": False}, {}, OF_CONNECTION, id="becomes ready"),
        pytest.param({"observed_generation": 0}, {}, OF_CONNECTION, id="becomes ready for its generation"),
        pytest.param({}, {"identity_hash": 7}, OF_CONNECTION, id="changes identity"),
        pytest.param({}, {"deleting": True}, OF_CONNECTION, id="is being deleted"),
        pytest.param({}, {"observed_secret": "6"}, UNREADY_OF_CONNECTION, id="stays ready with another Secret"),
        pytest.param({}, {"ready_condition": False}, set(), id="is not ready any more"),
        pytest.param(
            {"ready_condition": False}, {"ready_condition": False, "observed_secret": "6"}, set(), id="refused a Secret"
        ),
    ],
)
def test_what_happens_to_a_connection_requeues_dependants(
    before: dict[str, Any], after: dict[str, Any], expected: set[str]
) -> None:
    old = replace(CONNECTION, **before)
    requeues = change(old, replace(old, **{"ready_condition": True, "observed_generation": 1, **after}), *EVERYTHING)
    assert names(requeues, "dependency") == expected


def test_a_dependency_that_appears_ready_requeues_its_dependants() -> None:
    assert names(change(None, REPOSITORY, KEY, UNREADY_KEY, OTHER), "dependency") == {"key", "waiting-key"}
    assert names(change(None, replace(REPOSITORY, ready_condition=False), KEY), "dependency") == set()


def test_a_dependency_that_is_gone_requeues_its_dependants() -> None:
    made = cluster(*EVERYTHING)
    made.remove(CONNECTION.key)
    assert names(object_deleted(made, CONNECTION, "12"), "dependency") == OF_CONNECTION


def test_a_dependency_made_anew_under_its_old_name_is_a_change_of_both() -> None:
    anew = replace(CONNECTION, uid="another", ready_condition=False)
    requeues = change(CONNECTION, anew, *EVERYTHING)
    assert names(requeues, "changed") == {"conn"}
    assert names(requeues, "dependency") == OF_CONNECTION


def test_a_dependant_that_is_gone_requeues_the_dependencies_that_wait_for_it() -> None:
    leaving, staying = replace(CONNECTION, deleting=True), replace(REPOSITORY, deleting=True)
    made = cluster(leaving, staying)
    assert object_deleted(made, KEY, "12") == [
        Requeue(staying, "dependency", "12"),
        Requeue(leaving, "dependency", "12"),
    ]


def test_a_dependant_that_is_gone_requeues_no_dependency_that_stays() -> None:
    assert object_deleted(cluster(CONNECTION, REPOSITORY), KEY, "12") == []


@pytest.mark.parametrize(
    "after",
    [
        pytest.param({"deleting": True, "has_finalizer": False}, id="released, kept by a finalizer of others"),
        pytest.param({"parent": "another"}, id="refers to another object"),
    ],
)
def test_a_dependant_that_stops_blocking_requeues_the_dependency_that_waits_for_it(after: dict[str, Any]) -> None:
    staying = replace(REPOSITORY, deleting=True)
    before = replace(KEY, deleting="has_finalizer" in after)
    assert Requeue(staying, "dependency", "12") in change(before, replace(KEY, version="12", **after), staying)


@pytest.mark.parametrize(
    ("before", "after", "requeued"),
    [
        pytest.param({"ready_condition": False}, {}, True, id="becomes ready"),
        pytest.param({}, {"identity_hash": 7}, True, id="is another one on the host"),
        pytest.param({}, {"deleting": True}, True, id="is being deleted"),
        pytest.param({"deleting": True}, {"deleting": True, "has_finalizer": False}, False, id="is released"),
        pytest.param({}, {"generation": 2}, False, id="has another spec, not handled yet"),
        pytest.param({}, {"ready_condition": False}, False, id="is not ready any more"),
    ],
)
def test_what_happens_to_a_repository_requeues_its_keys_and_collaborators_and_no_others(
    before: dict[str, Any], after: dict[str, Any], requeued: bool
) -> None:
    old = replace(REPOSITORY, **before)
    elsewhere = entry("collaborators", "elsewhere", parent="other")
    requeues = change(old, replace(old, **{"ready_condition": True, **after}), CONNECTION, KEY, GRANT, elsewhere)
    assert names(requeues, "dependency") == ({"key", "grant"} if requeued else set())


def test_a_repository_that_is_gone_requeues_its_keys_and_collaborators() -> None:
    requeues = object_deleted(cluster(CONNECTION, KEY, GRANT), REPOSITORY, "12")
    assert names(requeues, "dependency") == {"key", "grant"}


@pytest.mark.parametrize("child", [KEY, GRANT], ids=["DeployKey", "Collaborator"])
def test_a_child_whose_finalizer_is_removed_requeues_the_repository_and_connection_that_wait_for_it(
    child: Entry,
) -> None:
    connection, repository = replace(CONNECTION, deleting=True), replace(REPOSITORY, deleting=True)
    going = replace(child, deleting=True)
    released = replace(going, has_finalizer=False, version="12")
    requeued = [Requeue(repository, "dependency", "12"), Requeue(connection, "dependency", "12")]
    assert change(going, released, connection, repository) == requeued
    assert change(going, released, CONNECTION, REPOSITORY) == []


@pytest.mark.parametrize("child", [KEY, GRANT], ids=["DeployKey", "Collaborator"])
def test_a_child_that_loses_its_finalizer_while_it_lives_is_requeued_to_take_it_again(child: Entry) -> None:
    stripped = replace(child, has_finalizer=False, version="12")
    assert change(child, stripped, CONNECTION, REPOSITORY) == [Requeue(stripped, "changed")]


def test_what_happens_to_a_child_requeues_no_sibling() -> None:
    edited = replace(KEY, generation=2, version="12")
    assert change(KEY, edited, CONNECTION, REPOSITORY, GRANT) == [Requeue(edited, "changed")]
    assert object_deleted(cluster(CONNECTION, REPOSITORY, GRANT), KEY, "12") == []


def test_a_secret_requeues_its_connection_and_the_unready_dependants_of_a_ready_one() -> None:
    assert names(secret_changed(cluster(*EVERYTHING), TOKEN), "dependency") == {"conn"} | UNREADY_OF_CONNECTION


def test_a_secret_of_an_unready_connection_requeues_the_connection_alone() -> None:
    made = cluster(replace(CONNECTION, ready_condition=False), REPOSITORY, UNREADY_REPOSITORY)
    assert names(secret_changed(made, TOKEN), "dependency") == {"conn"}


def test_a_secret_of_a_connection_that_is_being_deleted_requeues_who_waits_for_it_too() -> None:
    made = cluster(replace(CONNECTION, ready_condition=False, deleting=True), LEAVING_REPOSITORY)
    assert names(secret_changed(made, TOKEN), "dependency") == {"conn", "leaving"}


def test_a_secret_that_no_connection_refers_to_requeues_nobody() -> None:
    assert secret_changed(cluster(*EVERYTHING), SecretKey("kube-system", "token")) == []


BOUND = Binding("c1", "code", "20", bound=True, terminating=False)
GOING = BOUND._replace(version="21", terminating=True)


@pytest.mark.parametrize(
    ("others", "before", "after", "was_leaving", "requeues"),
    [
        pytest.param((), BOUND, GOING, False, True, id="starts terminating"),
        pytest.param((), None, GOING, False, True, id="appears terminating"),
        pytest.param((), GOING, GOING._replace(version="22"), True, False, id="goes on terminating"),
        pytest.param((), None, BOUND, False, False, id="appears"),
        pytest.param((GOING._replace(name="b"),), BOUND, None, False, True, id="the last one that stayed is gone"),
        pytest.param((BOUND._replace(name="b"),), GOING, None, False, False, id="one that was leaving is gone"),
    ],
)
def test_a_binding_that_starts_terminating_requeues_what_is_being_deleted(
    others: tuple[Binding, ...], before: Binding | None, after: Binding | None, was_leaving: bool, requeues: bool
) -> None:
    made = cluster(*EVERYTHING)
    made.bindings.update({each.name: each for each in others})
    if after is not None:
        made.bindings[after.name] = after
    requeued = binding_changed(made, before, after, was_leaving=was_leaving, version="21")
    assert requeued == ([Requeue(LEAVING_REPOSITORY, "dependency", "21")] if requeues else [])


@pytest.mark.parametrize(
    ("fields", "secret", "expected"),
    [
        pytest.param({}, "5", False, id="settled"),
        pytest.param({"generation": 2}, "5", True, id="generation not observed"),
        pytest.param({"observed_generation": None}, "5", True, id="never observed"),
        pytest.param({"has_finalizer": False}, "5", True, id="finalizer missing"),
        pytest.param({"deleting": True}, "5", True, id="deleting"),
        pytest.param({"ready_condition": False}, "5", True, id="not Ready"),
        pytest.param({"left_by_go_provider": True}, "5", True, id="left by the Go provider, no origin on record"),
        pytest.param({"reconcile_requested": True}, "5", True, id="a requested reconcile not handled"),
        pytest.param({}, "6", True, id="a Secret not seen"),
        pytest.param({}, None, True, id="its Secret gone"),
    ],
)
def test_which_objects_are_unsettled(fields: dict[str, Any], secret: str | None, expected: bool) -> None:
    made = cluster(replace(CONNECTION, **fields), secret=secret)
    assert unsettled(made, made.objects[CONNECTION.key]) is expected


def test_only_a_connection_is_judged_by_its_secret() -> None:
    made = cluster(REPOSITORY, secret="6")
    assert not unsettled(made, REPOSITORY)


def rival(number: int, **fields: Any) -> Entry:
    """A Repository that competes with all of its kind for one name; those with higher numbers are younger."""
    created = f"2026-01-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z"
    defaults: dict[str, Any] = {"duplicate_hash": 1, "rival_hash": 11, "ready_condition": False, "created": created}
    return entry("repositories", f"r{number}", **{**defaults, **fields})


def gone(before: Entry, *others: Entry) -> set[str]:
    made = cluster(*others)
    return names(object_deleted(made, before, "12"), "dependency")


def test_an_object_that_stands_for_something_else_now_frees_it_for_the_eldest_that_waits() -> None:
    elder, younger, youngest = rival(1), rival(2), rival(3)
    unconcerned = rival(0, duplicate_hash=3, rival_hash=33)
    others = (youngest, younger, unconcerned)
    moved = replace(elder, version="11", generation=2, duplicate_hash=2, rival_hash=22)
    requeues = change(elder, moved, *others)
    assert names(requeues, "changed") == {"r1"}
    assert names(requeues, "dependency") == {"r2"}
    assert names(change(elder, replace(elder, version="11", generation=2), *others), "dependency") == set()


def test_one_of_two_thousand_duplicates_that_goes_wakes_the_next_eldest_and_nobody_else() -> None:
    eldest, *rest = [rival(number) for number in range(2000)]
    assert gone(eldest, *reversed(rest)) == {"r1"}
    assert gone(rest[0], eldest, *rest[1:]) == set(), "the eldest did not wait for a younger one"


def test_a_younger_object_that_goes_wakes_the_elder_one_only_if_it_had_what_both_stand_for() -> None:
    assert gone(rival(2), rival(1)) == set()
    assert gone(rival(2, ready_condition=True), rival(1)) == {"r1"}


def test_who_is_ready_or_being_deleted_does_not_wait() -> None:
    assert gone(rival(1), rival(2, ready_condition=True), rival(3, deleting=True), rival(4)) == {"r4"}


def test_the_next_of_the_same_connection_and_owner_is_woken_though_a_stranger_of_the_name_is_older() -> None:
    assert gone(rival(1), rival(2, rival_hash=99), rival(3), rival(4)) == {"r2", "r3"}


def test_an_object_that_waits_no_more_is_not_woken_and_one_that_waits_again_is() -> None:
    made = cluster(rival(2), rival(3))
    made.put(rival(2, ready_condition=True))
    assert names(object_deleted(made, rival(1), "12"), "dependency") == {"r3"}
    made.put(rival(2))
    assert names(object_deleted(made, rival(1), "12"), "dependency") == {"r2"}
    made.remove(rival(2).key)
    made.remove(rival(3).key)
    assert object_deleted(made, rival(1), "12") == []


def test_the_deletion_of_all_duplicates_takes_a_number_of_steps_that_is_linear() -> None:
    def steps(count: int) -> int:
        taken = 0

        def counted(frame: Any, event: str, argument: Any) -> None:
            nonlocal taken
            taken += event == "call"

        entries = [rival(number) for number in range(count)]
        made = cluster(*entries)
        sys.setprofile(counted)
        try:
            for each in entries:
                made.remove(each.key)
                assert len(object_deleted(made, each, "12")) <= 1
                assert made.has_possible_duplicate(each) is (each is not entries[-1])
        finally:
            sys.setprofile(None)
        return taken

    assert steps(2000) <= 2 * steps(1000) + 10


def test_a_collaborator_that_goes_wakes_the_eldest_that_waits_at_its_repository_whatever_its_login() -> None:
    old = entry("collaborators", "old", parent="repo", duplicate_hash=1, rival_hash=100)
    renamed = entry(
        "collaborators",
        "renamed",
        parent="repo",
        duplicate_hash=2,
        rival_hash=100,
        ready_condition=False,
        created="2026-01-02",
    )
    ready = entry("collaborators", "ready", parent="repo", duplicate_hash=3, rival_hash=100)
    leaving = entry(
        "collaborators",
        "leaving",
        parent="repo",
        duplicate_hash=4,
        rival_hash=100,
        ready_condition=False,
        deleting=True,
    )
    elsewhere = entry(
        "collaborators", "elsewhere", parent="other", duplicate_hash=5, rival_hash=500, ready_condition=False
    )
    assert gone(old, CONNECTION, REPOSITORY, UNREADY_KEY, renamed, ready, leaving, elsewhere) == {"renamed"}
