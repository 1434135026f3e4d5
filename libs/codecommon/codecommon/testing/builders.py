"""Builds objects and events for tests. Each is valid by default; a test passes what differs."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

from codecommon.api.connection import Connection
from codecommon.api.group import API_VERSION
from codecommon.api.kinds import COLLABORATORS, CONNECTIONS, DEPLOY_KEYS, KINDS, REPOSITORIES, KindSpec
from codecommon.api.meta import Workspace
from codecommon.api.reasons import ConditionType, Reason
from codecommon.api.repository import Repository
from codecommon.kcp.client import JsonObject
from codecommon.kcp.endpoints import EXPORT_NAME
from codecommon.messaging.events import EventReason, ObjectEvent, Versions

ENDPOINT: Final = "https://kcp.example/services/apiexport/p1/code"
CREATED: Final = "2026-01-01T00:00:00Z"
DELETED: Final = "2026-01-02T00:00:00Z"
TOKEN: Final = "ghp_" + "b" * 36

RESOURCES: Final = {kind.kind: kind.resource for kind in KINDS.values()}
"""From ``kind`` in a manifest to the plural."""


def connection_object(
    name: str = "main",
    /,
    *,
    metadata: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
    **spec: Any,
) -> JsonObject:
    """A Connection to account ``octocat``; ``spec`` by wire name."""
    base = {"provider": "github", "type": "pat", "owner": "octocat", "secretRef": {"name": "credential"}}
    return _object(CONNECTIONS, name, metadata, base | spec, status)


def validated_connection(name: str = "main", /, *, generation: int = 1, **spec: Any) -> JsonObject:
    """A Connection that connection-svc has validated."""
    conditions = [
        condition(ConditionType.READY, "True", Reason.RECONCILED),
        condition(ConditionType.VALIDATED, "True", Reason.VALIDATED),
    ]
    return connection_object(
        name,
        metadata={"generation": generation, "finalizers": [CONNECTIONS.finalizer]},
        status={"observedGeneration": generation, "login": "octocat", "host": "git.example", "conditions": conditions},
        **spec,
    )


def repository_object(
    name: str = "site",
    /,
    *,
    metadata: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
    **spec: Any,
) -> JsonObject:
    """A Repository ``octocat/site`` of Connection ``main``; ``spec`` by wire name."""
    return _object(REPOSITORIES, name, metadata, {"connectionRef": "main", "name": "site"} | spec, status)


def made_repository(name: str = "site", /, *, repo_id: str, metadata: Mapping[str, Any] | None = None) -> JsonObject:
    """A Repository that repository-svc has created on the host."""
    status = {
        "observedGeneration": 1,
        "repoID": repo_id,
        "host": "git.example",
        "owner": "octocat",
        "origin": "Created",
        "conditions": [condition(ConditionType.READY, "True", Reason.RECONCILED)],
    }
    return repository_object(
        name, metadata={"finalizers": [REPOSITORIES.finalizer]} | dict(metadata or {}), status=status
    )


def deploy_key_object(
    name: str = "key",
    /,
    *,
    metadata: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
    **spec: Any,
) -> JsonObject:
    """A DeployKey of Repository ``site`` whose pair is generated; ``spec`` by wire name."""
    return _object(DEPLOY_KEYS, name, metadata, {"repositoryRef": "site"} | spec, status)


def collaborator_object(
    name: str = "alice",
    /,
    *,
    metadata: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
    **spec: Any,
) -> JsonObject:
    """Access of user ``alice`` to Repository ``site``; ``spec`` by wire name."""
    return _object(COLLABORATORS, name, metadata, {"repositoryRef": "site", "username": "alice"} | spec, status)


def manifest(kind: KindSpec[Any], name: str, /, **spec: Any) -> JsonObject:
    """An object of any kind; ``spec`` by wire name."""
    return _object(kind, name, None, spec, None)


def secret_object(name: str = "credential", *, namespace: str = "default", **data: str) -> JsonObject:
    """A Secret. ``data`` is in clear; the default is one entry ``token``."""
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in (data or {"token": TOKEN}).items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "data": encoded}


def api_binding(name: str = "code", *, terminating: bool = False, export: str = EXPORT_NAME) -> JsonObject:
    """The APIBinding of an export. ``terminating``: as kcp shows it while objects still carry our finalizer."""
    metadata: JsonObject = {"name": name, "finalizers": ["apis.kcp.io/apibinding-finalizer"]}
    if terminating:
        metadata["deletionTimestamp"] = DELETED
    return {
        "apiVersion": "apis.kcp.io/v1alpha2",
        "kind": "APIBinding",
        "metadata": metadata,
        "spec": {"reference": {"export": {"path": "root:kedge:providers:code", "name": export}}},
        "status": {"phase": "Bound"},
    }


def condition(type_: str, status: str, reason: str, message: str = "", generation: int = 1) -> JsonObject:
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": CREATED,
        "observedGeneration": generation,
    }


def deleting(raw: JsonObject, kind: KindSpec[Any] = REPOSITORIES) -> JsonObject:
    """The object after somebody deleted it while it carried our finalizer."""
    metadata = {**raw["metadata"], "deletionTimestamp": DELETED, "finalizers": [kind.finalizer]}
    return {**raw, "metadata": metadata}


def parse_connection(raw: JsonObject) -> Connection:
    return Connection.parse(_stored(raw), Workspace(ENDPOINT, "c1"))


def parse_repository(raw: JsonObject) -> Repository:
    return Repository.parse(_stored(raw), Workspace(ENDPOINT, "c1"))


def event_for(
    raw: JsonObject,
    *,
    reason: EventReason = "changed",
    cluster: str = "c1",
    versions: Versions | None = None,
    endpoint: str = ENDPOINT,
) -> ObjectEvent:
    """The event that the watcher publishes for a stored object."""
    metadata = raw["metadata"]
    return ObjectEvent(
        resource=RESOURCES[raw["kind"]],
        cluster=cluster,
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata["generation"],
        resource_version=metadata["resourceVersion"],
        deleting="deletionTimestamp" in metadata,
        reason=reason,
        endpoint=endpoint,
        versions=versions or Versions(),
    )


def _stored(raw: JsonObject) -> JsonObject:
    given = {"uid": "uid-1", "resourceVersion": "1", "generation": 1, "creationTimestamp": CREATED}
    return {**raw, "metadata": given | raw["metadata"]}


def _object(
    kind: KindSpec[Any],
    name: str,
    metadata: Mapping[str, Any] | None,
    spec: JsonObject,
    status: Mapping[str, Any] | None,
) -> JsonObject:
    raw: JsonObject = {
        "apiVersion": API_VERSION,
        "kind": kind.kind,
        "metadata": {"name": name, **(metadata or {})},
        "spec": {key: value for key, value in spec.items() if value is not None},
    }
    if status is not None:
        raw["status"] = dict(status)
    return raw
