"""What ``code-provider init`` reads from its environment."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from pydantic import Field

from codecommon.process.settings import ServiceSettings

DEFAULT_SCHEMAS_DIR: Final = Path("/etc/kedge/schemas")


class InitSettings(ServiceSettings):
    """The settings of every process, and:

    schemas_dir: folder of the APIResourceSchemas, one in each file.
    catalog_entry: file of the CatalogEntry to register; None: init registers nothing.
    external_nats: None: ``serve`` brings a nats-server of its own and declares there what it keeps.
    """

    schemas_dir: Path = Field(default=DEFAULT_SCHEMAS_DIR, validation_alias="KEDGE_SCHEMAS_DIR")
    catalog_entry: Path | None = Field(default=None, validation_alias="KEDGE_CATALOGENTRY_FILE")
    external_nats: str | None = Field(default=None, validation_alias="NATS_URL", repr=False)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], *, default_schemas_dir: Path = DEFAULT_SCHEMAS_DIR) -> Self:
        """Read ``environ``. An empty variable counts as unset. ``default_schemas_dir`` is where images keep the schemas.

        Raises ``SettingsError``.
        """
        settings = cls.load(environ)
        if "schemas_dir" in settings.model_fields_set:
            return settings
        return settings.model_copy(update={"schemas_dir": _schemas_dir(default_schemas_dir)})


def _schemas_dir(default: Path) -> Path:
    """``default`` if there is such a folder, else the schemas in this distribution."""
    return default if default.is_dir() else Path(str(importlib.resources.files("code_provider") / "schemas"))
