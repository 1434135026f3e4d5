"""What the development stack reads from its environment, and what it passes on to its children."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from devstack import connect_with_github
from devstack.environment import inherited
from devstack.errors import StackError


@dataclass(frozen=True)
class Settings:
    """
    kubeconfig: ``CODE_DEV_KUBECONFIG``, an administrator's kubeconfig of an existing kcp; None starts one.
    github_token, github_owner: ``GITHUB_TOKEN`` and ``GITHUB_OWNER``. If both are set, GitHub replaces the simulator.
    oauth: the ``GITHUB_OAUTH_…`` variables, for Connect with GitHub. Empty: an app of the simulator.
    environment: what child processes inherit (`devstack.environment`).
    """

    kubeconfig: Path | None = None
    github_token: str | None = field(default=None, repr=False)
    github_owner: str | None = None
    oauth: Mapping[str, str] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Reads `environ`. An empty variable counts as unset. Raises `StackError` for a value that cannot be used."""
        kubeconfig = environ.get("CODE_DEV_KUBECONFIG")
        if kubeconfig and not Path(kubeconfig).is_file():
            raise StackError(f"CODE_DEV_KUBECONFIG={kubeconfig}: there is no such file")
        token, owner = environ.get("GITHUB_TOKEN"), environ.get("GITHUB_OWNER")
        if owner and not token:
            raise StackError("GITHUB_OWNER is set but GITHUB_TOKEN is not: set both to work on GitHub, or neither")
        return cls(
            kubeconfig=Path(kubeconfig) if kubeconfig else None,
            github_token=token if owner else None,
            github_owner=owner or None,
            oauth=connect_with_github.variables(environ),
            environment=inherited(environ),
        )
