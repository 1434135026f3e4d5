"""The APIExport that tenants bind, who may bind it, and the endpoint slice that lists where their objects are served."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from code_provider.apiresourceschemas import split_schema_name
from code_provider.provider_workspace import (
    ATTEMPTS,
    GroupVersionResource,
    InitError,
    NotPermitted,
    ProviderWorkspace,
    ensure,
)
from codecommon.kcp.client import JsonObject
from codecommon.kcp.endpoints import EXPORT_NAME

EXPORTS: Final = GroupVersionResource("apis.kcp.io/v1alpha2", "apiexports")
SLICES: Final = GroupVersionResource("apis.kcp.io/v1alpha1", "apiexportendpointslices")
_RBAC: Final = "rbac.authorization.k8s.io"
CLUSTER_ROLES: Final = GroupVersionResource(f"{_RBAC}/v1", "clusterroles")
CLUSTER_ROLE_BINDINGS: Final = GroupVersionResource(f"{_RBAC}/v1", "clusterrolebindings")
GRANT_NAME: Final = f"kedge:providers:bind:{EXPORT_NAME}"

PERMISSION_CLAIMS: Final[tuple[JsonObject, ...]] = (
    {"resource": "secrets", "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"]},
)
"""What the provider claims in a tenant's workspace. manifest.yaml repeats it for the portal."""

_POLL_SECONDS: Final = 0.5
_POLLS: Final = 30


def exported_resources(schema_names: Sequence[str]) -> list[JsonObject]:
    """The entries of ``spec.resources`` for schemas of those names."""
    return [
        {"group": group, "name": resource, "schema": name, "storage": {"crd": {}}}
        for name, (resource, group) in ((name, split_schema_name(name)) for name in schema_names)
    ]


def merge_resources(owned: list[JsonObject], existing: list[JsonObject]) -> list[JsonObject]:
    """The owned entries, then the existing entries of groups that are not owned.

    An existing entry of an owned group is dropped: either an owned entry replaces it, or the API no longer has that resource.
    """
    groups = {entry["group"] for entry in owned}
    return owned + [entry for entry in existing if entry["group"] not in groups]


def merge_spec(existing: JsonObject, owned: list[JsonObject]) -> JsonObject:
    """The export's spec as it should be. What init does not own stays, above all ``identity``, which bindings rely on.

    ``maximalPermissionPolicy`` is removed: it would limit what tenants may do with their own objects.
    """
    spec = {key: value for key, value in existing.items() if key != "maximalPermissionPolicy"}
    spec["resources"] = merge_resources(owned, existing.get("resources", []))
    # kcp returns a core resource with its empty group and identityHash.
    claims = [{key: value for key, value in claim.items() if value != ""} for claim in spec.get("permissionClaims", ())]
    if claims != list(PERMISSION_CLAIMS):
        spec["permissionClaims"] = list(PERMISSION_CLAIMS)
    return spec


async def ensure_export(workspace: ProviderWorkspace, schema_names: Sequence[str]) -> None:
    """Create the export or bring it up to date. It is never deleted, because bindings pin its identity."""
    owned = exported_resources(schema_names)

    def wanted(existing: JsonObject | None) -> JsonObject:
        if existing is None:
            existing = {"apiVersion": EXPORTS.api_version, "kind": "APIExport", "metadata": {"name": EXPORT_NAME}}
        return {**existing, "spec": merge_spec(existing.get("spec", {}), owned)}

    if await ensure(workspace, EXPORTS, EXPORT_NAME, wanted):
        await _wait_until_readable(workspace)


async def _wait_until_readable(workspace: ProviderWorkspace) -> None:
    """A write that races the set-up of the workspace can vanish. The slice would then fail with a misleading error."""
    for _ in range(_POLLS):
        if await workspace.get(EXPORTS, EXPORT_NAME) is not None:
            return
        await asyncio.sleep(_POLL_SECONDS)
    raise InitError(f"apiexports/{EXPORT_NAME} was created, but cannot be read {_POLLS * _POLL_SECONDS:.0f} s later")


async def ensure_endpoint_slice(workspace: ProviderWorkspace, workspace_path: str) -> None:
    """A slice that refers to the export at ``workspace_path``.

    kcp does not let the reference of an existing slice change, so a slice with another reference is deleted first.
    """
    reference = {"name": EXPORT_NAME, "path": workspace_path}
    for _ in range(ATTEMPTS):
        existing = await workspace.get(SLICES, EXPORT_NAME)
        if existing is not None:
            if existing["spec"]["export"] == reference:
                return
            await workspace.delete(SLICES, EXPORT_NAME)
        body = {
            "apiVersion": SLICES.api_version,
            "kind": "APIExportEndpointSlice",
            "metadata": {"name": EXPORT_NAME},
            "spec": {"export": reference},
        }
        if await _create_once_permitted(workspace, body):
            return
    raise InitError(f"cannot create apiexportendpointslices/{EXPORT_NAME}: somebody else keeps changing it")


async def _create_once_permitted(workspace: ProviderWorkspace, slice_body: JsonObject) -> bool:
    """Create the slice. kcp refuses whoever has just created an export for as long as its admission does not know the export."""
    for _ in range(_POLLS):
        try:
            return await workspace.create(SLICES, slice_body)
        except NotPermitted:
            await asyncio.sleep(_POLL_SECONDS)
    return await workspace.create(SLICES, slice_body)


async def ensure_bind_grant(workspace: ProviderWorkspace) -> None:
    """Let every authenticated identity bind the export, in workspaces where that identity may create bindings."""
    role: JsonObject = {
        "apiVersion": CLUSTER_ROLES.api_version,
        "kind": "ClusterRole",
        "metadata": {"name": GRANT_NAME},
        "rules": [
            {
                "apiGroups": ["apis.kcp.io"],
                "resources": ["apiexports"],
                "verbs": ["bind"],
                "resourceNames": [EXPORT_NAME],
            }
        ],
    }
    binding: JsonObject = {
        "apiVersion": CLUSTER_ROLE_BINDINGS.api_version,
        "kind": "ClusterRoleBinding",
        "metadata": {"name": GRANT_NAME},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": GRANT_NAME},
        "subjects": [{"apiGroup": _RBAC, "kind": "Group", "name": "system:authenticated"}],
    }
    for resource, grant in ((CLUSTER_ROLES, role), (CLUSTER_ROLE_BINDINGS, binding)):

        def wanted(existing: JsonObject | None, grant: JsonObject = grant) -> JsonObject:
            return grant if existing is None else {**existing, **grant, "metadata": existing["metadata"]}

        await ensure(workspace, resource, GRANT_NAME, wanted)
