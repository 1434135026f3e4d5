"""A kcp in memory: the part of its API that ``codecommon.kcp.client.Objects`` uses.

It replaces ``Kcp.request``, where requests leave the process. So a test with it also covers the paths, parameters and errors of
the real ``Objects``. tests/contract/test_kcp_objects.py holds it and the real kcp to the same cases.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote

import aiohttp

from codecommon.api.annotations import CLUSTER_ANNOTATION
from codecommon.api.kinds import KINDS
from codecommon.api.meta import Workspace
from codecommon.api.times import rfc3339
from codecommon.kcp.client import Conflict, Forbidden, Invalid, JsonObject, KcpError, NotFound, ProviderKcp
from codecommon.kcp.endpoints import SLICE_PATH
from codecommon.kcp.lists import Lists
from codecommon.testing.builders import ENDPOINT, RESOURCES

_TERM: Final = re.compile(r"([^=,]+)=((?:\\.|[^\\,])*)")
"""Path and escaped value of one term of a field selector."""

_SERVED: Final = frozenset({*KINDS, "secrets", "apibindings"})


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it arrived. ``subresource`` is empty or ``status``."""

    method: str
    cluster: str
    resource: str
    namespace: str | None = None
    name: str | None = None
    subresource: str = ""
    params: Mapping[str, str] = field(default_factory=dict[str, str])
    body: Any = None

    @property
    def writes(self) -> bool:
        return self.method != "GET"


_Key = tuple[str, str, str | None, str]
"""Cluster, resource, namespace (None for cluster-scoped resources), name."""


class InMemoryKcp(ProviderKcp):
    """A ``ProviderKcp`` that holds its workspaces in memory.

    Attributes:
        requests: Every request so far.
        before: Hooks that are called with each request before it is answered. A hook may change objects, as another client
            would in between, or raise what kcp would answer.
        refused: Resources that are answered with 403.
        foreign_schemas: Whether the export serves the Go provider's schemas, which declare no selectable fields.
    """

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC), endpoint: str = ENDPOINT) -> None:
        self.endpoints = [endpoint]
        self.requests: list[Request] = []
        self.refused: set[str] = set()
        self.foreign_schemas = False
        self.before: deque[Callable[[Request], None]] = deque()
        self._now = now
        self.lists = Lists(self)
        self._stored: dict[_Key, JsonObject] = {}
        self._version = 100
        self._uids = 0

    # ---- for tests

    def add(self, raw: JsonObject, cluster: str = "c1") -> JsonObject:
        """Store an object, its status included, with the metadata that a server adds. Returns it as stored."""
        raw = deepcopy(raw)
        metadata = raw["metadata"]
        metadata.setdefault("uid", self._uid())
        metadata.setdefault("generation", 1)
        metadata.setdefault("creationTimestamp", rfc3339(self._now()))
        metadata.setdefault("annotations", {})[CLUSTER_ANNOTATION] = cluster
        key = (cluster, _resource_of(raw), metadata.get("namespace"), metadata["name"])
        return self._store(key, raw)

    def stored(self, resource: str, name: str, cluster: str = "c1", namespace: str | None = None) -> JsonObject | None:
        """The object as it is now; None: there is none. The read is not added to ``requests``."""
        return deepcopy(self._stored.get((cluster, resource, namespace, name)))

    def stored_objects(self, resource: str, cluster: str = "c1") -> list[JsonObject]:
        """The objects of a kind as they are now. The read is not added to ``requests``."""
        return [deepcopy(raw) for key, raw in self._stored.items() if key[:2] == (cluster, resource)]

    def edit(
        self, resource: str, name: str, patch: JsonObject, cluster: str = "c1", namespace: str | None = None
    ) -> JsonObject:
        """Merge-patch an object, its status included, as another client would."""
        key = (cluster, resource, namespace, name)
        return self._apply(key, merge({**self._existing(key)}, patch))

    def remove(self, resource: str, name: str, cluster: str = "c1", namespace: str | None = None) -> None:
        """Delete an object as another client would. It stays while it has finalizers."""
        self._delete((cluster, resource, namespace, name))

    def once(self, matches: Callable[[Request], bool], act: Callable[[], object]) -> None:
        """Call ``act`` before the next matching request is answered. ``act`` may raise."""

        def hook(request: Request) -> None:
            if matches(request):
                self.before.remove(hook)
                act()

        self.before.append(hook)

    def writes(self, resource: str) -> list[Request]:
        return [r for r in self.requests if r.writes and r.resource == resource]

    # ---- the server

    async def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: aiohttp.ClientTimeout | None = None,
        most_bytes: int | None = None,
    ) -> JsonObject:
        if url == SLICE_PATH:
            return {"status": {"endpoints": [{"url": endpoint} for endpoint in self.endpoints]}}
        request = _parse(method, url, params or {}, body)
        self.requests.append(request)
        for hook in list(self.before):
            hook(request)
        if request.resource not in _SERVED or request.resource in self.refused:
            raise Forbidden(403, "Forbidden", f"access to {request.resource} is denied")
        return deepcopy(self._answer(request))

    def _answer(self, request: Request) -> JsonObject:
        if request.name is None:
            return self._create(request) if request.method == "POST" else self._page(request)
        key = (request.cluster, request.resource, request.namespace, request.name)
        match request.method:
            case "GET":
                return self._existing(key)
            case "PATCH":
                return self._patch(key, request)
            case _:
                assert request.method == "DELETE", request.method
                metadata = self._existing(key)["metadata"]
                for field_, wanted in (request.body or {}).get("preconditions", {}).items():
                    if wanted != metadata[field_]:
                        raise Conflict(409, "Conflict", f"the {field_} in the precondition does not match")
                # As the real one: the parameters of a DELETE that has a body are not read.
                dry_run = (request.body or request.params).get("dryRun")
                return self._existing(key) if dry_run else self._delete(key)

    def _page(self, request: Request) -> JsonObject:
        # As the real one: a token names the version that the pages are read at, which no other version may contradict.
        token, limit = request.params.get("continue"), int(request.params.get("limit", 0))
        if token is not None and "resourceVersion" in request.params:
            raise KcpError(400, "BadRequest", "specifying resource version is not allowed when using continue")
        start = int(token or 0)
        items = list(self._select(request))
        end = start + limit if limit else len(items)
        more = {"continue": str(end)} if end < len(items) else {}
        return {"metadata": {"resourceVersion": str(self._version), **more}, "items": items[start:end]}

    def _select(self, request: Request) -> Iterator[JsonObject]:
        selector = request.params.get("fieldSelector", "")
        terms = [(path, _unescaped(value)) for path, value in _TERM.findall(selector)]
        kind = KINDS.get(request.resource)
        declared = kind.selectable_fields if kind is not None and not self.foreign_schemas else ()
        selectable = {"metadata.name", *declared}
        for path, _ in terms:
            if path not in selectable:
                raise KcpError(400, "BadRequest", f"field label not supported: {path}")
        for (cluster, resource, namespace, _), raw in self._stored.items():
            if resource != request.resource or request.cluster not in (cluster, "*"):
                continue
            if request.namespace in (None, namespace) and all(_field(raw, path) == value for path, value in terms):
                yield raw

    def _create(self, request: Request) -> JsonObject:
        raw: JsonObject = request.body
        key = (request.cluster, request.resource, request.namespace, raw["metadata"]["name"])
        if key in self._stored:
            raise Conflict(409, "AlreadyExists", f"{request.resource} {key[-1]!r} already exists")
        _require_ssh_key(raw)
        body: JsonObject = {**raw, "metadata": {**raw["metadata"], "namespace": request.namespace}}
        if request.resource in KINDS:
            body.pop("status", None)
        if request.namespace is None:
            del body["metadata"]["namespace"]
        if request.params.get("dryRun"):
            return body
        return self.add(body, request.cluster)

    def _patch(self, key: _Key, request: Request) -> JsonObject:
        stored, patch = self._existing(key), request.body
        guard = patch.get("metadata", {})
        for field_, what in (("uid", "UID"), ("resourceVersion", "version")):
            if field_ in guard and guard[field_] != stored["metadata"][field_]:
                raise Conflict(409, "Conflict", f"the {what} in the patch is not that of the object")
        if request.params.get("dryRun"):
            return merge(deepcopy(stored), patch)
        if request.subresource == "status":
            return self._apply(key, merge(deepcopy(stored), {"status": patch.get("status", {})}))
        without_status = {k: v for k, v in patch.items() if k != "status" or request.resource not in KINDS}
        return self._apply(key, merge(deepcopy(stored), without_status))

    def _apply(self, key: _Key, raw: JsonObject) -> JsonObject:
        """Store the result of a write, after the changes and checks that the server makes."""
        old = self._existing(key)
        raw = deepcopy(raw)
        metadata, before = raw["metadata"], old["metadata"]
        for kept in ("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp"):
            if kept in before:
                metadata[kept] = before[kept]
        finalizers = metadata.get("finalizers") or []
        if "deletionTimestamp" in before and set(finalizers) - set(before.get("finalizers", ())):
            raise Invalid(422, "Invalid", "metadata.finalizers: Forbidden: no new finalizers when deleting")
        _require_ssh_key(raw)
        if raw == old:
            return old
        if _content(raw) != _content(old) and key[1] in KINDS:
            metadata["generation"] = before["generation"] + 1
        if "deletionTimestamp" in metadata and not finalizers:
            del self._stored[key]
            self._version += 1
            return raw
        return self._store(key, raw)

    def _delete(self, key: _Key) -> JsonObject:
        raw = deepcopy(self._existing(key))
        metadata = raw["metadata"]
        if not metadata.get("finalizers"):
            del self._stored[key]
            return raw
        if "deletionTimestamp" in metadata:
            return raw
        metadata["deletionTimestamp"] = rfc3339(self._now())
        metadata["generation"] += 1
        return self._store(key, raw)

    def _existing(self, key: _Key) -> JsonObject:
        try:
            return self._stored[key]
        except KeyError:
            raise NotFound(404, "NotFound", f"{key[1]} {key[-1]!r} not found") from None

    def _store(self, key: _Key, raw: JsonObject) -> JsonObject:
        self._version += 1
        raw["metadata"]["resourceVersion"] = str(self._version)
        self._stored[key] = raw
        return deepcopy(raw)

    def _uid(self) -> str:
        self._uids += 1
        return f"uid-{self._uids}"


def workspace(cluster: str = "c1", endpoint: str = ENDPOINT) -> Workspace:
    return Workspace(endpoint, cluster)


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    merged: JsonObject = dict(target) if isinstance(target, dict) else {}  # pyright: ignore[reportUnknownArgumentType]
    for name, value in patch.items():  # pyright: ignore[reportUnknownVariableType]
        if value is None:
            merged.pop(name, None)  # pyright: ignore[reportUnknownArgumentType]
        else:
            merged[name] = merge(merged.get(name), value)  # pyright: ignore[reportUnknownArgumentType]
    return merged


def _parse(method: str, url: str, params: Mapping[str, str], body: Any) -> Request:
    """``<endpoint>/clusters/<cluster>/{api/v1,apis/<group>/<version>}[/namespaces/<ns>]/<resource>[/<name>[/<sub>]]``."""
    cluster, *rest = url.partition("/clusters/")[2].split("/")
    del rest[: 2 if rest[0] == "api" else 3]
    namespace = None
    if rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    resource, name, subresource = [*map(unquote, rest), "", ""][:3]
    return Request(method, cluster, resource, namespace, name or None, subresource, dict(params), deepcopy(body))


def _resource_of(raw: JsonObject) -> str:
    return (RESOURCES | {"Secret": "secrets", "APIBinding": "apibindings"})[raw["kind"]]


def _content(raw: JsonObject) -> JsonObject:
    return {name: value for name, value in raw.items() if name not in ("metadata", "status")}


def _field(raw: JsonObject, path: str) -> Any:
    value: Any = raw
    for part in path.split("."):
        value = value.get(part, {}) if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownMemberType]
    return value or ""  # pyright: ignore[reportUnknownVariableType]


def _unescaped(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value)


def _require_ssh_key(raw: JsonObject) -> None:
    if raw.get("type") == "kubernetes.io/ssh-auth" and not (raw.get("data") or {}).get("ssh-privatekey"):
        raise Invalid(422, "Invalid", "data[ssh-privatekey]: Required value")
