"""Whether a repository is created, adopted or kept, what identifies it, and what status says: one row per rule."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from codecommon.api.claim import Claim
from codecommon.api.repository import Repository
from codecommon.api.results import Interruption, Retryable, Terminal
from codecommon.githost.protocol import Absent, HostRepository, Redirected
from codecommon.testing.builders import parse_repository, repository_object
from codecommon.testing.repositories import NOW, SEEN, claim_of_time
from repository_svc import decide, identity
from repository_svc.decide import Bind, Create, Found

CLAIMED = "2026-01-01T12:00:00Z"


def repo(
    *, claim: str | None = None, generation: int = 1, created: datetime = NOW, uid: str = "uid-1", **given: Any
) -> Repository:
    """``given``: spec fields by wire name, and ``status``."""
    metadata: dict[str, Any] = {"uid": uid, "generation": generation, "creationTimestamp": created.isoformat()}
    name = given.pop("object_name", "site")
    raw = repository_object(name, metadata=metadata, status=given.pop("status", None), **given)
    return parse_repository(raw).model_copy(update={"claim": claim_of_time(claim)})


def seen(**changes: Any) -> HostRepository:
    return replace(SEEN, **changes)


def absent(at: datetime = NOW) -> Absent:
    return Absent(at)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


# ---- an object that has no repository yet


@dataclass(frozen=True)
class Unbound:
    repo: Repository
    found: Found
    wanted: Create | Bind | str
    """A string: the reason of the ``Terminal`` that is raised."""


UNBOUND = {
    "no policy, nothing there: it is created, claimed at the Date of the 404": Unbound(
        repo(), absent(), Create(Claim(NOW))
    ),
    "AdoptOrCreate, nothing there: it is created": Unbound(
        repo(adoptionPolicy="AdoptOrCreate"), absent(), Create(Claim(NOW))
    ),
    "CreateOnly, nothing there: it is created": Unbound(
        repo(adoptionPolicy="CreateOnly"), absent(), Create(Claim(NOW))
    ),
    "AdoptOnly, nothing there: nothing is created": Unbound(
        repo(adoptionPolicy="AdoptOnly"), absent(), "HostObjectMissing"
    ),
    "Observe, nothing there: nothing is created": Unbound(
        repo(adoptionPolicy="Observe"), absent(), "HostObjectMissing"
    ),
    "no policy, one is there: it is adopted": Unbound(repo(), seen(), Bind(seen(), "Adopted")),
    "AdoptOnly, one is there: it is adopted": Unbound(
        repo(adoptionPolicy="AdoptOnly"), seen(), Bind(seen(), "Adopted")
    ),
    "Observe, one is there: it is reported as not ours": Unbound(
        repo(adoptionPolicy="Observe"), seen(), Bind(seen(), "Adopted")
    ),
    "CreateOnly, one is there: it is not taken over": Unbound(repo(adoptionPolicy="CreateOnly"), seen(), "NameTaken"),
    "the name leads elsewhere after a rename: nothing is made of it": Unbound(
        repo(), Redirected("https://git.example/repositories/9"), "NameRedirected"
    ),
    "made in the second of the claim: it is ours": Unbound(repo(claim=CLAIMED), seen(), Bind(seen(), "Created")),
    "made two minutes after the claim: it is ours": Unbound(
        repo(claim=CLAIMED), seen(created_at=after(120)), Bind(seen(created_at=after(120)), "Created")
    ),
    "made more than two minutes after the claim: it is somebody else's": Unbound(
        repo(claim=CLAIMED), seen(created_at=after(121)), Bind(seen(created_at=after(121)), "Adopted")
    ),
    "made before the claim: it is somebody else's": Unbound(
        repo(claim=CLAIMED), seen(created_at=after(-1)), Bind(seen(created_at=after(-1)), "Adopted")
    ),
    "CreateOnly after a crash: what the claim covers is ours and kept": Unbound(
        repo(claim=CLAIMED, adoptionPolicy="CreateOnly"), seen(), Bind(seen(), "Created")
    ),
    "still not to be seen within two minutes of the claim: the claim stays": Unbound(
        repo(claim=CLAIMED), absent(after(119)), Create(Claim(NOW))
    ),
    "still not to be seen two minutes after the claim: it is claimed anew": Unbound(
        repo(claim=CLAIMED), absent(after(120)), Create(Claim(after(120)))
    ),
    "ours is gone and another has its name: that one is left alone": Unbound(
        repo(status={"repoID": "6", "origin": "Created"}), seen(), "HostObjectMissing"
    ),
    "ours is gone and was made again before a crash: the new one is ours": Unbound(
        repo(claim=CLAIMED, status={"repoID": "6", "origin": "Created"}),
        seen(created_at=after(1)),
        Bind(seen(created_at=after(1)), "Created"),
    ),
    "ours is gone and is made again: under a claim of its own": Unbound(
        repo(claim="2026-01-01T11:59:30Z", status={"repoID": "6", "origin": "Created"}), absent(), Create(Claim(NOW))
    ),
}


@pytest.mark.parametrize("case", UNBOUND.values(), ids=UNBOUND)
def test_unbound(case: Unbound) -> None:
    if isinstance(case.wanted, str):
        with pytest.raises(Terminal) as refused:
            decide.decide_unbound(case.repo, case.found)
        assert refused.value.reason == case.wanted
    else:
        assert decide.decide_unbound(case.repo, case.found) == case.wanted


# ---- an object that has a repository


@dataclass(frozen=True)
class Bound:
    """``found``: what the host shows under the id, else under the name."""

    repo: Repository
    found: Found
    wanted: Bind | tuple[type[Interruption], str] | None


OURS = {"repoID": "7", "origin": "Created"}
ADOPTED = {"repoID": "7", "origin": "Adopted"}
LEGACY = {"repoID": "7"}
A_WHILE = {"missingSince": "2026-01-01T11:50:01Z"}
LONG = {"missingSince": "2026-01-01T11:50:00Z"}

BOUND = {
    "it is there: kept with the origin on record": Bound(repo(status=OURS), seen(), Bind(seen(), "Created")),
    "it was adopted: stays so, whatever the dates say": Bound(
        repo(status=ADOPTED, claim=CLAIMED), seen(), Bind(seen(), "Adopted")
    ),
    "it was missing for long and is there again: kept": Bound(
        repo(status=OURS | LONG), seen(), Bind(seen(), "Created")
    ),
    "renamed and transferred on the host: it is the same by its id": Bound(
        repo(status=OURS), seen(name="other", owner="acme"), Bind(seen(name="other", owner="acme"), "Created")
    ),
    "the Go provider, not older than the object: made by it": Bound(
        repo(status=LEGACY), seen(), Bind(seen(), "Created")
    ),
    "the Go provider, older than the object: adopted by it": Bound(
        repo(status=LEGACY), seen(created_at=after(-1)), Bind(seen(created_at=after(-1)), "Adopted")
    ),
    "the first 404: looked for again, whatever the policy": Bound(
        repo(status=OURS, missingPolicy="Recreate"), absent(), (Retryable, "HostNotYetVisible")
    ),
    "missing for less than ten minutes: looked for again": Bound(
        repo(status=OURS | A_WHILE, missingPolicy="Recreate"), absent(), (Retryable, "HostNotYetVisible")
    ),
    "missing since a time to come, by another clock: looked for again": Bound(
        repo(status={**OURS, "missingSince": "2027-01-01T00:00:00Z"}), absent(), (Retryable, "HostNotYetVisible")
    ),
    "missing for ten minutes: reported, not made": Bound(
        repo(status=OURS | LONG), absent(), (Terminal, "HostObjectMissing")
    ),
    "missing, Report: reported, not made": Bound(
        repo(status=OURS | LONG, missingPolicy="Report"), absent(), (Terminal, "HostObjectMissing")
    ),
    "missing, Recreate: it may be made again": Bound(
        repo(status=OURS | LONG, missingPolicy="Recreate"), absent(), None
    ),
    "missing, adopted, Recreate: it may be made again": Bound(
        repo(status=ADOPTED | LONG, missingPolicy="Recreate"), absent(), None
    ),
    "missing, of the Go provider: reported, not made": Bound(
        repo(status=LEGACY | LONG), absent(), (Terminal, "HostObjectMissing")
    ),
    "missing, AdoptOnly: never made": Bound(
        repo(status=OURS | LONG, adoptionPolicy="AdoptOnly", missingPolicy="Recreate"),
        absent(), (Terminal, "HostObjectMissing"),
    ),
    "missing, Observe: never made": Bound(
        repo(status=OURS | LONG, adoptionPolicy="Observe", missingPolicy="Recreate"),
        absent(), (Terminal, "HostObjectMissing"),
    ),
    "missing, and another one has its name: reported": Bound(
        repo(status=OURS | LONG), seen(id="8"), (Terminal, "HostObjectMissing")
    ),
    "missing, and its name leads elsewhere: reported": Bound(
        repo(status=OURS | LONG), Redirected("https://git.example/repositories/7"), (Terminal, "HostObjectMissing")
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BOUND.values(), ids=BOUND)
def test_bound(case: Bound) -> None:
    if isinstance(case.wanted, tuple):
        type_, reason = case.wanted
        with pytest.raises(type_) as raised:
            decide.decide_bound(case.repo, case.found, NOW)
        assert raised.value.reason == reason
    else:
        assert decide.decide_bound(case.repo, case.found, NOW) == case.wanted


def test_since_when_it_is_missing_is_recorded_with_the_first_404_and_kept() -> None:
    with pytest.raises(Retryable) as first:
        decide.decide_bound(repo(status=OURS), absent(), NOW)
    assert first.value.status == {"missingSince": "2026-01-01T12:00:00Z"}
    with pytest.raises(Retryable) as later:
        decide.decide_bound(repo(status=OURS | A_WHILE), absent(), NOW)
    assert later.value.status == A_WHILE


REPORTS = {
    "nothing is there": (absent(), "octocat/renamed"),
    "another one has its name": (seen(id="8"), "id 8"),
    "its name leads elsewhere": (Redirected("https://git.example/repositories/7"), "repositories/7"),
}


@pytest.mark.parametrize(("found", "said"), REPORTS.values(), ids=REPORTS)
def test_the_report_says_what_was_last_seen_where_and_what_to_do(found: Found, said: str) -> None:
    status = {**OURS, **LONG, "htmlURL": "https://git.example/octocat/renamed"}
    with pytest.raises(Terminal) as report:
        decide.decide_bound(repo(status=status), found, NOW)
    for part in ("id 7", "https://git.example/octocat/renamed", "2026-01-01T11:50:00Z", "transfer it back", said):
        assert part in report.value.message
    assert ("spec.missingPolicy" in report.value.message) is isinstance(found, Absent)


# ---- identity

PINNED = repo(status={**OURS, "host": "git.example", "owner": "octocat"})
LEFT_A_URL = repo(status={**LEGACY, "htmlURL": "https://git.example/octocat/site"})
IDENTITY = {
    "nothing pinned yet: any host and owner will do": (repo(), "git.example", "octocat", True),
    "the same host and owner": (PINNED, "git.example", "octocat", True),
    "the same in other letters": (PINNED, "Git.Example", "OctoCat", True),
    "another host": (PINNED, "ghe.example", "octocat", False),
    "another port": (PINNED, "git.example:8443", "octocat", False),
    "another owner": (PINNED, "git.example", "acme", False),
    "the Go provider left a URL: its host counts": (LEFT_A_URL, "ghe.example", "octocat", False),
    "the Go provider left a URL: its owner counts": (LEFT_A_URL, "git.example", "acme", False),
    "the Go provider left a URL that agrees": (LEFT_A_URL, "git.example", "octocat", True),
}


def require_identity(pinned: Repository, host: str, owner: str, found: HostRepository | None) -> None:
    identity.require_host(pinned, host)
    identity.require_owner(pinned, found, owner)


@pytest.mark.parametrize("found", [seen(), seen(owner="third"), None], ids=["there", "elsewhere", "not shown"])
@pytest.mark.parametrize(("pinned", "host", "owner", "allowed"), IDENTITY.values(), ids=IDENTITY)
def test_identity(pinned: Repository, host: str, owner: str, allowed: bool, found: HostRepository | None) -> None:
    if allowed:
        require_identity(pinned, host, owner, found)
    else:
        with pytest.raises(Terminal) as conflict:
            require_identity(pinned, host, owner, found)
        assert conflict.value.reason == "IdentityConflict"


def test_the_owner_may_be_another_one_where_the_host_shows_the_repository_there() -> None:
    identity.require_owner(PINNED, seen(owner="Acme"), "acme")


@pytest.mark.parametrize("found", [seen(), None], ids=["elsewhere", "not shown"])
def test_what_a_conflict_of_owners_advises_can_be_undone(found: HostRepository | None) -> None:
    with pytest.raises(Terminal, match=r"let spec\.connectionRef name a Connection whose owner is octocat") as conflict:
        identity.require_owner(PINNED, found, "acme")
    assert "spec.owner" not in conflict.value.message, "it cannot be changed or removed once it is set"
    assert "delete" not in conflict.value.message
    named = repo(status={**OURS, "host": "git.example", "owner": "octocat"}, owner="acme")
    with pytest.raises(Terminal, match="Orphan, delete this object"):
        identity.require_owner(named, found, "acme")


# ---- duplicates


def test_an_object_of_another_owner_is_no_duplicate() -> None:
    mine = repo(uid="b")
    other_owner = repo(uid="a", owner="acme")
    assert not identity.is_namesake(mine, other_owner, "octocat", "octocat")


def test_an_owner_that_is_spelled_out_equals_the_owner_of_the_connection() -> None:
    mine, same = repo(uid="b"), repo(uid="a", owner="OctoCat")
    assert identity.is_namesake(mine, same, "octocat", "octocat")


def test_a_repository_that_another_object_is_bound_to_is_not_adopted() -> None:
    bound = repo(uid="a", object_name="bound", status={**OURS, "host": "git.example"})
    with pytest.raises(Terminal) as refused:
        identity.require_other_repository(bound, seen(), "git.example")
    assert refused.value.reason == "DuplicateRepository"


def test_the_same_id_on_another_host_is_another_repository() -> None:
    bound = repo(uid="a", status={**OURS, "host": "ghe.example"})
    identity.require_other_repository(bound, seen(), "git.example")


# ---- the request and the report

SETTLED: dict[str, Any] = {**OURS, "observedGeneration": 1, "visibility": "private"}


def test_nothing_is_created_for_an_owner_that_the_host_does_not_show() -> None:
    with pytest.raises(Terminal) as refused:
        decide.creation(repo(owner="acme"), "acme", None)
    assert refused.value.reason == "OwnerNotFound"


def test_a_repository_is_made_where_its_owner_is_and_private_unless_told_otherwise() -> None:
    request = decide.creation(repo(description="d", autoInit=True), "acme", "Organization")
    assert (request.owner, request.owner_kind, request.name) == ("acme", "Organization", "site")
    assert (request.visibility, request.description, request.auto_init) == ("private", "d", True)


def test_a_repository_is_made_without_the_line_end_of_its_description() -> None:
    assert decide.creation(repo(description="hello\n"), "acme", "Organization").description == "hello"


def test_the_identity_is_reported_with_its_origin() -> None:
    status = decide.status_of(repo(), Bind(SEEN, "Created"), "git.example", "octocat")
    assert {name: status[name] for name in ("repoID", "host", "owner", "origin")} == {
        "repoID": "7",
        "host": "git.example",
        "owner": "octocat",
        "origin": "Created",
    }


@pytest.mark.parametrize(("owner", "recorded"), [("OctoCat", "octocat"), ("acme", "acme")])
def test_the_owner_on_record_stays_until_the_object_names_another_one(owner: str, recorded: str) -> None:
    pinned = repo(status={**OURS, "owner": "octocat"})
    status = decide.status_of(pinned, Bind(seen(owner="acme"), "Created"), "git.example", owner)
    assert status["owner"] == recorded


def test_an_edit_of_visibility_while_archived_is_still_to_be_made_once_it_is_not() -> None:
    edited = repo(visibility="public", generation=2, status=SETTLED)
    status = decide.status_of(edited, Bind(seen(archived=True), "Created"), "git.example", "octocat")
    assert status["visibility"] == "private"


def test_taking_over_what_is_archived_leaves_no_edit_of_visibility_behind() -> None:
    taken_over = repo(visibility="public", status=LEGACY)
    status = decide.status_of(taken_over, Bind(seen(archived=True), "Created"), "git.example", "octocat")
    assert status["visibility"] == "public"
