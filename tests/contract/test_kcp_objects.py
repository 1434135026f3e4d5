"""The same cases on the in-memory kcp of the unit tests and on a real kcp through the virtual workspace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from codecommon.api.annotations import CLUSTER_ANNOTATION
from codecommon.api.group import API_VERSION
from codecommon.api.kinds import REPOSITORIES
from codecommon.api.meta import Workspace
from codecommon.kcp.client import (
    Conflict,
    Forbidden,
    Invalid,
    JsonObject,
    KcpError,
    NotFound,
    Objects,
    ProviderKcp,
    ProviderObjects,
)
from codecommon.kcp.endpoints import EXPORT_NAME, SLICE_PATH, endpoint_urls, list_everywhere
from codecommon.kcp.identity import ProviderIdentity
from codecommon.process.settings import kubeconfig_path
from codecommon.testing.builders import api_binding, repository_object, secret_object
from codecommon.testing.objects import InMemoryKcp, workspace
from devstack.kcp import SECRETS_CLAIM
from devstack.kcp import Kcp as RealKcp
from devstack.provider import ProviderInstallation, provision_own
from devstack.scenario import unique
from devstack.settings import Settings

FINALIZER = REPOSITORIES.finalizer


@pytest.fixture
def in_memory() -> Objects:
    kcp = InMemoryKcp()
    kcp.add(api_binding())
    return kcp.objects(workspace())


@pytest_asyncio.fixture(scope="module")
async def provider(kcp: RealKcp, run_dir: Path, dev_settings: Settings) -> ProviderInstallation:
    """A provider workspace of its own. On the shared one, the services would write to the objects as well."""
    return await provision_own(kcp, run_dir / "objects", dev_settings.environment)


@pytest_asyncio.fixture(scope="module")
async def cluster(kcp: RealKcp, provider: ProviderInstallation) -> str:
    """One workspace for all cases. Each case leaves it empty."""
    made = await kcp.create_workspace(f"root:{unique('objects')}")
    await kcp.bind(made, provider.provisioned.workspace_path, EXPORT_NAME, [SECRETS_CLAIM])
    return made


async def clean_up(objects: Objects) -> None:
    for resource in ("repositories", "deploykeys"):
        for raw in await objects.list(resource):
            await objects.delete(resource, raw["metadata"]["name"], uid=raw["metadata"]["uid"])
            if raw["metadata"].get("finalizers"):
                await objects.merge_patch(resource, raw["metadata"]["name"], {"metadata": {"finalizers": []}})


@pytest_asyncio.fixture
async def real(provider: ProviderInstallation, cluster: str) -> AsyncIterator[Objects]:
    """With the provider's own kubeconfig, through the endpoint that kcp lists for its export."""
    async with ProviderIdentity(kubeconfig_path(provider.environment)) as identity:
        kcp = ProviderKcp(identity)
        (endpoint,) = endpoint_urls(await kcp.request("GET", SLICE_PATH))
        objects = kcp.objects(Workspace(endpoint, cluster))
        yield objects
        await clean_up(objects)


@pytest.fixture(params=["in_memory", pytest.param("real", marks=pytest.mark.e2e)])
def objects(request: pytest.FixtureRequest) -> Objects:
    found: Objects = request.getfixturevalue(request.param)
    return found


async def make(objects: Objects, name: str = "site", /, **spec: Any) -> JsonObject:
    return await objects.create("repositories", repository_object(name, **spec))


def guarded(raw: JsonObject, patch: JsonObject, **other: Any) -> JsonObject:
    """A patch with the uid and resourceVersion that every write of ours carries."""
    guard = {"uid": raw["metadata"]["uid"], "resourceVersion": raw["metadata"]["resourceVersion"]} | other
    return {**patch, "metadata": {**patch.get("metadata", {}), **guard}}


async def patch(objects: Objects, raw: JsonObject, body: JsonObject, subresource: str = "") -> JsonObject:
    return await objects.merge_patch(
        "repositories", raw["metadata"]["name"], guarded(raw, body), subresource=subresource
    )


async def delete(objects: Objects, raw: JsonObject) -> None:
    await objects.delete("repositories", raw["metadata"]["name"], uid=raw["metadata"]["uid"])


# ---- what an object gets


async def test_a_new_object_has_identity_generation_and_its_cluster(objects: Objects) -> None:
    raw = await make(objects)
    metadata = raw["metadata"]
    assert metadata["generation"] == 1
    assert metadata["uid"]
    assert metadata["creationTimestamp"].endswith("Z")
    assert metadata["annotations"]["kcp.io/cluster"] == objects.workspace.cluster
    assert "finalizers" not in metadata
    assert await objects.get("repositories", "site") == raw


async def test_a_name_is_taken_once(objects: Objects) -> None:
    await make(objects)
    with pytest.raises(Conflict) as taken:
        await make(objects)
    assert taken.value.reason == "AlreadyExists"


async def test_a_dry_run_stores_nothing_and_refuses_what_would_be_refused(objects: Objects) -> None:
    shown = await objects.create("repositories", repository_object(), dry_run=True)
    assert shown["spec"] == repository_object()["spec"]
    with pytest.raises(NotFound):
        await objects.get("repositories", "site")
    await objects.create("repositories", repository_object())
    with pytest.raises(Conflict):
        await objects.create("repositories", repository_object(), dry_run=True)


async def test_a_dry_run_changes_nothing_and_refuses_what_would_be_refused(objects: Objects) -> None:
    raw = await objects.create("repositories", repository_object())
    uid, asked = raw["metadata"]["uid"], {"annotations": {"example.com/asked": "now"}}
    shown = await objects.merge_patch("repositories", "site", {"metadata": {"uid": uid, **asked}}, dry_run=True)

    assert shown["metadata"]["annotations"]["example.com/asked"] == "now"
    stored = await objects.get("repositories", "site")
    assert "example.com/asked" not in stored["metadata"].get("annotations", {})
    other = "00000000-0000-0000-0000-000000000000"
    with pytest.raises(Conflict):
        await objects.merge_patch("repositories", "site", {"metadata": {"uid": other, **asked}}, dry_run=True)


async def test_a_dry_run_deletes_nothing_and_refuses_what_would_be_refused(objects: Objects) -> None:
    raw = await objects.create("repositories", repository_object())
    await objects.delete("repositories", "site", uid=raw["metadata"]["uid"], dry_run=True)
    kept = await objects.get("repositories", "site")
    assert "deletionTimestamp" not in kept["metadata"]
    with pytest.raises(Conflict):
        await objects.delete("repositories", "site", uid="00000000-0000-0000-0000-000000000000", dry_run=True)


async def test_status_is_not_set_by_a_create(objects: Objects) -> None:
    body = repository_object(status={"repoID": "7"})
    assert "status" not in await objects.create("repositories", body)


async def test_the_generation_counts_changes_of_spec_and_nothing_else(objects: Objects) -> None:
    raw = await make(objects)
    raw = await patch(objects, raw, {"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}})
    raw = await patch(objects, raw, {"status": {"repoID": "7"}}, "status")
    assert raw["metadata"]["generation"] == 1
    raw = await patch(objects, raw, {"spec": {"description": "new"}})
    assert raw["metadata"]["generation"] == 2


async def test_a_write_that_changes_nothing_counts_as_no_change(objects: Objects) -> None:
    raw = await make(objects, description="same")
    raw = await patch(objects, raw, {"spec": {"description": "same"}})
    assert raw["metadata"]["generation"] == 1


async def test_a_newer_object_has_a_greater_version(objects: Objects) -> None:
    first = await make(objects, "one")
    second = await make(objects, "two")
    assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])


# ---- guarded writes


async def test_a_stale_version_is_a_conflict(objects: Objects) -> None:
    raw = await make(objects)
    await patch(objects, raw, {"spec": {"description": "new"}})
    for subresource in ("", "status"):
        with pytest.raises(Conflict) as conflict:
            await patch(objects, raw, {"metadata": {"labels": {"a": "b"}}, "status": {"repoID": "7"}}, subresource)
        assert conflict.value.status == 409


async def test_another_uid_is_a_conflict(objects: Objects) -> None:
    raw = await make(objects)
    for subresource in ("", "status"):
        body = guarded(raw, {"status": {"repoID": "7"}}, uid="00000000-0000-0000-0000-000000000000")
        with pytest.raises(Conflict):
            await objects.merge_patch("repositories", "site", body, subresource=subresource)


async def test_an_object_made_anew_under_the_name_is_a_conflict(objects: Objects) -> None:
    raw = await make(objects)
    await delete(objects, raw)
    await make(objects)
    with pytest.raises(Conflict):
        await patch(objects, raw, {"metadata": {"labels": {"a": "b"}}})


@pytest.mark.parametrize("subresource", ["", "status"])
async def test_a_patch_of_what_is_absent_creates_nothing(objects: Objects, subresource: str) -> None:
    raw = await make(objects)
    await delete(objects, raw)
    with pytest.raises(NotFound):
        await patch(objects, raw, {"status": {"repoID": "7"}}, subresource)
    with pytest.raises(NotFound):
        await objects.get("repositories", "site")


async def test_a_delete_of_another_uid_is_a_conflict(objects: Objects) -> None:
    await make(objects)
    with pytest.raises(Conflict):
        await objects.delete("repositories", "site", uid="00000000-0000-0000-0000-000000000000")
    with pytest.raises(NotFound):
        await objects.delete("repositories", "absent", uid="00000000-0000-0000-0000-000000000000")


@pytest.mark.parametrize("dry_run", [False, True], ids=["deleted", "dry_run"])
async def test_a_delete_of_a_stale_version_is_a_conflict(objects: Objects, dry_run: bool) -> None:
    raw = await make(objects)
    uid, stale = raw["metadata"]["uid"], raw["metadata"]["resourceVersion"]
    raw = await patch(objects, raw, {"spec": {"deletionPolicy": "Delete"}})
    with pytest.raises(Conflict) as conflict:
        await objects.delete("repositories", "site", uid=uid, resource_version=stale, dry_run=dry_run)
    assert conflict.value.status == 409
    assert await objects.get("repositories", "site") == raw

    fresh = raw["metadata"]["resourceVersion"]
    await objects.delete("repositories", "site", uid=uid, resource_version=fresh, dry_run=dry_run)
    if not dry_run:
        with pytest.raises(NotFound):
            await objects.get("repositories", "site")


# ---- merge patches and the status subresource


async def test_null_removes_and_the_rest_stays(objects: Objects) -> None:
    raw = await make(objects, description="d", visibility="private")
    raw = await patch(objects, raw, {"metadata": {"annotations": {"a": "1", "b": "2"}}})
    raw = await patch(objects, raw, {"metadata": {"annotations": {"a": None}}, "spec": {"description": None}})
    assert "a" not in raw["metadata"]["annotations"]
    assert raw["metadata"]["annotations"]["b"] == "2"
    assert "description" not in raw["spec"]
    assert raw["spec"]["visibility"] == "private"


async def test_status_is_written_through_its_subresource_only(objects: Objects) -> None:
    raw = await make(objects)
    raw = await patch(objects, raw, {"status": {"repoID": "7"}, "metadata": {"labels": {"a": "b"}}})
    assert "status" not in raw
    body = {"status": {"repoID": "7"}, "spec": {"description": "x"}, "metadata": {"finalizers": [FINALIZER]}}
    raw = await patch(objects, raw, body, "status")
    assert raw["status"] == {"repoID": "7"}
    assert "description" not in raw["spec"]
    assert "finalizers" not in raw["metadata"]
    raw = await patch(objects, raw, {"status": {"repoID": None, "owner": "o"}}, "status")
    assert raw["status"] == {"owner": "o"}


# ---- deletion


async def test_an_object_without_finalizers_goes_at_once(objects: Objects) -> None:
    raw = await make(objects)
    await delete(objects, raw)
    with pytest.raises(NotFound):
        await objects.get("repositories", "site")


async def test_an_object_with_a_finalizer_stays_until_it_is_taken_off(objects: Objects) -> None:
    raw = await make(objects)
    raw = await patch(objects, raw, {"metadata": {"finalizers": [FINALIZER]}})
    await delete(objects, raw)
    going = await objects.get("repositories", "site")
    assert going["metadata"]["deletionTimestamp"].endswith("Z")
    assert going["metadata"]["generation"] == 2, "the deletion counts as a change"

    await delete(objects, going)
    again = await objects.get("repositories", "site")
    assert again["metadata"]["deletionTimestamp"] == going["metadata"]["deletionTimestamp"]

    going = await patch(objects, again, {"status": {"repoID": "7"}}, "status")
    left = await patch(objects, going, {"metadata": {"finalizers": []}})
    assert not left["metadata"].get("finalizers")
    with pytest.raises(NotFound):
        await objects.get("repositories", "site")


async def test_a_finalizer_cannot_be_added_to_what_is_being_deleted(objects: Objects) -> None:
    raw = await make(objects)
    raw = await patch(objects, raw, {"metadata": {"finalizers": ["example.com/theirs"]}})
    await delete(objects, raw)
    going = await objects.get("repositories", "site")
    with pytest.raises(Invalid) as refused:
        await patch(objects, going, {"metadata": {"finalizers": ["example.com/theirs", FINALIZER]}})
    assert refused.value.status == 422
    await patch(objects, going, {"metadata": {"finalizers": []}})


async def test_a_deletion_cannot_be_taken_back(objects: Objects) -> None:
    raw = await make(objects)
    raw = await patch(objects, raw, {"metadata": {"finalizers": [FINALIZER]}})
    await delete(objects, raw)
    going = await objects.get("repositories", "site")
    try:
        going = await patch(objects, going, {"metadata": {"deletionTimestamp": None, "labels": {"a": "b"}}})
    except Invalid:
        going = await objects.get("repositories", "site")
    assert going["metadata"]["deletionTimestamp"]
    await patch(objects, going, {"metadata": {"finalizers": []}})


# ---- reads


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, {"one", "two", "three"}),
        ({"spec.connectionRef": "main"}, {"one", "three"}),
        ({"spec.name": "second"}, {"two", "three"}),
        ({"spec.connectionRef": "main", "spec.name": "second"}, {"three"}),
        ({"spec.connectionRef": "nobody"}, set()),
        ({"spec.connectionRef": "a,b=c\\"}, set()),
        ({"metadata.name": "two"}, {"two"}),
    ],
)
async def test_lists_are_narrowed_by_the_fields_that_our_kinds_declare(
    objects: Objects, fields: dict[str, str], wanted: set[str]
) -> None:
    await make(objects, "one", name="first")
    await make(objects, "two", name="second", connectionRef="other")
    await make(objects, "three", name="second")
    found = await objects.list("repositories", fields=fields)
    assert {raw["metadata"]["name"] for raw in found} == wanted


async def test_a_child_is_found_by_its_repository(objects: Objects) -> None:
    key = {
        "apiVersion": API_VERSION,
        "kind": "DeployKey",
        "metadata": {"name": "key"},
        "spec": {"repositoryRef": "site"},
    }
    await objects.create("deploykeys", key)
    assert len(await objects.list("deploykeys", fields={"spec.repositoryRef": "site"})) == 1
    assert await objects.list("deploykeys", fields={"spec.repositoryRef": "other"}) == []


async def test_a_field_that_is_not_declared_cannot_be_selected(objects: Objects) -> None:
    with pytest.raises(KcpError) as refused:
        await objects.list("repositories", fields={"spec.visibility": "private"})
    assert refused.value.status == 400


async def test_a_read_not_older_than_a_write_sees_the_write(objects: Objects) -> None:
    raw = await make(objects)
    for n in range(10):
        raw = await patch(objects, raw, {"spec": {"description": str(n)}})
        version = raw["metadata"]["resourceVersion"]
        seen = await objects.get("repositories", "site", not_older=version)
        (listed,) = await objects.list("repositories")
        assert seen["spec"]["description"] == listed["spec"]["description"] == str(n)


async def test_a_secret_is_read_from_its_namespace(objects: Objects) -> None:
    made = await objects.create("secrets", secret_object(), namespace="default")
    version = made["metadata"]["resourceVersion"]
    assert (await objects.get("secrets", "credential", namespace="default", not_older=version))["data"] == made["data"]
    with pytest.raises(NotFound):
        await objects.get("secrets", "other", namespace="default")
    await objects.delete("secrets", "credential", uid=made["metadata"]["uid"], namespace="default")
    with pytest.raises(NotFound):
        await objects.get("secrets", "credential", namespace="default")


@pytest.mark.parametrize("data", [{"ssh-publickey": "ssh-ed25519 AAAA"}, {"ssh-privatekey": ""}], ids=["none", "empty"])
async def test_a_secret_for_ssh_without_a_private_key_is_refused(objects: Objects, data: dict[str, str]) -> None:
    keyless = {**secret_object("pair", **data), "type": "kubernetes.io/ssh-auth"}
    with pytest.raises(Invalid, match="ssh-privatekey") as refused:
        await objects.create("secrets", keyless, namespace="default")
    assert refused.value.status == 422
    with pytest.raises(NotFound):
        await objects.get("secrets", "pair", namespace="default")


@pytest.mark.parametrize("value", ["", None], ids=["emptied", "removed"])
async def test_the_private_key_of_a_secret_for_ssh_can_be_a_newline_and_cannot_be_taken_out(
    objects: Objects, value: str | None
) -> None:
    waiting = {**secret_object("pair", **{"ssh-privatekey": "\n"}), "type": "kubernetes.io/ssh-auth"}
    made = await objects.create("secrets", waiting, namespace="default")
    body = guarded(made, {"data": {"ssh-privatekey": value}})
    with pytest.raises(Invalid, match="ssh-privatekey") as refused:
        await objects.merge_patch("secrets", "pair", body, namespace="default")
    assert refused.value.status == 422
    assert (await objects.get("secrets", "pair", namespace="default"))["data"] == made["data"]
    await objects.delete("secrets", "pair", uid=made["metadata"]["uid"], namespace="default")


async def test_the_binding_of_our_export_is_seen(objects: Objects) -> None:
    (binding,) = await objects.list("apibindings")
    assert binding["spec"]["reference"]["export"]["name"] == "code.providers.kedge.faros.sh"
    assert "deletionTimestamp" not in binding["metadata"]


async def test_what_is_neither_exported_nor_claimed_is_forbidden(objects: Objects) -> None:
    with pytest.raises(Forbidden):
        await objects.list("configmaps")


async def test_of_many_writers_at_once_one_wins(objects: Objects) -> None:
    raw = await make(objects)

    async def write(n: int) -> bool:
        try:
            await patch(objects, raw, {"spec": {"description": str(n)}})
        except Conflict:
            return False
        return True

    async with asyncio.timeout(30):
        won = await asyncio.gather(*(write(n) for n in range(5)))
    assert won.count(True) == 1


async def test_the_objects_of_all_workspaces_come_page_by_page_with_their_cluster(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(objects, ProviderObjects)
    kcp = objects._kcp  # pyright: ignore[reportPrivateUsage]
    assert isinstance(kcp, ProviderKcp)
    monkeypatch.setattr("codecommon.kcp.lists.PAGE_OBJECTS", 2)
    wanted = {(await make(objects, f"site-{number}"))["metadata"]["uid"] for number in range(3)}

    def keep(endpoint: str, raw: JsonObject) -> tuple[str, str] | None:
        assert endpoint == objects.workspace.endpoint
        return raw["metadata"]["uid"], raw["metadata"]["annotations"][CLUSTER_ANNOTATION]

    found = dict(await list_everywhere(kcp, "repositories", keep))
    assert {found[uid] for uid in wanted} == {objects.workspace.cluster}
