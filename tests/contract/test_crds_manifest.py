"""manifest.yaml against what today's hub accepts, and against what init asks of tenants."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from code_provider.apiexport import PERMISSION_CLAIMS
from codecommon.kcp.endpoints import EXPORT_NAME

ROOT = Path(__file__).resolve().parents[2]


def strict(node: dict[str, Any]) -> dict[str, Any]:
    """A schema that refuses unknown fields, as a server does under strict field validation."""
    node = dict(node)
    if "properties" in node:
        node["properties"] = {name: strict(field) for name, field in node["properties"].items()}
        node["additionalProperties"] = False
    if "items" in node:
        node["items"] = strict(node["items"])
    return node


@pytest.fixture(scope="module")
def validator() -> jsonschema_rs.Draft7Validator:
    crd = yaml.safe_load(files("devstack.devhub").joinpath("catalogentry.crd.yaml").read_text())
    (version,) = crd["spec"]["versions"]
    return jsonschema_rs.Draft7Validator(strict(version["schema"]["openAPIV3Schema"]["properties"]["spec"]))


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "manifest.yaml").read_text())


def test_the_manifest_passes_strict_validation(
    validator: jsonschema_rs.Draft7Validator, manifest: dict[str, Any]
) -> None:
    assert (manifest["apiVersion"], manifest["kind"]) == ("providers.kedge.faros.sh/v1alpha1", "CatalogEntry")
    assert [error.message for error in validator.iter_errors(manifest["spec"])] == []


def test_the_inline_manifest_does_not_because_of_its_schemas_alone(validator: jsonschema_rs.Draft7Validator) -> None:
    inline = yaml.safe_load((ROOT / "manifest-inline.yaml").read_text())
    (error,) = validator.iter_errors(inline["spec"])
    assert "'schemas' was unexpected" in error.message


def test_the_manifest_claims_what_the_export_claims(manifest: dict[str, Any]) -> None:
    export = manifest["spec"]["apiExport"]
    assert export["name"] == EXPORT_NAME
    claims = [dict(claim) for claim in export["permissionClaims"]]
    assert [claim.pop("tenantScoped") for claim in claims] == [True]
    assert claims == list(PERMISSION_CLAIMS)


def test_the_manifest_states_the_defaults_of_the_hub(manifest: dict[str, Any]) -> None:
    """Otherwise init would find a difference, and write, each time."""
    assert manifest["spec"]["ui"]["indexPath"] == "/"
    assert manifest["spec"]["backend"]["healthPath"] == "/healthz"
