"""Where things of this checkout are."""

from __future__ import annotations

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
TOOLS_BIN = REPOSITORY / ".tools" / "bin"
TOOLS_OPENSSH = REPOSITORY / ".tools" / "openssh"
TOOLS_SCHEMAS = REPOSITORY / ".tools" / "schemas"
CONTROLPLANE_MODULE = REPOSITORY / "tools" / "controlplane"
CHART_MODULES = REPOSITORY / "tools" / "chart"
"""The Go modules of the tools with which the Helm chart is tested, one folder for each."""
CONTAINER_MODULE = REPOSITORY / "tools" / "container"
"""The Go module of Docker Compose v2 and buildx."""
RUNS = REPOSITORY / ".dev"
"""Data and logs of everything that devstack starts, one folder per run; ignored by git."""

VENV_BIN = Path(sys.executable).parent
"""Commands that Python packages install: ``nats-server``, ``code-provider``."""
