"""What goes over the wire to kcp and how its answers are read, against a server on the loopback interface."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import yaml
from aiohttp import web

from codecommon.api.meta import Workspace
from codecommon.kcp import client as kcp_module
from codecommon.kcp.client import Conflict, Forbidden, Invalid, KcpError, NotFound, Objects, ProviderKcp, resource_path
from codecommon.kcp.endpoints import SLICE_PATH, KnownEndpoints, UnknownEndpoint, endpoint_urls
from codecommon.kcp.identity import ProviderIdentity

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
TOKEN = "provider-token"


class Server:
    """A server that answers as the test says and keeps what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: list[Answer] = []
        self.asked: list[tuple[str, str, dict[str, str], dict[str, str], bytes]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.asked.append((request.method, request.path, dict(request.query), dict(request.headers), body))
        return await self.answers.pop(0)(request)

    def will(self, *answers: Answer) -> None:
        self.answers += answers


def says(body: Any, status: int = 200, **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        if isinstance(body, bytes):
            return web.Response(body=body, status=status, headers=headers)
        return web.json_response(body, status=status, headers=headers)

    return answer


def status_of(code: int, reason: str, message: str) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }


async def never(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[None]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield
    finally:
        await runner.cleanup()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    async with serving(made):
        yield made


@pytest.fixture
async def kcp(server: Server, tmp_path: Path) -> AsyncIterator[ProviderKcp]:
    kubeconfig = tmp_path / "kubeconfig"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"{server.url}/clusters/p1"}}],
        "users": [{"name": "u", "user": {"token": TOKEN}}],
    }
    kubeconfig.write_text(yaml.safe_dump(content))
    async with ProviderIdentity(kubeconfig) as provider:
        yield ProviderKcp(provider)


@pytest.fixture
def objects(server: Server, kcp: ProviderKcp) -> Objects:
    return kcp.objects(Workspace(f"{server.url}/services/apiexport/p1/code", "c1"))


BASE = "/services/apiexport/p1/code/clusters/c1"


# ---- requests


async def test_an_object_is_asked_for_in_its_workspace_with_our_token(server: Server, objects: Objects) -> None:
    server.will(says({"a": 1}))
    assert await objects.get("repositories", "site") == {"a": 1}
    method, path, query, headers, _ = server.asked[0]
    assert (method, path, query) == ("GET", f"{BASE}/apis/code.kedge.faros.sh/v1alpha1/repositories/site", {})
    assert headers["Authorization"] == f"Bearer {TOKEN}"


def test_paths_of_what_we_read() -> None:
    assert resource_path("secrets", "s", "default") == "/api/v1/namespaces/default/secrets/s"
    assert resource_path("apibindings") == "/apis/apis.kcp.io/v1alpha2/apibindings"
    assert resource_path("deploykeys", "k") == "/apis/code.kedge.faros.sh/v1alpha1/deploykeys/k"


@pytest.mark.parametrize(
    "name", ["../../c2/api/v1/namespaces/default/secrets/s", "..", ".", "%2e%2e", "a/b", "a?b=c", "a#b", "A", "a\n", ""]
)
async def test_a_name_that_a_tenant_wrote_leads_nowhere_else(server: Server, objects: Objects, name: str) -> None:
    with pytest.raises(NotFound):
        await objects.get("repositories", name)
    with pytest.raises(NotFound):
        await objects.get("secrets", name, namespace="default")
    with pytest.raises(NotFound):
        await objects.get("secrets", "s", namespace=name)
    assert server.asked == []


@pytest.mark.parametrize("status", [403, 404, 409, 422])
@pytest.mark.parametrize("body", [b"404 page not found\n", b"<html></html>", b'{"message": "Not Found"}'])
async def test_what_something_in_front_of_kcp_says_is_not_kcps_word(
    server: Server, objects: Objects, status: int, body: bytes
) -> None:
    server.will(says(body, status))
    with pytest.raises(KcpError) as refused:
        await objects.get("repositories", "site")
    assert (type(refused.value), refused.value.status) == (KcpError, status)


async def test_a_path_is_one_of_the_provider_workspace(server: Server, kcp: ProviderKcp) -> None:
    server.will(says({}))
    await kcp.request("GET", "/api/v1")
    assert server.asked[0][1] == "/clusters/p1/api/v1"


async def test_a_merge_patch_is_sent_as_one(server: Server, objects: Objects) -> None:
    server.will(says({}), says({}))
    await objects.merge_patch("repositories", "site", {"metadata": {"uid": "u"}})
    await objects.merge_patch("repositories", "site", {"status": {}}, subresource="status")
    assert [(a[0], a[1].rpartition("/")[2]) for a in server.asked] == [("PATCH", "site"), ("PATCH", "status")]
    assert server.asked[0][3]["Content-Type"] == "application/merge-patch+json"
    assert server.asked[0][4] == b'{"metadata":{"uid":"u"}}'


async def test_a_delete_names_the_uid(server: Server, objects: Objects) -> None:
    server.will(says({}))
    await objects.delete("secrets", "s", uid="u", namespace="default")
    assert server.asked[0][:2] == ("DELETE", f"{BASE}/api/v1/namespaces/default/secrets/s")
    assert b'"preconditions":{"uid":"u"}' in server.asked[0][4]


# ---- not older than


async def test_a_read_not_older_than_a_version_names_it(server: Server, objects: Objects) -> None:
    server.will(says({}))
    await objects.get("repositories", "site", not_older="42")
    assert server.asked[0][2] == {"resourceVersion": "42"}


@pytest.mark.parametrize("version", ["", "0"])
async def test_version_zero_is_never_asked_for(server: Server, objects: Objects, version: str) -> None:
    server.will(says({}))
    await objects.get("repositories", "site", not_older=version)
    assert server.asked[0][2] == {}


@pytest.mark.parametrize(
    "first", [never, says(status_of(504, "Timeout", "Too large resource version"), 504)], ids=["hangs", "504"]
)
async def test_a_version_that_kcp_has_not_seen_is_answered_by_a_live_read(
    server: Server, objects: Objects, first: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kcp_module, "_NOT_OLDER_TIMEOUT", aiohttp.ClientTimeout(total=0.1))
    server.will(first, says({"live": True}))
    assert await objects.get("repositories", "site", not_older="99999999") == {"live": True}
    assert [a[2] for a in server.asked] == [{"resourceVersion": "99999999"}, {}]


async def test_an_object_that_is_not_there_is_not_looked_for_twice(server: Server, objects: Objects) -> None:
    server.will(says(status_of(404, "NotFound", "m"), 404))
    with pytest.raises(NotFound):
        await objects.get("repositories", "site", not_older="42")
    assert len(server.asked) == 1


async def test_a_dry_run_is_asked_for_where_kcp_looks_for_it(server: Server, objects: Objects) -> None:
    """Of a DELETE that has a body kcp reads no parameters: there, a parameter would delete."""
    server.will(*(says({}) for _ in range(6)))
    for dry_run in (True, False):
        await objects.create("repositories", {}, dry_run=dry_run)
        await objects.merge_patch("repositories", "site", {}, dry_run=dry_run)
        await objects.delete("repositories", "site", uid="u", dry_run=dry_run)
    assert [a[2] for a in server.asked] == [{"dryRun": "All"}, {"dryRun": "All"}, {}, {}, {}, {}]
    assert [orjson.loads(a[4]).get("dryRun") for a in server.asked] == [None, None, ["All"], None, None, None]


# ---- errors


@pytest.mark.parametrize(
    ("code", "reason", "type_"),
    [
        (403, "Forbidden", Forbidden),
        (404, "NotFound", NotFound),
        (409, "Conflict", Conflict),
        (409, "AlreadyExists", Conflict),
        (422, "Invalid", Invalid),
        (429, "TooManyRequests", KcpError),
        (503, "ServiceUnavailable", KcpError),
    ],
)
async def test_an_error_is_told_by_its_status_and_reason_with_kcps_words(
    server: Server, objects: Objects, code: int, reason: str, type_: type[KcpError]
) -> None:
    server.will(says(status_of(code, reason, "what is wrong"), code, **{"Retry-After": "3"}))
    with pytest.raises(type_) as refused:
        await objects.get("repositories", "site")
    error = refused.value
    assert type(error) is type_
    assert (error.status, error.reason, error.message, error.retry_after) == (code, reason, "what is wrong", 3.0)


NO_STATUS = {
    "a page": b"<html>the-secret</html>",
    "another kind": b'{"kind":"Secret","message":"the-secret"}',
    "a list": b'["the-secret"]',
    "nothing": b"",
}


@pytest.mark.parametrize("body", NO_STATUS.values(), ids=NO_STATUS)
async def test_a_body_that_is_no_status_is_not_quoted(server: Server, objects: Objects, body: bytes) -> None:
    server.will(says(body, 500))
    with pytest.raises(KcpError) as refused:
        await objects.get("secrets", "s", namespace="default")
    assert "the-secret" not in str(refused.value)


async def test_an_answer_that_is_no_json_is_an_error_of_kcp(server: Server, objects: Objects) -> None:
    """A proxy's page with status 200."""
    server.will(says(b"<html>the-secret</html>"))
    with pytest.raises(KcpError) as refused:
        await objects.get("secrets", "s", namespace="default")
    assert "the-secret" not in str(refused.value)
    assert refused.value.__context__ is None


async def test_a_server_that_is_not_there_is_a_client_error(server: Server, kcp: ProviderKcp) -> None:
    with pytest.raises(aiohttp.ClientError):
        await kcp.request("GET", "http://127.0.0.1:1/")


async def test_a_stream_is_refused_like_a_request(server: Server, kcp: ProviderKcp) -> None:
    server.will(says(status_of(403, "Forbidden", "m"), 403), says(b"line\n"))
    timeout = aiohttp.ClientTimeout(total=5)
    with pytest.raises(Forbidden):
        async with kcp.stream(f"{server.url}/x", params={}, headers={}, timeout=timeout):
            raise AssertionError
    async with kcp.stream(f"{server.url}/x", params={"watch": "1"}, headers={"Accept": "a"}, timeout=timeout) as body:
        assert await body.content.readline() == b"line\n"
    assert server.asked[1][2] == {"watch": "1"}
    assert server.asked[1][3]["Accept"] == "a"


# ---- endpoints


def slice_of(*urls: str) -> dict[str, Any]:
    return {"status": {"endpoints": [{"url": url} for url in urls]}}


async def test_an_endpoint_is_known_once_kcp_lists_it(server: Server, kcp: ProviderKcp) -> None:
    known = KnownEndpoints(kcp)
    server.will(says({"status": {}}), says(slice_of("https://a/")), says(slice_of("https://a/", "https://b")))
    with pytest.raises(UnknownEndpoint):
        await known.require("https://a")
    await known.require("https://a")
    await known.require("https://a")
    await known.require("https://b")
    assert [a[1] for a in server.asked] == [f"/clusters/p1{SLICE_PATH}"] * 3


def test_a_slice_without_endpoints_has_none() -> None:
    assert (
        endpoint_urls({})
        == endpoint_urls({"status": None})
        == endpoint_urls({"status": {"endpoints": None}})
        == frozenset()
    )
