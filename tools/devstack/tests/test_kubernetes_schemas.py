"""OpenAPI of Kubernetes → the schemas that kubeconform reads."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from devstack.kubernetes_schemas import file_name, standalone

OPENAPI: dict[str, Any] = {
    "io.k8s.Thing": {
        "type": "object",
        "required": ["kind"],
        "properties": {
            "kind": {"type": "string"},
            "spec": {"allOf": [{"$ref": "#/components/schemas/io.k8s.Spec"}], "default": {}},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    },
    "io.k8s.Spec": {
        "type": "object",
        "properties": {
            "replicas": {"type": "integer", "format": "int32"},
            "port": {"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"},
            "more": {"type": "array", "items": {"$ref": "#/components/schemas/io.k8s.Spec"}},
            "format": {"type": "string"},
        },
    },
}
THING = jsonschema_rs.validator_for(standalone("io.k8s.Thing", OPENAPI))


@pytest.mark.parametrize(
    "thing",
    [
        {"kind": "Thing", "spec": {"replicas": 1, "port": "http", "format": "x", "more": [{"replicas": 2}]}},
        {"kind": "Thing", "labels": {"any": "label"}},
        # null is what Kubernetes takes for not set.
        {"kind": "Thing", "spec": {"replicas": None, "more": None}},
    ],
)
def test_what_kubernetes_takes_is_right(thing: dict[str, Any]) -> None:
    assert THING.is_valid(thing)


@pytest.mark.parametrize(
    "thing",
    [
        {"spec": {}},
        {"kind": "Thing", "spce": {}},
        {"kind": "Thing", "spec": {"Replicas": 1}},
        {"kind": "Thing", "spec": {"more": [{"replica": 2}]}},
        {"kind": "Thing", "spec": {"replicas": "1"}},
        {"kind": "Thing", "labels": {"a": 1}},
    ],
)
def test_a_misspelt_field_and_a_wrong_type_are_wrong_at_any_depth(thing: dict[str, Any]) -> None:
    assert not THING.is_valid(thing)


def test_a_file_is_named_as_kubeconform_asks_for_it() -> None:
    assert file_name("", "v1", "ConfigMap") == "configmap-v1.json"
    assert file_name("networking.k8s.io", "v1", "NetworkPolicy") == "networkpolicy-networking-v1.json"
