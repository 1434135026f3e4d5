"""An answer of the REST API, and the parts of its objects that we use.

githubkit's own models are not used for answers. They require every field that github.com has now, and an Enterprise Server of
another version, or a token that sees less, leaves some out. These models require only what we cannot do without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar, cast

import httpx
import orjson
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from codecommon.api.repository import Visibility
from codecommon.githost.protocol import (
    Grant,
    HostKey,
    HostPackage,
    HostRepository,
    HostUnavailable,
    Invitation,
    PackageVersion,
)
from codecommon.process.redact import cut

# spec uses the words that the API takes for a grant. What the API shows of a grant, and invitations, use older words.
_SPEC_WORDS: Final = {"read": "pull", "write": "push"}
_OLDER_WORDS: Final = {word: older for older, word in _SPEC_WORDS.items()}
_WIDEST_FIRST: Final = ("admin", "maintain", "push", "triage", "pull")
_EXPIRY_HEADER: Final = "github-authentication-token-expiration"
# github.com writes `2026-12-01 00:00:00 UTC`; older answers and servers write an offset.
_EXPIRY_FORMATS: Final = ("%Y-%m-%d %H:%M:%S %z", "%Y-%m-%dT%H:%M:%S%z")
# `Mon, 23 Nov 2026 12:00:00 GMT` has 29 characters, and the older forms a few more.
_LONGEST_DATE: Final = 64
_ARRAY: Final = TypeAdapter(list[Any])

# An error has a few KiB, even one that names a hundred fields. It is decoded more than once.
_LONGEST_ERROR: Final = 64 * 1024

LONGEST_TEXT: Final = 4096
"""Characters of a host's text that patterns look at and messages quote from. GitHub's own sentences have a few hundred."""

ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and body of an answer of ``host`` (as pinned in status).

    ``api_base``: URL of the API's root, as in ``HostAddress``; without it no redirect counts as the API's.
    """

    host: str
    status: int
    headers: httpx.Headers
    body: bytes
    api_base: str = ""

    def object(self) -> Mapping[str, Any] | None:
        """The body of an error as a JSON object, None if it is anything else."""
        if len(self.body) > _LONGEST_ERROR:
            return None
        try:
            value = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None
        return cast(Mapping[str, Any], value) if isinstance(value, dict) else None

    def parse(self, model: type[ModelT]) -> ModelT:
        """The body as ``model``. Raises ``HostUnavailable`` when it is not one: a proxy's page, a cut body."""
        try:
            return model.model_validate_json(self.body)
        except ValidationError:
            # Without the validation's text, which quotes the body.
            raise self._not_the_api() from None

    def parse_list(self, model: type[ModelT], *, most: int | None = None) -> list[ModelT]:
        """The body as a list of ``model``, of ``most`` items. Raises as ``parse``."""
        try:
            items = _ARRAY.validate_json(self.body)
            if most is not None and len(items) > most:
                raise self._not_the_api()
            return [model.model_validate(item) for item in items]
        except ValidationError:
            raise self._not_the_api() from None

    def _not_the_api(self) -> HostUnavailable:
        return HostUnavailable(f"{self.host} answered with something that is not its API's")

    @property
    def message(self) -> str | None:
        """GitHub's own words for an error, at most ``LONGEST_TEXT``; None when the answer is not GitHub's."""
        text = (self.object() or {}).get("message")
        return cut(text, LONGEST_TEXT) if isinstance(text, str) else None

    @property
    def says_not_found(self) -> bool:
        """A 404 of the API itself, not of a proxy in front of it, and not for want of single sign-on."""
        return self.status == 404 and self.message is not None and "x-github-sso" not in self.headers

    @property
    def is_redirect(self) -> bool:
        return 300 <= self.status < 400

    @property
    def says_moved(self) -> bool:
        """A redirect of the API itself, for what was renamed; one of a proxy or gateway in front of it, to a login, is not."""
        root, location = httpx.URL(f"{self.api_base}/"), self.location
        if not self.is_redirect or location is None:
            return False
        same_host = (location.scheme, location.netloc) == (root.scheme, root.netloc)
        return same_host and location.raw_path.startswith(root.raw_path)

    @property
    def location(self) -> httpx.URL | None:
        """Where a redirect leads; None where it names no address."""
        named = self.headers.get("location", "")
        try:
            return httpx.URL(f"{self.api_base}/").join(named) if named else None
        except httpx.InvalidURL:
            return None

    @property
    def date(self) -> datetime | None:
        """The host's clock when it answered."""
        return date_in(self.headers)

    def required_date(self) -> datetime:
        """The host's clock, for a moment from which what appears counts as ours. Raises ``HostUnavailable`` for none."""
        if self.date is None:
            raise HostUnavailable(f"{self.host} answered without a date")
        return self.date


def date_in(headers: httpx.Headers) -> datetime | None:
    """The Date of an answer, None for one without."""
    moment = parse_date(headers.get("date", ""))
    # A time is added to it, which the end of the calendar leaves no room for.
    return moment if moment is not None and moment.year < MAXYEAR else None


def parse_date(text: str) -> datetime | None:
    """A date as HTTP writes it, in UTC; None for anything else, such as one before the first year."""
    try:
        return parsedate_to_datetime(text[:_LONGEST_DATE]).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def token_expiry(headers: httpx.Headers) -> datetime | None:
    """The end of the token that was sent, in UTC; None when it has none or the host does not tell."""
    text = headers.get(_EXPIRY_HEADER, "")[:_LONGEST_DATE].strip().replace(" UTC", " +0000")
    for form in _EXPIRY_FORMATS:
        try:
            return datetime.strptime(text, form).astimezone(UTC)
        except (ValueError, OverflowError):
            continue
    return None


class Owner(BaseModel):
    login: str


class AccountAnswer(BaseModel):
    """A user or organisation; ``type`` is User, Organization, Bot or Mannequin."""

    id: int
    login: str
    type: str


class RepositoryAnswer(BaseModel):
    id: int
    name: str
    owner: Owner
    private: bool
    created_at: datetime
    html_url: str
    clone_url: str = ""
    ssh_url: str = ""
    visibility: str | None = None
    description: str | None = None
    default_branch: str | None = None
    archived: bool = False

    def to_host_repository(self) -> HostRepository:
        return HostRepository(
            id=str(self.id),
            owner=self.owner.login,
            name=self.name,
            visibility=self._visibility(),
            description=self.description or "",
            default_branch=self.default_branch or "",
            archived=self.archived,
            created_at=self.created_at,
            html_url=self.html_url,
            clone_url=self.clone_url or f"{self.html_url}.git",
            ssh_url=self.ssh_url,
        )

    def _visibility(self) -> Visibility:
        """``internal`` is only in the newer field; a value we do not know is told by the older one."""
        match self.visibility:
            case "public" | "private" | "internal":
                return self.visibility
            case _:
                return "private" if self.private else "public"


class DeployKeyAnswer(BaseModel):
    id: int
    key: str
    title: str = ""
    read_only: bool
    created_at: datetime
    enabled: bool = True

    def to_host_key(self) -> HostKey:
        return HostKey(
            id=str(self.id),
            title=self.title,
            key=" ".join(self.key.split()[:2]),
            read_only=self.read_only,
            created_at=self.created_at,
            enabled=self.enabled,
        )


class CollaboratorAnswer(BaseModel):
    """``permissions`` has no custom role, and older hosts no ``role_name``."""

    id: int
    login: str
    role_name: str | None = None
    permissions: dict[str, bool] = Field(default_factory=dict)

    def to_grant(self) -> Grant:
        role = self.role_name or next((name for name in _WIDEST_FIRST if self.permissions.get(name)), "pull")
        return Grant(self.login, _SPEC_WORDS.get(role, role), str(self.id))


class Invitee(BaseModel):
    id: int
    login: str


class PermissionAnswer(BaseModel):
    """``permission`` has the older words, and no custom role; older hosts have no ``role_name``."""

    permission: str
    role_name: str | None = None
    user: Invitee

    def to_grant(self) -> Grant | None:
        role = self.role_name or self.permission
        return None if role == "none" else Grant(self.user.login, _SPEC_WORDS.get(role, role), str(self.user.id))


class InvitationAnswer(BaseModel):
    id: int
    invitee: Invitee | None
    permissions: str
    created_at: datetime
    expired: bool = False

    def to_invitation(self) -> Invitation | None:
        """None for an invitation of nobody: its user has deleted the account."""
        if self.invitee is None:
            return None
        return Invitation(
            id=str(self.id),
            username=self.invitee.login,
            user_id=str(self.invitee.id),
            role=_SPEC_WORDS.get(self.permissions, self.permissions),
            expired=self.expired,
            created_at=self.created_at,
        )


class LinkedRepository(BaseModel):
    id: int


class PackageAnswer(BaseModel):
    """A row of an owner's list. Only granular types have a visibility of their own; all may lack a repository."""

    name: str
    visibility: str | None = None
    html_url: str | None = None
    updated_at: str | None = None
    version_count: int | None = None
    repository: LinkedRepository | None = None

    def to_host_package(self, owner: str, package_type: str, registry: str | None) -> HostPackage:
        """``registry``: the host that images are pulled from; None: the type holds no images."""
        return HostPackage(
            owner=owner,
            type=package_type,
            name=self.name,
            visibility=self.visibility or "",
            html_url=self.html_url or "",
            updated_at=self.updated_at or "",
            version_count=self.version_count or 0,
            repository_id=None if self.repository is None else str(self.repository.id),
            image_repository=None if registry is None else f"{registry}/{owner}/{self.name}".lower(),
        )


class ContainerMetadata(BaseModel):
    tags: list[str] = Field(default_factory=list[str])


class VersionMetadata(BaseModel):
    container: ContainerMetadata | None = None


class VersionAnswer(BaseModel):
    name: str
    created_at: str | None = None
    metadata: VersionMetadata | None = None

    def to_version(self) -> PackageVersion:
        container = self.metadata.container if self.metadata is not None else None
        return PackageVersion(self.name, tuple(container.tags) if container is not None else (), self.created_at or "")


def invitation_permission(role: str) -> str:
    """The word for ``role`` in an invitation."""
    return _OLDER_WORDS.get(role, role)
