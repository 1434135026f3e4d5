"""What happens on the host when a DeployKey or Collaborator is deleted. Pure."""

from __future__ import annotations

from codecommon.api.access import Collaborator, DeployKey
from codecommon.api.origin import is_recorded
from codecommon.api.reasons import ConditionType
from codecommon.api.repository import Repository


def leaves_host_alone(obj: DeployKey | Collaborator, repository: Repository | None, *, leaving: bool) -> bool:
    """Whether nothing is to be removed on the host.

    ``leaving``: the workspace is giving up the API, which is not deleting. Only an explicit Delete is carried out then.
    """
    policy = obj.spec.deletion_policy
    if policy == "Orphan" or (leaving and policy != "Delete"):
        return True
    if policy is None and obj.status.origin == "Adopted" and not _has_create_claim(obj):
        return True
    return repository is None or is_deleted_on_host(repository, leaving=leaving) or never_reached_host(obj)


def is_deleted_on_host(repository: Repository, *, leaving: bool) -> bool:
    """Whether the repository is being deleted on the host, and everything in it with it. ``leaving`` as above."""
    policy, origin = repository.spec.deletion_policy, repository.status.origin
    if not repository.deleting or repository.spec.adoption_policy == "Observe" or not is_recorded(origin):
        return False
    return policy == "Delete" or (policy is None and origin == "Created" and not leaving)


def never_reached_host(obj: DeployKey | Collaborator) -> bool:
    """Whether no pass came as far as the host: nothing is recorded, and the object was never Ready."""
    ready = obj.status.condition(ConditionType.READY)
    recorded = obj.status.bound or (ready is not None and ready.status == "True")
    return not recorded and not _has_create_claim(obj)


def _has_create_claim(obj: DeployKey | Collaborator) -> bool:
    """Whether an unfinished pass may have made something that status does not record."""
    return obj.claim is not None
