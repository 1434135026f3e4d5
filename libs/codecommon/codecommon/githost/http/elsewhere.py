"""Files that a host serves from elsewhere, where its API only redirects to: archives and logs.

These are the only requests that leave the host of a Connection. The redirect is followed once, by https, to a public address, and
with nothing of the credential. A host that the operator named may also have a private address, or plain HTTP if it was named so.
What comes is read piece by piece, and whoever reads it bounds it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal
from weakref import WeakValueDictionary

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from codecommon.api.reasons import Reason
from codecommon.api.results import Terminal
from codecommon.githost.address import DEFAULT_PORTS, Address, HostAddress
from codecommon.githost.host_names import host_name
from codecommon.githost.http.metrics import HOST_BUSY, HOST_DOWNLOAD_BYTES, HOST_DOWNLOAD_SECONDS, HOST_DOWNLOADS
from codecommon.githost.http.proxy import ProxyRules
from codecommon.githost.http.sender import Sender
from codecommon.githost.http.sessions import Sessions
from codecommon.githost.http.trust import WELL_KNOWN, tls_context
from codecommon.githost.job import current_job
from codecommon.githost.protocol import HostBusy, HostUnavailable

# A download holds a slot of the process.
_DEADLINE_SECONDS: Final = 60.0
_MOST_AT_ONCE: Final = 8
# One host that is slow must not keep the others from being read.
_MOST_OF_A_HOST: Final = _MOST_AT_ONCE // 2
# Who reads nothing but archives full of media must not keep other workspaces from the same host.
_MOST_OF_A_WORKSPACE: Final = _MOST_OF_A_HOST // 2
_LONGEST_WAIT_SECONDS: Final = 1.0
_COME_BACK_SECONDS: Final = 5.0
_STEP: Final = 64 * 1024
_GONE: Final = frozenset({404, 410})
_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=15)
# Nothing of the requests to the API comes along, least of all their Authorization.
_HEADERS: Final = {"User-Agent": "code-provider", "Accept": "*/*", "Accept-Encoding": "identity"}
_NUMERIC: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
# An address of the other kind is inside of these.
_TRANSLATED: Final = ipaddress.IPv6Network("64:ff9b::/96")


class Elsewhere:
    """The way to other hosts. ``proxies``: as of ``Network``; with a proxy it is the proxy that looks up the address."""

    def __init__(self, proxies: ProxyRules) -> None:
        self._proxies = proxies
        self._named = Sessions()
        self._public: aiohttp.ClientSession | None = None
        self._places = asyncio.Semaphore(_MOST_AT_ONCE)
        # A host's entry lives as long as somebody holds it.
        self._of_host: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._of_workspace: WeakValueDictionary[tuple[str, str], asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def open(self, sender: Sender, location: httpx.URL | None) -> AsyncIterator[AsyncIterator[bytes] | None]:
        """The bytes of ``location``, which an answer to ``sender`` named; None: there is nothing there any more.

        Raises ``Terminal`` (``HostNotAllowed``) for an address that is not to be followed, and ``HostUnavailable``, also while
        the bytes are read.
        """
        label = sender.address.label
        with _metered(label) as download:
            async with self._response(sender, location) as response:
                if response is None:
                    download.result = "gone"
                    yield None
                else:
                    yield _pieces(response, label)

    @asynccontextmanager
    async def _response(
        self, sender: Sender, location: httpx.URL | None
    ) -> AsyncIterator[aiohttp.ClientResponse | None]:
        host = sender.address.host
        address, url = _checked(sender, location)
        is_named = sender.address.is_named(address)
        if not is_named and (address.scheme != "https" or _is_literal_inside(address.host)):
            raise _not_allowed(host, address)
        limit = asyncio.timeout(_DEADLINE_SECONDS)
        try:
            async with (
                self._place(sender.address),
                limit,
                self._answer(sender, address, url, is_named=is_named) as response,
            ):
                if response.status in _GONE:
                    yield None
                    return
                _require_plain(host, address, response)
                yield response
        except TimeoutError:
            # One of the reader's own passes.
            if not limit.expired():
                raise
            raise HostUnavailable(f"{address.name}, to which {host} leads, did not answer in time") from None
        except aiohttp.ClientError as error:
            if _is_inside(error):
                raise _not_allowed(host, address) from None
            raise HostUnavailable(f"{address.name}, to which {host} leads, cannot be read") from None

    @asynccontextmanager
    async def _place(self, address: HostAddress) -> AsyncIterator[None]:
        """Raises ``HostBusy`` while others have all places, all that are for this host, or the workspace has all of its own."""
        host, workspace = address.host, current_job().workspace
        of_host = self._of_host.setdefault(host, asyncio.Semaphore(_MOST_OF_A_HOST))
        places = [of_host, self._places]
        if workspace:
            of_workspace = asyncio.Semaphore(_MOST_OF_A_WORKSPACE)
            places.insert(0, self._of_workspace.setdefault((host, workspace), of_workspace))
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(_LONGEST_WAIT_SECONDS):
                    for place in places:
                        await held.enter_async_context(place)
            except TimeoutError:
                HOST_BUSY.labels(address.label, "download").inc()
                raise HostBusy(host, _COME_BACK_SECONDS) from None
            yield

    @asynccontextmanager
    async def _answer(
        self, sender: Sender, address: Address, url: URL, *, is_named: bool
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        proxy = self._proxies.proxy_for(httpx.URL(str(url)))
        if is_named:
            async with self._named.session(sender.authorities) as session, _get(session.client, url, proxy) as response:
                session.proven = session.proven or response.status == 200
                yield response
        elif proxy is not None:
            async with self._named.session(WELL_KNOWN) as session, _get(session.client, url, proxy) as response:
                yield response
        else:
            async with _get(self._public_session(), url, None) as response:
                yield response

    def _public_session(self) -> aiohttp.ClientSession:
        if self._public is None:
            connector = aiohttp.TCPConnector(ssl=tls_context(WELL_KNOWN), limit=0, resolver=PublicAddresses())
            self._public = aiohttp.ClientSession(
                connector=connector,
                timeout=_TIMEOUT,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._public

    async def aclose(self) -> None:
        await self._named.aclose()
        if self._public is not None:
            await self._public.close()


class _Inside(OSError):
    """The name stands for an address that is not public."""


class _Lookups(AbstractResolver):
    """Looks names up in threads of its own, one for each download.

    Who answers with a redirect chooses the name, and so who is asked for its address. That may take half a minute, and the
    threads of the process have other work.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_MOST_AT_ONCE, "lookup")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        look = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look)
        return [
            ResolveResult(hostname=host, host=str(address[0]), port=port, family=kind, proto=protocol, flags=_NUMERIC)
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class PublicAddresses(AbstractResolver):
    """Looks names up and refuses those with an address that is not public. What was looked up is what is connected to."""

    def __init__(self, resolver: AbstractResolver | None = None) -> None:
        self._resolver = resolver or _Lookups()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        if not found or not all(is_public(result["host"]) for result in found):
            raise _Inside(f"{host} has an address that is not public")
        return found

    async def close(self) -> None:
        await self._resolver.close()


def is_public(text: str) -> bool:
    """Whether it is the address of a host on the internet, and of none that another form of address hides."""
    try:
        address = ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(str(address.ipv4_mapped))
        if address.sixtofour is not None or address.teredo is not None or address in _TRANSLATED:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _checked(sender: Sender, location: httpx.URL | None) -> tuple[Address, URL]:
    """The parts of ``location``, and the URL that is put together from them. Raises ``HostUnavailable``."""
    nowhere = HostUnavailable(f"{sender.address.host} answers with a redirect that leads nowhere")
    if location is None or location.scheme not in DEFAULT_PORTS or location.userinfo:
        raise nowhere
    try:
        address = Address(location.scheme, host_name(location.host), location.port or DEFAULT_PORTS[location.scheme])
        path = location.raw_path.decode("ascii")
        return address, URL(f"{address.scheme}://{address.name}{path}", encoded=True)
    except (ValueError, UnicodeError):
        raise nowhere from None


def _is_literal_inside(host: str) -> bool:
    """Whether the host is an address itself and not a public one. No resolver sees it: aiohttp takes all that looks like one.

    Of other spellings, 2130706433 and 127.1 look like one; 0x7f.1 is a name, of which the resolver learns the address.
    """
    return (":" in host or host.replace(".", "").isdigit()) and not is_public(host)


def _is_inside(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, _Inside):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _require_plain(host: str, address: Address, response: aiohttp.ClientResponse) -> None:
    """Raises ``HostUnavailable`` for anything but a body as it is."""
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if response.status != 200 or coding not in ("", "identity"):
        what = "redirects again" if 300 <= response.status < 400 else f"answered {response.status}"
        raise HostUnavailable(f"{address.name}, to which {host} leads, {what}")


async def _pieces(response: aiohttp.ClientResponse, label: str) -> AsyncIterator[bytes]:
    async for piece in response.content.iter_chunked(_STEP):
        HOST_DOWNLOAD_BYTES.labels(label).inc(len(piece))
        yield piece


@dataclass(slots=True)
class _Download:
    """``result``: the label in metrics of a download that ends without an error."""

    result: Literal["read", "gone"] = "read"


@contextmanager
def _metered(label: str) -> Iterator[_Download]:
    """Count the download in the body and its time. One that has found no place was none."""
    began, download, result = time.monotonic(), _Download(), "dropped"
    try:
        yield download
        result = download.result
    except HostBusy:
        result = ""
        raise
    except Terminal:
        result = "refused"
        raise
    except HostUnavailable:
        result = "failed"
        raise
    finally:
        if result:
            HOST_DOWNLOADS.labels(result, label).inc()
            HOST_DOWNLOAD_SECONDS.labels(label).observe(time.monotonic() - began)


def _get(session: aiohttp.ClientSession, url: URL, proxy: str | None) -> aiohttp.client._RequestContextManager:  # pyright: ignore[reportPrivateUsage]
    return session.get(url, headers=_HEADERS, allow_redirects=False, proxy=proxy)


def _not_allowed(host: str, address: Address) -> Terminal:
    return Terminal(
        Reason.HOST_NOT_ALLOWED,
        f"{host} leads to {address.name} for this file, which is neither a public address nor named by the operator; nothing "
        f"was asked there. If that is right, ask the operator to add {address.entry} to CODE_ALLOWED_GIT_HOSTS",
    )
