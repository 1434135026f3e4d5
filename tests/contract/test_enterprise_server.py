"""An Enterprise Server behind TLS, with an authority of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from codecommon.api.results import Retryable
from codecommon.githost.github.credential import TokenSecret
from codecommon.githost.github.provider import GithubProvider
from codecommon.githost.http.proxy import ProxyRules
from codecommon.githost.http.transport import HostTransport
from codecommon.githost.protocol import HostTarget
from codecommon.process.secrets import SecretValue
from devstack.enterprise import enterprise_sim
from devstack.githubsim import SimControl


async def test_it_is_trusted_by_its_ca_bundle_and_not_without(tmp_path: Path) -> None:
    async with enterprise_sim(tmp_path) as sim, SimControl(sim.url, ca=sim.authority) as control:
        await control.create_user("octocat")
        token = TokenSecret(SecretValue((await control.create_token("octocat")).value))
        transport = HostTransport(proxies=ProxyRules())
        github = GithubProvider([sim.host])
        with pytest.raises(Retryable, match="caBundle"):
            await github.open(
                HostTarget(sim.url, token, None, ("cluster", "uid", "1")), transport
            ).validate_connection()
        trusting = github.open(HostTarget(sim.url, token, sim.authority, ("cluster", "uid", "2")), transport)
        assert (await trusting.validate_connection()).login == "octocat"
        await transport.aclose()
