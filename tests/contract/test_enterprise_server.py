"""An Enterprise Server behind TLS, with an authority of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from codecommon.api.results import Retryable, Terminal
from codecommon.githost.contents import SnapshotCaps
from codecommon.githost.github.credential import TokenSecret
from codecommon.githost.github.provider import GithubProvider
from codecommon.githost.http.proxy import ProxyRules
from codecommon.githost.http.transport import HostTransport
from codecommon.githost.protocol import HostRepository, HostTarget
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


async def test_its_archives_are_trusted_by_the_ca_bundle_too_and_by_the_operators_word_alone(tmp_path: Path) -> None:
    caps = SnapshotCaps(files=10, file_bytes=1000, total_bytes=1000)
    async with enterprise_sim(tmp_path) as sim, SimControl(sim.url, ca=sim.authority) as control:
        await control.create_user("octocat")
        token = TokenSecret(SecretValue((await control.create_token("octocat")).value))
        await control.create_repository("octocat", "demo")
        await control.push("octocat", "demo", {"a": b"1"})
        transport = HostTransport(proxies=ProxyRules())
        target = HostTarget(sim.url, token, sim.authority, ("cluster", "uid", "1"))
        try:
            named = GithubProvider([sim.host, sim.downloads_host]).open(target, transport)
            found = await named.find_repository("octocat", "demo")
            assert isinstance(found, HostRepository)
            assert [file.path for file in (await named.contents.read_snapshot(found.id, "", caps)).files] == ["a"]
            assert await control.downloads() == {"served": 1, "refused": 0}
            unnamed = GithubProvider([sim.host]).open(target, transport)
            with pytest.raises(Terminal, match="CODE_ALLOWED_GIT_HOSTS"):
                await unnamed.contents.read_snapshot(found.id, "", caps)
        finally:
            await transport.aclose()
