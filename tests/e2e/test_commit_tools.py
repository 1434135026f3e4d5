"""commit_files, checkout_repository, build_status and rebuild as other providers of the hub call them, through the aggregate.

There are two ways of reading an answer (hub-contract.md §5.4). A studio's controllers read 16 MiB and parse the first text block.
app-studio's HTTP tools read 4 MiB and parse all text blocks, joined. Both take what is no ``isError`` for done.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import random
import re
import ssl
import string
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from devstack.devhub import DevHub
from devstack.nats import NatsServer
from devstack.paths import VENV_BIN
from devstack.ports import LOOPBACK, free_ports
from devstack.processes import Process
from devstack.provider import ProviderInstallation, metrics_of
from devstack.resources import is_ready
from devstack.scenario import Account, Scenario, connection, repository, secret
from devstack.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

MIB = 1 << 20
COMMITS = "repositorycommits"
PATIENCE = 120.0
"""Seconds in which a request finishes, on a busy machine, too."""

_LETTERS = string.ascii_letters * 4 + '<&>"\\\n é'
_NO_ANSWER = ("no answer within", "Can not write request body", "HTTP 503")
"""What the hub says when it does not know what came of a call. Its callers call again."""

Reader = Callable[[bytes], str]


class Failed(Exception):
    """What a caller takes for a failure. The message is the tool's sentence."""


def first_block(body: bytes) -> str:
    """As a studio's controllers read."""
    return _result(body[: 16 * MIB])["content"][0]["text"]


def all_blocks(body: bytes) -> str:
    """As app-studio's HTTP tools read."""
    return "".join(block["text"] for block in _result(body[: 4 * MIB])["content"] if block["type"] == "text")


def _result(body: bytes) -> dict[str, Any]:
    line = next(line for line in body.split(b"\n") if line.startswith(b"data: "))
    answer = json.loads(line.removeprefix(b"data: "))
    if "error" in answer:
        raise Failed(answer["error"]["message"])
    result: dict[str, Any] = answer["result"]
    if result.get("isError"):
        raise Failed(result["content"][0]["text"])
    return result


class Caller:
    """Another provider's client of the aggregate, or of a gateway."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, reader: Reader, prefix: str, headers: Mapping[str, str]
    ) -> None:
        self._session = session
        self._url = url
        self._reader = reader
        self._prefix = prefix
        self._headers = dict(headers)

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """One call, as it is read. Raises ``Failed``."""
        await self._post(
            "initialize",
            {
                "protocolVersion": "2025-03-26",
                "capabilities": {},
                "clientInfo": {"name": "app-studio", "version": "v1"},
            },
        )
        body = await self._post("tools/call", {"name": f"{self._prefix}{tool}", "arguments": arguments})
        answer: dict[str, Any] = json.loads(self._reader(body))
        return answer

    async def finish(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Calls until the request has finished, with its name as the tool's sentence says it."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    return await self.call(tool, **arguments)
                except Failed as failed:
                    named = re.search(r" has not finished\..* name: (\S+)\. ", str(failed))
                    if named is not None:
                        arguments = {"repositoryRef": arguments["repositoryRef"], "name": named[1]} | {
                            key: value for key, value in arguments.items() if key in ("workflowFileName", "paths")
                        }
                    elif not any(words in str(failed) for words in _NO_ANSWER):
                        raise

    async def _post(self, method: str, params: dict[str, Any]) -> bytes:
        # In pieces: of a large body in one piece aiohttp warns.
        message = io.BytesIO(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode())
        async with self._session.post(self._url, data=message, headers=self._headers) as response:
            if session := response.headers.get("Mcp-Session-Id"):
                self._headers["Mcp-Session-Id"] = session
            body = await response.read()
            if response.status >= 400:
                raise Failed(f"HTTP {response.status}")
            # A gateway answers with JSON, the hub with an event.
            return body if body.startswith(b"event:") else b"data: " + body


@pytest_asyncio.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(ssl=tls)
    async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=aiohttp.ClientTimeout(60)) as opened:
        yield opened


@pytest.fixture(params=[first_block, all_blocks], ids=["controller", "HTTP tool"])
def reader(request: pytest.FixtureRequest) -> Reader:
    reader: Reader = request.param
    return reader


@pytest.fixture
def studio(services: Process, devhub: DevHub, tenant: Tenant, session: aiohttp.ClientSession, reader: Reader) -> Caller:
    bearer = {"Authorization": f"Bearer {tenant.mcp_token}"}
    return Caller(session, devhub.mcp_url(tenant.cluster), reader, "code__", bearer)


async def site(scenario: Scenario, tenant: Tenant, *, scopes: list[str] | None = None, **spec: Any) -> Account:
    """The Repository ``site``, which is on the host. ``scopes``: of the token."""
    account = await scenario.account()
    if scopes is not None:
        account = Account(account.login, await scenario.control.create_token(account.login, scopes=scopes))
    await scenario.connect(tenant, account, "acme")
    await tenant.apply(repository("site", "acme", **spec))
    await tenant.wait_for("repositories", "site", is_ready)
    return account


def as_files(texts: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"path": path, "content": content} for path, content in texts.items()]


def texts_of(answer: Mapping[str, Any]) -> dict[str, str]:
    return {file["path"]: file["content"] for file in answer["files"]}


async def test_a_studio_commits_reads_builds_and_builds_again(
    studio: Caller, scenario: Scenario, tenant: Tenant
) -> None:
    account = await site(scenario, tenant, scopes=["repo", "workflow"], autoInit=True)
    texts = {
        "src/main.py": "print('<&>')\n",
        ".github/workflows/build.yaml": "on: [push, workflow_dispatch]\n",
        "a b/é\u202e.txt": "\u200b\n",
    }

    committed = await studio.finish("commit_files", repositoryRef="site", message="First", files=as_files(texts))
    assert committed["phase"] == "Succeeded"
    assert sorted(committed["files"]) == sorted(texts)
    head = (await scenario.control.commits(account.login, "site"))[0]
    assert head.sha == committed["commitSHA"]
    on_host = await scenario.control.files(account.login, "site")
    assert {path: on_host[path].decode() for path in texts} == texts

    read = await studio.finish("checkout_repository", repositoryRef="site")
    assert read["commitSHA"] == committed["commitSHA"]
    assert texts_of(read) == {path: content.decode() for path, content in on_host.items()}
    by_sha = await studio.finish("checkout_repository", repositoryRef="site", ref=head.parents[0])
    assert set(texts_of(by_sha)) == set(on_host) - set(texts)

    build = {"repositoryRef": "site", "workflowFileName": "build.yaml"}
    assert await studio.finish("build_status", ref="0" * 40, **build) == {"repositoryRef": "site", "found": False}
    log = "".join(f"line {number}\n" for number in range(1000)) + "the end <&>"
    failed = {"name": "build", "status": "completed", "conclusion": "failure", "log": log}
    await scenario.control.create_run(
        account.login, "site", "build.yaml", head_sha=head.sha, status="completed", conclusion="failure", jobs=[failed]
    )
    built = await studio.finish("build_status", ref=head.sha, **build)
    assert (built["found"], built["conclusion"], built["headSHA"]) == (True, "failure", head.sha)
    [job] = built["jobs"]
    lines = job["failureLog"].splitlines()
    assert lines[0].startswith("[untrusted")
    assert lines[-1].endswith("the end <&>")
    assert len(lines) == 201

    runs = len(await scenario.control.runs(account.login, "site"))
    assert await studio.finish("rebuild", ref="main", **build) == {"repositoryRef": "site", "dispatched": True}
    assert len(await scenario.control.runs(account.login, "site")) == runs + 1

    removed = await studio.finish("commit_files", repositoryRef="site", deletePaths=["src/main.py", "never/there"])
    assert "src/main.py" not in await scenario.control.files(account.login, "site")
    assert sorted(removed["deletedPaths"]) == ["never/there", "src/main.py"]
    # What was answered leaves nothing behind but the commits, which app-studio lists, and for ten minutes the rebuild, which the
    # same call joins.
    await scenario.wait_until(lambda: _left(tenant), 3, timeout=30, what="requests that were answered")


async def _left(tenant: Tenant) -> int:
    kinds = (COMMITS, "repositorycheckouts", "repositorybuildstatuses")
    return sum([len(await tenant.list(kind)) for kind in kinds])


async def test_a_commit_that_has_not_finished_is_not_taken_for_one_that_has(
    studio: Caller, scenario: Scenario, tenant: Tenant
) -> None:
    account = await scenario.account()
    # The Connection has no Secret yet, so nothing can be done on the host.
    await tenant.apply(connection("acme", account.login, scenario.url))
    await tenant.apply(repository("site", "acme"))
    arguments = {"repositoryRef": "site", "files": as_files({"README.md": "hello\n"})}

    for _ in range(2):
        with pytest.raises(Failed) as failed:
            await studio.call("commit_files", **arguments)
        [commit] = await tenant.list(COMMITS)
        assert f"{commit['metadata']['name']} has not finished" in str(failed.value)

    await tenant.apply(secret("acme-token", account.token.value))
    answer = await studio.finish("commit_files", repositoryRef="site", name=commit["metadata"]["name"])

    [head, *_] = await scenario.control.commits(account.login, "site")
    assert answer["commitSHA"] == head.sha
    assert (await scenario.control.files(account.login, "site"))["README.md"] == b"hello\n"
    # The same again has nothing to change.
    again = await studio.finish("commit_files", **arguments)
    assert (again["commitSHA"], again["name"] != answer["name"]) == (head.sha, True)


async def test_an_empty_repository_is_an_empty_checkout_and_takes_a_first_commit(
    studio: Caller, scenario: Scenario, tenant: Tenant
) -> None:
    account = await site(scenario, tenant, autoInit=False)

    empty = await studio.finish("checkout_repository", repositoryRef="site")
    assert empty["files"] == []
    assert "commitSHA" not in empty
    await studio.finish("commit_files", repositoryRef="site", files=as_files({"a": "b", "c/d": "e"}))
    assert await scenario.control.files(account.login, "site") == {"a": b"b", "c/d": b"e"}


async def test_what_cannot_be_read_or_committed_is_an_error(studio: Caller, scenario: Scenario, tenant: Tenant) -> None:
    account = await site(scenario, tenant)
    await scenario.control.push(account.login, "site", {"logo.png": b"\x89PNG\x00"})

    with pytest.raises(Failed, match=r"logo\.png: binary"):
        await studio.finish("checkout_repository", repositoryRef="site")
    workflow = as_files({".github/workflows/build.yaml": "on: push\n"})
    with pytest.raises(Failed, match="lacks the scope workflow"):
        await studio.finish("commit_files", repositoryRef="site", files=workflow)
    with pytest.raises(Failed, match="RefNotFound"):
        await studio.finish("checkout_repository", repositoryRef="site", ref="never-there")
    with pytest.raises(Failed, match="There is no Repository object"):
        await studio.call("checkout_repository", repositoryRef="site.git")


@pytest.mark.parametrize("reader", [all_blocks], ids=["HTTP tool"], indirect=True)
async def test_a_commit_of_16_mib_arrives_whole_and_is_read_in_parts(
    studio: Caller, scenario: Scenario, tenant: Tenant
) -> None:
    account = await site(scenario, tenant, autoInit=False)
    noise = random.Random(16)
    texts = {f"src/{i:03}.txt": "".join(noise.choices(_LETTERS, k=32_000)) for i in range(490)}
    total = sum(len(content.encode()) for content in texts.values())
    assert 15 * MIB < total <= 16 * MIB

    committed = await studio.finish("commit_files", repositoryRef="site", files=as_files(texts))
    assert len(committed["files"]) == 490
    on_host = await scenario.control.files(account.login, "site")
    assert {path: content.decode() for path, content in on_host.items()} == texts

    answer = await studio.finish("checkout_repository", repositoryRef="site", ref=committed["commitSHA"])
    found = texts_of(answer)
    async with asyncio.timeout(PATIENCE):
        while left := [path for path in texts if path not in found]:
            assert any(entry.startswith(f"{left[0]}: ") for entry in answer["skipped"])
            answer = await studio.finish("checkout_repository", repositoryRef="site", name=answer["name"], paths=left)
            assert answer["files"]
            found |= texts_of(answer)
    assert found == texts


@pytest.mark.parametrize("reader", [first_block], ids=["controller"], indirect=True)
async def test_two_gateways_serve_one_request_and_share_its_contents(
    studio: Caller,
    scenario: Scenario,
    tenant: Tenant,
    provider: ProviderInstallation,
    services_nats: NatsServer,
    session: aiohttp.ClientSession,
) -> None:
    account = await site(scenario, tenant, autoInit=False)
    arguments = {"repositoryRef": "site", "files": as_files({"a": "b"})}
    async with another_gateway(provider, services_nats.url, session, tenant) as other:
        # Its connection to NATS may not be there yet.
        first, second = await asyncio.gather(
            studio.finish("commit_files", **arguments), stored(lambda: other.finish("commit_files", **arguments))
        )
        read = await stored(lambda: other.finish("checkout_repository", repositoryRef="site"))

    assert (first["commitSHA"], first["name"]) == (second["commitSHA"], second["name"])
    assert len(await scenario.control.commits(account.login, "site")) == 1
    assert texts_of(read) == {"a": "b"}


@pytest.mark.parametrize("reader", [first_block], ids=["controller"], indirect=True)
async def test_what_either_gateway_stores_either_replica_commits_and_the_other_way_round(
    studio: Caller,
    services: Process,
    scenario: Scenario,
    tenant: Tenant,
    provider: ProviderInstallation,
    services_nats: NatsServer,
    session: aiohttp.ClientSession,
) -> None:
    account = await site(scenario, tenant, autoInit=False)
    texts: dict[str, str] = {}
    async with (
        another_gateway(provider, services_nats.url, session, tenant) as other,
        another_replica(services, provider) as address,
    ):
        gateways = {"first": studio, "second": other}

        async def taken(operation: str) -> dict[str, float]:
            """How many bundles each replica has read for commits, or put for checkouts."""
            async with session.get(f"{address}/metrics") as answer:
                second = await answer.text()
            exposed = {"first": (await metrics_of(services, session))["repository-svc"], "second": second}
            line = re.compile(rf'^code_bundle_operations_total{{operation="{operation}",result="done"}} (\S+)$', re.M)
            found = {replica: line.search(text) for replica, text in exposed.items()}
            return {replica: float(match[1]) if match else 0.0 for replica, match in found.items()}

        async def replica_of(operation: str, gateway: str) -> str:
            """Which replica did what was asked for; empty where it cannot be told."""
            before = await taken(operation)
            if operation == "read":
                path = f"file-{len(texts)}"
                files = {path: f"{path} through {gateway}\n"}
                call = partial(gateways[gateway].finish, "commit_files", repositoryRef="site", files=as_files(files))
                await stored(call)
                texts.update(files)
            else:
                call = partial(gateways[gateway].finish, "checkout_repository", repositoryRef="site")
                assert texts_of(await stored(call)) == texts
            after = await taken(operation)
            took = [replica for replica in after if after[replica] > before[replica]]
            return took[0] if len(took) == 1 else ""

        await replica_of("read", "first")
        left = set(itertools.product(("read", "put"), gateways, ("first", "second")))
        chance = random.Random(16)
        async with asyncio.timeout(PATIENCE):
            while left:
                operation, gateway, _ = chance.choice(sorted(left))
                left.discard((operation, gateway, await replica_of(operation, gateway)))

    on_host = await scenario.control.files(account.login, "site")
    assert {path: content.decode() for path, content in on_host.items()} == texts
    assert len(await scenario.control.commits(account.login, "site")) == len(texts)


async def stored(call: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """The call's answer, once the store of a gateway that has just begun answers."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await call()
            except Failed as failed:
                if "does not answer" not in str(failed):
                    raise


@asynccontextmanager
async def another_gateway(
    provider: ProviderInstallation, nats_url: str, session: aiohttp.ClientSession, tenant: Tenant
) -> AsyncIterator[Caller]:
    """A second replica; a caller of it with the headers that the hub's proxy would send for the tenant."""
    [port] = free_ports(1)
    environment = {"PORT": str(port), "NATS_URL": nats_url}
    async with provider.command("gateway", environment, program=[VENV_BIN / "gateway"]) as process:
        await process.line("listening on port", timeout=60)
        headers = {
            "Authorization": f"Bearer {tenant.mcp_token}",
            "X-Kedge-Tenant": tenant.cluster,
            "X-Kedge-Cluster": tenant.cluster,
        }
        yield Caller(session, f"http://127.0.0.1:{port}/mcp", first_block, "", headers)


@asynccontextmanager
async def another_replica(services: Process, provider: ProviderInstallation) -> AsyncIterator[str]:
    """A second repository-svc beside that of ``services``; where its metrics are."""
    [port] = free_ports(1)
    environment = {**services.env, "CODE_HEALTH_HOST": LOOPBACK, "CODE_HEALTH_PORT": str(port)}
    program = [VENV_BIN / "repository-svc"]
    async with provider.command("repository-svc", environment, program=program) as process:
        await process.line("health endpoints on", timeout=60)
        yield f"http://{LOOPBACK}:{port}"
