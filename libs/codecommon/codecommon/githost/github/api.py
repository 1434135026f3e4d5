"""What the HTTP stack and the budget must know of GitHub's REST API: ``HostApi``. Pure, but for reading a body."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, cast

import httpx
import orjson

from codecommon.githost.github.answer import Answer
from codecommon.githost.github.classify import limit_of
from codecommon.githost.host_api import LimitRefusal
from codecommon.githost.limits import Quota

# The segments of paths that we use. After one of these come parameters, which are names or ids.
_PARAMETERS: Final[dict[str, tuple[str, ...]]] = {
    "repos": ("{owner}", "{repo}"),
    "repositories": ("{id}",),
    "orgs": ("{org}",),
    "users": ("{username}",),
    "branches": ("{branch}",),
    "keys": ("{key_id}",),
    "collaborators": ("{username}",),
    "invitations": ("{invitation_id}",),
    "installations": ("{installation_id}",),
    "ref": ("{ref}",),
    "refs": ("{ref}",),
    "trees": ("{tree_sha}",),
    "blobs": ("{file_sha}",),
    "contents": ("{path}",),
    "tarball": ("{ref}",),
    "workflows": ("{workflow_id}",),
    "runs": ("{run_id}",),
    "jobs": ("{job_id}",),
    "packages": ("{package_type}", "{package_name}"),
    "versions": ("{package_version_id}",),
}
_WORDS: Final = frozenset(
    {*_PARAMETERS, "user", "app", "installation", "access_tokens", "api", "v3", "permission", "rate_limit", "meta"}
    | {"git", "commits", "actions", "dispatches", "logs"}
)
_MOMENTARY: Final = frozenset({"x-github-request-id", "x-github-sso"})
_LIMITED: Final = frozenset({403, 429})
_INSTALLATION_TOKEN: Final = re.compile(r"/app/installations/([0-9]{1,20})/access_tokens")
_AS_APP: Final = re.compile(r"/app(/.*)?|/(orgs|users)/[^/]+/installation")


class GithubApi:
    """``codecommon.githost.host_api`` says what the methods do."""

    @property
    def issuer_noun(self) -> str:
        return "App"

    @property
    def not_modified_is_free(self) -> bool:
        return True

    def url_template(self, url_path: str) -> str:
        """``/repos/acme/web/keys/7`` → ``/repos/{owner}/{repo}/keys/{key_id}``."""
        parts: list[str] = []
        pending: list[str] = []
        for segment in url_path.strip("/").split("/"):
            if pending:
                parts.append(pending.pop(0))
            elif segment in _WORDS:
                parts.append(segment)
                pending = list(_PARAMETERS.get(segment, ()))
            else:
                parts.append("{other}")
        return "/" + "/".join(parts)

    def is_answer(self, response: httpx.Response) -> bool:
        # A redirect to an archive says that its empty body is HTML.
        is_page = response.headers.get("content-type", "").startswith("text/html")
        return response.status_code < 500 and (not is_page or response.headers.get("content-length") == "0")

    def is_momentary(self, header: str) -> bool:
        return header in _MOMENTARY or header.startswith("x-ratelimit-")

    def quota(self, headers: Mapping[str, str]) -> Quota | None:
        values = [headers.get(f"x-ratelimit-{name}", "") for name in ("limit", "remaining", "reset")]
        if not all(value.isdecimal() and len(value) <= 11 for value in values):
            return None
        limit, remaining, reset = map(int, values)
        return Quota(limit, remaining, float(reset)) if limit else None

    async def limit_refusal(self, response: httpx.Response) -> LimitRefusal | None:
        if response.status_code not in _LIMITED:
            return None
        await response.aread()
        limit = limit_of(Answer("", response.status_code, response.headers, response.content))
        return None if limit is None else LimitRefusal(limit.named)

    async def account(self, method: str, path: str, response: httpx.Response) -> str | None:
        """The user that ``GET /user`` names, or the installation that a token was made for."""
        if response.status_code == 201 and method == "POST" and (match := _INSTALLATION_TOKEN.fullmatch(path)):
            return f"installation:{match[1]}"
        if response.status_code == 200 and method == "GET" and path == "/user":
            await response.aread()
            try:
                body: Any = orjson.loads(response.content)
            except orjson.JSONDecodeError:
                return None
            number: object = cast(dict[str, Any], body).get("id") if isinstance(body, dict) else None
            return f"user:{number}" if isinstance(number, int) else None
        return None

    def is_sent_by_issuer(self, path: str) -> bool:
        """Whether the App asks with its JWT, for its installations or a token of one."""
        return _AS_APP.fullmatch(path) is not None


GITHUB_API: Final = GithubApi()
