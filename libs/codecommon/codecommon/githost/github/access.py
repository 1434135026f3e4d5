"""Deploy keys, collaborators and invitations on GitHub.

A 404 to a list does not yet say that the repository is gone, nor one to a removal that the thing is: GitHub says the same to who
must not see or remove it.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from codecommon.api.reasons import Reason
from codecommon.api.results import Retryable, Terminal
from codecommon.githost.github.answer import (
    Answer,
    CollaboratorAnswer,
    DeployKeyAnswer,
    InvitationAnswer,
    invitation_permission,
)
from codecommon.githost.github.classify import (
    OF_INVITATIONS,
    OF_KEYS,
    Attempt,
    classify,
    lacks_scope,
    withheld,
)
from codecommon.githost.github.client import Client
from codecommon.githost.github.names import check_owner
from codecommon.githost.protocol import Grant, HostKey, HostRepository, Invitation, Listed, OwnerKind

ModelT = TypeVar("ModelT", bound=BaseModel)

_NOT_FOUND: Final = frozenset({404})
_PER_PAGE: Final = 100
# A repository with more keys or collaborators than this is a host that sends us in circles.
_MOST_PAGES: Final = 100
_NEXT: Final = re.compile(r'rel="?next"?')
_CREATED: Final = 201


class GithubAccess(ABC):
    """The methods of ``AccessHost``; ``codecommon.githost.protocol`` says what they do."""

    _client: Client

    @abstractmethod
    async def get_repository(self, repo_id: str) -> HostRepository | None: ...

    @abstractmethod
    async def get_owner_kind(self, owner: str) -> OwnerKind | None: ...

    async def list_deploy_keys(self, repo_id: str) -> Listed[HostKey] | None:
        listed = await self._list(repo_id, "/keys", DeployKeyAnswer, "read the deploy keys")
        return None if listed is None else Listed(tuple(key.to_host_key() for key in listed.items), listed.at)

    async def create_deploy_key(self, repo_id: str, title: str, public_key: str, read_only: bool) -> HostKey:
        answer = await self._client.send(
            Attempt(_of(repo_id, "register a deploy key"), write=True, refusals=OF_KEYS),
            self._client.by_id(
                "POST", repo_id, "/keys", body={"title": title, "key": public_key, "read_only": read_only}
            ),
        )
        return answer.parse(DeployKeyAnswer).to_host_key()

    async def delete_deploy_key(self, repo_id: str, key_id: str) -> None:
        refused = await self._remove(repo_id, f"/keys/{_number(key_id)}", "remove a deploy key")
        # By the list: GitHub answers 404 for one key also to who may not see the keys.
        if refused is not None and _shows(await self.list_deploy_keys(repo_id), key_id):
            raise refused

    async def list_collaborators(self, repo_id: str) -> Listed[Grant] | None:
        doing, params = "read the collaborators", {"affiliation": "direct"}
        listed = await self._list(repo_id, "/collaborators", CollaboratorAnswer, doing, params)
        return None if listed is None else Listed(tuple(user.to_grant() for user in listed.items), listed.at)

    async def list_invitations(self, repo_id: str) -> Listed[Invitation] | None:
        listed = await self._list(repo_id, "/invitations", InvitationAnswer, "read the invitations")
        if listed is None:
            return None
        # One whose user has deleted the account has nobody in it.
        return Listed(
            tuple(found for item in listed.items if (found := item.to_invitation()) is not None),
            listed.at,
        )

    async def set_collaborator(self, repo_id: str, username: str, role: str) -> Invitation | None:
        check_owner(username)
        attempt = Attempt(_of(repo_id, f"give {username} {role}"), write=True, refusals=OF_INVITATIONS)
        answer = await self._client.send(
            attempt,
            self._client.by_id("PUT", repo_id, f"/collaborators/{username}", body={"permission": role}),
            also=_NOT_FOUND,
        )
        if answer.status == 404:
            await self._require_user(repo_id, username, answer)
            raise classify(answer, attempt, self._client.scrub)
        return answer.parse(InvitationAnswer).to_invitation() if answer.status == _CREATED else None

    async def update_invitation(self, repo_id: str, invitation_id: str, role: str) -> None:
        attempt = Attempt(_of(repo_id, f"change an invitation to {role}"), write=True, refusals=OF_INVITATIONS)
        answer = await self._client.send(
            attempt,
            self._client.by_id(
                "PATCH",
                repo_id,
                f"/invitations/{_number(invitation_id)}",
                body={"permissions": invitation_permission(role)},
            ),
            also=_NOT_FOUND,
        )
        if answer.status != 404:
            return
        if not lacks_scope(answer, attempt) and await self.get_repository(repo_id) is not None:
            raise Retryable(
                Reason.HOST_CONFLICT, f"{answer.host} shows no such invitation any more when asked to {attempt.doing}"
            )
        raise classify(answer, attempt, self._client.scrub)

    async def cancel_invitation(self, repo_id: str, invitation_id: str) -> None:
        refused = await self._remove(repo_id, f"/invitations/{_number(invitation_id)}", "withdraw an invitation")
        if refused is not None and _shows(await self.list_invitations(repo_id), invitation_id):
            raise refused

    async def remove_collaborator(self, repo_id: str, username: str) -> None:
        check_owner(username)
        refused = await self._remove(repo_id, f"/collaborators/{username}", f"revoke the access of {username}")
        if refused is not None and await self._has_access(repo_id, username):
            raise refused

    async def _remove(self, repo_id: str, tail: str, doing: str) -> Retryable | None:
        """Returns the refusal that a 404 is if the thing is still there: GitHub says the same of what is gone."""
        attempt = Attempt(_of(repo_id, doing), write=True)
        answer = await self._client.send(attempt, self._client.by_id("DELETE", repo_id, tail), also=_NOT_FOUND)
        if answer.status != 404:
            return None
        if lacks_scope(answer, attempt):
            raise classify(answer, attempt, self._client.scrub)
        refused = withheld(answer, attempt)
        # Not final: what shows the thing may lag behind a removal of a moment ago.
        return Retryable(refused.reason, refused.message)

    async def _has_access(self, repo_id: str, username: str) -> bool:
        """Whether the user can reach the repository, by a grant or otherwise."""
        attempt = Attempt(_of(repo_id, f"look for {username} among the collaborators"))
        call = self._client.by_id("GET", repo_id, f"/collaborators/{username}")
        answer = await self._client.send(attempt, call, also=_NOT_FOUND)
        if answer.status == 404 and lacks_scope(answer, attempt):
            raise withheld(answer, attempt)
        return answer.status != 404

    async def _list(
        self, repo_id: str, tail: str, model: type[ModelT], doing: str, params: dict[str, Any] | None = None
    ) -> Listed[ModelT] | None:
        attempt = Attempt(_of(repo_id, doing))
        items: list[ModelT] = []
        first: Answer | None = None
        for page in range(1, _MOST_PAGES + 1):
            # By number and not by the address in Link, which could lead the credential elsewhere.
            query = {**(params or {}), "per_page": _PER_PAGE, "page": page}
            answer = await self._client.send(
                attempt, self._client.by_id("GET", repo_id, tail, params=query), also=_NOT_FOUND
            )
            if answer.status == 404:
                if await self.get_repository(repo_id) is None:
                    return None
                raise withheld(answer, attempt)
            first = first or answer
            found = answer.parse_list(model)
            items += found
            # A 304 says that this page is as it was, not that no page has come to be behind it.
            if len(found) < _PER_PAGE and not _NEXT.search(answer.headers.get("link", "")):
                return Listed(tuple(items), first.required_date())
        raise Retryable(
            Reason.UNEXPECTED_ANSWER, f"{self._client.host} shows no end of pages when asked to {attempt.doing}"
        )

    async def _require_user(self, repo_id: str, username: str, answer: Answer) -> None:
        """Find out whether it is the user that a 404 is about."""
        if await self.get_repository(repo_id) is not None and await self.get_owner_kind(username) != "User":
            raise Terminal(
                Reason.USER_NOT_FOUND,
                f"{answer.host} has no user {username}; correct the name: make a new object with it",
            )


def _shows(listed: Listed[HostKey] | Listed[Invitation] | None, identifier: str) -> bool:
    return listed is not None and any(item.id == identifier for item in listed.items)


def _of(repo_id: str, doing: str) -> str:
    return f"{doing} of the repository with the id {repo_id}"


def _number(identifier: str) -> str:
    """The id as one segment of a path that leads nowhere else."""
    if not (identifier.isascii() and identifier.isdecimal()):
        raise Terminal(Reason.VALIDATION_FAILED, "an id in status is not a number")
    return identifier
