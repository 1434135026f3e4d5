"""Repository: one repository on a git host."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import Field

from codecommon.api import go_provider
from codecommon.api.meta import BaseStatus, Resource, Wire, Workspace
from codecommon.api.origin import ReadOrigin
from codecommon.api.reasons import ConditionType

Visibility = Literal["private", "public", "internal"]
AdoptionPolicy = Literal["AdoptOrCreate", "CreateOnly", "AdoptOnly", "Observe"]
DeletionPolicy = Literal["Delete", "Orphan", "Archive"]
MissingPolicy = Literal["Report", "Recreate"]


class RepositorySpec(Wire):
    connection_ref: str
    name: str
    owner: str | None = None
    visibility: Visibility | None = None
    description: str | None = None
    default_branch: str | None = None
    auto_init: bool = False
    adoption_policy: AdoptionPolicy = "AdoptOrCreate"
    deletion_policy: DeletionPolicy | None = None
    missing_policy: MissingPolicy = "Report"


class RepositoryStatus(BaseStatus):
    """``repo_id`` is the host's numeric id in decimal. Together with ``host`` it identifies the repository.

    The URLs in the stored status are for people; ``html_url`` is for messages only.

    ``missing_since``: since when the host does not show the repository; None while it does.
    ``baseline_generation``: the generation whose settings were taken as found on the host and are not applied.
    ``visibility``: the ``spec.visibility`` that was last acted on. A spec that differs from it was edited since.
    ``unmanaged_settings``: the fields of spec that differ on the host and are left as found there, by wire name.
    """

    repo_id: str | None = Field(None, alias="repoID")
    origin: ReadOrigin = None
    host: str | None = None
    owner: str | None = None
    html_url: str | None = Field(None, alias="htmlURL")
    missing_since: datetime | None = None
    baseline_generation: int | None = None
    visibility: Visibility | None = None
    unmanaged_settings: tuple[str, ...] = ()

    @property
    def bound(self) -> bool:
        return self.repo_id is not None


class Repository(Resource[RepositorySpec, RepositoryStatus]):
    @classmethod
    def parse(cls, raw: dict[str, Any], workspace: Workspace) -> Self:
        """Read a Repository as kcp sends it; its status is complete, whoever wrote it."""
        return super().parse(_with_unmanaged_settings(go_provider.complete_repository(raw)), workspace)


def _with_unmanaged_settings(raw: dict[str, Any]) -> dict[str, Any]:
    """The object with ``status.unmanagedSettings``, which was once only in the message of SettingsDiffer."""
    status: dict[str, Any] = raw.get("status") or {}
    if "unmanagedSettings" in status:
        return raw
    for condition in status.get("conditions") or ():
        if condition["type"] == ConditionType.SETTINGS_DIFFER:
            # "left as found on the host: description, visibility (public; edit spec.visibility to change it)"
            settings = str(condition.get("message", "")).partition(": ")[2].split(", ")
            return {**raw, "status": {**status, "unmanagedSettings": [s.split(" ")[0] for s in settings if s]}}
    return raw
