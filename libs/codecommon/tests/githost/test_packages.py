"""Lists of packages that the simulator does not give: rows with less in them, and answers that are wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from codecommon.api.results import Retryable, Terminal
from codecommon.githost.github import backend as backend_module
from codecommon.githost.github.credential import TokenSecret
from codecommon.githost.github.provider import GithubProvider
from codecommon.githost.http.proxy import ProxyRules
from codecommon.githost.http.transport import HostTransport
from codecommon.githost.protocol import GitBackend, HostPackage, HostTarget, PackageVersion
from codecommon.process.secrets import SecretValue

USER = {"id": 1, "login": "acme", "type": "User"}


@pytest.fixture
async def backend(scripted: Any) -> AsyncIterator[GitBackend]:
    stack = HostTransport(proxies=ProxyRules())
    target = HostTarget(scripted.url, TokenSecret(SecretValue("a-token")), None, ("cluster", "uid", "1"))
    scripted.answer(200, USER)
    yield GithubProvider([scripted.url]).open(target, stack)
    await stack.aclose()


async def listed(backend: GitBackend) -> list[HostPackage]:
    return [row async for page in backend.list_packages("acme", "container") for row in page]


async def test_a_row_needs_no_more_than_a_name_and_what_no_path_can_name_is_left_out(
    scripted: Any, backend: GitBackend
) -> None:
    names = ["plain", "", "..", ".", "x" * 256, "a/../b?c#d%2F"]
    scripted.answer(200, [{"name": name} for name in names])
    found = await listed(backend)
    assert [row.name for row in found] == ["plain", "a/../b?c#d%2F"]
    assert (found[0].repository_id, found[0].version_count, found[0].updated_at) == (None, 0, "")

    scripted.answer(200, [{"name": "sha256:1"}, {"name": "sha256:2", "metadata": {"container": {"tags": ["v1"]}}}])
    versions = [version async for page in backend.list_versions(found[1]) for version in page]
    assert versions == [PackageVersion("sha256:1", (), ""), PackageVersion("sha256:2", ("v1",), "")]
    path, _, _ = scripted.seen[-1].target.partition("?")
    assert path.endswith("/users/acme/packages/container/a%2F..%2Fb%3Fc%23d%252F/versions")


@pytest.mark.parametrize(
    "body",
    [{"name": "no list"}, [{"id": 1}], ["text"], [{"name": "n"}] * 101, [{"name": "n", "repository": {"id": "x"}}]],
)
async def test_what_is_no_page_of_packages_ends_the_list_with_an_error(
    scripted: Any, backend: GitBackend, body: object
) -> None:
    scripted.answer(200, body)
    with pytest.raises(Retryable):
        await listed(backend)


async def test_a_list_that_comes_to_no_end_is_given_up(
    scripted: Any, backend: GitBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_module, "_MOST_PAGES", 3)
    for _ in range(3):
        scripted.answer(200, [{"name": f"p-{number}"} for number in range(100)])
    with pytest.raises(Retryable) as given_up:
        await listed(backend)
    assert given_up.value.reason == "UnexpectedAnswer"


@pytest.mark.parametrize(
    ("bound", "value"), [("_LONGEST_LIST_OF_PACKAGES", 1000), ("_LONGEST_LIST_OF_PACKAGES_SECONDS", -1.0)]
)
async def test_a_list_has_a_greatest_length_and_takes_a_longest_time(
    scripted: Any, backend: GitBackend, monkeypatch: pytest.MonkeyPatch, bound: str, value: float
) -> None:
    monkeypatch.setattr(backend_module, bound, value)
    scripted.answer(200, [{"name": f"p-{number}"} for number in range(100)])
    with pytest.raises(Retryable) as given_up:
        await listed(backend)
    assert given_up.value.reason == "UnexpectedAnswer"


async def test_a_list_that_single_sign_on_has_cut_is_no_list(scripted: Any, backend: GitBackend) -> None:
    scripted.answer(200, [{"name": "n"}], X_GitHub_SSO="partial-results; organizations=1")
    with pytest.raises(Terminal) as refused:
        await listed(backend)
    assert refused.value.reason == "SSORequired"


@pytest.mark.parametrize(
    ("status", "message", "reason"),
    [
        (400, "Invalid argument.", "PackagesUnsupportedByToken"),
        (403, "Resource not accessible by personal access token", "PackagesUnsupportedByToken"),
        (403, "You need at least read:packages scope to list packages.", "MissingPermission"),
        (404, "Not Found", "NotFoundOrNoAccess"),
    ],
)
async def test_refusals_are_told_apart(
    scripted: Any, backend: GitBackend, status: int, message: str, reason: str
) -> None:
    scripted.answer(status, {"message": message})
    with pytest.raises(Terminal) as refused:
        await listed(backend)
    assert refused.value.reason == reason
