"""The proxies in front of providers, rule by rule (hub-contract.md §3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from hub_bed import ALICE, BOB, Bed, answer, hub_bed

from devstack.devhub.proxy import clean_path
from devstack.ports import free_ports

IDENTITY = ("X-Kedge-User", "X-Kedge-Tenant", "X-Kedge-Cluster")


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    async with hub_bed(tmp_path) as made:
        yield made


def identity(bed: Bed) -> list[str | None]:
    return [bed.provider.last.header(name) for name in IDENTITY]


async def status_and_text(sending: aiohttp.client._RequestContextManager) -> tuple[int, str]:
    async with sending as response:
        return response.status, await response.text()


# §3.3, the backend proxy


async def test_a_member_is_told_to_the_provider_by_user_path_and_cluster_id(bed: Bed) -> None:
    async with bed.client.get("/services/providers/code/oauth/github/config", headers=bed.as_alice()) as response:
        assert response.status == 200
    assert identity(bed) == [ALICE.name, bed.team.path, bed.team.cluster]
    assert bed.provider.last.header("Authorization") == f"Bearer {ALICE.token}"
    assert bed.provider.last.header("X-Kedge-Org") == bed.team.organization.uuid
    assert bed.provider.last.header("X-Kedge-Base-Path") is None


async def test_what_a_client_claims_to_be_is_deleted_first(bed: Bed) -> None:
    forged = dict.fromkeys(IDENTITY, "forged") | {"x-kedge-user": "forged too"}
    async with bed.client.get("/services/providers/code/x", headers=forged):
        assert identity(bed) == [None, None, None]
    async with bed.client.get("/services/providers/code/x", headers=bed.as_alice(**forged)):
        assert identity(bed) == [ALICE.name, bed.team.path, bed.team.cluster]


@pytest.mark.parametrize(
    "token", ["unknown", "eyJh.eyJrdWJlcm5ldGVzLmlvL3NlcnZpY2VhY2NvdW50L2NsdXN0ZXJOYW1lIjoiMnRlYW0ifQ.s"]
)
async def test_unknown_and_service_account_tokens_go_on_without_identity(bed: Bed, token: str) -> None:
    headers = bed.as_alice(Authorization=f"Bearer {token}")
    async with bed.client.get("/services/providers/code/x", headers=headers) as response:
        assert response.status == 200
    assert identity(bed) == [None, None, None]
    assert bed.provider.last.header("Authorization") == f"Bearer {token}"


async def test_anonymous_requests_pass(bed: Bed) -> None:
    async with bed.client.get("/services/providers/code/oauth/github/callback?state=1&code=2") as response:
        assert response.status == 200
    assert bed.provider.last.line == "GET /oauth/github/callback?state=1&code=2 HTTP/1.1"


@pytest.mark.parametrize(
    ("named", "colleague"),
    [
        (("X-Kedge-Org", "X-Kedge-Workspace"), False),
        (("X-Kedge-Org", "X-Kedge-Workspace"), True),
        (("X-Kedge-Org",), False),
        (("X-Kedge-Workspace",), True),
        ((), True),
    ],
)
async def test_a_workspace_of_others_falls_back_to_the_personal_organisation(
    bed: Bed, named: tuple[str, ...], colleague: bool
) -> None:
    organization = bed.team.organization
    if colleague:
        theirs = bed.hub.tenancy.add_workspace(organization, "theirs", identifier="theirs", cluster="2theirs")
        bed.hub.tenancy.join(BOB, organization, theirs)
    personal = bed.hub.tenancy.personal(BOB)
    bed.hub.kcp._ready_workspaces[personal.path] = "2personal"
    headers = {key: value for key, value in bed.as_alice().items() if key in named}
    async with bed.client.get(
        "/services/providers/code/x", headers=headers | {"Authorization": f"Bearer {BOB.token}"}
    ) as response:
        assert response.status == 200
    assert identity(bed) == [BOB.name, personal.path, "2personal"]


async def test_the_organisation_alone_is_enough_for_its_path(bed: Bed) -> None:
    organization = bed.team.organization
    bed.hub.kcp._ready_workspaces[organization.path] = "2acme"
    headers = bed.as_alice()
    del headers["X-Kedge-Workspace"]
    async with bed.client.get("/services/providers/code/x", headers=headers):
        assert identity(bed) == [ALICE.name, organization.path, "2acme"]


async def test_a_member_of_the_organisation_may_name_a_workspace_that_is_not_there(bed: Bed) -> None:
    organization = bed.team.organization
    bed.hub.tenancy.join(BOB, organization)
    headers = bed.as_alice(Authorization=f"Bearer {BOB.token}") | {"X-Kedge-Workspace": "gone"}
    async with bed.client.get("/services/providers/code/x", headers=headers):
        assert identity(bed) == [BOB.name, f"{organization.path}:gone", None]


async def test_a_tenant_that_cannot_be_looked_up_leaves_the_user_alone(bed: Bed) -> None:
    bed.kcp.respond = lambda received: answer(b"{}", status="500 Internal Server Error")
    async with bed.client.get(
        "/services/providers/code/x", headers={"Authorization": f"Bearer {BOB.token}"}
    ) as response:
        assert response.status == 200
    assert identity(bed) == [BOB.name, None, None]


async def test_a_connection_header_can_take_an_injected_header_away(bed: Bed) -> None:
    request = f"GET /services/providers/code/x HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {ALICE.token}\r\n"
    named = "Connection: close, X-Kedge-Tenant\r\n"
    org = f"X-Kedge-Org: {bed.team.organization.uuid}\r\nX-Kedge-Workspace: {bed.team.uuid}\r\n\r\n"
    await bed.raw((request + named + org).encode())
    assert identity(bed) == [ALICE.name, None, bed.team.cluster]


# §3.1, what both proxies do


async def test_host_is_the_providers_and_the_client_is_noted(bed: Bed) -> None:
    async with bed.client.get("/services/providers/code/x", headers={"X-Forwarded-For": "203.0.113.9"}):
        pass
    assert bed.provider.last.header("Host") == bed.provider.url.removeprefix("http://")
    assert bed.provider.last.header("X-Forwarded-For") == "203.0.113.9, 127.0.0.1"


@pytest.mark.parametrize(
    ("path", "upstream"),
    [
        ("/services/providers/code", "/"),
        ("/services/providers/code/", "/"),
        ("/services/providers/code/mcp", "/mcp"),
        ("/services/providers/code/a%2Fb%20c?q=%2F&r", "/a/b%20c?q=%2F&r"),
        ("/services/providers/code/%C3%A4%25", "/%C3%A4%25"),
    ],
)
async def test_the_path_reaches_the_provider_decoded_once_and_the_query_as_it_is(
    bed: Bed, path: str, upstream: str
) -> None:
    assert (await bed.raw(f"GET {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n".encode()))[
        :15
    ] == b"HTTP/1.1 200 OK"
    assert bed.provider.last.line == f"GET {upstream} HTTP/1.1"


async def test_the_path_is_joined_to_that_of_the_providers_url(bed: Bed) -> None:
    bed.register(backend={"url": f"{bed.provider.url}/base/"})
    async with bed.client.get("/services/providers/code/x"):
        assert bed.provider.last.line == "GET /base/x HTTP/1.1"


@pytest.mark.parametrize(
    "path", ["/services/providers//code/x", "/services/providers/code/../code/x", "/services/x/%2e%2e/providers/code/x"]
)
async def test_a_path_that_is_not_clean_is_redirected(bed: Bed, path: str) -> None:
    response = await bed.raw(f"GET {path}?q=1 HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n".encode())
    assert response.startswith(b"HTTP/1.1 301")
    assert b"\r\nLocation: /services/providers/code/x?q=1\r\n" in response


def test_a_clean_path_keeps_its_last_slash() -> None:
    assert [clean_path(path) for path in ("", "/", "//", "/a/", "/a/./b//", "/../a")] == [
        "/",
        "/",
        "/",
        "/a/",
        "/a/b/",
        "/a",
    ]


@pytest.mark.parametrize("prefix", ["/services/providers", "/ui/providers"])
async def test_a_provider_that_cannot_answer_is_told_in_the_hubs_words(bed: Bed, prefix: str) -> None:
    bed.register("broken", ui={"url": "no-scheme"}, backend={"url": "no-scheme"})
    bed.hub.registry.upsert(
        {"metadata": {"name": "bare"}, "spec": {"displayName": "Bare", "ui": {"builtinRoute": "x"}}}
    )
    dead = f"http://127.0.0.1:{free_ports(1)[0]}"
    bed.register("dead", ui={"url": dead}, backend={"url": dead})
    answers = {
        name: await status_and_text(bed.client.get(f"{prefix}/{name}/main.js"))
        for name in ("nobody", "broken", "bare", "dead")
    }
    assert answers == {
        "nobody": (404, "provider not found: nobody"),
        "broken": (503, "provider not ready: broken"),
        "bare": (404, "provider has no endpoint for this route: bare"),
        "dead": (502, "provider upstream error"),
    }


async def test_no_name_is_not_found(bed: Bed) -> None:
    assert (await status_and_text(bed.client.get("/services/providers/")))[0] == 404


async def test_a_stream_arrives_event_by_event(bed: Bed) -> None:
    more = asyncio.Event()

    async def two_events(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: 1\n\n")
        await more.wait()
        writer.write(b"data: 2\n\n")
        await writer.drain()

    bed.provider.stream = two_events
    async with bed.client.post("/services/providers/code/mcp", data=b"{}") as response:
        assert await response.content.readuntil(b"\n\n") == b"data: 1\n\n"
        more.set()
        assert await response.content.read() == b"data: 2\n\n"


async def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(bed: Bed) -> None:
    async def half(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()

    bed.provider.stream = half
    async with bed.client.get("/services/providers/code/x") as response:
        with pytest.raises(aiohttp.ClientError):
            await response.read()


async def test_method_body_cookies_and_redirects_go_through(bed: Bed) -> None:
    headers = "Location: https://github.example/authorize\r\nSet-Cookie: a=1; Path=/x\r\nSet-Cookie: b=2\r\n"
    bed.provider.respond = lambda received: answer(b"", status="302 Found", headers=headers)
    async with bed.client.patch(
        "/services/providers/code/x", data=b"body", headers={"Cookie": "mine=1"}, allow_redirects=False
    ) as response:
        assert (response.status, response.headers["Location"]) == (302, "https://github.example/authorize")
        assert response.headers.getall("Set-Cookie") == ["a=1; Path=/x", "b=2"]
    assert (bed.provider.last.line, bed.provider.last.body) == ("PATCH /x HTTP/1.1", b"body")
    assert bed.provider.last.header("Cookie") == "mine=1"


async def test_a_providers_cookie_goes_to_the_client_that_it_is_for_and_no_other(bed: Bed) -> None:
    bed.register(backend={"url": bed.provider.url.replace("127.0.0.1", "localhost")})
    bed.provider.respond = lambda received: answer(headers="Set-Cookie: state=secret; Path=/\r\n")
    async with bed.client.get("/services/providers/code/x") as response:
        assert response.headers["Set-Cookie"] == "state=secret; Path=/"
    bed.client.cookie_jar.clear()
    async with bed.client.get("/services/providers/code/x"):
        assert bed.provider.last.header("Cookie") is None


# §3.2, the UI proxy


async def test_assets_are_fetched_with_the_base_path_and_nothing_is_stripped(bed: Bed) -> None:
    claimed = dict.fromkeys(IDENTITY, "claimed") | {"Authorization": "Bearer x", "Cookie": "c=1"}
    async with bed.client.get("/ui/providers/code/main.js?v=0.1.0", headers=claimed) as response:
        assert response.status == 200
        assert "Content-Security-Policy" not in response.headers
    assert bed.provider.last.line == "GET /main.js?v=0.1.0 HTTP/1.1"
    assert bed.provider.last.header("X-Kedge-Base-Path") == "/ui/providers/code"
    assert identity(bed) == ["claimed"] * 3
    assert (bed.provider.last.header("Authorization"), bed.provider.last.header("Cookie")) == ("Bearer x", "c=1")


async def test_a_last_segment_with_a_dot_is_an_asset_whatever_it_is(bed: Bed) -> None:
    async with bed.client.get("/ui/providers/code/repositories/my.repo"):
        assert bed.provider.last.line == "GET /repositories/my.repo HTTP/1.1"


@pytest.mark.parametrize(
    "path", ["/ui/providers/code", "/ui/providers/code/", "/ui/providers/code/repositories/my.repo/x"]
)
async def test_every_other_path_stays_with_the_portal(bed: Bed, path: str) -> None:
    async with bed.client.get(path):
        assert bed.provider.requests == []
