"""Objects that the Go provider left: their status as reconcilers see it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from codecommon.api import go_provider
from codecommon.api.access import Collaborator, DeployKey
from codecommon.api.meta import Workspace
from codecommon.api.origin import ReadOrigin
from codecommon.api.repository import Repository
from codecommon.testing.builders import ENDPOINT, collaborator_object, condition, deploy_key_object, repository_object

MADE = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
METADATA = {"uid": "u", "resourceVersion": "1", "generation": 3, "creationTimestamp": MADE.isoformat()}
HERE = Workspace(ENDPOINT, "c1")
URL = "https://git.example:8443/octocat/site"
READY = {"conditions": [condition("Ready", "True", "Ready")]}


def repository(status: dict[str, Any] | None, **spec: Any) -> Repository:
    return Repository.parse(repository_object(metadata=METADATA, status=status, **spec), HERE)


def deploy_key(status: dict[str, Any] | None) -> DeployKey:
    return DeployKey.parse(deploy_key_object(metadata=METADATA, status=status), HERE)


def collaborator(status: dict[str, Any] | None) -> Collaborator:
    return Collaborator.parse(collaborator_object(metadata=METADATA, status=status), HERE)


def test_a_repository_has_the_host_and_owner_of_its_url_and_its_spec_as_baseline() -> None:
    status = repository({"repoID": "7", "htmlURL": URL}, visibility="public").status
    assert (status.host, status.owner, status.origin) == ("git.example:8443", "octocat", "Unrecorded")
    assert (status.baseline_generation, status.visibility) == (3, "public")


@pytest.mark.parametrize("url", ["", "octocat/site", "https://[git.example/octocat"])
def test_a_repository_with_a_url_that_is_none_is_read_all_the_same(url: str) -> None:
    status = repository({"repoID": "7", "htmlURL": url}).status
    assert (status.host, status.origin) == (None, "Unrecorded")


OURS = {
    "nothing on the host yet": None,
    "bound, origin on record": {"repoID": "7", "origin": "Created", "htmlURL": URL},
}


@pytest.mark.parametrize("given", OURS.values(), ids=OURS)
def test_a_repository_of_ours_is_read_as_it_is(given: dict[str, Any] | None) -> None:
    status = repository(given, visibility="public").status
    assert status.origin == (given or {}).get("origin")
    assert (status.host, status.owner, status.baseline_generation, status.visibility) == (None, None, None, None)


KEYS = {
    "an id and no origin: this generation": ({"keyID": "1"}, "Unrecorded", 3),
    "an interrupted pass has recorded the baseline: that one": (
        {"keyID": "1", "baselineGeneration": 2},
        "Unrecorded",
        2,
    ),
    "origin on record: as it is": ({"keyID": "1", "origin": "Adopted"}, "Adopted", None),
    "nothing on the host yet": (None, None, None),
}


@pytest.mark.parametrize(("given", "origin", "baseline"), KEYS.values(), ids=KEYS)
def test_a_deploy_key(given: dict[str, Any] | None, origin: str | None, baseline: int | None) -> None:
    status = deploy_key(given).status
    assert (status.origin, status.baseline_generation, status.bound) == (origin, baseline, origin is not None)


SECRETS = {
    "named by status, no rotation on record": ({"keyID": "1", "secretRef": {"name": "s"}}, True),
    "also after its origin was recorded": ({"keyID": "1", "origin": "Created", "secretRef": {"name": "s"}}, True),
    "ours": ({"keyID": "1", "secretRef": {"name": "s"}, "rotatedAt": MADE.isoformat()}, False),
    "none": ({"keyID": "1"}, False),
}


@pytest.mark.parametrize(("given", "wanted"), SECRETS.values(), ids=SECRETS)
def test_a_secret_without_owner(given: dict[str, Any], wanted: bool) -> None:
    assert deploy_key(given).status.secret_without_owner is wanted


USERS = {
    "access in force: Ready and nothing else": (READY, "Unrecorded", 3),
    "an open invitation": ({"invitationID": "5"}, "Unrecorded", 3),
    "origin on record: as it is": ({**READY, "origin": "Adopted", "host": "git.example"}, "Adopted", None),
    "its time had come before it gave anything": ({**READY, "host": "git.example"}, None, None),
    "a host: what has one is ours": ({"invitationID": "5", "host": "git.example"}, None, None),
    "not ready and not invited": ({"conditions": [condition("Ready", "False", "Failed")]}, None, None),
}


@pytest.mark.parametrize(("given", "origin", "baseline"), USERS.values(), ids=USERS)
def test_a_collaborator(given: dict[str, Any], origin: str | None, baseline: int | None) -> None:
    status = collaborator(given).status
    assert (status.origin, status.baseline_generation, status.bound) == (origin, baseline, origin is not None)


ORIGINS: dict[str, tuple[ReadOrigin, datetime | None, str]] = {
    "on record: whatever the times say": ("Adopted", MADE, "Adopted"),
    "not older than the object": ("Unrecorded", MADE, "Created"),
    "older than the object": ("Unrecorded", MADE - timedelta(seconds=1), "Adopted"),
    "access, which has no time": ("Unrecorded", None, "Created"),
}


@pytest.mark.parametrize(("origin", "made_at", "wanted"), ORIGINS.values(), ids=ORIGINS)
def test_the_origin(origin: ReadOrigin, made_at: datetime | None, wanted: str) -> None:
    assert go_provider.resolve_origin(origin, object_created_at=MADE, made_at=made_at) == wanted


IDENTIFIERS = [("Repository", "repoID"), ("DeployKey", "keyID"), ("Collaborator", "invitationID")]


@pytest.mark.parametrize(("kind", "field"), IDENTIFIERS)
def test_the_watcher_recognises_an_object_that_was_left(kind: str, field: str) -> None:
    assert go_provider.left_by_go_provider(kind, {field: "1"})
    assert not go_provider.left_by_go_provider(kind, {field: "1", "origin": "Adopted"})
    assert not go_provider.left_by_go_provider(kind, {})


@pytest.mark.parametrize(("given", "origin", "_"), USERS.values(), ids=USERS)
def test_the_watcher_takes_for_left_the_access_that_is_read_as_left(
    given: dict[str, Any] | None, origin: str | None, _: int | None
) -> None:
    assert go_provider.left_by_go_provider("Collaborator", given or {}) is (origin == "Unrecorded")


def test_the_watcher_takes_no_other_kind_for_left_because_it_is_ready() -> None:
    for kind in ("Connection", "Repository", "DeployKey"):
        assert not go_provider.left_by_go_provider(kind, READY)
