"""The transport as the services have it, against a simulator that stops answering."""

from __future__ import annotations

from typing import Any

import pytest

from codecommon.api.results import Retryable
from codecommon.githost.github.credential import TokenSecret
from codecommon.githost.http.proxy import ProxyRules
from codecommon.githost.limits import Limits, Window
from codecommon.githost.protocol import HostTarget
from codecommon.githost.registry import open_registry
from codecommon.messaging.bus import Bus
from codecommon.process.secrets import SecretValue
from codecommon.process.settings import NatsSettings
from devstack.githubsim import GithubSim, SimControl
from devstack.nats import NatsServer


@pytest.mark.parametrize("fault", ["html_502", "reset", "truncate", "status"])
async def test_a_host_that_stops_answering_is_left_alone_and_everybody_is_told_the_same(
    nats_server: NatsServer, fault: Any
) -> None:
    async with (
        GithubSim.serve() as sim,
        SimControl(sim.url) as control,
        Bus.connect(NatsSettings(url=(nats_server.url,))) as bus,
    ):
        await bus.declare()
        await control.create_user("octocat")
        token = await control.create_token("octocat")
        allowed = [sim.url]
        async with open_registry(allowed, bus, {}, ProxyRules()) as registry:
            session = registry.open(
                "github", HostTarget(sim.url, TokenSecret(SecretValue(token.value)), None, ("cluster", "uid", "1"))
            )
            await session.find_repository("octocat", "web")
            await control.add_fault(fault, count=None)
            await control.clear_journal()
            said: list[Retryable] = []
            for _ in range(20):
                with pytest.raises(Retryable) as refused:
                    await session.find_repository("octocat", "web")
                said.append(refused.value)
            assert {each.reason for each in said} == {"HostUnavailable"}
            told = said[5:]
            assert len({each.message for each in told}) == 1
            assert all(each.after is not None for each in told)
            # A read whose connection breaks is sent once more.
            assert (await control.journal()).total <= 10


async def test_what_is_not_sent_during_an_outage_uses_up_no_budget(nats_server: NatsServer) -> None:
    async with (
        GithubSim.serve() as sim,
        SimControl(sim.url) as control,
        Bus.connect(NatsSettings(url=(nats_server.url,))) as bus,
    ):
        await bus.declare()
        await control.create_user("octocat")
        token = await control.create_token("octocat")
        await control.add_fault("status", count=None)
        host = sim.url.removeprefix("http://")
        limits = {host: Limits(points=(Window(20, 60.0),))}
        async with open_registry([sim.url], bus, limits, ProxyRules()) as registry:
            session = registry.open(
                "github", HostTarget(sim.url, TokenSecret(SecretValue(token.value)), None, ("cluster", "uid", "1"))
            )
            for _ in range(60):
                with pytest.raises(Retryable) as refused:
                    await session.find_repository("octocat", "web")
                assert refused.value.reason == "HostUnavailable"
