"""What ``code-provider init`` reads from its environment."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from codecommon.process.settings import DEFAULT_WORKSPACE_PATH, kubeconfig_path

DEFAULT_SCHEMAS_DIR: Final = Path("/etc/kedge/schemas")


@dataclass(frozen=True, slots=True)
class InitSettings:
    """
    kubeconfig: path of the provider's kubeconfig; None means the service account of the pod.
    workspace_path: ``root:…`` path of the provider's workspace, with which the endpoint slice refers to the export.
    schemas_dir: folder of the APIResourceSchemas, one in each file.
    catalog_entry: file of the CatalogEntry to register; None: init registers nothing.
    """

    kubeconfig: Path | None
    workspace_path: str
    schemas_dir: Path
    catalog_entry: Path | None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], *, default_schemas_dir: Path = DEFAULT_SCHEMAS_DIR) -> Self:
        """Read ``environ``. An empty variable counts as unset. ``default_schemas_dir`` is where images keep the schemas."""
        schemas_dir = environ.get("KEDGE_SCHEMAS_DIR")
        catalog_entry = environ.get("KEDGE_CATALOGENTRY_FILE")
        return cls(
            kubeconfig=kubeconfig_path(environ),
            workspace_path=environ.get("CODE_WORKSPACE_PATH") or DEFAULT_WORKSPACE_PATH,
            schemas_dir=Path(schemas_dir) if schemas_dir else _schemas_dir(default_schemas_dir),
            catalog_entry=Path(catalog_entry) if catalog_entry else None,
        )


def _schemas_dir(default: Path) -> Path:
    """``default`` if there is such a folder, else the schemas in this distribution."""
    return default if default.is_dir() else Path(str(importlib.resources.files("code_provider") / "schemas"))
