"""The KindSpecs against the CRDs: what the services know of a kind is what kcp serves."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from pydantic import BaseModel

from code_provider.services import SERVICES
from codecommon.api.kinds import KINDS, KindSpec
from codecommon.messaging.events import Versions

ROOT = Path(__file__).resolve().parents[2]

Json = dict[str, Any]

CRDS: dict[str, Json] = {
    path.stem: yaml.load(path.read_text(), yaml.CSafeLoader) for path in (ROOT / "crds").glob("*.yaml")
}

each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def version(kind: KindSpec[Any]) -> Json:
    (only,) = CRDS[kind.resource]["spec"]["versions"]
    return only


def properties(kind: KindSpec[Any], part: str) -> Json:
    return version(kind)["schema"]["openAPIV3Schema"]["properties"][part]["properties"]


def model(kind: KindSpec[Any], part: str) -> type[BaseModel]:
    return cast("type[BaseModel]", kind.model.model_fields[part].annotation)


def wire_names(of: type[BaseModel]) -> set[str]:
    """Without the fields that are worked out when an object is read."""
    return {field.alias or name for name, field in of.model_fields.items() if not field.exclude}


def test_every_crd_has_a_spec_and_every_spec_a_crd() -> None:
    assert CRDS.keys() == KINDS.keys()


def test_a_parent_comes_before_its_children() -> None:
    order = [None, *KINDS]
    assert all(order.index(kind.parent) < order.index(kind.resource) for kind in KINDS.values())


@each_kind
def test_the_names_are_those_of_the_crd(kind: KindSpec[Any]) -> None:
    names = CRDS[kind.resource]["spec"]["names"]
    assert (kind.kind, kind.resource, kind.singular) == (names["kind"], names["plural"], names["singular"])
    assert kind.model.__name__ == kind.kind


@each_kind
def test_the_service_is_one_that_runs(kind: KindSpec[Any]) -> None:
    assert kind.service is None or kind.service in SERVICES


@each_kind
def test_the_selectable_fields_are_those_of_the_crd(kind: KindSpec[Any]) -> None:
    declared = [field["jsonPath"] for field in version(kind)["selectableFields"]]
    assert declared == [f".{path}" for path in kind.selectable_fields]


@each_kind
def test_the_references_are_required_fields_of_spec(kind: KindSpec[Any]) -> None:
    spec = version(kind)["schema"]["openAPIV3Schema"]["properties"]["spec"]
    references = {reference for reference in (kind.reference, kind.secret_reference) if reference is not None}
    assert references <= set(spec["required"]) & wire_names(model(kind, "spec"))
    assert (kind.reference is None) == (kind.parent is None)
    if kind.secret_reference is not None:
        assert {"name", "namespace"} <= spec["properties"][kind.secret_reference]["properties"].keys()


@each_kind
def test_the_identity_is_a_part_of_status(kind: KindSpec[Any]) -> None:
    assert set(kind.identity) <= properties(kind, "status").keys()


@each_kind
@pytest.mark.parametrize("part", ["spec", "status"])
def test_the_model_has_no_field_that_the_crd_lacks(kind: KindSpec[Any], part: str) -> None:
    assert wire_names(model(kind, part)) <= properties(kind, part).keys()


@each_kind
def test_a_kind_that_others_refer_to_has_its_version_in_events(kind: KindSpec[Any]) -> None:
    carried = {field.name for field in fields(Versions)}
    assert kind.parent is None or KINDS[kind.parent].singular in carried
    assert kind.secret_reference is None or "secret" in carried
