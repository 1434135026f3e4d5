"""Who may bind the export: every authenticated identity, in workspaces of its own."""

from __future__ import annotations

from functools import partial
from typing import Final

from code_provider.apiexport import EXPORT_NAME
from code_provider.provider_workspace import JsonObject, Resource, Workspace, ensure

GRANT_NAME: Final = f"kedge:providers:bind:{EXPORT_NAME}"
_RBAC: Final = "rbac.authorization.k8s.io"
CLUSTER_ROLES: Final = Resource(f"{_RBAC}/v1", "clusterroles")
CLUSTER_ROLE_BINDINGS: Final = Resource(f"{_RBAC}/v1", "clusterrolebindings")

_ROLE: Final[JsonObject] = {
    "apiVersion": CLUSTER_ROLES.api,
    "kind": "ClusterRole",
    "metadata": {"name": GRANT_NAME},
    "rules": [
        {"apiGroups": ["apis.kcp.io"], "resources": ["apiexports"], "verbs": ["bind"], "resourceNames": [EXPORT_NAME]}
    ],
}
_BINDING: Final[JsonObject] = {
    "apiVersion": CLUSTER_ROLE_BINDINGS.api,
    "kind": "ClusterRoleBinding",
    "metadata": {"name": GRANT_NAME},
    "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": GRANT_NAME},
    "subjects": [{"apiGroup": _RBAC, "kind": "Group", "name": "system:authenticated"}],
}


async def ensure_bind_grant(workspace: Workspace) -> None:
    for resource, grant in ((CLUSTER_ROLES, _ROLE), (CLUSTER_ROLE_BINDINGS, _BINDING)):
        await ensure(workspace, resource, GRANT_NAME, partial(_with_metadata_of, grant))


def _with_metadata_of(grant: JsonObject, existing: JsonObject | None) -> JsonObject:
    return grant if existing is None else {**existing, **grant, "metadata": existing["metadata"]}
