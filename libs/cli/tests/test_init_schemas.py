"""Reading APIResourceSchemas, and their names."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from code_provider.apiresourceschemas import read_schemas, split_schema_name
from code_provider.provider_workspace import InitError


def document(name: str = "v1.things.example.org", **changes: object) -> str:
    schema = {"apiVersion": "apis.kcp.io/v1alpha1", "kind": "APIResourceSchema", "metadata": {"name": name}}
    return yaml.safe_dump(schema | changes)


@pytest.mark.parametrize(
    ("name", "resource", "group"),
    [
        ("v260609-fc69fa2.connections.code.kedge.faros.sh", "connections", "code.kedge.faros.sh"),
        ("v260802-8d0bfc17.repositorycommits.code.kedge.faros.sh", "repositorycommits", "code.kedge.faros.sh"),
        ("v1.greetings.example", "greetings", "example"),
    ],
)
def test_a_schema_name_is_version_resource_and_group(name: str, resource: str, group: str) -> None:
    assert split_schema_name(name) == (resource, group)


@pytest.mark.parametrize("name", ["", "connections", "v1.connections", "v1.connections.", "v1..group", ".things.group"])
def test_a_schema_name_without_all_three_parts_is_an_error_that_quotes_it(name: str) -> None:
    with pytest.raises(InitError, match=repr(name)):
        split_schema_name(name)


def test_schemas_are_read_in_the_order_of_their_file_names(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(document("v1.b.example.org"))
    (tmp_path / "a.yml").write_text(document("v1.a.example.org"))
    (tmp_path / "README.md").write_text("not a schema")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "c.yaml").write_text(document("v1.c.example.org"))
    assert [schema["metadata"]["name"] for schema in read_schemas(tmp_path)] == ["v1.a.example.org", "v1.b.example.org"]


def test_a_folder_that_is_missing_or_empty_has_no_schemas(tmp_path: Path) -> None:
    assert read_schemas(tmp_path) == []
    assert read_schemas(tmp_path / "missing") == []


def test_a_comment_before_the_document_does_not_count_as_one(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("# generated\n---\n" + document())
    assert len(read_schemas(tmp_path)) == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "0 documents"),
        (document() + "---\n" + document(), "2 documents"),
        (document(apiVersion="apis.kcp.io/v1alpha2"), "not of kind APIResourceSchema in apis.kcp.io/v1alpha1"),
        (document(kind="APIExport"), "not of kind APIResourceSchema"),
        (document(metadata={}), "has no name"),
        ("- a list", "not of kind APIResourceSchema"),
        ("a: [", "not YAML"),
    ],
)
def test_a_file_that_is_not_exactly_one_schema_is_an_error_that_names_it(
    tmp_path: Path, text: str, complaint: str
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InitError) as raised:
        read_schemas(tmp_path)
    assert str(path) in str(raised.value)
    assert complaint in str(raised.value)
    assert "\n" not in str(raised.value)
