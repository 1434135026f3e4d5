"""The CRDs: they keep the API of the Go provider, on which tenants, portals and clients rely, and its conventions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from codecommon.api.kinds import KINDS

ROOT = Path(__file__).resolve().parents[2]
GO_PROVIDER = ROOT / "tests/fixtures/go-provider"

Json = dict[str, Any]

GO_API: dict[str, Json] = yaml.load((GO_PROVIDER / "api-fields.yaml").read_text(), yaml.CSafeLoader)
CRDS: dict[str, Json] = {
    path.stem: yaml.load(path.read_text(), yaml.CSafeLoader) for path in (ROOT / "crds").glob("*.yaml")
}

CONSTRAINTS = (
    "enum",
    "format",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "maxItems",
    "pattern",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
)

WIDENED = {("collaborators", "spec.permission"): {"type": "string", "minLength": 1, "maxLength": 100}}
"""Fields that accept more than the Go provider's. They accept every value of its enum."""

IMMUTABLE = {
    "connections": {"spec.owner"},
    "repositories": {"spec", "spec.name"},
    "collaborators": {"spec.repositoryRef", "spec.username"},
}
"""Where a rule compares with the old object, if not in the reference alone. Repository's ``spec``: its optional owner."""

each_kind = pytest.mark.parametrize("plural", sorted(CRDS))
each_kind_of_the_go_provider = pytest.mark.parametrize("plural", sorted(GO_API))


def version(plural: str) -> Json:
    (only,) = CRDS[plural]["spec"]["versions"]
    return only


def schema(plural: str) -> Json:
    return version(plural)["schema"]["openAPIV3Schema"]


def walk(node: Json, path: str) -> Iterator[tuple[str, Json, bool]]:
    """Every field below ``node``, without entering conditions: path, schema, required by its parent."""
    for name, field in node.get("properties", {}).items():
        yield f"{path}.{name}", field, name in node.get("required", ())
        if name != "conditions":
            inner, suffix = (field["items"], "[]") if field["type"] == "array" else (field, "")
            yield from walk(inner, f"{path}.{name}{suffix}")


def described(root: Json) -> dict[str, Json]:
    """The fields in the words of api-fields.yaml."""
    found: dict[str, Json] = {}
    for part in ("spec", "status"):
        for path, field, required in walk(root["properties"][part], part):
            if path == "status.conditions":
                found[path] = {"type": "[]Condition"}
                continue
            kind = f"[]{field['items']['type']}" if field["type"] == "array" else field["type"]
            found[path] = {"type": kind, **({"required": True} if required else {})}
            found[path] |= {key: field[key] for key in CONSTRAINTS if key in field}
    return found


def test_every_kind_of_the_go_provider_is_there() -> None:
    assert GO_API.keys() <= CRDS.keys()


@each_kind_of_the_go_provider
def test_a_kind_has_the_name_and_short_name_of_the_go_provider(plural: str) -> None:
    names = CRDS[plural]["spec"]["names"]
    assert (names["kind"], names["shortNames"]) == (GO_API[plural]["kind"], [GO_API[plural]["short"]])


@each_kind
def test_a_kind_is_named_after_its_kind_is_cluster_scoped_and_has_a_status_subresource(plural: str) -> None:
    spec = CRDS[plural]["spec"]
    kind, short_names = spec["names"]["kind"], spec["names"]["shortNames"]
    assert CRDS[plural]["metadata"]["name"] == f"{plural}.code.kedge.faros.sh"
    assert (spec["group"], spec["scope"], version(plural)["name"]) == ("code.kedge.faros.sh", "Cluster", "v1alpha1")
    assert spec["names"] == {
        "kind": kind,
        "listKind": f"{kind}List",
        "plural": plural,
        "singular": kind.lower(),
        "shortNames": short_names,
        "categories": ["kedge"],
    }
    assert version(plural)["subresources"] == {"status": {}}


@each_kind_of_the_go_provider
def test_a_kind_prints_the_columns_of_the_go_provider_in_their_order(plural: str) -> None:
    columns = version(plural)["additionalPrinterColumns"]
    assert [f"{column['name']} {column['jsonPath']}" for column in columns] == GO_API[plural]["columns"]


@each_kind_of_the_go_provider
def test_a_kind_requires_what_the_go_provider_requires_and_no_more(plural: str) -> None:
    required = GO_API[plural]["required"]
    assert schema(plural)["required"] == required["root"]
    assert sorted(schema(plural)["properties"]["spec"]["required"]) == sorted(required["spec"])
    assert "required" not in schema(plural)["properties"]["status"]


@each_kind_of_the_go_provider
def test_every_field_of_the_go_provider_is_there_with_the_same_constraints(plural: str) -> None:
    ours = described(schema(plural))
    expected = {path: WIDENED.get((plural, path), field) for path, field in GO_API[plural]["fields"].items()}
    assert {path: ours.get(path) for path in expected} == expected


def test_a_widened_field_takes_every_value_of_the_go_provider() -> None:
    for (plural, path), widened in WIDENED.items():
        for value in GO_API[plural]["fields"][path]["enum"]:
            assert widened["minLength"] <= len(value) <= widened["maxLength"]


@each_kind_of_the_go_provider
def test_no_added_field_is_required_by_an_object_of_the_go_provider(plural: str) -> None:
    theirs = GO_API[plural]["fields"]
    added = {path: field for path, field in described(schema(plural)).items() if path not in theirs}
    whole = {path for path in added if path.rpartition(".")[0].removesuffix("[]") not in added}
    assert "status.lastHandledReconcileAt" in whole
    assert not [path for path in whole if added[path].get("required")]


@each_kind
def test_conditions_are_standard_conditions_keyed_by_type(plural: str) -> None:
    conditions = schema(plural)["properties"]["status"]["properties"]["conditions"]
    assert (conditions["x-kubernetes-list-type"], conditions["x-kubernetes-list-map-keys"]) == ("map", ["type"])
    assert sorted(conditions["items"]["required"]) == ["lastTransitionTime", "message", "reason", "status", "type"]
    fields = conditions["items"]["properties"]
    assert fields.keys() == {*conditions["items"]["required"], "observedGeneration"}
    assert fields["status"]["enum"] == ["True", "False", "Unknown"]


@each_kind
def test_identities_and_references_are_immutable_and_say_what_to_do(plural: str) -> None:
    root = schema(plural)["properties"]["spec"]
    rules = {path: field["x-kubernetes-validations"] for path, field, _ in walk(root, "spec") if has_rules(field)}
    if has_rules(root):
        rules["spec"] = root["x-kubernetes-validations"]
    of_a_request = {"spec"} if KINDS[plural].request else set[str]()
    assert rules.keys() == IMMUTABLE.get(plural, {f"spec.{KINDS[plural].reference}"}) | of_a_request
    for path in rules.keys() - {"spec"}:
        assert [rule["rule"] for rule in rules[path]] == ["self == oldSelf"]
    for rule in (rule for found in rules.values() for rule in found):
        assert "cannot change" in rule["message"]
        assert "another" in rule["message"]


def has_rules(field: Json) -> bool:
    return "x-kubernetes-validations" in field


@each_kind
def test_every_field_has_a_description(plural: str) -> None:
    parts = schema(plural)["properties"]
    undescribed = [path for part in ("spec", "status") for path, field, _ in walk(parts[part], part) if blank(field)]
    assert not undescribed


def blank(field: Json) -> bool:
    return not field.get("description", "").strip()


@each_kind_of_the_go_provider
def test_the_schemas_of_the_go_provider_are_what_the_table_says(plural: str) -> None:
    text = (GO_PROVIDER / f"schemas/{plural}.code.kedge.faros.sh.yaml").read_text()
    (only,) = yaml.safe_load(text)["spec"]["versions"]
    assert described(only["schema"]) == GO_API[plural]["fields"]
    assert "selectableFields" not in only
    assert "x-kubernetes-validations" not in text
