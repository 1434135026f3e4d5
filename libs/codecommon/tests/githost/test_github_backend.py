"""What the simulator does not do: answers of other versions, and answers that are wrong. The rest is a contract test."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from codecommon.api.results import Retryable, Terminal
from codecommon.githost.github.credential import TokenSecret
from codecommon.githost.github.provider import GithubProvider
from codecommon.githost.http.proxy import ProxyRules
from codecommon.githost.http.transport import HostTransport
from codecommon.githost.protocol import Absent, GitBackend, HostTarget, Redirected, RepositoryChanges, RepositoryRequest
from codecommon.process.secrets import SecretValue

TOKEN = "a-token-of-no-known-shape"
REQUEST = RepositoryRequest("acme", "Organization", "web", "private", "", auto_init=False)

# The fields an old Enterprise Server sends at the least; githubkit's own model refuses it.
OLD_SERVER: dict[str, Any] = {
    "id": 7,
    "name": "web",
    "owner": {"login": "acme"},
    "private": True,
    "created_at": "2026-11-23T11:59:59Z",
    "html_url": "https://ghe.example/acme/web",
    "description": None,
}


@pytest.fixture
async def transport() -> AsyncIterator[HostTransport]:
    stack = HostTransport(proxies=ProxyRules())
    yield stack
    await stack.aclose()


@pytest.fixture
def backend(scripted: Any, transport: HostTransport) -> GitBackend:
    target = HostTarget(scripted.url, TokenSecret(SecretValue(TOKEN)), None, ("cluster", "uid", "1"))
    return GithubProvider([scripted.url]).open(target, transport)


@pytest.mark.parametrize(
    ("base_url", "token", "ca_bundle", "reason"),
    [
        ("https://evil.example", "ghp_abcdefgh", None, "HostNotAllowed"),
        ("", "not-a-github-token", None, "CredentialInvalid"),
        ("", "ghp_abcdefgh", "no certificate", "CABundleInvalid"),
    ],
)
async def test_a_session_that_must_not_be_is_refused_before_anything_is_sent(
    transport: HostTransport, base_url: str, token: str, ca_bundle: str | None, reason: str
) -> None:
    with pytest.raises(Terminal) as refused:
        GithubProvider().open(
            HostTarget(base_url, TokenSecret(SecretValue(token)), ca_bundle, ("c", "u", "1")), transport
        )
    assert refused.value.reason == reason


async def test_every_call_goes_to_the_api_root_with_the_credential_and_a_version_old_servers_know(
    scripted: Any, backend: GitBackend
) -> None:
    scripted.answer(200, {"id": 1, "login": "octocat", "type": "User"})
    scripted.answer(200, {"id": 2, "login": "acme", "type": "Organization"})
    for _ in range(4):
        scripted.answer(200, OLD_SERVER)
    scripted.answer(204)
    await backend.validate_connection()
    await backend.get_owner_kind("acme")
    await backend.find_repository("acme", "web")
    seen = await backend.get_repository("7")
    assert seen is not None
    await backend.has_branch(seen, "feature/x?y#z")
    await backend.update_repository("7", RepositoryChanges(description="d"))
    await backend.delete_repository("7")
    assert [f"{request.method} {request.target}" for request in scripted.seen] == [
        "GET /api/v3/user",
        "GET /api/v3/users/acme",
        "GET /api/v3/repos/acme/web",
        "GET /api/v3/repositories/7",
        "PATCH /api/v3/repositories/7",
        "DELETE /api/v3/repositories/7",
    ]
    for request in scripted.seen:
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        assert request.headers["x-github-api-version"] == "2022-11-28"
        assert request.headers["user-agent"] == "code-provider"


async def test_a_branch_stays_in_its_place_in_the_address(scripted: Any, backend: GitBackend) -> None:
    scripted.answer(200, OLD_SERVER)
    scripted.answer(200, {"name": "feature/x%"})
    seen = await backend.get_repository("7")
    assert seen is not None
    assert await backend.has_branch(seen, "feature/x%")
    assert scripted.seen[-1].target == "/api/v3/repos/acme/web/branches/feature%2Fx%25"


async def test_a_branch_that_was_renamed_is_not_there(scripted: Any, backend: GitBackend) -> None:
    scripted.answer(200, OLD_SERVER)
    scripted.answer(
        301, {"message": "Moved Permanently"}, Location=f"{scripted.url}/api/v3/repos/acme/web/branches/main"
    )
    seen = await backend.get_repository("7")
    assert seen is not None
    assert not await backend.has_branch(seen, "master")


async def test_a_repository_of_an_old_server_is_understood(scripted: Any, backend: GitBackend) -> None:
    scripted.answer(200, OLD_SERVER)
    seen = await backend.get_repository("7")
    assert seen is not None
    assert (seen.id, seen.visibility, seen.description, seen.archived) == ("7", "private", "", False)
    assert seen.clone_url == "https://ghe.example/acme/web.git"


async def test_the_kinds_of_scopes_are_told_apart(scripted: Any, backend: GitBackend) -> None:
    account = {"id": 1, "login": "octocat", "type": "User"}
    scripted.answer(200, account, X_OAuth_Scopes="repo, user")
    scripted.answer(200, account, X_OAuth_Scopes="")
    scripted.answer(200, account)
    assert [(await backend.validate_connection()).scopes for _ in range(3)] == [("repo", "user"), (), None]


async def test_an_organisation_that_shows_only_what_single_sign_on_does_not_protect_has_not_admitted_the_credential(
    scripted: Any, backend: GitBackend
) -> None:
    scripted.answer(200, [], X_GitHub_SSO="partial-results; organizations=21955855,20582480")
    with pytest.raises(Terminal) as refused:
        await backend.verify_access("acme")
    assert refused.value.reason == "SSORequired"
    scripted.answer(200, [])
    await backend.verify_access("acme")


async def test_an_absence_is_dated_by_the_host(scripted: Any, backend: GitBackend) -> None:
    scripted.answer(404, {"message": "Not Found"})
    assert await backend.find_repository("acme", "web") == Absent(datetime(2026, 11, 23, 12, tzinfo=UTC))


@pytest.mark.parametrize("date", ["", "yesterday"])
async def test_an_absence_without_a_date_is_not_used(scripted: Any, backend: GitBackend, date: str) -> None:
    scripted.answer(404, {"message": "Not Found"}, Date=date)
    with pytest.raises(Retryable) as unusable:
        await backend.find_repository("acme", "web")
    assert unusable.value.reason == "HostUnavailable"


@pytest.mark.parametrize("root", ["{url}", ""], ids=["absolute", "relative"])
async def test_a_redirect_of_the_api_is_reported_and_never_followed(
    scripted: Any, backend: GitBackend, root: str
) -> None:
    location = f"{root.format(url=scripted.url)}/api/v3/repositories/9"
    scripted.answer(301, {"message": "Moved Permanently", "url": location}, Location=location)
    assert await backend.find_repository("acme", "web") == Redirected(f"{scripted.url}/api/v3/repositories/9")
    scripted.answer(307, {"message": "Temporary Redirect"}, Location=location)
    with pytest.raises(Retryable) as refused:
        await backend.update_repository("7", RepositoryChanges(description="d"))
    assert refused.value.reason == "UnexpectedAnswer"
    assert len(scripted.seen) == 2


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("https://login.example/api/v3/repositories/9?session=a", "login.example"),
        ("http://127.0.0.1:1/api/v3/repositories/9", "127.0.0.1"),
        ("https://{name}/api/v3/repositories/9", "127.0.0.1"),
        ("{url}/login?session=a", "127.0.0.1"),
        ("/login?session=a", "127.0.0.1"),
        ("/api/v3/../../login", "127.0.0.1"),
        ("//{name}@login.example/api/v3/repositories/9", "login.example"),
    ],
)
async def test_a_redirect_out_of_the_api_says_nothing_of_repository_or_branch(
    scripted: Any, backend: GitBackend, location: str, host: str
) -> None:
    scripted.answer(200, OLD_SERVER)
    seen = await backend.get_repository("7")
    assert seen is not None
    for ask in (lambda: backend.find_repository("acme", "web"), lambda: backend.has_branch(seen, "main")):
        scripted.answer(302, None, Location=location.format(url=scripted.url, name=scripted.name))
        with pytest.raises(Retryable) as diverted:
            await ask()
        assert diverted.value.reason == "HostUnavailable"
        assert f"redirects to {host}," in diverted.value.message
        assert "repositories" not in diverted.value.message
        assert "session" not in diverted.value.message


@pytest.mark.parametrize("body", [b"", b"<html>login</html>", b"{", b"[]", b'{"id": "x"}', b'{"id": 7}'])
async def test_a_success_that_is_not_a_repository_is_not_believed(
    scripted: Any, backend: GitBackend, body: bytes
) -> None:
    scripted.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    with pytest.raises(Retryable) as unusable:
        await backend.get_repository("7")
    assert unusable.value.reason == "HostUnavailable"


@pytest.mark.parametrize("value", ["Mon, 23 Nov 2026 12:00:30 GMT", "soon"])
async def test_a_retry_after_that_is_no_number_is_still_a_limit(scripted: Any, backend: GitBackend, value: str) -> None:
    scripted.answer(403, {"message": "slow down"}, Retry_After=value)
    with pytest.raises(Retryable) as limited:
        await backend.delete_repository("7")
    assert limited.value.reason == "RateLimited"


@pytest.mark.parametrize("repo_id", ["", "../user", "7/keys", "7?x", "-1", "\u0667", "7 "])
async def test_only_a_number_is_put_into_an_address_by_id(scripted: Any, backend: GitBackend, repo_id: str) -> None:
    for call in (
        backend.get_repository(repo_id),
        backend.delete_repository(repo_id),
        backend.update_repository(repo_id, RepositoryChanges(description="d")),
    ):
        with pytest.raises(Terminal) as refused:
            await call
        assert refused.value.reason == "ValidationFailed"
    assert scripted.seen == []


async def test_a_repository_made_under_another_name_is_not_lost(scripted: Any, backend: GitBackend) -> None:
    scripted.answer(201, OLD_SERVER | {"name": "web-1"})
    with pytest.raises(Terminal) as altered:
        await backend.create_repository(REQUEST)
    assert altered.value.reason == "NameAltered"
    assert altered.value.status["repoID"] == "7"


async def test_the_body_of_a_create_says_the_visibility_in_both_of_its_forms(
    scripted: Any, backend: GitBackend
) -> None:
    scripted.answer(201, OLD_SERVER)
    await backend.create_repository(REQUEST)
    assert json.loads(scripted.seen[0].body) == {
        "name": "web",
        "description": "",
        "private": True,
        "visibility": "private",
        "auto_init": False,
    }


async def test_a_change_says_only_what_changes(scripted: Any, backend: GitBackend) -> None:
    scripted.answer(200, OLD_SERVER)
    await backend.update_repository("7", RepositoryChanges(default_branch="main", description=""))
    assert json.loads(scripted.seen[0].body) == {"description": "", "default_branch": "main"}


@pytest.mark.parametrize("archived", [True, False])
async def test_a_repository_is_not_archived_while_it_is_changed(
    scripted: Any, backend: GitBackend, archived: bool
) -> None:
    for _ in range(2):
        scripted.answer(200, OLD_SERVER)
    await backend.update_repository("7", RepositoryChanges(description="d", archived=archived))
    steps = [json.loads(request.body) for request in scripted.seen]
    assert steps == (
        [{"description": "d"}, {"archived": True}] if archived else [{"archived": False}, {"description": "d"}]
    )


@pytest.mark.parametrize("headers", [{}, {"X_OAuth_Scopes": "repo"}])
async def test_a_refused_delete_names_its_scope_even_where_the_host_does_not(
    scripted: Any, backend: GitBackend, headers: dict[str, str]
) -> None:
    scripted.answer(403, {"message": "Must have admin rights to Repository."}, **headers)
    with pytest.raises(Terminal) as refused:
        await backend.delete_repository("7")
    assert refused.value.reason == "MissingPermission"
    assert "the scope delete_repo" in refused.value.message


@pytest.mark.parametrize(
    ("scopes", "public", "missing"),
    [
        ("delete_repo, public_repo", False, "repo"),
        ("delete_repo", True, "public_repo"),
        ("delete_repo, public_repo", True, None),
        ("delete_repo, repo", False, None),
        (None, False, None),
    ],
)
async def test_a_repository_is_gone_only_where_the_token_could_see_that(
    scripted: Any, backend: GitBackend, scopes: str | None, public: bool, missing: str | None
) -> None:
    scripted.answer(404, {"message": "Not Found"}, **({"X_OAuth_Scopes": scopes} if scopes else {}))
    if missing is None:
        await backend.delete_repository("7", public=public)
        return
    with pytest.raises(Terminal) as refused:
        await backend.delete_repository("7", public=public)
    assert refused.value.reason == "MissingPermission"
    assert f"the scope {missing}" in refused.value.message


async def test_an_internal_repository_is_not_asked_for_in_a_users_account(scripted: Any, backend: GitBackend) -> None:
    request = RepositoryRequest("octocat", "User", "web", "internal", "", auto_init=False)
    with pytest.raises(Terminal) as refused:
        await backend.create_repository(request)
    assert refused.value.reason == "ValidationFailed"
    assert scripted.seen == []


@pytest.mark.parametrize("status", [403, 422, 451])
async def test_a_token_that_the_host_echoes_stays_out_of_the_message(
    scripted: Any, backend: GitBackend, status: int
) -> None:
    scripted.answer(status, {"message": f"Invalid request: Bearer {TOKEN}", "errors": [TOKEN]})
    with pytest.raises(Terminal) as refused:
        await backend.create_repository(REQUEST)
    assert TOKEN not in str(refused.value)


async def test_what_a_layer_of_the_transport_decides_is_raised_as_it_is(scripted: Any) -> None:
    class Gate(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            raise Retryable("RateLimited", "later")

    stack = HostTransport(layers=[lambda _: Gate()], proxies=ProxyRules())
    target = HostTarget(scripted.url, TokenSecret(SecretValue(TOKEN)), None, ("cluster", "uid", "1"))
    with pytest.raises(Retryable, match="later"):
        await GithubProvider([scripted.url]).open(target, stack).validate_connection()
    await stack.aclose()


async def test_a_bug_is_not_dressed_up_as_an_answer_of_the_host(scripted: Any) -> None:
    class Broken(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            raise KeyError("bug")

    stack = HostTransport(layers=[lambda _: Broken()], proxies=ProxyRules())
    target = HostTarget(scripted.url, TokenSecret(SecretValue(TOKEN)), None, ("cluster", "uid", "1"))
    with pytest.raises(KeyError):
        await GithubProvider([scripted.url]).open(target, stack).validate_connection()
    await stack.aclose()


async def test_a_call_is_cheap(scripted: Any, backend: GitBackend) -> None:
    """A client made per call used to cost 20 ms of CPU for its TLS context alone."""
    calls = 50
    for _ in range(calls + 1):
        scripted.answer(200, OLD_SERVER)
    await backend.get_repository("7")
    started = time.process_time()
    for _ in range(calls):
        await backend.get_repository("7")
    assert (time.process_time() - started) / calls < 0.005
    assert scripted.connections == 1


async def test_nothing_that_can_be_printed_shows_the_token(backend: GitBackend) -> None:
    shown = [repr(value) for value in vars(backend).values()]
    github = backend._client._github  # pyright: ignore
    shown += [repr(github.auth), repr(vars(github.auth)), repr(github.auth.get_auth_flow(github)), repr(github.config)]
    assert all(TOKEN not in text for text in shown)


def _page_of_keys(title: str) -> list[dict[str, Any]]:
    key = {"key": "ssh-ed25519 AAAA", "title": title, "read_only": True, "created_at": "2026-11-23T11:59:59Z"}
    return [{"id": number, **key} for number in range(100)]


async def test_a_list_whose_pages_add_up_to_too_much_is_given_up(scripted: Any, backend: GitBackend) -> None:
    for _ in range(100):
        scripted.answer(200, _page_of_keys("x" * 19_000))
    with pytest.raises(Retryable) as refused:
        await backend.list_deploy_keys("7")
    assert refused.value.reason == "UnexpectedAnswer"
    assert len(scripted.seen) == 9, "16 MiB"


async def test_a_list_that_takes_too_long_is_given_up(
    scripted: Any, backend: GitBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codecommon.githost.github.backend._LONGEST_LIST_SECONDS", 0.3)
    scripted.answer(200, _page_of_keys("x"))
    scripted.send(None)
    async with asyncio.timeout(5):
        with pytest.raises(Retryable) as refused:
            await backend.list_deploy_keys("7")
    assert refused.value.reason == "UnexpectedAnswer"
