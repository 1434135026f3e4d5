"""The resources that tests and demos use, and their paths below ``/clusters/<cluster>``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from devstack.paths import REPOSITORY

Manifest = dict[str, Any]
"""A Kubernetes object as JSON: apiVersion, kind, metadata, …"""

CODE_API = "code.kedge.faros.sh/v1alpha1"
DEFAULT_NAMESPACE = "default"
RECONCILE_REQUESTED_AT = "code.kedge.faros.sh/reconcile-requested-at"


@dataclass(frozen=True)
class Resource:
    """A REST resource. `api_version` and `kind` are those of its manifests, `plural` is its name in paths."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = False

    def path(self, name: str | None = None, *, namespace: str = DEFAULT_NAMESPACE) -> str:
        """The path of the collection, or of the object `name`."""
        root = "/api" if "/" not in self.api_version else "/apis"
        scope = f"/namespaces/{namespace}" if self.namespaced else ""
        return f"{root}/{self.api_version}{scope}/{self.plural}" + (f"/{name}" if name else "")


def _read_crds() -> tuple[Resource, ...]:
    """The provider's own kinds, from crds/*.yaml: like `Cluster`, this shares no code with the provider."""
    # The pure Python loader takes ten times as long, in every process that imports this.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    crds = [yaml.load(path.read_text(), loader)["spec"] for path in sorted((REPOSITORY / "crds").glob("*.yaml"))]
    return tuple(Resource(CODE_API, crd["names"]["kind"], crd["names"]["plural"]) for crd in crds)


CODE_KINDS = _read_crds()

KNOWN = (
    *CODE_KINDS,
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
    """The condition of type `kind` in the object's status, or None."""
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
