"""Which repository an object stands for, and that no other object of the workspace stands for it. Pure."""

from __future__ import annotations

from codecommon.api.annotations import CREATE_CLAIM
from codecommon.api.reasons import Reason
from codecommon.api.repository import Repository
from codecommon.api.results import Retryable, Terminal
from codecommon.githost.protocol import HostRepository


def require_identity(repo: Repository, host: str, owner: str) -> None:
    """Raises ``Terminal`` (``IdentityConflict``) when the object would move to another host or owner."""
    status = repo.status
    if status.repo_id is None:
        return
    if status.host and status.host.lower() != host.lower():
        raise Terminal(
            Reason.IDENTITY_CONFLICT,
            f"this object stands for a repository on {status.host}, its Connection points to {host}; "
            "point spec.connectionRef back, or make a new Repository for the other host",
        )
    if status.owner and status.owner.lower() != owner.lower():
        raise Terminal(
            Reason.IDENTITY_CONFLICT,
            f"this object stands for a repository of {status.owner}, its owner would now be {owner}; "
            f"set spec.owner to {status.owner}, or make a new Repository for the other owner",
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


def require_other_repository(other: Repository, seen: HostRepository, host: str) -> None:
    """Before an object is bound to ``seen`` on ``host``: ``other`` must stand for another repository.

    Raises ``DuplicateRepository``: ``Terminal`` when ``other`` is bound to it, ``Retryable`` when it may have created it a
    moment ago and not recorded it yet.
    """
    if (
        other.status.repo_id is None
        and other.spec.name.lower() == seen.name.lower()
        and CREATE_CLAIM in other.metadata.annotations
    ):
        raise Retryable(
            Reason.DUPLICATE_REPOSITORY, f"Repository {other.name!r} in this workspace may be making the same one"
        )
    if other.status.repo_id == seen.id and other.status.host == host:
        raise _duplicate(other.name)


def _duplicate(other: str) -> Terminal:
    return Terminal(
        Reason.DUPLICATE_REPOSITORY,
        f"Repository {other!r} in this workspace stands for the same repository; delete one of the two",
    )
