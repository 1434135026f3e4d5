"""The APIExport that tenants bind, and the endpoint slice by which the provider finds their workspaces."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from code_provider.apiresourceschemas import split_schema_name
from code_provider.errors import InitError, NotPermitted
from code_provider.provider_workspace import ATTEMPTS, JsonObject, Resource, Workspace, ensure

EXPORT_NAME: Final = "code.providers.kedge.faros.sh"
EXPORTS: Final = Resource("apis.kcp.io/v1alpha2", "apiexports")
SLICES: Final = Resource("apis.kcp.io/v1alpha1", "apiexportendpointslices")

PERMISSION_CLAIMS: Final[tuple[JsonObject, ...]] = (
    {"resource": "secrets", "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"]},
)
"""What the provider asks of a tenant's workspace; manifest.yaml asks for the same in the portal."""

_POLL_SECONDS: Final = 0.5
_READABLE_POLLS: Final = 30


def exported_resources(schema_names: Sequence[str]) -> list[JsonObject]:
    """The entries of ``spec.resources`` for schemas of those names."""
    return [
        {"group": group, "name": resource, "schema": name, "storage": {"crd": {}}}
        for name, (resource, group) in ((name, split_schema_name(name)) for name in schema_names)
    ]


def merge_resources(owned: list[JsonObject], existing: list[JsonObject]) -> list[JsonObject]:
    """The owned entries, then those existing ones whose group is not owned.

    An existing entry of an owned group is either replaced by the owned one of its name, or no longer part of the API.
    """
    groups = {entry["group"] for entry in owned}
    return owned + [entry for entry in existing if entry["group"] not in groups]


def merge_spec(existing: JsonObject, owned: list[JsonObject]) -> JsonObject:
    """The export's spec as it should be. Whatever else is in it stays, above all ``identity``, which bindings rely on.

    ``maximalPermissionPolicy`` goes: it would limit what tenants may do with objects of their own.
    """
    spec = {key: value for key, value in existing.items() if key != "maximalPermissionPolicy"}
    spec["resources"] = merge_resources(owned, existing.get("resources", []))
    # kcp answers with the empty group and identityHash of a core resource spelled out.
    claims = [{key: value for key, value in claim.items() if value != ""} for claim in spec.get("permissionClaims", ())]
    if claims != list(PERMISSION_CLAIMS):
        spec["permissionClaims"] = list(PERMISSION_CLAIMS)
    return spec


async def ensure_export(workspace: Workspace, schema_names: Sequence[str]) -> None:
    """Create the export or bring it up to date; it is never deleted, because bindings pin its identity."""
    owned = exported_resources(schema_names)

    def wanted(existing: JsonObject | None) -> JsonObject:
        if existing is None:
            existing = {"apiVersion": EXPORTS.api, "kind": "APIExport", "metadata": {"name": EXPORT_NAME}}
        return {**existing, "spec": merge_spec(existing.get("spec", {}), owned)}

    if await ensure(workspace, EXPORTS, EXPORT_NAME, wanted):
        await _until_readable(workspace)


async def _until_readable(workspace: Workspace) -> None:
    """A write that races the set-up of the workspace can vanish; the slice would then fail with a misleading error."""
    for _ in range(_READABLE_POLLS):
        if await workspace.get(EXPORTS, EXPORT_NAME) is not None:
            return
        await asyncio.sleep(_POLL_SECONDS)
    raise InitError(
        f"apiexports/{EXPORT_NAME} was created, but cannot be read {_READABLE_POLLS * _POLL_SECONDS:.0f} s later"
    )


async def ensure_endpoint_slice(workspace: Workspace, workspace_path: str) -> None:
    """A slice with the export at ``workspace_path``. kcp does not let the reference of an existing one change."""
    reference = {"name": EXPORT_NAME, "path": workspace_path}
    for _ in range(ATTEMPTS):
        existing = await workspace.get(SLICES, EXPORT_NAME)
        if existing is not None:
            if existing["spec"]["export"] == reference:
                return
            await workspace.delete(SLICES, EXPORT_NAME)
        body = {
            "apiVersion": SLICES.api,
            "kind": "APIExportEndpointSlice",
            "metadata": {"name": EXPORT_NAME},
            "spec": {"export": reference},
        }
        if await _created_once_permitted(workspace, body):
            return
    raise InitError(f"cannot create apiexportendpointslices/{EXPORT_NAME}: somebody else keeps changing it")


async def _created_once_permitted(workspace: Workspace, slice_body: JsonObject) -> bool:
    """``Workspace.create``. Until kcp's admission knows of a new export, its maker is told that it may not bind it."""
    for _ in range(_READABLE_POLLS):
        try:
            return await workspace.create(SLICES, slice_body)
        except NotPermitted:
            await asyncio.sleep(_POLL_SECONDS)
    return await workspace.create(SLICES, slice_body)
