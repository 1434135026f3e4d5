"""Lists, page after page, through the real HTTP client against a kcp on the loopback interface."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import ssl
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from aiohttp import web

from codecommon.api.annotations import CLUSTER_ANNOTATION, RECONCILE_REQUESTED_AT
from codecommon.api.meta import Workspace
from codecommon.kcp import field_selectors
from codecommon.kcp import lists as lists_module
from codecommon.kcp.client import CallerKcp, JsonObject, KcpError, ProviderKcp, ProviderObjects
from codecommon.kcp.field_selectors import UNSERVED
from codecommon.kcp.identity import CallerConnections, ProviderIdentity
from codecommon.kcp.kubeconfig import ApiServer
from codecommon.kcp.lists import Turns
from codecommon.process.secrets import SecretValue

SELECTABLE = ("metadata.name", "spec.repositoryRef", "spec.name", "spec.connectionRef")
_PART = 64 * 1024


class PagingKcp:
    """Answers lists of ``stored`` as the API server does: pages, tokens, field selectors.

    ``foreign``: it serves schemas without selectable fields. ``expires``: so many of the next tokens have expired.
    ``refuses``: every list is refused with 400. ``gate``: lists wait for it.
    """

    def __init__(self) -> None:
        self.url = ""
        self.stored: list[bytes] = []
        self.asked: list[dict[str, str]] = []
        self.foreign = False
        self.refuses = False
        self.gone = False
        self.expires = 0
        self.gate: asyncio.Event | None = None
        self.running: Counter[str] = Counter()
        self.most_running: Counter[str] = Counter()
        self.most_running_in_all = 0

    def add(self, name: str, padding: int = 0, /, **spec: Any) -> None:
        raw = {
            "metadata": {
                "name": name,
                "uid": f"uid-{name}",
                "labels": {"a": "b"},
                "managedFields": [{"manager": "kubectl"}],
                "annotations": {CLUSTER_ANNOTATION: "c1", RECONCILE_REQUESTED_AT: "claim", "big": ""},
            },
            "spec": spec,
        }
        self.stored.append(orjson.dumps(raw).replace(b'"big":""', b'"big":"%s"' % (b"x" * padding)))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        self.asked.append(query)
        cluster = request.path.partition("/clusters/")[2].partition("/")[0]
        self.running[cluster] += 1
        self.most_running[cluster] = max(self.most_running[cluster], self.running[cluster])
        self.most_running_in_all = max(self.most_running_in_all, sum(self.running.values()))
        try:
            if self.gate is not None:
                await self.gate.wait()
            return await self._answer(request, query)
        finally:
            self.running[cluster] -= 1

    async def _answer(self, request: web.Request, query: dict[str, str]) -> web.StreamResponse:
        if self.gone:
            return _refusal(404, "NotFound", "no such workspace")
        terms = [term.partition("=")[::2] for term in re.split(r"(?<!\\),", query.get("fieldSelector", "")) if term]
        selectable = () if self.foreign else SELECTABLE
        if self.refuses or any(path not in selectable for path, _ in terms):
            return _refusal(400, "BadRequest", "field label not supported")
        if "continue" in query and "resourceVersion" in query:
            return _refusal(400, "BadRequest", "specifying resource version is not allowed when using continue")
        if "continue" in query and self.expires:
            self.expires -= 1
            return _refusal(410, "Expired", "the provided continue parameter is too old")
        found = [raw for raw in self.stored if all(_selects(raw, path, value) for path, value in terms)]
        start = int(query.get("continue", 0))
        end = start + int(query.get("limit", len(found) or 1))
        token = b'"continue":"%d"' % end if end < len(found) else b""
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"metadata":{%s},"items":[' % token)
        for n, raw in enumerate(found[start:end]):
            await response.write(b"," if n else b"")
            for at in range(0, len(raw), _PART):
                await response.write(raw[at : at + _PART])
        await response.write(b"]}")
        return response


def _selects(raw: bytes, path: str, value: str) -> bool:
    found: Any = orjson.loads(raw)
    for name in path.split("."):
        found = found.get(name, {})
    return bool(found == re.sub(r"\\(.)", r"\1", value))


def _refusal(code: int, reason: str, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "reason": reason, "message": message}, status=code)


@pytest.fixture
async def server() -> AsyncIterator[PagingKcp]:
    made = PagingKcp()
    app = web.Application()
    app.router.add_route("GET", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def kcp(server: PagingKcp, tmp_path: Path) -> AsyncIterator[ProviderKcp]:
    kubeconfig = tmp_path / "kubeconfig"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"{server.url}/clusters/p1"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    kubeconfig.write_text(yaml.safe_dump(content))
    async with ProviderIdentity(kubeconfig) as provider:
        yield ProviderKcp(provider)


@pytest.fixture
def objects(server: PagingKcp, kcp: ProviderKcp) -> ProviderObjects:
    return kcp.objects(Workspace(server.url, "c1"))


def name_of(raw: JsonObject) -> str:
    return raw["metadata"]["name"]  # type: ignore[no-any-return]


# ---- pages


async def test_the_memory_of_a_list_does_not_grow_with_its_objects(server: PagingKcp, objects: ProviderObjects) -> None:
    for n in range(150):
        server.add(f"o{n:03}", 230 * 1024)
    await objects.list("repositories", keep=name_of, most=1)
    gc.collect()
    tracemalloc.start()
    try:
        found = await objects.list("repositories", keep=name_of)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found) == 150
    assert peak < 20 << 20, f"{peak / 2**20:.1f} MiB for objects of {150 * 230 / 1024:.1f} MiB"


async def test_pages_follow_each_other_by_their_tokens_alone(server: PagingKcp, objects: ProviderObjects) -> None:
    for n in range(70):
        server.add(f"o{n:03}", name="site")
    found = await objects.list("repositories", fields={"spec.name": "site"}, keep=name_of)
    assert found == [f"o{n:03}" for n in range(70)]
    narrowed = {"fieldSelector": "spec.name=site", "limit": "32"}
    assert server.asked == [narrowed, {**narrowed, "continue": "32"}, {**narrowed, "continue": "64"}]


async def test_a_page_that_is_too_long_is_asked_for_with_fewer_objects(
    server: PagingKcp, objects: ProviderObjects
) -> None:
    for n in range(6):
        server.add(f"o{n}", 300 * 1024)
    assert len(await objects.list("repositories", keep=name_of)) == 6
    assert [(asked["limit"], asked.get("continue", "0")) for asked in server.asked] == [
        ("32", "0"),
        ("16", "0"),
        ("8", "0"),
        ("4", "0"),
        ("2", "0"),
        ("2", "2"),
        ("2", "4"),
    ]


async def test_an_object_that_is_longer_than_a_page_is_read_all_the_same(
    server: PagingKcp, objects: ProviderObjects
) -> None:
    server.add("huge", lists_module.PAGE_BYTES)
    assert await objects.list("repositories", keep=name_of) == ["huge"]


async def test_objects_come_without_what_nobody_reads(server: PagingKcp, objects: ProviderObjects) -> None:
    server.add("site", 10, name="site")
    (found,) = await objects.list("repositories")
    assert found["metadata"] == {
        "name": "site",
        "uid": "uid-site",
        "annotations": {CLUSTER_ANNOTATION: "c1", RECONCILE_REQUESTED_AT: "claim"},
    }
    assert found["spec"] == {"name": "site"}


async def test_who_looks_for_one_object_reads_no_further(server: PagingKcp, objects: ProviderObjects) -> None:
    for n in range(70):
        server.add(f"o{n:03}")
    assert await objects.list("repositories", keep=name_of, most=1) == ["o000"]
    assert len(server.asked) == 1


async def test_a_list_whose_token_has_expired_begins_anew(server: PagingKcp, objects: ProviderObjects) -> None:
    for n in range(70):
        server.add(f"o{n:03}")
    server.expires = 2
    assert len(await objects.list("repositories", keep=name_of)) == 70
    assert [asked.get("continue", "") for asked in server.asked] == ["", "32", "", "32", "", "32", "64"]


async def test_a_list_whose_tokens_always_expire_is_given_up(server: PagingKcp, objects: ProviderObjects) -> None:
    for n in range(70):
        server.add(f"o{n:03}")
    server.expires = 100
    with pytest.raises(KcpError) as expired:
        await objects.list("repositories", keep=name_of)
    assert expired.value.status == 410
    assert len(server.asked) == 6


async def test_a_workspace_has_one_list_at_a_time_and_others_do_not_wait_for_it(
    server: PagingKcp, kcp: ProviderKcp, objects: ProviderObjects
) -> None:
    server.add("site")
    server.gate = asyncio.Event()
    other = kcp.objects(Workspace(server.url, "c2"))
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(objects.list("repositories"))
            group.create_task(objects.list("deploykeys"))
        group.create_task(other.list("repositories"))
        while sum(server.running.values()) < 2:
            await asyncio.sleep(0)
        server.gate.set()
    assert len(server.asked) == 11
    assert server.most_running == {"c1": 1, "c2": 1}


async def test_callers_take_turns_in_a_workspace_and_page_by_page_with_all_others(server: PagingKcp) -> None:
    for number in range(40):  # two pages
        server.add(f"site-{number:02}")
    address, connections, turns = (
        ApiServer(f"{server.url}/clusters/p1", ssl.create_default_context()),
        CallerConnections(),
        Turns(most_pages=2),
    )
    listed: list[str] = []

    async def as_caller(number: int, cluster: str) -> None:
        async with connections.identity(address, SecretValue(f"token-{number}")) as caller:
            assert len(await CallerKcp(caller, turns).objects(cluster).list("repositories")) == 40
        listed.append(cluster)

    server.gate = asyncio.Event()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(as_caller(number, "c1"))
        for number in range(4):
            group.create_task(as_caller(number, f"other{number}"))
        while sum(server.running.values()) < 2:
            await asyncio.sleep(0)
        server.gate.set()
    await connections.close()

    assert server.most_running["c1"] == 1
    assert server.most_running_in_all == 2
    # Who has many lists to read does not keep the others from theirs.
    assert listed[-1] == "c1"


# ---- field selectors


async def test_a_value_that_a_tenant_wrote_is_one_term(server: PagingKcp, objects: ProviderObjects) -> None:
    odd = "a,spec.name=b\\"
    server.add("odd", name=odd)
    server.add("other", name="b")
    assert await objects.list("repositories", fields={"spec.name": odd}, keep=name_of) == ["odd"]
    assert len(server.asked) == 1


async def test_where_kcp_refuses_our_fields_lists_are_read_whole_and_compared(
    server: PagingKcp, objects: ProviderObjects, kcp: ProviderKcp, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for n in range(70):
        server.add(f"o{n:03}", repositoryRef=f"r{n % 2}", name="site")
    server.foreign = True
    for resource in ("deploykeys", "deploykeys", "collaborators"):
        found = await objects.list(resource, fields={"spec.repositoryRef": "r1"}, keep=name_of)
        assert found == [f"o{n:03}" for n in range(1, 70, 2)]
    tried = [asked for asked in server.asked if "fieldSelector" in asked]
    assert len(tried) == 2, "once per kind"
    (warning,) = caplog.messages
    assert "the APIExport serves schemas that are not ours: run `code-provider init` again" in warning
    assert kcp.lists.selectors.complaint is not None
    assert UNSERVED._value.get() == 2


async def test_when_our_schemas_are_back_lists_are_narrowed_again(
    server: PagingKcp, objects: ProviderObjects, kcp: ProviderKcp, caplog: pytest.LogCaptureFixture
) -> None:
    server.add("key", repositoryRef="site")
    server.foreign = True
    await objects.list("deploykeys", fields={"spec.repositoryRef": "site"})
    await kcp.lists.selectors.ask_again()
    assert kcp.lists.selectors.complaint is not None

    caplog.set_level(logging.INFO)
    caplog.clear()
    server.foreign = False
    await kcp.lists.selectors.ask_again()
    assert kcp.lists.selectors.complaint is None
    assert UNSERVED._value.get() == 0
    (over,) = caplog.messages
    assert "serves our schemas" in over
    server.asked.clear()
    await objects.list("deploykeys", fields={"spec.repositoryRef": "site"})
    await kcp.lists.selectors.ask_again()
    assert [asked["fieldSelector"] for asked in server.asked] == ["spec.repositoryRef=site"]


async def test_our_schemas_are_noticed_also_when_nobody_lists_anything(
    server: PagingKcp, objects: ProviderObjects, kcp: ProviderKcp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(field_selectors, "ASK_AGAIN_SECONDS", 0.01)
    server.foreign = True
    await objects.list("deploykeys", fields={"spec.repositoryRef": "site"})
    server.foreign = False
    asking = asyncio.create_task(kcp.lists.selectors.keep_asking())
    async with asyncio.timeout(10):
        while kcp.lists.selectors.complaint is not None:
            await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


async def test_a_workspace_that_is_gone_is_not_asked_for_ever(
    server: PagingKcp, objects: ProviderObjects, kcp: ProviderKcp
) -> None:
    server.foreign = True
    await objects.list("deploykeys", fields={"spec.repositoryRef": "site"})
    server.gone = True
    await kcp.lists.selectors.ask_again()
    server.asked.clear()
    await kcp.lists.selectors.ask_again()
    assert server.asked == []


async def test_a_list_that_is_refused_for_another_reason_says_nothing_of_schemas(
    server: PagingKcp, objects: ProviderObjects, kcp: ProviderKcp
) -> None:
    server.refuses = True
    with pytest.raises(KcpError):
        await objects.list("deploykeys", fields={"spec.repositoryRef": "site"})
    server.refuses = False
    with pytest.raises(KcpError):
        await objects.list("deploykeys", fields={"spec.title": "not selectable"})
    assert kcp.lists.selectors.complaint is None
