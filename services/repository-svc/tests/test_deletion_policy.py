"""What happens to a repository on the host when its object is deleted: one row per rule."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from codecommon.api.repository import Repository
from codecommon.api.results import Interruption, NotReady, Retryable, Terminal
from codecommon.controller.cleanup import may_give_up
from codecommon.githost.protocol import Absent, HostRepository, HostUnavailable, Redirected
from codecommon.testing.builders import parse_repository, repository_object
from codecommon.testing.repositories import NOW, SEEN, claim_of_time
from repository_svc.decide import Found
from repository_svc.deletion_policy import OnHost, decide_after_look, decide_on_host

CLAIMED = "2026-01-01T12:00:00Z"
OURS = {"repoID": "7", "origin": "Created"}
ADOPTED = {"repoID": "7", "origin": "Adopted"}
LEGACY = {"repoID": "7"}


def repo(*, claim: str | None = None, status: dict[str, Any] | None = None, **spec: Any) -> Repository:
    metadata: dict[str, Any] = {"creationTimestamp": NOW.isoformat(), "deletionTimestamp": NOW.isoformat()}
    parsed = parse_repository(repository_object(metadata=metadata, status=status, **spec))
    return parsed.model_copy(update={"claim": claim_of_time(claim)})


# Without the host: policy, what is on record, and whether the workspace gives up the API.
DELETED = {
    "created, no policy: deleted": (repo(status=OURS), OnHost.DELETE),
    "created, Delete: deleted": (repo(status=OURS, deletionPolicy="Delete"), OnHost.DELETE),
    "created, Orphan: left": (repo(status=OURS, deletionPolicy="Orphan"), OnHost.LEAVE),
    "created, Archive: archived": (repo(status=OURS, deletionPolicy="Archive"), OnHost.ARCHIVE),
    "adopted, no policy: left": (repo(status=ADOPTED), OnHost.LEAVE),
    "adopted, Delete: the user says so": (repo(status=ADOPTED, deletionPolicy="Delete"), OnHost.DELETE),
    "adopted, Orphan: left": (repo(status=ADOPTED, deletionPolicy="Orphan"), OnHost.LEAVE),
    "adopted, Archive: the user says so": (repo(status=ADOPTED, deletionPolicy="Archive"), OnHost.ARCHIVE),
    "the Go provider, no policy: the dates on the host decide": (repo(status=LEGACY), OnHost.LOOK),
    "the Go provider, Orphan: left without a call": (repo(status=LEGACY, deletionPolicy="Orphan"), OnHost.LEAVE),
    "nothing was ever made: released without a call": (repo(), OnHost.LEAVE),
    "nothing was ever made, Delete: released without a call": (repo(deletionPolicy="Delete"), OnHost.LEAVE),
    "claimed, the answer unknown: looked for": (repo(claim=CLAIMED), OnHost.LOOK),
    "claimed, Orphan: left without a call": (repo(claim=CLAIMED, deletionPolicy="Orphan"), OnHost.LEAVE),
    "Observe changes nothing on the host": (repo(status=ADOPTED, adoptionPolicy="Observe"), OnHost.LEAVE),
}

LEAVING = {
    "created, no policy: nobody loses a repository by pressing disable": (repo(status=OURS), OnHost.LEAVE),
    "created, Archive: not an explicit Delete": (repo(status=OURS, deletionPolicy="Archive"), OnHost.LEAVE),
    "created, Orphan: left": (repo(status=OURS, deletionPolicy="Orphan"), OnHost.LEAVE),
    "created, Delete is explicit: deleted": (repo(status=OURS, deletionPolicy="Delete"), OnHost.DELETE),
    "adopted, Delete is explicit: deleted": (repo(status=ADOPTED, deletionPolicy="Delete"), OnHost.DELETE),
    "the Go provider, no policy: left": (repo(status=LEGACY), OnHost.LEAVE),
    "claimed, the answer unknown: left": (repo(claim=CLAIMED), OnHost.LEAVE),
    "claimed, Delete is explicit: looked for": (repo(claim=CLAIMED, deletionPolicy="Delete"), OnHost.LOOK),
}


@pytest.mark.parametrize(("object_", "wanted"), DELETED.values(), ids=DELETED)
def test_a_user_deletes_the_object(object_: Repository, wanted: OnHost) -> None:
    assert decide_on_host(object_, leaving=False) is wanted


@pytest.mark.parametrize(("object_", "wanted"), LEAVING.values(), ids=LEAVING)
def test_the_workspace_gives_up_the_api(object_: Repository, wanted: OnHost) -> None:
    assert decide_on_host(object_, leaving=True) is wanted


@dataclass(frozen=True)
class Look:
    repo: Repository
    seen: Found | None
    wanted: OnHost | str
    """A string: the reason of the ``Retryable`` that is raised."""

    now: datetime = NOW


def made(seconds: float) -> HostRepository:
    return replace(SEEN, created_at=NOW + timedelta(seconds=seconds))


LATER = NOW + timedelta(minutes=2)
LOOKED = {
    "the Go provider, not older than the object: made by it, deleted": Look(
        repo(status=LEGACY), made(0), OnHost.DELETE
    ),
    "the Go provider, older than the object: adopted, left": Look(repo(status=LEGACY), made(-1), OnHost.LEAVE),
    "the Go provider, adopted, explicit Delete: deleted": Look(
        repo(status=LEGACY, deletionPolicy="Delete"), made(-1), OnHost.DELETE
    ),
    "the Go provider, Archive: archived": Look(repo(status=LEGACY, deletionPolicy="Archive"), made(0), OnHost.ARCHIVE),
    "the Go provider, gone from the host: nothing to clean up": Look(repo(status=LEGACY), None, OnHost.LEAVE),
    "the claim covers it: ours, deleted": Look(repo(claim=CLAIMED), made(5), OnHost.DELETE),
    "the claim covers it, Archive: archived": Look(
        repo(claim=CLAIMED, deletionPolicy="Archive"), made(5), OnHost.ARCHIVE
    ),
    "older than the claim: not ours, left": Look(repo(claim=CLAIMED), made(-5), OnHost.LEAVE),
    "older than the claim, explicit Delete: we never had it, left": Look(
        repo(claim=CLAIMED, deletionPolicy="Delete"), made(-5), OnHost.LEAVE
    ),
    "not to be seen right after the claim: waited for": Look(repo(claim=CLAIMED), Absent(NOW), "HostNotYetVisible"),
    "not to be seen two minutes after the claim: it was not made": Look(
        repo(claim=CLAIMED), Absent(LATER), OnHost.LEAVE, LATER
    ),
    "the name leads elsewhere: not ours, left": Look(
        repo(claim=CLAIMED), Redirected("https://git.example/repositories/9"), OnHost.LEAVE, LATER
    ),
}


@pytest.mark.parametrize("case", LOOKED.values(), ids=LOOKED)
def test_after_a_look_at_the_host(case: Look) -> None:
    if isinstance(case.wanted, str):
        with pytest.raises(Retryable) as raised:
            decide_after_look(case.repo, case.seen, case.now)
        assert raised.value.reason == case.wanted
    else:
        assert decide_after_look(case.repo, case.seen, case.now) is case.wanted


GIVEN_UP = {
    "the credential is gone: at once": (NotReady("CredentialUnavailable", ""), 0, True),
    "the host refuses: at once": (Terminal("Forbidden", ""), 0, True),
    "the host is down: not at once": (HostUnavailable(""), 0, False),
    "the host is down for five minutes: still waited for": (HostUnavailable(""), 300, False),
    "the host is down for longer: the workspace does not hang on us": (HostUnavailable(""), 301, True),
}


@pytest.mark.parametrize(("interruption", "seconds", "wanted"), GIVEN_UP.values(), ids=GIVEN_UP)
def test_a_leaving_workspace_stops_waiting(interruption: Interruption, seconds: float, wanted: bool) -> None:
    assert may_give_up(repo(status=OURS), interruption, NOW + timedelta(seconds=seconds)) is wanted
