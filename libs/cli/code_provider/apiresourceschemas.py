"""The APIResourceSchemas that the provider brings: reading them, and what their names say."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from code_provider.errors import InitError
from code_provider.provider_workspace import JsonObject, Resource, Workspace

_log = logging.getLogger(__name__)

SCHEMAS: Final = Resource("apis.kcp.io/v1alpha1", "apiresourceschemas")


class GroupResource(NamedTuple):
    resource: str
    group: str


def split_schema_name(name: str) -> GroupResource:
    """What ``<version prefix>.<resource>.<group>`` says.

    ``v260609-fc69fa2.connections.code.kedge.faros.sh`` is ``connections`` of ``code.kedge.faros.sh``.
    Raises ``InitError`` when one of the three is missing.
    """
    prefix, _, rest = name.partition(".")
    resource, _, group = rest.partition(".")
    if not (prefix and resource and group):
        raise InitError(f"APIResourceSchema {name!r} is not named <version>.<resource>.<group>")
    return GroupResource(resource, group)


def read_schemas(folder: Path) -> list[JsonObject]:
    """The schemas in ``folder``, in the order of their file names; a folder that is missing or empty has none.

    Every ``*.yaml`` and ``*.yml`` file holds exactly one APIResourceSchema of ``apis.kcp.io/v1alpha1``.
    Raises ``InitError`` for one that does not.
    """
    if not folder.is_dir():
        return []
    files = sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml"))
    return [read_object(path, "apis.kcp.io/v1alpha1", "APIResourceSchema") for path in files]


def read_object(path: Path, api_version: str, kind: str) -> JsonObject:
    """The one object in ``path``. Raises ``InitError`` unless it is exactly one, of that kind, with a name."""
    try:
        documents: list[Any] = [
            document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document is not None
        ]
    except OSError as error:
        raise InitError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InitError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if len(documents) != 1:
        raise InitError(f"{path} holds {len(documents)} documents instead of one")
    (document,) = documents
    if not isinstance(document, dict) or (document.get("apiVersion"), document.get("kind")) != (api_version, kind):
        raise InitError(f"{path} is not of kind {kind} in {api_version}")
    metadata = document.get("metadata")
    if not (isinstance(metadata, dict) and metadata.get("name")):
        raise InitError(f"{path}: the {kind} has no name")
    return document


async def ensure_schemas(workspace: Workspace, schemas: list[JsonObject]) -> None:
    """Create what is missing. kcp's schemas are immutable: one that exists is left alone, and superseded ones stay."""
    if not schemas:
        _log.warning("there are no APIResourceSchemas to apply")
    for schema in schemas:
        await workspace.create(SCHEMAS, schema)
