"""Checking responses against GitHub's published OpenAPI description.

The description is OpenAPI 3.0: its schemas are JSON Schema Draft 4 but for `nullable`, which is rewritten.
Each change between two versions of the API stands in it as a patch to the older version's schemas. Schemas
are closed: a property that the description does not know is a violation too.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson

_CHANGES = "x-github-breaking-changes"
_BASE = "urn:github:openapi"
_BASIC_ERROR = "#/components/schemas/basic-error"
# Properties that GitHub sends and its description leaves out.
_UNDESCRIBED = {"rate-limit": {"resource": {"type": "string"}}}


class ContractViolation(Exception):
    """A response is not what the description says; the text lists where."""


class Contract:
    """The description's responses in one version of the API (a date; the changes up to it are applied)."""

    def __init__(self, description: Path, *, version: str) -> None:
        document = orjson.loads(description.read_bytes())
        for name, properties in _UNDESCRIBED.items():
            document["components"]["schemas"][name]["properties"] |= properties
        self._document = _rewritten(document, version)
        schemas = {"components": {"schemas": self._document["components"]["schemas"]}}
        self._registry = jsonschema_rs.Registry([(_BASE, schemas)], draft=jsonschema_rs.Draft4)
        self._validators: dict[tuple[str, str, int], jsonschema_rs.Draft4Validator | None] = {}

    def check(self, method: str, path: str, status: int, body: Any) -> None:
        """Raises ContractViolation if `body` is not a response of that status to the operation.

        `path` is the description's template. Redirects and errors that the description leaves out of an operation
        (401 and 429 of most), or tells no content of, must be its basic error. Any other response without content must
        have no body (None).
        """
        if status >= 400:
            body = _without_status(body, status)
        key = (method.lower(), path, status)
        if key not in self._validators:
            self._validators[key] = self._validator(*key)
        validator = self._validators[key]
        if validator is None:
            violations = [] if body is None else ["a body where there is none"]
        else:
            violations = [f"{'/'.join(map(str, e.instance_path))}: {e.message}" for e in validator.iter_errors(body)]
        if violations:
            raise ContractViolation(f"{method} {path} {status}:\n" + "\n".join(violations))

    def _validator(self, method: str, path: str, status: int) -> jsonschema_rs.Draft4Validator | None:
        try:
            responses = self._document["paths"][path][method]["responses"]
        except KeyError:
            raise ContractViolation(f"{method} {path} is not described") from None
        response = responses.get(str(status))
        if response is None and status < 300:
            raise ContractViolation(f"{method} {path} has no answer {status}")
        if response is not None and "$ref" in response:
            response = self._document["components"]["responses"][response["$ref"].rpartition("/")[2]]
        content = (response or {}).get("content", {}).get("application/json")
        if content is not None:
            return self._compile(content["schema"])
        return None if response is not None and status < 400 else self._compile({"$ref": _BASIC_ERROR})

    def _compile(self, schema: dict[str, Any]) -> jsonschema_rs.Draft4Validator:
        return jsonschema_rs.Draft4Validator(_absolute(schema), validate_formats=True, registry=self._registry)


def _absolute(node: Any) -> Any:
    """A schema that stands in a path, with its references into the registry."""
    if isinstance(node, list):
        return [_absolute(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {name: _BASE + value if name == "$ref" else _absolute(value) for name, value in node.items()}


def _without_status(body: Any, status: int) -> Any:
    """An error's body less its `status`: all errors have it, as a string, but not all of the description's schemas."""
    if not isinstance(body, dict) or body.get("status") != str(status):
        raise ContractViolation(f"an error {status} that does not say so: {body}")
    return {name: value for name, value in body.items() if name != "status"}


def _rewritten(node: Any, version: str) -> Any:
    """The description in the given version, its schemas in Draft 4 and closed."""
    if isinstance(node, list):
        return [_rewritten(item, version) for item in node]
    if not isinstance(node, dict):
        return node
    changes = node.get(_CHANGES, [])
    node = {name: value for name, value in node.items() if name != _CHANGES}
    for change in changes:
        if change["version"] <= version:
            node = _patched(node, change["patch"])
    node = {name: _rewritten(value, version) for name, value in node.items()}
    if isinstance(node.get("properties"), dict) and node.get("type") == "object":
        node.setdefault("additionalProperties", False)
    if node.pop("nullable", None) is True:
        return {"anyOf": [node, {"type": "null"}]}
    return node


def _patched(node: dict[str, Any], patch: Any) -> dict[str, Any]:
    """A JSON patch (a list of operations) or a JSON merge patch (an object) applied to a copy."""
    if not isinstance(patch, list):
        return _merged(node, patch)
    node = deepcopy(node)
    for operation in patch:
        _apply(node, operation)
    return node


def _merged(node: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    merged = dict(node) if isinstance(node, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), value)
    return merged


def _apply(node: Any, operation: dict[str, Any]) -> None:
    *parents, last = (part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:])
    for part in parents:
        node = node[int(part) if isinstance(node, list) else part]
    key = int(last) if isinstance(node, list) else last
    if operation["op"] == "remove":
        del node[key]
    else:
        node[key] = operation["value"]
