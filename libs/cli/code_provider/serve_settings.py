"""Settings of ``code-provider serve`` itself. Its services read theirs from the same environment."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import Field

from codecommon.controller.settings import ReconcilerSettings
from codecommon.process.settings import Exactly, Port


class ServeSettings(ReconcilerSettings):
    """All settings of reconcilers, so that a wrong value ends serve before it starts anything, and those of serve."""

    data_dir: Path | None = Field(default=None, validation_alias="CODE_DATA_DIR")
    """Where the nats-server of `serve` keeps its data. Unset: the platform's folder for a user's application data."""
    external_nats: str | None = Field(default=None, validation_alias="NATS_URL", repr=False)
    """None: serve runs a nats-server of its own."""
    run_init: Exactly = Field(default=False, validation_alias="CODE_SERVE_INIT")
    """Whether serve runs init, once the kubeconfig is there."""
    first_health_port: Port = Field(
        default=0,
        validation_alias="CODE_SERVE_HEALTH_PORT",
        description="the first of six ports in a row, or 0 for any free ones",
    )
    """Of ``/livez``, ``/readyz`` and ``/metrics``. Not ``CODE_HEALTH_PORT``, which images set for a service that runs alone."""
    xdg_data_home: Path | None = Field(default=None, validation_alias="XDG_DATA_HOME")
    home: Path = Field(default=Path("/"), validation_alias="HOME")

    @property
    def data_folder(self) -> Path:
        """``CODE_DATA_DIR``, or the platform's folder for a user's application data."""
        if self.data_dir is not None:
            return self.data_dir.absolute()
        if sys.platform == "darwin":
            return self.home / "Library/Application Support/code-provider"
        # The XDG specification wants relative paths to be ignored.
        base = self.xdg_data_home if self.xdg_data_home and self.xdg_data_home.is_absolute() else None
        return (base or self.home / ".local/share") / "code-provider"
