"""Conditional reads: ETag and body of an answer are kept, and the host is asked whether they still hold.

A host that does not count a 304 against the quota (GitHub) then answers most reads for free. The host is asked for every read, so
a reader always compares with the host's state of now, and our own writes invalidate nothing. An ETag may depend on the
credential (GitHub's do), so this layer stands below the authorisation, and an answer is kept for one credential only:
docs/adr/0007-conditional-requests.md.
"""

from __future__ import annotations

import time
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import httpx
import orjson

from codecommon.githost.host_api import HostApi
from codecommon.githost.http.metrics import CONDITIONAL_REQUESTS
from codecommon.githost.http.network import CUT
from codecommon.githost.http.sender import REVALIDATED, sender_of
from codecommon.process.shared_cache import SharedCache

# An answer about a repository has 7 KiB, so this holds some 4,000 of them. The goal for a whole process is 140 MiB.
MOST_KEPT_BYTES: Final = 32 * 1024 * 1024
# A page of a hundred repositories fits. A longer answer would push out hundreds of others.
_LONGEST_BODY: Final = 1024 * 1024
# The memory of an entry besides its body: key, URL and header strings.
_OVERHEAD_BYTES: Final = 4096
_PACKED_FROM: Final = 16 * 1024
_FEWEST_JUDGED: Final = 50
_LEAST_SHARE: Final = 0.1
# A quota is usually renewed hourly. So are the tokens of a GitHub App's installation, with which all its ETags change.
_PERIOD_SECONDS: Final = 3600.0
# As many as there are open connections (codecommon.controller.connections).
_MOST_PRINCIPALS: Final = 2048

# Headers about the moment, or about the bytes of one answer, are never taken from memory. HostApi.is_momentary knows the host's.
_MOMENTARY: Final = frozenset({"age", "date", "retry-after"})
_FRAMING: Final = frozenset({"connection", "content-encoding", "content-length", "content-type", "transfer-encoding"})

_CredentialKey = tuple[str, str, str]
_Key = tuple[_CredentialKey, str, str]


@dataclass(frozen=True, slots=True)
class _Kept:
    """An answer 200: its ETag, the headers that hold as long as the body does, and the body as the host encoded it.

    ``packed``: the body, compressed where that is ``is_packed``. A page of a hundred packages has 500 KiB and becomes 20.
    """

    etag: str
    headers: tuple[tuple[str, str], ...]
    packed: bytes
    is_packed: bool

    @classmethod
    def of(cls, etag: str, headers: tuple[tuple[str, str], ...], body: bytes) -> _Kept:
        is_packed = len(body) >= _PACKED_FROM and not any(name == "content-encoding" for name, _ in headers)
        # The fastest level: it holds up the event loop, some 5 ms for the longest body.
        return cls(etag, headers, zlib.compress(body, 1) if is_packed else body, is_packed)

    @property
    def body(self) -> bytes:
        return zlib.decompress(self.packed) if self.is_packed else self.packed

    @property
    def size(self) -> int:
        return len(self.packed) + _OVERHEAD_BYTES


class ETagLayer(httpx.AsyncBaseTransport):
    """Sends each GET with the ETag that was seen last, and turns a 304 into the 200 that it stands for.

    Such a 200 has the kept body and the headers of now (Date, quota). Principals share nothing. The layer switches itself off for
    an hour for a credential with few 304s in the hour before. ``clock``: seconds, monotonic.
    """

    def __init__(
        self,
        below: httpx.AsyncBaseTransport,
        *,
        most_bytes: int = MOST_KEPT_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._below = below
        # By bytes, of which one workspace has half at most.
        self._memory = SharedCache[_Key, _Kept](most_bytes, most_bytes // 2, lambda key: key[0][0])
        self._worth = _Worth(clock)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method != "GET":
            return await self._below.handle_async_request(request)
        sender = sender_of(request)
        label = sender.address.label
        if not self._worth.is_on_for(sender.credential_key):
            CONDITIONAL_REQUESTS.labels("off", label).inc()
            return await self._below.handle_async_request(request)
        key = (sender.credential_key, str(request.url), request.headers.get("accept", ""))
        kept = self._memory.get(key)
        if kept is not None:
            request.headers["If-None-Match"] = kept.etag
        response = await self._below.handle_async_request(request)
        if kept is None:
            CONDITIONAL_REQUESTS.labels("cold", label).inc()
        elif response.status_code in (200, 304):
            hit = response.status_code == 304
            CONDITIONAL_REQUESTS.labels("hit" if hit else "miss", label).inc()
            if not self._worth.counted(sender.credential_key, hit):
                for known in [known for known in self._memory if known[0] == sender.credential_key]:
                    self._memory.drop(known)
        if kept is not None and response.status_code == 304:
            await response.aclose()
            return _revived(kept, response)
        return await self._remember(key, sender.address.api, response)

    async def _remember(self, key: _Key, api: HostApi, response: httpx.Response) -> httpx.Response:
        """Keep the response if it may be kept. Otherwise drop what was kept before, unless an error leaves it possibly valid."""
        etag = response.headers.get("etag")
        is_json = "json" in response.headers.get("content-type", "")
        if response.status_code != 200 or not etag or not is_json or CUT in response.extensions:
            if response.status_code in (200, 404, 410):
                self._memory.drop(key)
            return response
        assert isinstance(response.stream, httpx.AsyncByteStream)
        body = b"".join([chunk async for chunk in response.stream])
        await response.aclose()
        headers = tuple(
            (name, value)
            for name, value in response.headers.multi_items()
            if name not in _MOMENTARY and not api.is_momentary(name)
        )
        if len(body) <= _LONGEST_BODY and self._worth.is_on_for(key[0]) and _is_whole(body, response.headers):
            answer = _Kept.of(etag, headers, body)
            self._memory.put(key, answer, answer.size)
        else:
            self._memory.drop(key)
        return httpx.Response(
            200, headers=response.headers, stream=httpx.ByteStream(body), extensions=response.extensions
        )

    async def aclose(self) -> None:
        await self._below.aclose()


def _is_whole(body: bytes, headers: httpx.Headers) -> bool:
    """Whether the body decodes to JSON. The host would for ever confirm the ETag of a body that was cut with its connection."""
    try:
        orjson.loads(httpx.Response(200, headers=headers, content=body).content)
    except (httpx.DecodingError, orjson.JSONDecodeError):
        return False
    return True


def _revived(kept: _Kept, now: httpx.Response) -> httpx.Response:
    headers = httpx.Headers(kept.headers)
    headers.update([(name, value) for name, value in now.headers.multi_items() if name not in _FRAMING])
    extensions = {**now.extensions, REVALIDATED: True}
    return httpx.Response(200, headers=headers, stream=httpx.ByteStream(kept.body), extensions=extensions)


@dataclass(slots=True)
class _Share:
    """Conditional requests of a credential. ``since``: when counting begins; until then the layer is off for it."""

    since: float
    asked: int = 0
    hits: int = 0


class _Worth:
    """Whether conditional requests pay, per credential: a body that is kept in vain takes the place of one that saves."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._shares: OrderedDict[_CredentialKey, _Share] = OrderedDict()

    def is_on_for(self, credential_key: _CredentialKey) -> bool:
        share = self._shares.get(credential_key)
        return share is None or self._clock() >= share.since

    def counted(self, credential_key: _CredentialKey, hit: bool) -> bool:
        """Count a conditional request. False: they do not pay, and the layer is off for the credential from now on."""
        now = self._clock()
        share = self._shares.setdefault(credential_key, _Share(now))
        self._shares.move_to_end(credential_key)
        if len(self._shares) > _MOST_PRINCIPALS:
            self._shares.popitem(last=False)
        share.asked += 1
        share.hits += hit
        # Right after its renewal a token sees nothing but misses, so a credential is judged over a whole period.
        if share.asked < _FEWEST_JUDGED or now < share.since + _PERIOD_SECONDS:
            return True
        worth = share.hits >= share.asked * _LEAST_SHARE
        # Only the latest period counts: a good past must not hide that every token is new by now.
        self._shares[credential_key] = _Share(now if worth else now + _PERIOD_SECONDS)
        return worth
