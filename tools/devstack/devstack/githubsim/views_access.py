"""Deploy keys, collaborators and invitations in GitHub's JSON."""

from __future__ import annotations

from typing import Any

from devstack.githubsim.access import RANK, base_role
from devstack.githubsim.calls import Call
from devstack.githubsim.identifiers import node_id
from devstack.githubsim.records import DeployKey, Invitation, Organization, Repository, User
from devstack.githubsim.views import api_url, permissions_of_rank, repository_stub
from devstack.githubsim.views_account import account_stub, timestamp


def deploy_key(call: Call, repository: Repository, key: DeployKey) -> dict[str, Any]:
    owner = call.world.owner(repository)
    return {
        "id": key.id,
        "key": key.key,
        "url": f"{api_url(call, repository)}/keys/{key.id}",
        "title": key.title,
        "verified": True,
        "created_at": timestamp(key.created_at),
        "read_only": key.read_only,
        "added_by": call.world.user(key.added_by).login,
        "last_used": None,
        "enabled": not isinstance(owner, Organization) or owner.deploy_keys_enabled,
    }


def collaborator(call: Call, repository: Repository, user: User, role: str) -> dict[str, Any]:
    """A user with its role, which is `none` where only that was asked for."""
    rank = 0 if role == "none" else RANK[base_role(call.world.owner(repository), role)]
    return account_stub(call.urls, user) | {"permissions": permissions_of_rank(rank), "role_name": role}


def invitation(call: Call, repository: Repository, item: Invitation) -> dict[str, Any]:
    """A custom role is shown as the standard one that it is based on."""
    owner = call.world.owner(repository)
    return {
        "id": item.id,
        "node_id": node_id("RI", item.id),
        "repository": repository_stub(call, repository),
        "invitee": account_stub(call.urls, call.world.user(item.invitee_id)),
        "inviter": account_stub(call.urls, call.world.user(item.inviter_id)),
        "permissions": base_role(owner, item.role),
        "created_at": timestamp(item.created_at),
        "expired": item.expired(call.now),
        "url": f"{call.urls.api}/user/repository_invitations/{item.id}",
        "html_url": f"{call.urls.web}/{owner.login}/{repository.name}/invitations",
    }
