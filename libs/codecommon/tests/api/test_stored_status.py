"""Status that an earlier version stored is converted when it is read."""

from __future__ import annotations

from typing import Any

import pytest

from codecommon.api.access import Collaborator
from codecommon.api.meta import Workspace
from codecommon.api.repository import Repository
from codecommon.testing.builders import CREATED, ENDPOINT, collaborator_object, condition, repository_object

METADATA = {"uid": "u", "resourceVersion": "1", "generation": 1, "creationTimestamp": CREATED}
HERE = Workspace(ENDPOINT, "c1")
FOUND = "left as found on the host: "
VISIBILITY = "visibility (private; edit spec.visibility to change it)"

SETTINGS: dict[str, tuple[str | None, list[str] | None, tuple[str, ...]]] = {
    "one field in the message": (FOUND + VISIBILITY, None, ("visibility",)),
    "several fields in the message": (
        f"{FOUND}description, defaultBranch, {VISIBILITY}",
        None,
        ("description", "defaultBranch", "visibility"),
    ),
    "the field of status counts, whatever the message says": (FOUND + VISIBILITY, ["description"], ("description",)),
    "the field of status, and a message in other words": ("anything", ["visibility"], ("visibility",)),
    "no condition": (None, None, ()),
}


@pytest.mark.parametrize(("message", "stored", "wanted"), SETTINGS.values(), ids=SETTINGS)
def test_settings_left_as_found(message: str | None, stored: list[str] | None, wanted: tuple[str, ...]) -> None:
    told = [condition("SettingsDiffer", "True", "LeftAsFound", message)] if message is not None else []
    status: dict[str, Any] = {"conditions": told} | ({"unmanagedSettings": stored} if stored is not None else {})
    read = Repository.parse(repository_object(metadata=METADATA, status=status), HERE)
    assert read.status.unmanaged_settings == wanted


TEAM = "the user has {} through a team, the organisation or its base permission"
ROLES: dict[str, tuple[str | None, str | None, str | None]] = {
    "a role in the message": (TEAM.format("admin"), None, "admin"),
    "a custom role of two words": (TEAM.format("release manager"), None, "release manager"),
    "the field of status counts, whatever the message says": (TEAM.format("admin"), "maintain", "maintain"),
    "the field of status, and a message in other words": ("anything", "admin", "admin"),
    "no condition": (None, None, None),
}


@pytest.mark.parametrize(("message", "stored", "wanted"), ROLES.values(), ids=ROLES)
def test_a_wider_role(message: str | None, stored: str | None, wanted: str | None) -> None:
    told = [condition("WiderAccess", "True", "NotOurs", message)] if message is not None else []
    status: dict[str, Any] = {"conditions": told} | ({"widerRole": stored} if stored is not None else {})
    read = Collaborator.parse(collaborator_object(metadata=METADATA, status=status), HERE)
    assert read.status.wider_role == wanted
