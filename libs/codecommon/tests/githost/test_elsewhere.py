"""Where a redirect may lead: once, without the credential, and to no host inside."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import httpx
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from prometheus_client import REGISTRY

from codecommon.api.results import Retryable, Terminal
from codecommon.githost.address import Address
from codecommon.githost.github.credential import TokenSecret
from codecommon.githost.github.provider import GithubProvider
from codecommon.githost.http import elsewhere as module
from codecommon.githost.http.elsewhere import Elsewhere, PublicAddresses, is_public
from codecommon.githost.http.outage import BreakerLayer
from codecommon.githost.http.proxy import ProxyRules
from codecommon.githost.http.sender import Sender
from codecommon.githost.http.transport import HostTransport
from codecommon.githost.http.trust import WELL_KNOWN
from codecommon.githost.job import Job, working_on
from codecommon.githost.protocol import GitBackend, HostBusy, HostTarget
from codecommon.process.secrets import SecretValue

TOKEN = "a-token-of-no-known-shape"


@pytest.fixture
async def elsewhere() -> AsyncIterator[Elsewhere]:
    way = Elsewhere(ProxyRules())
    yield way
    await way.aclose()


def sender(*named: str, base_url: str = "") -> Sender:
    return Sender(GithubProvider(named).address(base_url), ("cluster", "uid", "1"), WELL_KNOWN)


async def read(way: Elsewhere, asked_by: Sender, location: str) -> bytes | None:
    async with way.open(asked_by, httpx.URL(location)) as pieces:
        return None if pieces is None else b"".join([piece async for piece in pieces])


@pytest.mark.parametrize(
    "location",
    [
        "http://codeload.example/a",
        "https://127.0.0.1/a",
        "https://10.1.2.3/a",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/a",
        "https://[::ffff:10.0.0.1]/a",
        "https://[64:ff9b::a00:1]/a",
        "https://localhost/a",
        "https://2130706433/a",
        "https://127.1/a",
        "https://0x7f.1/a",
    ],
)
async def test_a_place_inside_or_without_tls_is_refused_and_nothing_is_sent(
    elsewhere: Elsewhere, location: str
) -> None:
    with pytest.raises(Terminal) as refused:
        await read(elsewhere, sender(), location)
    assert refused.value.reason == "HostNotAllowed"
    assert "CODE_ALLOWED_GIT_HOSTS" in refused.value.message


@pytest.mark.parametrize(
    "location", ["ftp://codeload.example/a", "https://user:secret@codeload.example/a", "https://a b/"]
)
async def test_what_is_no_address_leads_nowhere(elsewhere: Elsewhere, location: str) -> None:
    try:
        url: httpx.URL | None = httpx.URL(location)
    except httpx.InvalidURL:
        url = None
    with pytest.raises(Retryable, match="leads nowhere") as refused:
        async with elsewhere.open(sender(), url):
            pass
    assert "secret" not in refused.value.message


async def test_a_host_that_the_operator_named_is_read_without_the_credential(
    elsewhere: Elsewhere, scripted: Any
) -> None:
    scripted.answer(200, "an archive")
    asked_by = sender(scripted.url, "https://ghe.example".removeprefix("https://"), base_url="https://ghe.example")
    assert await read(elsewhere, asked_by, f"{scripted.url}/a%2Fb?signature=x%2By") == b'"an archive"'
    (seen,) = scripted.seen
    assert seen.target == "/a%2Fb?signature=x%2By"
    assert not {"authorization", "cookie", "x-github-api-version"} & seen.headers.keys()


async def test_what_is_named_for_another_port_or_without_tls_is_not_this_one(
    elsewhere: Elsewhere, scripted: Any
) -> None:
    for named in ("http://127.0.0.1:1", scripted.name):
        with pytest.raises(Terminal):
            await read(elsewhere, sender(named, "ghe.example", base_url="https://ghe.example"), f"{scripted.url}/a")
    assert not scripted.seen


def test_a_subdomain_of_a_host_that_the_operator_named_is_named_too() -> None:
    ghe = GithubProvider(["ghe.example"]).address("https://ghe.example")
    assert ghe.is_named(Address("https", "codeload.ghe.example", 443))
    assert not ghe.is_named(Address("http", "codeload.ghe.example", 80))
    assert not ghe.is_named(Address("https", "notghe.example", 443))
    # What is the provider's own was not named by the operator.
    assert not GithubProvider(["ghe.example"]).address("").is_named(Address("https", "x.api.github.com", 443))


async def test_a_redirect_is_followed_once(elsewhere: Elsewhere, scripted: Any) -> None:
    scripted.answer(302, None, Location="https://elsewhere.example/")
    with pytest.raises(Retryable, match="redirects again"):
        await read(elsewhere, sender(scripted.url, base_url=scripted.url), f"{scripted.url}/a")
    assert len(scripted.seen) == 1


async def test_what_is_gone_is_none_and_what_fails_can_be_tried_again(elsewhere: Elsewhere, scripted: Any) -> None:
    asked_by = sender(scripted.url, base_url=scripted.url)
    scripted.answer(404, None)
    assert await read(elsewhere, asked_by, f"{scripted.url}/a") is None
    scripted.answer(403, "Server failed to authenticate the request.")
    scripted.answer(200, "x", Content_Encoding="gzip")
    scripted.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut off")
    for _ in range(3):
        with pytest.raises(Retryable) as failed:
            await read(elsewhere, asked_by, f"{scripted.url}/a?signature=secret")
        assert "secret" not in failed.value.message


async def test_one_host_has_half_of_the_places_at_most(
    elsewhere: Elsewhere, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LONGEST_WAIT_SECONDS", 0.05)
    local = scripted.url.replace("127.0.0.1", "localhost")
    slow, other = sender(scripted.url, base_url=scripted.url), sender(local, base_url=local)
    url = f"{scripted.url}/a"
    async with AsyncExitStack() as open_:
        for _ in range(4):
            scripted.answer(200, "x")
            await open_.enter_async_context(elsewhere.open(slow, httpx.URL(url)))
        with pytest.raises(HostBusy):
            await read(elsewhere, slow, url)
        scripted.answer(404, None)
        assert await read(elsewhere, other, f"{local}/a") is None
    scripted.answer(404, None)
    assert await read(elsewhere, slow, url) is None


async def test_one_workspace_leaves_places_at_the_same_host_to_others(
    elsewhere: Elsewhere, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LONGEST_WAIT_SECONDS", 0.05)
    asked_by, url = sender(scripted.url, base_url=scripted.url), f"{scripted.url}/a"
    async with AsyncExitStack() as open_:
        with working_on(Job("desired", "object", "greedy")):
            for _ in range(2):
                scripted.answer(200, "x")
                await open_.enter_async_context(elsewhere.open(asked_by, httpx.URL(url)))
            with pytest.raises(HostBusy):
                await read(elsewhere, asked_by, url)
        scripted.answer(404, None)
        with working_on(Job("desired", "object", "another")):
            assert await read(elsewhere, asked_by, url) is None


async def test_downloads_are_counted_by_what_came_of_them(
    elsewhere: Elsewhere, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_by, url = sender(scripted.url, base_url=scripted.url), f"{scripted.url}/a"
    host = asked_by.address.label

    def counted() -> dict[str, float]:
        found = {
            result: REGISTRY.get_sample_value("code_host_downloads_total", {"result": result, "host": host}) or 0
            for result in ("read", "gone", "refused", "failed", "dropped")
        }
        for name in ("code_host_download_bytes_total", "code_host_download_seconds_count"):
            found[name] = REGISTRY.get_sample_value(name, {"host": host}) or 0
        busy = {"host": host, "why": "download"}
        return found | {"busy": REGISTRY.get_sample_value("code_host_busy_total", busy) or 0}

    before = counted()
    scripted.answer(200, "an archive")
    assert await read(elsewhere, asked_by, url) == b'"an archive"'
    scripted.answer(404, None)
    await read(elsewhere, asked_by, url)
    with pytest.raises(Terminal):
        await read(elsewhere, asked_by, "https://127.0.0.1/a")
    scripted.answer(500, None)
    with pytest.raises(Retryable):
        await read(elsewhere, asked_by, url)
    scripted.answer(200, "of no use")
    with pytest.raises(LookupError):
        async with elsewhere.open(asked_by, httpx.URL(url)):
            raise LookupError
    monkeypatch.setattr(module, "_LONGEST_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(module, "_MOST_OF_A_HOST", 0)
    with pytest.raises(HostBusy):
        await read(elsewhere, asked_by, url)

    after = counted()
    assert {name: after[name] - before[name] for name in after} == {
        **dict.fromkeys(("read", "gone", "refused", "failed", "dropped", "busy"), 1),
        "code_host_download_bytes_total": len('"an archive"'),
        "code_host_download_seconds_count": 5,
    }


async def test_a_proxy_is_used_and_looks_up_the_address_itself(scripted: Any) -> None:
    way = Elsewhere(ProxyRules(http=scripted.url))
    scripted.answer(200, "an archive")
    try:
        asked_by = sender("http://files.ghe.example", "ghe.example", base_url="https://ghe.example")
        assert await read(way, asked_by, "http://files.ghe.example/a") == b'"an archive"'
    finally:
        await way.aclose()
    (seen,) = scripted.seen
    assert seen.target == "http://files.ghe.example/a"
    assert "authorization" not in seen.headers


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("140.82.121.9", True),
        ("2606:50c0:8000::154", True),
        ("192.168.0.1", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("2002:a00:1::", False),
        ("no address", False),
    ],
)
def test_an_address_is_public_or_not(address: str, public: bool) -> None:
    assert is_public(address) is public


class Names(AbstractResolver):
    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in self._addresses
        ]

    async def close(self) -> None:
        pass


async def test_a_name_with_one_address_inside_is_refused_before_a_connection() -> None:
    mixed = PublicAddresses(Names("140.82.121.9", "10.0.0.1"))
    connector = aiohttp.TCPConnector(resolver=mixed)
    async with aiohttp.ClientSession(connector=connector) as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get("http://rebinding.example/")
    found = await PublicAddresses(Names("140.82.121.9")).resolve("codeload.example", 443)
    assert [result["host"] for result in found] == ["140.82.121.9"]


async def test_names_that_take_long_to_look_up_hold_no_other_thread(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, over = threading.Semaphore(0), threading.Event()

    def look_up(host: str, *args: Any) -> list[Any]:
        began.release()
        over.wait(60)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    # As many as a process has that sees one processor.
    with ThreadPoolExecutor(5) as threads:
        monkeypatch.setattr(asyncio.get_running_loop(), "_default_executor", threads)
        senders = [sender(host, base_url=f"https://{host}") for host in ("one.example", "two.example")]
        reading = [
            asyncio.create_task(read(elsewhere, senders[number % 2], f"https://slow-{number}.example/a"))
            for number in range(8)
        ]
        try:
            with ThreadPoolExecutor(1) as waiting:
                for _ in reading:
                    assert await asyncio.get_running_loop().run_in_executor(waiting, began.acquire, True, 30)
            async with asyncio.timeout(30):
                assert await asyncio.to_thread(lambda: "done") == "done"
        finally:
            over.set()
        for failed in await asyncio.gather(*reading, return_exceptions=True):
            assert isinstance(failed, Retryable)
        monkeypatch.undo()


async def test_a_log_behind_a_redirect_is_read_by_its_end_and_costs_no_trust_in_the_host(scripted: Any) -> None:
    transport = HostTransport(layers=[BreakerLayer], proxies=ProxyRules())
    target = HostTarget(scripted.url, TokenSecret(SecretValue(TOKEN)), None, ("cluster", "uid", "1"))
    backend: GitBackend = GithubProvider([scripted.url]).open(target, transport)
    try:
        for _ in range(8):
            # An empty body that GitHub calls HTML.
            scripted.send(
                b"HTTP/1.1 302 Found\r\nContent-Type: text/html;charset=utf-8\r\nContent-Length: 0\r\n"
                + f"Location: {scripted.url}/log\r\n\r\n".encode()
            )
            body = b"\xef\xbb\xbf" + b"".join(b"line %d\n" % number for number in range(100_000))
            scripted.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            end = await backend.builds.read_log_end("7", "9", 2)
            assert end is not None
            assert (end.lines, end.is_whole, end.is_cut) == (("line 99998", "line 99999"), False, False)
    finally:
        await transport.aclose()
    assert {"authorization" in seen.headers for seen in scripted.seen if seen.target == "/log"} == {False}
