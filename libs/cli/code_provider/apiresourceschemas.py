"""The APIResourceSchemas that the provider brings: reading them from files, and creating them in its workspace."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from code_provider.provider_workspace import GroupVersionResource, InitError, ProviderWorkspace
from codecommon.kcp.client import JsonObject

_log = logging.getLogger(__name__)

# The loader in Python takes ten times as long for the schemas, which init and doctor read each time.
_LOADER: Final = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
SCHEMAS: Final = GroupVersionResource("apis.kcp.io/v1alpha1", "apiresourceschemas")


class GroupResource(NamedTuple):
    resource: str
    group: str


def split_schema_name(name: str) -> GroupResource:
    """The resource and group in a schema's name, ``<version>.<resource>.<group>``.

    ``v260609-fc69fa2.connections.code.kedge.faros.sh`` is ``connections`` of ``code.kedge.faros.sh``.
    Raises ``InitError`` if one of the three is missing.
    """
    prefix, _, rest = name.partition(".")
    resource, _, group = rest.partition(".")
    if not (prefix and resource and group):
        raise InitError(f"APIResourceSchema {name!r} is not named <version>.<resource>.<group>")
    return GroupResource(resource, group)


def read_schemas(folder: Path) -> list[JsonObject]:
    """The schemas in ``folder``, in the order of their file names; none if the folder is missing or empty.

    Raises ``InitError`` for a ``*.yaml`` or ``*.yml`` file that does not hold exactly one APIResourceSchema.
    """
    if not folder.is_dir():
        return []
    files = sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml"))
    return [read_object(path, SCHEMAS.api_version, "APIResourceSchema") for path in files]


def read_object(path: Path, api_version: str, kind: str) -> JsonObject:
    """The one object in ``path``. Raises ``InitError`` unless it is exactly one, of that kind, with a name."""
    try:
        text = path.read_text(encoding="utf-8")
        documents: list[Any] = [document for document in yaml.load_all(text, _LOADER) if document is not None]
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


async def ensure_schemas(workspace: ProviderWorkspace, schemas: list[JsonObject]) -> None:
    """Create the schemas that are missing. A schema in kcp is immutable, so an existing one is left alone. Older ones stay."""
    if not schemas:
        _log.warning("there are no APIResourceSchemas to apply")
    for schema in schemas:
        await workspace.create(SCHEMAS, schema)
