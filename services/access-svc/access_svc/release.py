"""What to do on the host when a DeployKey or Collaborator goes. Pure."""

from __future__ import annotations

from codecommon.api.access import Collaborator, DeployKey
from codecommon.api.annotations import CREATE_CLAIM
from codecommon.api.reasons import ConditionType
from codecommon.api.repository import Repository


def leaves_host_alone(obj: DeployKey | Collaborator, repository: Repository | None, *, leaving: bool) -> bool:
    """Whether nothing is to be removed on the host.

    ``leaving``: the workspace is giving up the API, which is not deleting; only an explicit Delete is carried out then.
    """
    policy = obj.spec.deletion_policy
    if policy == "Orphan" or (leaving and policy != "Delete"):
        return True
    if policy is None and obj.status.origin == "Adopted" and not _claims(obj):
        return True
    return repository is None or goes_with_host(repository, leaving=leaving) or never_made(obj)


def goes_with_host(repository: Repository, *, leaving: bool) -> bool:
    """Whether the repository is being deleted on the host too, and everything in it with it. ``leaving`` as above."""
    policy, origin = repository.spec.deletion_policy, repository.status.origin
    if not repository.deleting or repository.spec.adoption_policy == "Observe":
        return False
    return origin is not None and (policy == "Delete" or (policy is None and origin == "Created" and not leaving))


def never_made(obj: DeployKey | Collaborator) -> bool:
    """Whether no pass ever came as far as the host; today's provider recorded no origin, but that the object was Ready."""
    ready = obj.status.condition(ConditionType.READY)
    recorded = obj.status.bound or (ready is not None and ready.status == "True")
    return not recorded and not _claims(obj)


def _claims(obj: DeployKey | Collaborator) -> bool:
    """Whether something may have been made that status does not know, by a pass that nobody finished."""
    return CREATE_CLAIM in obj.metadata.annotations
