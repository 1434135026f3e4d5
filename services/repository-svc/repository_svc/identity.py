"""Which repository an object stands for, and that no other object of the workspace stands for it. Pure."""

from __future__ import annotations

from codecommon.api.claim import Claim
from codecommon.api.reasons import Reason
from codecommon.api.repository import Repository
from codecommon.api.results import Retryable, Terminal
from codecommon.controller.create_claim import is_within
from codecommon.githost.protocol import HostRepository


def require_host(repo: Repository, host: str) -> None:
    """Raises ``Terminal`` (``IdentityConflict``) when the object would move to another host."""
    pinned = repo.status.host
    if repo.status.repo_id is not None and pinned and pinned.lower() != host.lower():
        raise Terminal(
            Reason.IDENTITY_CONFLICT,
            f"this object stands for a repository on {pinned}, its Connection points to {host}; "
            "point spec.connectionRef back, or make a new Repository for the other host",
        )


def names_other_owner(repo: Repository, owner: str) -> bool:
    """Whether ``owner``, which the object names now, is another one than that on record."""
    status = repo.status
    return status.repo_id is not None and bool(status.owner) and (status.owner or "").lower() != owner.lower()


def require_owner(repo: Repository, found: HostRepository | None, owner: str) -> None:
    """Let the object name another owner only if its repository is there: the account was renamed, or the repository transferred.

    ``found``: what the host shows under the id in status. Raises ``Terminal`` (``IdentityConflict``). Its advice can be undone,
    which setting spec.owner cannot.
    """
    if not names_other_owner(repo, owner) or (found is not None and found.owner.lower() == owner.lower()):
        return
    if found is None:
        where, there = f"does not show it (id {repo.status.repo_id}) to this credential", repo.status.owner
    else:
        where, there = f"shows it as {found.owner}/{found.name}", found.owner
    advice = f"let spec.connectionRef name a Connection whose owner is {there}"
    if repo.spec.owner:
        advice = (
            f"transfer the repository to {owner}; or set spec.deletionPolicy to Orphan, delete this object, which leaves the "
            f"repository as it is, and make another one for {there}"
        )
    raise Terminal(
        Reason.IDENTITY_CONFLICT,
        f"this object stands for a repository of {repo.status.owner}, its owner would now be {owner}, and the host {where}; "
        f"{advice}",
    )


def require_eldest(elder: str | None) -> None:
    """Raises ``Terminal`` (``DuplicateRepository``) when an older object, ``elder``, stands for the same repository."""
    if elder is not None:
        raise _duplicate(elder)


def is_namesake(repo: Repository, other: Repository, owner: str, connection_owner: str) -> bool:
    """Whether ``other``, which has the same ``spec.name``, means the same repository through the same Connection."""
    return (
        other.spec.connection_ref == repo.spec.connection_ref
        and (other.spec.owner or connection_owner).lower() == owner.lower()
    )


def claim_key(host: str, owner: str, name: str) -> str:
    """The ``Claim.key`` of a repository that is about to be made there."""
    return f"{host}/{owner}/{name}".lower()


def may_be_making(other: Repository, seen: HostRepository) -> bool:
    """Whether the object may have made ``seen`` and not recorded it yet, if it has a create claim: ``is_claim_for`` tells."""
    return other.status.repo_id is None and other.spec.name.lower() == seen.name.lower()


def is_claim_for(claim: Claim, seen: HostRepository, key: str) -> bool:
    """Whether ``seen``, of the name in that ``claim_key``, may have been made under the claim."""
    return claim.key in (None, key) and is_within(claim, seen.created_at)


def require_other_repository(other: Repository, seen: HostRepository, host: str) -> None:
    """Before an object is bound to ``seen`` on ``host``: ``other`` must stand for another repository.

    Raises ``Terminal`` (``DuplicateRepository``) when ``other`` is bound to it.
    """
    if other.status.repo_id == seen.id and other.status.host == host:
        raise _duplicate(other.name)


def being_made(other: str) -> Retryable:
    """The result where the object of that name has a create claim for what may be the same repository."""
    return Retryable(Reason.DUPLICATE_REPOSITORY, f"Repository {other!r} in this workspace may be making the same one")


def _duplicate(other: str) -> Terminal:
    return Terminal(
        Reason.DUPLICATE_REPOSITORY,
        f"Repository {other!r} in this workspace stands for the same repository; delete this object, which leaves the "
        "repository as it is",
    )
