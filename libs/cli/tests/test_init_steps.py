"""What init writes, given what is there: on objects in memory; tests/e2e/test_init.py does the same on kcp."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from code_provider.apiexport import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    EXPORTS,
    GRANT_NAME,
    PERMISSION_CLAIMS,
    SLICES,
    ensure_bind_grant,
    ensure_endpoint_slice,
    ensure_export,
    exported_resources,
    merge_resources,
)
from code_provider.apiresourceschemas import SCHEMAS, ensure_schemas
from code_provider.catalogentry import CATALOG_ENTRIES, ensure_catalog_entry
from code_provider.provider_workspace import GroupVersionResource, InitError, NotPermitted
from codecommon.kcp.client import JsonObject
from codecommon.kcp.endpoints import EXPORT_NAME

PATH = "root:kedge:providers:code"
OLD = "v260609-fc69fa2.connections.code.kedge.faros.sh"
NEW = "v261123-00000000.connections.code.kedge.faros.sh"


class MemoryWorkspace:
    """Objects by resource and name, with resourceVersions that guard ``replace``, as kcp's do.

    ``interfere`` runs once before the next write: somebody else who is faster.
    """

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], JsonObject] = {}
        self.writes: list[str] = []
        self.interfere: list[Any] = []
        self._version = 0

    def put(self, resource: GroupVersionResource, body: JsonObject) -> None:
        self._version += 1
        stored = copy.deepcopy(body)
        stored["metadata"] |= {"resourceVersion": str(self._version)}
        self.objects[resource.resource, body["metadata"]["name"]] = stored

    def at(self, resource: GroupVersionResource, name: str) -> JsonObject:
        return self.objects[resource.resource, name]

    async def get(self, resource: GroupVersionResource, name: str) -> JsonObject | None:
        return copy.deepcopy(self.objects.get((resource.resource, name)))

    async def create(self, resource: GroupVersionResource, body: JsonObject) -> bool:
        self._interfere()
        if (resource.resource, body["metadata"]["name"]) in self.objects:
            return False
        self.put(resource, body)
        self.writes.append(f"created {resource.resource}")
        return True

    async def replace(self, resource: GroupVersionResource, body: JsonObject) -> bool:
        self._interfere()
        existing = self.objects.get((resource.resource, body["metadata"]["name"]))
        if existing is None or existing["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            return False
        self.put(resource, body)
        self.writes.append(f"updated {resource.resource}")
        return True

    async def delete(self, resource: GroupVersionResource, name: str) -> None:
        self._interfere()
        del self.objects[resource.resource, name]
        self.writes.append(f"deleted {resource.resource}")

    def _interfere(self) -> None:
        if self.interfere:
            self.interfere.pop(0)()


@pytest.fixture
def workspace() -> MemoryWorkspace:
    return MemoryWorkspace()


def entry(group: str, name: str, schema: str = "v1") -> JsonObject:
    return {"group": group, "name": name, "schema": f"{schema}.{name}.{group}", "storage": {"crd": {}}}


def export(**spec: Any) -> JsonObject:
    return {
        "apiVersion": EXPORTS.api_version,
        "kind": "APIExport",
        "metadata": {"name": EXPORT_NAME, "annotations": {"kcp.io/path": PATH}},
        "spec": {"identity": {"secretRef": {"name": EXPORT_NAME}}, **spec},
        "status": {"identityHash": "abc"},
    }


# merging spec.resources


def test_owned_entries_come_first_and_win() -> None:
    ours, theirs = entry("code", "connections", "v2"), entry("other", "things")
    assert merge_resources([ours], [theirs, entry("code", "connections", "v1")]) == [ours, theirs]


def test_an_entry_of_an_owned_group_that_is_no_longer_listed_is_dropped() -> None:
    ours = entry("code", "connections")
    assert merge_resources([ours], [entry("code", "retired"), ours]) == [ours]


def test_entries_of_foreign_groups_are_kept_in_their_order() -> None:
    foreign = [entry("b", "x"), entry("a", "connections")]
    assert merge_resources([entry("code", "connections")], foreign)[1:] == foreign


def test_without_owned_entries_nothing_is_dropped() -> None:
    assert merge_resources([], [entry("code", "connections")]) == [entry("code", "connections")]


def test_an_exported_resource_is_what_its_schema_name_says() -> None:
    assert exported_resources([OLD]) == [
        {"group": "code.kedge.faros.sh", "name": "connections", "schema": OLD, "storage": {"crd": {}}}
    ]


# the export


async def test_a_missing_export_is_created_with_resources_and_claims_and_nothing_else(
    workspace: MemoryWorkspace,
) -> None:
    await ensure_export(workspace, [OLD])
    assert workspace.at(EXPORTS, EXPORT_NAME)["spec"] == {
        "resources": exported_resources([OLD]),
        "permissionClaims": list(PERMISSION_CLAIMS),
    }


async def test_an_upgrade_points_the_export_at_the_new_schema_and_keeps_its_identity(
    workspace: MemoryWorkspace,
) -> None:
    foreign = entry("other.example", "things")
    workspace.put(EXPORTS, export(resources=[*exported_resources([OLD]), foreign], permissionClaims=[]))
    await ensure_export(workspace, [NEW])
    after = workspace.at(EXPORTS, EXPORT_NAME)
    assert after["spec"] == {
        "identity": {"secretRef": {"name": EXPORT_NAME}},
        "resources": [*exported_resources([NEW]), foreign],
        "permissionClaims": list(PERMISSION_CLAIMS),
    }
    assert after["metadata"]["annotations"] == {"kcp.io/path": PATH}


async def test_claims_are_replaced_rather_than_merged(workspace: MemoryWorkspace) -> None:
    workspace.put(EXPORTS, export(resources=[], permissionClaims=[{"resource": "configmaps", "verbs": ["get"]}]))
    await ensure_export(workspace, [OLD])
    assert workspace.at(EXPORTS, EXPORT_NAME)["spec"]["permissionClaims"] == list(PERMISSION_CLAIMS)


async def test_a_maximal_permission_policy_is_removed_because_it_limits_tenants(workspace: MemoryWorkspace) -> None:
    await ensure_export(workspace, [OLD])
    workspace.at(EXPORTS, EXPORT_NAME)["spec"]["maximalPermissionPolicy"] = {"local": {}}
    await ensure_export(workspace, [OLD])
    assert "maximalPermissionPolicy" not in workspace.at(EXPORTS, EXPORT_NAME)["spec"]


async def test_an_export_as_kcp_returns_it_is_not_written_again(workspace: MemoryWorkspace) -> None:
    claims = [{"group": "", "identityHash": "", **claim} for claim in PERMISSION_CLAIMS]
    workspace.put(EXPORTS, export(resources=exported_resources([OLD]), permissionClaims=claims))
    await ensure_export(workspace, [OLD])
    assert workspace.writes == []


async def test_an_export_that_changes_meanwhile_is_read_and_merged_again(workspace: MemoryWorkspace) -> None:
    workspace.put(EXPORTS, export(resources=exported_resources([OLD])))
    foreign = entry("other.example", "things")
    changed = export(resources=[*exported_resources([OLD]), foreign])
    workspace.interfere = [lambda: workspace.put(EXPORTS, changed)]
    await ensure_export(workspace, [NEW])
    assert workspace.at(EXPORTS, EXPORT_NAME)["spec"]["resources"] == [*exported_resources([NEW]), foreign]


async def test_an_export_that_somebody_creates_meanwhile_is_brought_up_to_date(workspace: MemoryWorkspace) -> None:
    created = export(resources=exported_resources([OLD]))
    workspace.interfere = [lambda: workspace.put(EXPORTS, created)]
    await ensure_export(workspace, [NEW])
    assert workspace.at(EXPORTS, EXPORT_NAME)["spec"]["resources"] == exported_resources([NEW])


async def test_init_gives_up_on_an_export_that_never_holds_still(workspace: MemoryWorkspace) -> None:
    workspace.put(EXPORTS, export(resources=[]))
    workspace.interfere = [lambda: workspace.put(EXPORTS, export(resources=[]))] * 100
    with pytest.raises(InitError, match="keeps changing"):
        await ensure_export(workspace, [OLD])


# schemas, slice, grant, catalogue


async def test_an_existing_schema_is_left_alone(workspace: MemoryWorkspace) -> None:
    schema = {
        "apiVersion": SCHEMAS.api_version,
        "kind": "APIResourceSchema",
        "metadata": {"name": OLD},
        "spec": {"a": 1},
    }
    await ensure_schemas(workspace, [schema])
    await ensure_schemas(workspace, [{**schema, "spec": {"a": 2}}])
    assert workspace.at(SCHEMAS, OLD)["spec"] == {"a": 1}
    assert workspace.writes == ["created apiresourceschemas"]


async def test_a_slice_of_the_same_path_is_left_alone(workspace: MemoryWorkspace) -> None:
    await ensure_endpoint_slice(workspace, PATH)
    await ensure_endpoint_slice(workspace, PATH)
    assert workspace.writes == ["created apiexportendpointslices"]


def _refuse() -> None:
    raise NotPermitted("no permission to bind to export")


async def test_an_export_that_may_not_be_bound_yet_is_waited_for(
    workspace: MemoryWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("code_provider.apiexport._POLL_SECONDS", 0)
    workspace.interfere = [_refuse] * 3
    await ensure_endpoint_slice(workspace, PATH)
    assert workspace.writes == ["created apiexportendpointslices"]


async def test_an_export_that_may_never_be_bound_ends_init_with_what_kcp_says(
    workspace: MemoryWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("code_provider.apiexport._POLL_SECONDS", 0)
    workspace.interfere = [_refuse] * 1000
    with pytest.raises(InitError, match="no permission to bind"):
        await ensure_endpoint_slice(workspace, PATH)
    assert workspace.writes == []


async def test_a_slice_of_another_path_is_made_anew(workspace: MemoryWorkspace) -> None:
    await ensure_endpoint_slice(workspace, "root:elsewhere")
    await ensure_endpoint_slice(workspace, PATH)
    assert workspace.at(SLICES, EXPORT_NAME)["spec"] == {"export": {"name": EXPORT_NAME, "path": PATH}}
    assert workspace.writes == [f"{verb} apiexportendpointslices" for verb in ("created", "deleted", "created")]


async def test_everyone_who_is_authenticated_may_bind_and_nothing_more(workspace: MemoryWorkspace) -> None:
    await ensure_bind_grant(workspace)
    binding = workspace.at(CLUSTER_ROLE_BINDINGS, GRANT_NAME)
    assert [subject["name"] for subject in binding["subjects"]] == ["system:authenticated"]
    assert binding["roleRef"]["name"] == GRANT_NAME
    assert workspace.at(CLUSTER_ROLES, GRANT_NAME)["rules"] == [
        {"apiGroups": ["apis.kcp.io"], "resources": ["apiexports"], "verbs": ["bind"], "resourceNames": [EXPORT_NAME]}
    ]


async def test_a_grant_that_was_changed_is_repaired_and_written_once(workspace: MemoryWorkspace) -> None:
    await ensure_bind_grant(workspace)
    workspace.at(CLUSTER_ROLES, GRANT_NAME)["rules"] = []
    workspace.writes.clear()
    await ensure_bind_grant(workspace)
    await ensure_bind_grant(workspace)
    assert workspace.writes == ["updated clusterroles"]


async def test_a_catalog_entry_is_overwritten_without_losing_what_the_hub_wrote(workspace: MemoryWorkspace) -> None:
    manifest = {"apiVersion": CATALOG_ENTRIES.api_version, "kind": "CatalogEntry", "metadata": {"name": "code"}}
    hub = {"annotations": {"kcp.io/cluster": "x"}, "finalizers": ["hub"]}
    old = {**manifest, "metadata": {"name": "code", **hub}, "spec": {"version": "1"}, "status": {"workspace": "w"}}
    workspace.put(CATALOG_ENTRIES, old)
    await ensure_catalog_entry(
        workspace, {**manifest, "metadata": {"name": "code", "annotations": {"a": "b"}}, "spec": {"version": "2"}}
    )
    after = workspace.at(CATALOG_ENTRIES, "code")
    assert (after["spec"], after["status"]) == ({"version": "2"}, {"workspace": "w"})
    assert after["metadata"]["annotations"] == {"kcp.io/cluster": "x", "a": "b"}
    assert after["metadata"]["finalizers"] == ["hub"]


async def test_a_catalog_entry_that_is_as_it_should_be_is_not_written(workspace: MemoryWorkspace) -> None:
    entry = {
        "apiVersion": CATALOG_ENTRIES.api_version,
        "kind": "CatalogEntry",
        "metadata": {"name": "code", "labels": {"a": "b"}},
        "spec": {"version": "1"},
    }
    await ensure_catalog_entry(workspace, entry)
    await ensure_catalog_entry(workspace, entry)
    assert workspace.writes == ["created catalogentries"]
