"""The index: references, versions, and what is kept of an object."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import pytest

from codecommon.api.annotations import PAUSED, RECONCILE_REQUESTED_AT
from codecommon.api.kinds import COLLABORATORS, CONNECTIONS, DEPLOY_KEYS, KINDS, REPOSITORIES, REPOSITORY_COMMITS
from codecommon.messaging.events import Versions
from watcher import decode
from watcher.decode import UndecodableObject, object_decoder
from watcher.index import Binding, Cluster, Entry, Index, ObjectKey, SecretKey

CONNECTION = object_decoder(CONNECTIONS, "default")
REPOSITORY = object_decoder(REPOSITORIES, "default")
DEPLOY_KEY = object_decoder(DEPLOY_KEYS, "default")


def raw(name: str, version: str = "1", spec: Any = None, status: Any = None, **metadata: Any) -> dict[str, Any]:
    annotations = {"kcp.io/cluster": "c1", **metadata.pop("annotations", {})}
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "resourceVersion": version,
            "annotations": annotations,
            **metadata,
        },
        "spec": spec or {},
        **({"status": status} if status is not None else {}),
    }


REFERENCES = {"secretRef": {"name": "token"}, "connectionRef": "conn", "repositoryRef": "repo"}


def connection(name: str = "conn", version: str = "1", **ref: str) -> Entry:
    return CONNECTION(raw(name, version, {"secretRef": {"name": "token", **ref}}))


def repository(name: str = "repo", version: str = "1", of: str = "conn", **fields: Any) -> Entry:
    return REPOSITORY(raw(name, version, {"connectionRef": of}, **fields))


def deploy_key(name: str = "key", version: str = "1", of: str = "repo") -> Entry:
    return DEPLOY_KEY(raw(name, version, {"repositoryRef": of}))


def of(*entries: Entry) -> Cluster:
    cluster = Cluster("c1")
    for entry in entries:
        cluster.put(entry)
    return cluster


def test_dependants_are_found_through_the_repository_in_whatever_order_objects_came() -> None:
    cluster = of(deploy_key(), repository(), connection(), repository("other", of="another"))
    found = {entry.key.name for entry in cluster.dependants(ObjectKey("connections", "conn"))}
    assert found == {"repo", "key"}


def test_keys_and_users_of_one_repository_that_mean_the_same_on_the_host_are_possible_duplicates() -> None:
    collaborator = object_decoder(COLLABORATORS, "default")

    def key(name: str, **spec: Any) -> Entry:
        return DEPLOY_KEY(raw(name, spec={"repositoryRef": "repo", **spec}))

    def user(name: str, username: str, of: str = "repo") -> Entry:
        return collaborator(raw(name, spec={"repositoryRef": of, "username": username}))

    given, same = key("a", publicKey="ssh-ed25519 AAAA me"), key("b", publicKey="ssh-ed25519 AAAA  you")
    assert given.duplicate_hash == same.duplicate_hash is not None
    assert given.duplicate_hash != key("c", publicKey="ssh-ed25519 BBBB me").duplicate_hash
    assert key("d").duplicate_hash is None, "a generated pair is nobody else's"
    assert (
        user("e", "Alice").duplicate_hash
        == user("f", "alice").duplicate_hash
        != user("g", "alice", of="other").duplicate_hash
    )


def test_rivals_of_a_repository_are_those_of_its_name_and_those_of_its_name_connection_and_owner() -> None:
    def rivalries(**spec: str) -> tuple[int, ...]:
        return REPOSITORY(raw("r", spec={"connectionRef": "conn", "name": "site", **spec})).rivalries

    by_name, exact = rivalries()
    assert rivalries(name="SITE") == (by_name, exact)
    assert rivalries(owner="me")[0] == rivalries(connectionRef="other")[0] == by_name
    assert len({exact, rivalries(owner="me")[1], rivalries(connectionRef="other")[1]}) == 3


def test_objects_that_the_go_provider_bound_are_recognised_by_their_missing_origin() -> None:
    def entry(**status: Any) -> Entry:
        return DEPLOY_KEY(raw("key", spec={"repositoryRef": "repo"}, status=status))

    assert entry(keyID="1").left_by_go_provider
    assert not entry(keyID="1", origin="Adopted").left_by_go_provider
    assert not entry().left_by_go_provider


@pytest.mark.parametrize(
    ("status", "finished"),
    [
        ({"phase": "Succeeded"}, True),
        ({"phase": "Failed"}, True),
        ({"phase": "Running"}, False),
        ({}, False),
    ],
)
def test_a_request_is_finished_once_status_has_its_answer(status: dict[str, str], finished: bool) -> None:
    commit = object_decoder(REPOSITORY_COMMITS, "default")
    assert commit(raw("c", spec={"repositoryRef": "repo"}, status=status)).finished is finished
    assert not DEPLOY_KEY(raw("key", spec={"repositoryRef": "repo"}, status=status)).finished


def test_versions_name_repository_connection_and_secret() -> None:
    cluster = of(connection(version="11"), repository(version="12"), deploy_key(version="13"))
    cluster.secrets[SecretKey("default", "token")] = "10"
    by_name = {key.name: cluster.versions(entry) for key, entry in cluster.objects.items()}
    assert by_name == {
        "conn": Versions(secret="10"),
        "repo": Versions(connection="11", secret="10"),
        "key": Versions(repository="12", connection="11", secret="10"),
    }


def test_versions_of_an_object_whose_dependency_is_missing_end_there() -> None:
    assert of(connection(), deploy_key()).versions(deploy_key()) == Versions()


def test_a_changed_reference_leaves_no_trace_of_the_old_one() -> None:
    cluster = of(connection(), connection("second"), repository())
    cluster.put(repository(of="second"))
    assert list(cluster.dependants(ObjectKey("connections", "conn"))) == []
    assert [e.key.name for e in cluster.dependants(ObjectKey("connections", "second"))] == ["repo"]
    cluster.put(connection(name="conn", namespace="elsewhere"))
    assert [e.key.name for e in cluster.users(SecretKey("elsewhere", "token"))] == ["conn"]
    assert [e.key.name for e in cluster.users(SecretKey("default", "token"))] == ["second"]


def test_a_cluster_with_nothing_left_is_forgotten() -> None:
    index = Index()
    cluster = index.cluster("c1")
    cluster.put(connection())
    index.prune(cluster)
    assert index.clusters() == [cluster]
    cluster.remove(connection().key)
    index.prune(cluster)
    assert index.clusters() == []


@pytest.mark.parametrize(
    ("bindings", "engaged", "leaving"),
    [
        ([], False, False),
        ([(False, False)], False, False),
        ([(True, False)], True, False),
        ([(False, True)], True, True),
        ([(True, True), (True, False)], True, False),
        ([(True, True), (False, True)], True, True),
    ],
)
def test_a_cluster_is_engaged_while_a_binding_is_bound_or_terminating(
    bindings: list[tuple[bool, bool]], engaged: bool, leaving: bool
) -> None:
    cluster = Cluster("c1")
    for number, (bound, terminating) in enumerate(bindings):
        cluster.bindings[str(number)] = Binding("c1", str(number), "1", bound, terminating)
    assert (cluster.engaged, cluster.leaving) == (engaged, leaving)


# ---- decoding


def test_an_object_is_reduced_to_what_decisions_need() -> None:
    entry = REPOSITORY(
        raw(
            "repo",
            "42",
            {"connectionRef": "conn", "name": "site"},
            {
                "observedGeneration": 3,
                "conditions": [{"type": "Synced", "status": "False"}, {"type": "Ready", "status": "True"}],
            },
            generation=3,
            deletionTimestamp="2026-11-23T00:00:00Z",
            finalizers=["foreign", REPOSITORIES.finalizer],
        )
    )
    assert (entry.cluster, entry.key, entry.uid, entry.version) == (
        "c1",
        ObjectKey("repositories", "repo"),
        "uid-repo",
        "42",
    )
    assert entry.ready
    assert entry.deleting
    assert entry.has_finalizer
    assert entry.parent_key == ObjectKey("connections", "conn")


def test_a_secret_reference_without_a_namespace_points_to_the_credentials_namespace() -> None:
    decoder = object_decoder(CONNECTIONS, "credentials")
    assert decoder(raw("c", spec={"secretRef": {"name": "t"}})).secret == SecretKey("credentials", "t")
    assert decoder(raw("c", spec={"secretRef": {"name": "t", "namespace": "n"}})).secret == SecretKey("n", "t")


@pytest.mark.parametrize(
    ("metadata", "differs"),
    [
        ({"annotations": {PAUSED: "true"}}, True),
        ({"annotations": {RECONCILE_REQUESTED_AT: "now"}}, True),
        ({"labels": {"team": "a"}}, True),
        ({"annotations": {"somebody/else": "x"}}, False),
        ({"managedFields": [{"manager": "kubectl"}]}, False),
    ],
)
def test_the_metadata_hash_changes_with_labels_and_the_annotations_we_act_on(
    metadata: dict[str, Any], differs: bool
) -> None:
    assert (repository().metadata_hash != repository(**metadata).metadata_hash) is differs


@pytest.mark.parametrize("field", ["repoID", "host", "owner"])
def test_the_identity_of_a_repository(field: str) -> None:
    assert repository(status={field: "x"}).identity_hash != repository(status={}).identity_hash
    assert repository(status={"htmlURL": "x"}).identity_hash == repository(status={}).identity_hash


@pytest.mark.parametrize("field", ["login", "host"])
def test_the_identity_of_a_connection(field: str) -> None:
    bare = raw("c", spec={"secretRef": {"name": "t"}})
    assert CONNECTION({**bare, "status": {field: "x"}}).identity_hash != CONNECTION(bare).identity_hash


def test_a_requested_reconcile_counts_until_it_is_reported_as_handled() -> None:
    annotations = {RECONCILE_REQUESTED_AT: "2026"}
    assert repository(annotations=annotations).reconcile_requested
    assert not repository(annotations=annotations, status={"lastHandledReconcileAt": "2026"}).reconcile_requested
    long = {RECONCILE_REQUESTED_AT: "x" * 300}
    assert not repository(annotations=long, status={"lastHandledReconcileAt": "x" * 256}).reconcile_requested


def test_a_secret_keeps_its_name_and_version_and_nothing_else() -> None:
    entry = decode.secret(
        raw("token", "9", namespace="default", annotations={"kubectl.kubernetes.io/last-applied-configuration": "s3"})
    )
    assert entry == ("c1", SecretKey("default", "token"), "9")


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"metadata": None},
        {"metadata": {"name": "hunter2", "uid": "u", "resourceVersion": "1", "annotations": {}}},
        {"metadata": {"name": "x", "uid": "u", "resourceVersion": "1", "annotations": {"kcp.io/cluster": ["hunter2"]}}},
        raw("x", spec="hunter2"),
        raw("x", spec=REFERENCES, generation="hunter2"),
        raw("x", spec=REFERENCES, status={"conditions": ["hunter2"]}),
        raw("x", spec=REFERENCES, labels={"a": ["hunter2"]}),
    ],
)
@pytest.mark.parametrize("decoder", [*(object_decoder(kind, "default") for kind in KINDS.values())])
def test_an_object_of_another_shape_is_refused_without_quoting_it(decoder: Any, broken: dict[str, Any]) -> None:
    with pytest.raises(UndecodableObject) as caught:
        decoder(broken)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__context__ is None


def test_an_object_costs_less_than_a_kilobyte() -> None:
    index = Index()
    count = 5_000
    tracemalloc.start()
    try:
        for number in range(count):
            _fill(index, number)
        # Python collects garbage more rarely in a process that holds much.
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert index.size == count
    assert kept / count < 1024


def _fill(index: Index, number: int) -> None:
    cluster = index.cluster(f"cluster{number // 20}")
    cluster.put(
        REPOSITORY(
            raw(
                f"repository-{number:06}",
                str(1_000_000 + number),
                {"connectionRef": "github"},
                {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True"}]},
                uid=f"0b7c2f4e-{number:04}-4c1a-9a51-2f9be0b1d0c1",
                annotations={"kcp.io/cluster": f"cluster{number // 20}"},
            )
        )
    )
