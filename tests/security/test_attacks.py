"""What a hostile tenant and a hostile git host try, on the real kcp, nats-server and services.

Meanwhile another tenant makes repositories. Each test bounds how long that tenant waits, how late the event loops run, and what
the services use. `make security` does it in full size and prints the figures; `make test` does it in a smaller one.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import statistics
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientTimeout, web
from hostile import keys
from hostile_host import HostileHost, nothing_here
from neighbour import MIB, Figures, Neighbourhood, all_at_once, neighbourhood

from devstack.enterprise import EnterpriseSim
from devstack.githubsim import SimControl
from devstack.kcp import Kcp
from devstack.processes import Process
from devstack.provider import ProviderInstallation
from devstack.resources import condition, is_ready
from devstack.scenario import Scenario, connection, deploy_key, has, repository, secret, unique
from devstack.tenant import Tenant
from devstack.tenants import TenantPool

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

FULL = os.environ.get("CODE_SECURITY_TESTS") == "full"
LONGEST_WAIT = 8.0 if FULL else 30.0
"""Seconds. A Repository takes 0.1 s alone, and the attack itself keeps kcp and the processors busy. `make test` runs other
tests beside it, so it only tells a tenant who waits from one who is forgotten; `make security` has the machine to itself.
"""
LONGEST_LAG = 2.0
MOST_MEMORY = 80 * MIB


@pytest.fixture
async def neighbours(scenario: Scenario, tenant: Tenant, services: Process, kcp: Kcp) -> AsyncIterator[Neighbourhood]:
    async with neighbourhood(scenario, tenant, services, kcp.session) as found:
        yield found


@pytest.fixture
async def hostile_host(hostile_server: HostileHost) -> AsyncIterator[HostileHost]:
    hostile_server.patience.clear()
    yield hostile_server
    hostile_server.patience.set()
    hostile_server.answer = nothing_here


@pytest.fixture
def attacker(services: Process, other_tenant: Tenant) -> Tenant:
    return other_tenant


def nobody_else_suffers(
    figures: Figures, what: str, capsys: pytest.CaptureFixture[str], *, lag: float = LONGEST_LAG
) -> None:
    with capsys.disabled():
        if FULL:
            print(f"\n{what}\n  {figures.shown()}")
    assert max(figures.waits) < LONGEST_WAIT, figures.shown()
    assert max(used["lag"] for used in figures.most.values()) < lag, figures.shown()
    assert max(figures.grown("memory").values()) < MOST_MEMORY, figures.shown()


async def test_keys_that_take_minutes_to_check(
    scenario: Scenario,
    attacker: Tenant,
    neighbours: Neighbourhood,
    capsys: pytest.CaptureFixture[str],
) -> None:
    nasty = keys()
    account = await scenario.account("attacker")
    await scenario.connect(attacker, account)
    await attacker.apply(repository("site", "acme"))
    await attacker.apply(deploy_key("pair", "site"))
    await attacker.wait_for("deploykeys", "pair", is_ready)
    async with neighbours.during_attack() as figures:
        for number, pem in enumerate(nasty.values()):
            stored = secret(f"app-{number}-token", pem, key="githubAppPrivateKey")
            stored["stringData"]["githubAppID"] = "7"
            await attacker.apply(stored)
            await attacker.apply(connection(f"app-{number}", account.login, scenario.url, type="github-app"))
            refused = await attacker.wait_for(
                "connections", f"app-{number}", has("Ready", "False", "CredentialInvalid")
            )
            assert "nothing was sent" in condition(refused, "Ready")["message"]
            data = {"ssh-privatekey": base64.b64encode(pem.encode()).decode()}
            await attacker.patch("secrets", "deploykey-pair", {"data": data})
            await attacker.reconcile("deploykeys", "pair", f"look-{number}")
    nobody_else_suffers(figures, "private keys of up to 19,630 bits", capsys)


async def test_many_repositories_of_one_name_that_are_deleted_together(
    attacker: Tenant, neighbours: Neighbourhood, capsys: pytest.CaptureFixture[str]
) -> None:
    count = 8000 if FULL else 300
    async with neighbours.during_attack() as figures:
        await all_at_once(lambda n: attacker.create(repository(f"same-{n}", "nothing", name="same")), count)
        await all_at_once(lambda n: attacker.delete("repositories", f"same-{n}"), count)
    nobody_else_suffers(figures, f"{count} Repositories of one name, made and deleted", capsys)


async def test_authorities_that_differ_in_a_comment(
    enterprise_sim: EnterpriseSim, attacker: Tenant, neighbours: Neighbourhood, capsys: pytest.CaptureFixture[str]
) -> None:
    count = 800 if FULL else 100
    async with SimControl(enterprise_sim.url, ca=enterprise_sim.authority) as control:
        login = unique("user")
        await control.create_user(login)
        await attacker.apply(secret("ghes-token", (await control.create_token(login)).value))

        async def connect(number: int) -> None:
            bundle = f"# {number}\n{enterprise_sim.authority}"
            name = f"ghes-{number}"
            await attacker.create(
                connection(name, login, enterprise_sim.url, secret_name="ghes-token", caBundle=bundle)
            )

        async with neighbours.during_attack() as figures:
            await all_at_once(connect, count)
            await attacker.wait_for("connections", f"ghes-{count - 1}", is_ready, 120)
    nobody_else_suffers(figures, f"{count} Connections, each with a caBundle of its own", capsys)
    assert max(figures.grown("sockets").values()) < 60, figures.shown()


async def test_a_host_whose_answers_are_bombs(
    hostile_host: HostileHost, attacker: Tenant, neighbours: Neighbourhood, capsys: pytest.CaptureFixture[str]
) -> None:
    bomb = gzip.compress(b"0" * (1000 * MIB if FULL else 100 * MIB), compresslevel=1)
    slow_pattern = json.dumps({"message": "a-" * 80_000 + "!" * 80_000}).encode()
    long_message = json.dumps({"message": "ghp_" + "x " * 7 * MIB}).encode()
    answers = {
        "bomb": (bomb, {"Content-Encoding": "gzip"}, 200),
        "pattern": (slow_pattern, {}, 403),
        "message": (long_message, {}, 422),
    }

    async def answer(request: web.Request) -> web.StreamResponse:
        body, headers, status = answers[request.headers["Authorization"].rsplit("-", 1)[-1]]
        return web.Response(body=body, status=status, headers={"Content-Type": "application/json", **headers})

    hostile_host.answer = answer
    async with neighbours.during_attack() as figures:
        for kind in answers:
            await attacker.apply(secret(f"{kind}-token", f"{'x' * 40}-{kind}"))
            await attacker.apply(connection(kind, "somebody", hostile_host.url))
            await attacker.wait_for("connections", kind, lambda c: c is not None and bool(c.get("status")), 60)
    nobody_else_suffers(figures, f"a gzip bomb of {len(bomb) / 1000:.0f} KB, 160 KiB and 15 MiB of message", capsys)


async def test_a_host_that_asks_for_thousands_of_years(
    hostile_host: HostileHost, attacker: Tenant, neighbours: Neighbourhood, capsys: pytest.CaptureFixture[str]
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        never = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "99999999999", "Retry-After": "99999999999"}
        return web.json_response({"message": "API rate limit exceeded"}, status=403, headers=never)

    hostile_host.answer = answer
    async with neighbours.during_attack() as figures:
        await attacker.apply(secret("slow-token", "x" * 40))
        await attacker.apply(connection("slow", "somebody", hostile_host.url))
        waiting = await attacker.wait_for("connections", "slow", has("Reconciling", "True"))
    message = condition(waiting, "Reconciling")["message"]
    assert time.strftime("20%y-", time.gmtime(time.time() + 3600)) in message, message
    assert "5138" not in message
    nobody_else_suffers(figures, "a reset time in the year 5138", capsys)


async def test_large_objects_that_have_to_be_listed(
    scenario: Scenario, attacker: Tenant, neighbours: Neighbourhood, capsys: pytest.CaptureFixture[str]
) -> None:
    count = 150 if FULL else 8
    account = await scenario.account("attacker")
    await scenario.connect(attacker, account)
    for number in range(count):
        await scenario.control.create_repository(account.login, f"big-{number}")

    async def create(number: int) -> None:
        manifest = repository(f"big-{number}", "acme")
        manifest["metadata"]["annotations"] = {"example.org/ballast": "b" * 230_000}
        await attacker.create(manifest)

    # kcp needs a second or two for each list of them, one after the other. The first few show what they do to others.
    async with neighbours.during_attack(at_least=10) as figures:
        await all_at_once(create, count, 4)
        await attacker.wait_for("repositories", "big-0", is_ready, 300)
    nobody_else_suffers(figures, f"{count} objects of 230 KB, each of which looks at all others", capsys)


async def test_a_host_that_never_answers(
    scenario: Scenario,
    tenants: TenantPool,
    hostile_host: HostileHost,
    attacker: Tenant,
    neighbours: Neighbourhood,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Four workspaces could take all slots of a process, with a workspace's share each."""
    hostile_host.answer = hostile_host.never
    others = [await tenants.take() for _ in range(3 if FULL else 1)]
    attackers = [attacker, *others]

    async def connect(number: int) -> None:
        hostile = attackers[number % len(attackers)]
        await hostile.apply(secret(f"slow-{number}-token", "x" * 40))
        await hostile.apply(connection(f"slow-{number}", f"somebody-{number}", hostile_host.url))

    living = await scenario.account("living")
    async with neighbours.during_attack() as figures:
        await all_at_once(connect, 32 * len(attackers))
        for number in range(5):
            # A Connection is validated by the service whose slots the attack takes.
            started = time.monotonic()
            await scenario.connect(neighbours.tenant, living, f"mine-{number}", timeout=30)
            figures.waits.append(time.monotonic() - started)
    assert hostile_host.asked > 0
    nobody_else_suffers(figures, f"{32 * len(attackers)} Connections to a host that never answers", capsys)
    for other in others:
        await tenants.give_back(other)


async def test_clients_that_never_finish_a_request_or_never_read(
    provider: ProviderInstallation, neighbours: Neighbourhood, capsys: pytest.CaptureFixture[str]
) -> None:
    """That such a connection is closed in the end, test_http_protocol.py shows."""
    count = 1000 if FULL else 300
    address = urlsplit(provider.url)
    json_type = b"Content-Type: application/json\r\nAccept: application/json\r\n"
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}).encode()
    half_a_body = b"POST /mcp HTTP/1.1\r\nHost: x\r\n%bContent-Length: 100000\r\n\r\n%b" % (json_type, body)
    a_list = b"POST /mcp HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n%b" % (json_type, len(body), body)
    begins = [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        half_a_body,
        b"",
    ]
    more_than_buffers_take = a_list * 200
    clients: list[tuple[int, asyncio.StreamWriter]] = []

    async def half_a_request(number: int) -> None:
        _, writer = await asyncio.open_connection(address.hostname, address.port, limit=1)
        writer.write(more_than_buffers_take if number % 50 == 49 else begins[number % len(begins)])
        clients.append((number, writer))

    async def drip() -> None:
        while True:
            for number, writer in clients:
                if number % 6 < 3 and number % 50 != 49 and not writer.is_closing():
                    writer.write(b"x")
            await asyncio.sleep(0.2)

    waits = list[float]()
    dripping = asyncio.create_task(drip())
    try:
        async with neighbours.during_attack() as figures:
            await all_at_once(half_a_request, count)
            for _ in range(300 if FULL else 30):
                started = time.monotonic()
                async with neighbours.session.get(f"{provider.url}/healthz", timeout=ClientTimeout(total=10)) as answer:
                    assert answer.status == 200
                waits.append(time.monotonic() - started)
    finally:
        dripping.cancel()
        for _, writer in clients:
            writer.transport.abort()
    health = (
        f"/healthz took {statistics.median(waits) * 1000:.0f} ms in the middle, "
        f"{sorted(waits)[len(waits) * 99 // 100] * 1000:.0f} ms at the 99th percentile"
    )
    nobody_else_suffers(figures, f"{count} clients that send half a request, or never read; {health}", capsys)
    assert statistics.median(waits) < 1, health
    assert figures.grown("sockets")["gateway"] < count + 60, figures.shown()
