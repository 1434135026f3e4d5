"""JSON schemas of Kubernetes' objects, for kubeconform: made of the OpenAPI documents that its Go module ships.

The schemas are strict: a field that Kubernetes does not know is refused. A field that Kubernetes would drop is a misspelt one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

REF = "#/components/schemas/"

KINDS = {
    "api__v1": ("ConfigMap", "PersistentVolumeClaim", "Pod", "Secret", "Service", "ServiceAccount"),
    "apis__apps__v1": ("Deployment", "StatefulSet"),
    "apis__autoscaling__v2": ("HorizontalPodAutoscaler",),
    "apis__batch__v1": ("Job",),
    "apis__networking.k8s.io__v1": ("NetworkPolicy",),
    "apis__policy__v1": ("PodDisruptionBudget",),
}
"""OpenAPI document → the kinds in it that the chart may have."""


def write_schemas(openapi: Path, target: Path) -> None:
    """Writes one file for each kind of `KINDS`, named as kubeconform names them: ``deployment-apps-v1.json``."""
    for document, kinds in KINDS.items():
        schemas = json.loads((openapi / f"{document}_openapi.json").read_text())["components"]["schemas"]
        for name, schema in schemas.items():
            for gvk in schema.get("x-kubernetes-group-version-kind", ()):
                if gvk["kind"] in kinds and name.endswith(f".{gvk['version']}.{gvk['kind']}"):
                    file = target / file_name(gvk["group"], gvk["version"], gvk["kind"])
                    file.write_text(json.dumps(standalone(name, schemas)))


def file_name(group: str, version: str, kind: str) -> str:
    return "-".join(part for part in (kind.lower(), group.partition(".")[0], version) if part) + ".json"


def standalone(name: str, schemas: dict[str, Any]) -> dict[str, Any]:
    """The schema of that name with all that it refers to."""
    wanted, definitions = [name], {}
    while wanted:
        found = wanted.pop()
        if found not in definitions:
            definitions[found] = strict(schemas[found])
            wanted += [ref.removeprefix("#/definitions/") for ref in _references(definitions[found])]
    return {"$ref": f"#/definitions/{name}", "definitions": definitions}


def strict(schema: Any) -> Any:
    """The schema without fields that it does not name. A field may be null, which Kubernetes takes for not set."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items() if key not in ("default", "format", "description")}
    if "$ref" in made:
        made["$ref"] = made["$ref"].replace(REF, "#/definitions/")
    if isinstance(made.get("properties"), dict):
        # Not strict(schema["properties"]) alone: a field may be called "default" or "format".
        made["properties"] = {
            field: {"anyOf": [strict(value), {"type": "null"}]} for field, value in schema["properties"].items()
        }
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
    return made


def _references(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [ref for item in schema for ref in _references(item)]
    if not isinstance(schema, dict):
        return []
    own = [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
    return own + [ref for value in schema.values() for ref in _references(value)]
