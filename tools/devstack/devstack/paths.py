"""Where things of this checkout are."""

from __future__ import annotations

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
TOOLS_BIN = REPOSITORY / ".tools" / "bin"
TOOLS_OPENSSH = REPOSITORY / ".tools" / "openssh"
CONTROLPLANE_MODULE = REPOSITORY / "tools" / "controlplane"
RUNS = REPOSITORY / ".dev"
"""Data and logs of everything that devstack starts, one folder per run; ignored by git."""

VENV_BIN = Path(sys.executable).parent
"""Commands that Python packages install: ``nats-server``, ``code-provider``."""
