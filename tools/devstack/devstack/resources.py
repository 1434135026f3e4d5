"""The resources that tests and demos touch, and their paths below ``/clusters/<cluster>``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]
"""A Kubernetes object as JSON: apiVersion, kind, metadata, …"""

CODE_API = "code.kedge.faros.sh/v1alpha1"
DEFAULT_NAMESPACE = "default"
RECONCILE_REQUESTED_AT = "code.kedge.faros.sh/reconcile-requested-at"


@dataclass(frozen=True)
class Resource:
    """A REST resource: where it is served, what its objects say they are."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = False

    def path(self, name: str | None = None, *, namespace: str = DEFAULT_NAMESPACE) -> str:
        """The path of the collection, or of the object `name`."""
        root = "/api" if "/" not in self.api_version else "/apis"
        scope = f"/namespaces/{namespace}" if self.namespaced else ""
        return f"{root}/{self.api_version}{scope}/{self.plural}" + (f"/{name}" if name else "")


KNOWN = (
    Resource(CODE_API, "Connection", "connections"),
    Resource(CODE_API, "Repository", "repositories"),
    Resource(CODE_API, "DeployKey", "deploykeys"),
    Resource(CODE_API, "Collaborator", "collaborators"),
    Resource(CODE_API, "Package", "packages"),
    Resource(CODE_API, "RepositoryCommit", "repositorycommits"),
    Resource(CODE_API, "RepositoryCheckout", "repositorycheckouts"),
    Resource(CODE_API, "RepositoryBuildStatus", "repositorybuildstatuses"),
    Resource("v1", "Namespace", "namespaces"),
    Resource("v1", "Secret", "secrets", namespaced=True),
    Resource("v1", "ConfigMap", "configmaps", namespaced=True),
    Resource("v1", "Event", "events", namespaced=True),
    Resource("v1", "ServiceAccount", "serviceaccounts", namespaced=True),
    Resource("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles"),
    Resource("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings"),
    Resource("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions"),
    Resource("tenancy.kcp.io/v1alpha1", "Workspace", "workspaces"),
    Resource("apis.kcp.io/v1alpha2", "APIBinding", "apibindings"),
    Resource("apis.kcp.io/v1alpha2", "APIExport", "apiexports"),
    Resource("apis.kcp.io/v1alpha1", "APIExportEndpointSlice", "apiexportendpointslices"),
    Resource("apis.kcp.io/v1alpha1", "APIResourceSchema", "apiresourceschemas"),
    Resource("providers.kedge.faros.sh/v1alpha1", "CatalogEntry", "catalogentries"),
)

_BY_PLURAL = {resource.plural: resource for resource in KNOWN}
_BY_KIND = {(resource.api_version, resource.kind): resource for resource in KNOWN}


def by_plural(plural: str) -> Resource:
    """The resource called `plural`; raises KeyError for one that is not in `KNOWN`."""
    return _BY_PLURAL[plural]


def of_manifest(manifest: Manifest) -> Resource:
    """The resource that serves `manifest`; raises KeyError for a kind that is not in `KNOWN`."""
    return _BY_KIND[manifest["apiVersion"], manifest["kind"]]


def condition(manifest: Manifest, kind: str) -> dict[str, Any] | None:
    """The condition of that type in the object's status, or None."""
    # A resource without conditions yet may have null for them.
    conditions = (manifest.get("status") or {}).get("conditions") or []
    return next((entry for entry in conditions if entry["type"] == kind), None)


def is_ready(manifest: Manifest | None) -> bool:
    """Whether the object has condition Ready=True for its current spec."""
    if manifest is None:
        return False
    ready = condition(manifest, "Ready")
    if ready is None or ready["status"] != "True":
        return False
    observed = ready.get("observedGeneration", manifest["status"].get("observedGeneration", 0))
    return observed >= manifest["metadata"].get("generation", 0)


def is_gone(manifest: Manifest | None) -> bool:
    """Whether the object does not exist (any more)."""
    return manifest is None
