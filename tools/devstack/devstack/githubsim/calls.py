"""What an API operation is given and what it gives back.

An operation is declared once, in the route table of its area (`areas/`), and is served both at the root and
under `/api/v3`. Its handler is an ordinary function: it reads a Call, changes the World, and returns an
Answer or raises ApiError.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from devstack.githubsim.downloads import Downloads
from devstack.githubsim.limits import RateFigures
from devstack.githubsim.records import App, Token, User
from devstack.githubsim.switches import Switches
from devstack.githubsim.world import World

API_VERSIONS = ("2022-11-28", "2026-03-10")
DEFAULT_API_VERSION = API_VERSIONS[0]
_PARAMETER_PATTERN = re.compile(r":[^}]+(?=})")
MOVED_DOCS = "https://docs.github.com/rest/guides/best-practices-for-using-the-rest-api#follow-redirects"


@dataclass(frozen=True, slots=True)
class Answer:
    """A response before it is encoded. `body` is anything JSON can hold; None sends no body. `raw` is sent as it is."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None


class ApiError(Exception):
    """A refusal, with the body that GitHub gives it: message, errors, documentation URL, status."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        errors: list[dict[str, str]] | None = None,
        documentation_url: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = errors
        self.documentation_url = documentation_url
        self.headers = headers or {}

    def answer(self, documentation_url: str) -> Answer:
        """The response; `documentation_url` stands in where the error has none of its own."""
        body: dict[str, Any] = {"message": self.message}
        if self.errors is not None:
            body["errors"] = self.errors
        body |= {"documentation_url": self.documentation_url or documentation_url, "status": str(self.status)}
        return Answer(self.status, body, self.headers)


class Moved(Exception):
    """The repository has another name now: 301 for reads, 307 for the rest, to its address by id."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url

    def answer(self, method: str) -> Answer:
        body = {"message": "Moved Permanently", "url": self.url, "documentation_url": MOVED_DOCS}
        return Answer(301 if method == "GET" else 307, body, {"Location": self.url})


def found(url: str) -> Answer:
    """A redirect to another host; GitHub calls its empty body HTML."""
    return Answer(302, headers={"Location": url, "Content-Type": "text/html;charset=utf-8"})


def not_found() -> ApiError:
    return ApiError(404, "Not Found")


def invalid(
    field_name: str,
    message: str,
    *,
    code: str = "custom",
    summary: str = "Validation Failed",
    resource: str = "Repository",
) -> ApiError:
    """422 for one field of a repository, or of another resource."""
    error = {"resource": resource, "code": code, "field": field_name, "message": message}
    return ApiError(422, summary, errors=[error])


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking: a token and its user, an App by its JWT, or nobody."""

    token: Token | None = None
    user: User | None = None
    app: App | None = None


@dataclass(frozen=True, slots=True)
class Urls:
    """The bases of absolute URLs: of the API as it was addressed, and of the host's web pages."""

    api: str
    web: str
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, authenticated and within its limits."""

    method: str
    path: str
    """The path below the API's root as it was sent, percent-encoded."""
    tail: str
    """The path after `/repos/{owner}/{repo}` or `/repositories/{id}`, with its query; a redirect keeps it."""
    params: Mapping[str, str]
    query: Mapping[str, str]
    raw_body: bytes
    accept: str
    """The Accept header; empty without one."""
    caller: Caller
    urls: Urls
    version: str
    now: float
    world: World
    switches: Switches
    rate: RateFigures | None
    downloads: Downloads

    @property
    def person(self) -> tuple[str, str, int]:
        """Name, email and moment of a commit that the caller makes."""
        user = self.user
        return user.name or user.login, f"{user.id}+{user.login}@users.noreply.github.com", int(self.now)

    @property
    def user(self) -> User:
        """The caller, where the operation has refused anonymous calls."""
        assert self.caller.user is not None
        return self.caller.user

    @property
    def app(self) -> App:
        """The caller of an operation for Apps."""
        assert self.caller.app is not None
        return self.caller.app

    @property
    def before_2026(self) -> bool:
        """Whether the answer is in the form of the first API version, which 2026-03-10 took fields out of."""
        return self.version == DEFAULT_API_VERSION

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; an empty body is an empty one. Raises ApiError 400."""
        if not self.raw_body:
            return {}
        try:
            body = orjson.loads(self.raw_body)
        except orjson.JSONDecodeError:
            raise ApiError(400, "Problems parsing JSON") from None
        if not isinstance(body, dict):
            raise ApiError(400, "Body should be a JSON object")
        return body


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One documented operation of the API.

    `docs` is its page and anchor below `/rest/`; `scopes` and `permissions` are what the
    `X-Accepted-OAuth-Scopes` and `X-Accepted-GitHub-Permissions` headers say of it. `anonymous` ones answer
    without a credential; those that are not `counted` cost no quota. `for_apps` ones take an App's JWT and nothing else,
    and `for_users` ones no token of an installation.
    """

    method: str
    path: str
    handler: Callable[[Call], Answer]
    docs: str
    scopes: str = ""
    permissions: str = "metadata=read"
    anonymous: bool = False
    counted: bool = True
    for_apps: bool = False
    for_users: bool = False

    @property
    def name(self) -> str:
        """Method and path template, as the API's published description has them."""
        return f"{self.method} {_PARAMETER_PATTERN.sub('', self.path)}"
