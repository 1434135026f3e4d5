from __future__ import annotations

import asyncio
import gc
import gzip
import ssl
import tracemalloc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY

from codecommon.api.results import Terminal
from codecommon.githost.address import HostAddress
from codecommon.githost.github.api import GITHUB_API
from codecommon.githost.github.provider import GithubProvider
from codecommon.githost.http.network import LONGEST_ANSWER, AnswerTooLong
from codecommon.githost.http.outage import BreakerLayer
from codecommon.githost.http.proxy import ProxyRules
from codecommon.githost.http.sender import Sender, attach, sender_of
from codecommon.githost.http.trace import Traced
from codecommon.githost.http.transport import HostTransport
from codecommon.githost.http.trust import WELL_KNOWN, authorities_in
from codecommon.githost.protocol import HostBusy
from codecommon.testing.engine import until

PRINCIPAL = ("cluster", "uid", "1")


@pytest.fixture
async def transport() -> AsyncIterator[HostTransport]:
    stack = HostTransport(proxies=ProxyRules(), deadline=0.5)
    yield stack
    await stack.aclose()


def address(scripted: Any) -> HostAddress:
    return GithubProvider([scripted.url]).address(scripted.url)


def client(stack: HostTransport, where: HostAddress, ca_bundle: str | None = None) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=where.api_base, transport=stack.borrow(where, PRINCIPAL, ca_bundle))


async def test_connections_are_kept_between_sessions_that_come_and_go(transport: HostTransport, scripted: Any) -> None:
    for _ in range(3):
        scripted.answer(200, {})
        async with client(transport, address(scripted)) as http:
            assert (await http.get("/user")).status_code == 200
    assert [seen.connection for seen in scripted.seen] == [0, 0, 0]


async def test_no_tls_context_is_made_per_call(
    transport: HostTransport, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    new = ssl.SSLContext.__new__

    def count(kind: type[ssl.SSLContext], *args: Any, **kwargs: Any) -> ssl.SSLContext:
        made.append(kind)
        return new(kind, *args, **kwargs)

    monkeypatch.setattr(ssl.SSLContext, "__new__", count)
    for _ in range(3):
        scripted.answer(200, {})
        async with client(transport, address(scripted)) as http:
            await http.get("/user")
    assert len(made) == 1


async def test_a_redirect_is_not_followed(transport: HostTransport, scripted: Any) -> None:
    scripted.answer(301, {}, Location="http://169.254.169.254/")
    async with client(transport, address(scripted)) as http:
        assert (await http.get("/user")).status_code == 301
    assert len(scripted.seen) == 1


async def test_a_read_whose_connection_breaks_is_made_once_more_on_another(
    transport: HostTransport, scripted: Any
) -> None:
    scripted.send(b"")
    scripted.answer(200, {"login": "octocat"})
    async with client(transport, address(scripted)) as http:
        assert (await http.get("/user")).json() == {"login": "octocat"}
    assert [seen.connection for seen in scripted.seen] == [0, 1]


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_write_is_never_repeated(transport: HostTransport, scripted: Any, method: str) -> None:
    scripted.send(b"")
    scripted.answer(200, {})
    async with client(transport, address(scripted)) as http:
        with pytest.raises(httpx.TransportError):
            await http.request(method, "/user/repos")
    assert len(scripted.seen) == 1


async def test_a_read_is_not_repeated_twice(transport: HostTransport, scripted: Any) -> None:
    scripted.send(b"", b"")
    async with client(transport, address(scripted)) as http:
        with pytest.raises(httpx.TransportError):
            await http.get("/user")
    assert len(scripted.seen) == 2


async def test_a_silent_host_is_given_up_in_bounded_time(transport: HostTransport, scripted: Any) -> None:
    scripted.send(None)
    async with asyncio.timeout(5), client(transport, address(scripted)) as http:
        with pytest.raises(httpx.TimeoutException):
            await http.get("/user")


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("identity", bytes(LONGEST_ANSWER + 1)),
        ("gzip", gzip.compress(bytes(16 * LONGEST_ANSWER))),
    ],
    ids=["plain", "gzip bomb"],
)
async def test_an_answer_that_is_too_long_is_given_up_before_it_fills_the_memory(
    scripted: Any, coding: str, body: bytes
) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n\r\n"
    scripted.send(head.encode() + body)
    # With the deadline of production: a busy machine takes longer than half a second for so much.
    stack = HostTransport(proxies=ProxyRules())
    async with client(stack, address(scripted)) as http:
        tracemalloc.start()
        with pytest.raises(AnswerTooLong):
            await http.get("/user")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    await stack.aclose()
    assert peak < 4 * LONGEST_ANSWER


@pytest.mark.parametrize("coding", ["gzip, gzip", "gzip,gzip", "br", "zstd", "deflate", "x-unknown"])
async def test_an_answer_in_a_coding_that_was_not_asked_for_is_not_unpacked(
    transport: HostTransport, scripted: Any, coding: str
) -> None:
    body = gzip.compress(gzip.compress(b"{}"))
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n\r\n"
    scripted.send(head.encode() + body)
    async with client(transport, address(scripted)) as http:
        with pytest.raises(httpx.TransportError):
            await http.get("/user")
    assert scripted.seen[0].headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize("body", [b"no gzip", gzip.compress(b"{}") * 2], ids=["no gzip", "more behind its end"])
async def test_a_compressed_answer_that_is_damaged_is_a_failure_of_the_host(
    transport: HostTransport, scripted: Any, body: bytes
) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    scripted.send(head.encode() + body)
    async with client(transport, address(scripted)) as http:
        with pytest.raises(httpx.TransportError):
            await http.get("/user")


async def test_a_compressed_answer_is_unpacked_once(transport: HostTransport, scripted: Any) -> None:
    body = gzip.compress(b'{"login": "octocat"}')
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    scripted.send(head.encode() + body)
    async with client(transport, address(scripted)) as http:
        assert (await http.get("/user")).json() == {"login": "octocat"}


async def test_layers_stand_in_their_order_around_the_network_and_know_the_session(scripted: Any) -> None:
    order: list[tuple[str, str]] = []

    class Named(httpx.AsyncBaseTransport):
        def __init__(self, name: str, below: httpx.AsyncBaseTransport) -> None:
            self.name = name
            self.below = below

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            order.append((self.name, sender_of(request).address.host))
            return await self.below.handle_async_request(request)

        async def aclose(self) -> None:
            await self.below.aclose()

    layers = [lambda below: Named("gate", below), lambda below: Named("cache", below)]
    stack = HostTransport(layers=layers, proxies=ProxyRules())
    scripted.answer(200, {})
    async with client(stack, address(scripted)) as http:
        await http.get("/user")
    await stack.aclose()
    assert order == [("gate", scripted.name), ("cache", scripted.name)]


async def test_a_proxy_of_the_environment_carries_the_request(scripted: Any) -> None:
    stack = HostTransport(proxies=ProxyRules(http=scripted.url))
    scripted.answer(200, {})
    async with client(stack, GithubProvider(["http://ghe.example"]).address("http://ghe.example")) as http:
        assert (await http.get("/user")).status_code == 200
    await stack.aclose()
    assert scripted.seen[0].target == "http://ghe.example/api/v3/user"


async def test_the_authority_in_a_bundle_is_trusted_by_those_who_name_it_and_by_nobody_else(
    transport: HostTransport, private: Any
) -> None:
    where = GithubProvider([private.host.name]).address(private.host.url)
    private.host.answer(200, {})
    async with client(transport, where, private.token_source) as http:
        assert (await http.get("/user")).status_code == 200
    async with client(transport, where) as http:
        with pytest.raises(httpx.ConnectError) as refused:
            await http.get("/user")
    assert isinstance(refused.value.__cause__, ssl.SSLCertVerificationError)
    assert len(private.host.seen) == 1


@pytest.mark.parametrize("last", [True, False])
async def test_every_certificate_of_a_bundle_is_trusted_whatever_stands_beside_them(
    transport: HostTransport, private: Any, last: bool
) -> None:
    first, second = (private.stranger, private.token_source) if last else (private.token_source, private.stranger)
    bundle = f"\ufeff# Autorité de Zürich\n{first}\n# 証明書\n{second}"
    private.host.answer(200, {})
    async with client(transport, GithubProvider([private.host.name]).address(private.host.url), bundle) as http:
        assert (await http.get("/user")).status_code == 200


async def test_sessions_that_trust_the_same_bundle_share_a_connection(transport: HostTransport, private: Any) -> None:
    where = GithubProvider([private.host.name]).address(private.host.url)
    for _ in range(2):
        private.host.answer(200, {})
        async with client(transport, where, private.token_source) as http:
            await http.get("/user")
    assert private.host.connections == 1


def test_comments_order_and_repetition_make_no_other_bundle(private: Any) -> None:
    one, other = private.token_source, private.stranger
    assert authorities_in(f"{one}{other}") == authorities_in(f"# mine\n{other}\n# é\n{one}\n{other}")
    assert authorities_in(one) != authorities_in(other)


async def test_bundles_are_kept_in_bounded_number_and_only_for_those_that_the_host_serves(
    scripted: Any, private: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codecommon.githost.http.sessions._MOST_BUNDLES", 2)
    made: list[object] = []
    new = ssl.SSLContext.__new__

    def count(kind: type[ssl.SSLContext], *args: Any, **kwargs: Any) -> ssl.SSLContext:
        context = new(kind, *args, **kwargs)
        made.append(weakref.ref(context))
        return context

    stack = HostTransport(proxies=ProxyRules())
    where = GithubProvider([private.host.name]).address(private.host.url)
    clients = [client(stack, where, private.token_source + private.another(n)) for n in range(6)]
    monkeypatch.setattr(ssl.SSLContext, "__new__", count)
    for status in (401, 200):
        for http in clients:
            private.host.answer(status, {})
            assert (await http.get("/user")).status_code == status
        await asyncio.sleep(0.05)
        gc.collect()
        alive = sum(context() is not None for context in made)
        assert alive <= (0 if status == 401 else 2)
        assert private.host.open <= (0 if status == 401 else 2)
    await stack.aclose()


@pytest.mark.parametrize("bound", ["_MOST_PER_HOST", "_MOST"])
async def test_connections_are_bounded_per_host_and_in_total_whatever_is_trusted(
    private: Any, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(f"codecommon.githost.http.network.{bound}", 3)
    stack = HostTransport(proxies=ProxyRules(), deadline=0.7)
    where = GithubProvider([private.host.name]).address(private.host.url)
    private.host.send(*[None] * 10)
    clients = [client(stack, where, private.token_source + private.another(n)) for n in range(10)]
    asked = [asyncio.create_task(http.get("/user")) for http in clients]
    await asyncio.sleep(0.5)
    assert private.host.open <= 3
    assert private.host.connections == 3
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(result, httpx.ReadTimeout | HostBusy) for result in results)
    await stack.aclose()


@pytest.mark.parametrize("bound", ["network._MOST_PER_HOST", "network._MOST", "sessions._MOST_PER_BUNDLE"])
async def test_a_request_that_gets_no_connection_ends_soon_and_says_nothing_about_the_host(
    private: Any, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(f"codecommon.githost.http.{bound}", 1)
    monkeypatch.setattr("codecommon.githost.http.network._LONGEST_WAIT_SECONDS", 0.02)
    stack = HostTransport(layers=[BreakerLayer], proxies=ProxyRules())
    where = GithubProvider([private.host.name]).address(private.host.url)
    private.host.send(None)
    async with asyncio.timeout(10), client(stack, where, private.token_source) as http:
        first = asyncio.create_task(http.get("/user"))
        await until(lambda: len(private.host.seen) == 1)
        # More than the failures that stop requests to a host.
        for _ in range(10):
            with pytest.raises(HostBusy):
                await http.get("/user")
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        private.host.answer(200, {})
        assert (await http.get("/user")).status_code == 200
    await stack.aclose()


@pytest.mark.parametrize(
    "bundle",
    [
        "nonsense",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        "é",
        "a" * 65_537,
        "-----BEGIN CERTIFICATE-----\nAAAA",
        "-----BEGIN " * 5000,
    ],
)
async def test_a_bundle_that_cannot_be_used_is_told_to_the_user(transport: HostTransport, bundle: str) -> None:
    with pytest.raises(Terminal) as refused:
        transport.borrow(GithubProvider().address(""), PRINCIPAL, bundle)
    assert refused.value.reason == "CABundleInvalid"


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/user", "/user"),
        ("/api/v3/user/repos", "/api/v3/user/repos"),
        ("/repos/acme/web", "/repos/{owner}/{repo}"),
        ("/api/v3/repos/repos/user", "/api/v3/repos/{owner}/{repo}"),
        ("/repos/acme/web/branches/feature/x", "/repos/{owner}/{repo}/branches/{branch}/{other}"),
        ("/repositories/12", "/repositories/{id}"),
        ("/orgs/acme/repos", "/orgs/{org}/repos"),
        ("/ghp_secret", "/{other}"),
    ],
)
def test_a_span_s_name_holds_no_name_of_a_tenant(path: str, template: str) -> None:
    assert GITHUB_API.url_template(path) == template


async def test_a_request_is_traced_and_counted_without_its_url(
    transport: HostTransport, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    traced = Traced(transport.borrow(address(scripted), PRINCIPAL, None))
    request = httpx.Request("GET", f"{scripted.url}/api/v3/repos/acme/web?token=hunter2")
    attach(request, Sender(address(scripted), PRINCIPAL, WELL_KNOWN))
    scripted.answer(404, {})
    labels = {"method": "GET", "status": "404", "host": scripted.name}
    await traced.handle_async_request(request)
    (span,) = exporter.get_finished_spans()
    assert span.name == "GET /api/v3/repos/{owner}/{repo}"
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET",
        "url.template": "/api/v3/repos/{owner}/{repo}",
        "server.address": "127.0.0.1",
        "http.response.status_code": 404,
        "error.type": "404",
    }
    assert REGISTRY.get_sample_value("code_host_requests_total", labels) == 2


async def test_a_request_without_an_answer_is_counted_by_its_failure(transport: HostTransport, scripted: Any) -> None:
    scripted.send(None)
    async with client(transport, address(scripted)) as http:
        with pytest.raises(httpx.TimeoutException):
            await http.get("/user")
    labels = {"method": "GET", "status": "ReadTimeout", "host": scripted.name}
    assert REGISTRY.get_sample_value("code_host_requests_total", labels) == 1


def test_tenants_cannot_make_labels() -> None:
    hosts = GithubProvider()
    labels = {hosts.address(f"https://t{number}.ghe.com").label for number in range(5)}
    assert labels == {"*.ghe.com"}
