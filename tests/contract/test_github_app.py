"""A session that speaks for a GitHub App, over HTTP to the simulator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
from git_hosts import public_key

from codecommon.api.results import Retryable, Terminal
from codecommon.githost.github.credential import AppSecret
from codecommon.githost.github.provider import GithubProvider
from codecommon.githost.http.proxy import ProxyRules
from codecommon.githost.http.transport import HostTransport
from codecommon.githost.protocol import (
    CredentialRejected,
    GitBackend,
    HostRepository,
    HostTarget,
    Listed,
    RepositoryRequest,
)
from codecommon.process.secrets import SecretValue
from codecommon.testing.clock import Clock
from devstack.githubsim import GithubSim, SimControl
from devstack.githubsim.apps import client_id

KEY_ON_SECP112R1 = """-----BEGIN EC PRIVATE KEY-----
MD4CAQEEDiSMD0UlmAhr0Qs1F8sRoAcGBSuBBAAGoSADHgAEsW3bCcfD7RsM0Y4p
X8JzZYOzBjEBhK+AnRwaPw==
-----END EC PRIVATE KEY-----
"""
REQUEST = RepositoryRequest("acme", "Organization", "site", "private", "", auto_init=False)


@dataclass
class HostClock:
    """The host's clock, by which it judges a JWT; ``ahead``: seconds, of ours."""

    ahead: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@dataclass
class AppHost:
    control: SimControl
    clock: HostClock
    url: str
    transport: HostTransport
    app_id: int
    installation: int
    private_key: str = field(repr=False)
    ours: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self._github = GithubProvider([self.url], self.ours)

    def session(
        self, owner: str = "acme", installation: int | None = None, version: str = "1", app: str | None = None
    ) -> GitBackend:
        number = None if installation is None else str(installation)
        secret = AppSecret(app or str(self.app_id), number, owner, SecretValue(self.private_key))
        target = HostTarget(self.url, secret, None, ("cluster", "uid", version))
        return self._github.open(target, self.transport)

    async def settled_session(self, **named: Any) -> GitBackend:
        """A session whose token was made so long ago that the host knows it for sure."""
        session = self.session(**named)
        await session.get_owner_kind("acme")
        self.ours.advance(11)
        return session

    async def doubt(self, status: int, count: int | None = 1, path: str = ".*") -> None:
        """Let the host answer the next ``count`` requests with a token of the App as if it did not know the token."""
        words = {401: "Bad credentials", 404: "Not Found"}
        await self.control.add_fault(
            "status", status=status, body={"message": words[status]}, login="provider[bot]", count=count, path=path
        )

    async def minted(self) -> int:
        entries = (await self.control.journal()).entries
        return sum(entry.path.endswith("/access_tokens") for entry in entries)

    async def rejected(self) -> int:
        return sum(entry.status == 401 for entry in (await self.control.journal()).entries)


@pytest.fixture
async def host() -> AsyncIterator[AppHost]:
    clock = HostClock()
    async with GithubSim.serve(clock=clock) as sim, SimControl(sim.url) as control:
        await control.create_user("octocat")
        await control.create_org("acme", members={"octocat": "admin"})
        app = await control.create_app("provider")
        installation = await control.install_app(app.id, "acme")
        transport = HostTransport(proxies=ProxyRules())
        yield AppHost(control, clock, sim.url, transport, app.id, installation, app.private_key)
        await transport.aclose()


async def test_an_app_is_its_installation_on_the_owner_and_creates_there(host: AppHost) -> None:
    session = host.session()
    account = await session.validate_connection()
    assert (account.login, account.id) == ("provider[bot]", str(host.installation))
    assert (account.token_type, account.scopes, account.expires_at) == ("installation", None, None)
    assert account.id == str(host.installation)
    assert {c.name: c.status for c in account.capabilities} == {
        "createRepository": "Yes",
        "deleteRepository": "Yes",
        "deployKeys": "Yes",
        "collaborators": "Yes",
        "packages": "No",
    }
    await session.verify_access("acme")
    assert (await session.create_repository(REQUEST)).owner == "acme"


async def test_an_app_is_known_by_its_client_id_too(host: AppHost) -> None:
    account = await host.session(app=client_id(host.app_id)).validate_connection()
    assert account.login == "provider[bot]"
    with pytest.raises(Terminal, match=r"CredentialRejected.*githubAppID"):
        await host.session(version="2", app=client_id(host.app_id + 1)).validate_connection()


async def test_an_installation_gives_access_and_takes_it_away(host: AppHost) -> None:
    session = host.session()
    repo_id = (await session.create_repository(REQUEST)).id
    key = await session.create_deploy_key(repo_id, "ci", public_key(), True)
    await host.control.create_user("guest")
    invitation = await session.set_collaborator(repo_id, "guest", "push")
    assert invitation is not None
    assert await listed(session.list_invitations(repo_id)) == [invitation.id]
    await session.cancel_invitation(repo_id, invitation.id)
    assert await listed(session.list_deploy_keys(repo_id)) == [key.id]
    await session.delete_deploy_key(repo_id, key.id)
    assert await listed(session.list_deploy_keys(repo_id)) == await listed(session.list_invitations(repo_id)) == []


async def test_an_installation_without_administration_may_not_and_is_told_the_permission(host: AppHost) -> None:
    repo_id = (await host.session().create_repository(REQUEST)).id
    await host.control.edit_installation(host.installation, permissions={"metadata": "read"})
    session = host.session(version="2")
    assert await session.list_collaborators(repo_id) is not None, "metadata is enough to see who has access"
    for forbidden in (
        session.list_deploy_keys(repo_id),
        session.create_deploy_key(repo_id, "ci", public_key(), True),
        session.set_collaborator(repo_id, "octocat", "push"),
    ):
        with pytest.raises(Terminal, match="administration") as refused:
            await forbidden
        assert refused.value.reason == "MissingPermission"


async def listed(call: Awaitable[Listed[Any] | None]) -> list[str]:
    found = await call
    assert found is not None
    return [item.id for item in found.items]


async def test_however_many_ask_first_and_however_often_it_is_opened_one_token_is_made(
    host: AppHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine, the first token may take longer than the others wait for their turn.
    monkeypatch.setattr("codecommon.githost.github.app._LONGEST_WAIT_SECONDS", 60.0)
    sessions = [host.session() for _ in range(20)]
    await asyncio.gather(*(session.get_owner_kind("acme") for session in sessions))
    assert await host.minted() == 1
    # Another version of the Secret shares nothing with it.
    await host.session(version="2").get_owner_kind("acme")
    assert await host.minted() == 2


async def test_a_token_is_kept_while_it_lives_and_not_longer(host: AppHost) -> None:
    await host.control.edit_installation(host.installation, token_lifetime=0)
    session = host.session()
    with pytest.raises(Terminal, match="CredentialRejected"):
        await session.find_repository("acme", "site")
    await host.control.edit_installation(host.installation, token_lifetime=3600)
    await session.get_owner_kind("acme")
    assert await host.minted() == 3
    await session.verify_access("acme")
    assert await host.minted() == 3


async def test_a_revoked_token_is_replaced_once_and_the_request_repeated(host: AppHost) -> None:
    session = await host.settled_session()
    assert await host.control.revoke_installation_tokens(host.installation) == 1
    created = await session.create_repository(REQUEST)
    assert created.name == "site"
    assert await host.minted() == 2


# ---- a token that the host has just made, and does not know everywhere yet


@pytest.mark.parametrize("status", [401, 404])
async def test_what_a_host_answers_to_a_new_token_is_no_verdict_and_the_same_token_is_tried_again(
    host: AppHost, status: int
) -> None:
    await host.control.create_repository("acme", "site")
    session = host.session()
    await host.doubt(status, 2)
    for _ in range(2):
        with pytest.raises(Retryable) as early:
            await session.find_repository("acme", "site")
        assert early.value.reason == "HostNotYetVisible"
        assert early.value.after is not None
        assert early.value.after.total_seconds() <= 2
        assert "revoked" not in early.value.message
        host.ours.advance(2)
    assert isinstance(await session.find_repository("acme", "site"), HostRepository)
    assert await host.minted() == 1


async def test_a_repository_that_a_new_token_does_not_see_is_neither_absent_nor_deleted(host: AppHost) -> None:
    there = await host.control.create_repository("acme", "site")
    session = host.session()
    await host.doubt(404, None)
    for ask in (
        partial(session.find_repository, "acme", "site"),
        partial(session.get_repository, str(there.id)),
        partial(session.delete_repository, str(there.id)),
        partial(session.list_deploy_keys, str(there.id)),
        partial(session.remove_collaborator, str(there.id), "octocat"),
        partial(session.get_owner_kind, "acme"),
        partial(session.create_repository, REQUEST),
    ):
        with pytest.raises(Retryable, match="HostNotYetVisible"):
            await ask()
    host.ours.advance(11)
    assert await session.get_repository(str(there.id)) is None, (
        "by now the host knows the token, so this is its verdict"
    )


async def test_a_token_that_a_host_never_takes_ends_in_a_refusal_without_token_after_token(host: AppHost) -> None:
    session = host.session()
    await host.doubt(401, None)
    with pytest.raises(Retryable):
        await session.find_repository("acme", "site")
    host.ours.advance(12)
    for _ in range(3):
        with pytest.raises(Terminal, match=r"CredentialRejected.*does not take them") as refused:
            await session.find_repository("acme", "site")
        assert "mistyped" not in refused.value.message
    assert await host.minted() == 1
    host.ours.advance(60)
    with pytest.raises(Retryable):
        await session.find_repository("acme", "site")
    assert await host.minted() == 2


async def test_an_app_that_is_uninstalled_before_its_token_was_ever_used_is_named_as_that(host: AppHost) -> None:
    session = host.session()
    await session.validate_connection()
    await host.control.uninstall_app(host.installation)
    host.ours.advance(11)
    with pytest.raises(Terminal) as refused:
        await session.find_repository("acme", "site")
    assert refused.value.reason == "AppNotInstalled"


@pytest.mark.parametrize("named", [True, False])
async def test_an_installation_that_makes_no_token_yet_is_looked_at_before_it_counts_as_gone(
    host: AppHost, named: bool
) -> None:
    fault = {"status": 404, "body": {"message": "Not Found"}, "path": ".*/access_tokens"}
    session = host.session(installation=host.installation if named else None)
    await host.control.add_fault("status", **fault)
    with pytest.raises(Retryable, match=f"HostNotYetVisible.*shows the App's installation {host.installation}"):
        await session.get_owner_kind("acme")
    assert await session.get_owner_kind("acme") == "Organization"
    host.ours.advance(3000)
    await host.control.add_fault("status", **fault)
    with pytest.raises(Retryable, match="HostNotYetVisible"):
        await session.verify_access("acme")
    await session.verify_access("acme")
    assert await host.minted() == 4


async def test_an_app_that_is_not_installed_on_the_owner_is_named(host: AppHost) -> None:
    with pytest.raises(Terminal, match="install the App on octocat") as refused:
        await host.session("octocat").validate_connection()
    assert refused.value.reason == "AppNotInstalled"


async def test_an_installation_on_another_account_makes_no_token_and_its_connection_is_looked_at_again(
    host: AppHost,
) -> None:
    session = host.session("octocat", host.installation)
    for use in (session.validate_connection, partial(session.find_repository, "octocat", "site")):
        with pytest.raises(CredentialRejected) as refused:
            await use()
        assert refused.value.reason == "OwnerMismatch"
    assert await host.minted() == 0


async def test_an_uninstalled_or_suspended_app_is_told_apart_from_a_bad_key(host: AppHost) -> None:
    session = host.session()
    await host.control.edit_installation(host.installation, suspended=True)
    with pytest.raises(Terminal, match=r"CredentialRejected.*is suspended"):
        await session.validate_connection()
    await host.control.edit_installation(host.installation, suspended=False)
    session = await host.settled_session()
    await host.control.uninstall_app(host.installation)
    with pytest.raises(Terminal, match="AppNotInstalled"):
        await session.find_repository("acme", "site")

    host.private_key = (await host.control.create_app("other")).private_key
    with pytest.raises(Terminal, match=r"CredentialRejected.*githubAppPrivateKey"):
        await host.session(version="2").validate_connection()


async def test_an_app_that_is_installed_again_is_found_though_it_has_another_installation_now(host: AppHost) -> None:
    session = await host.settled_session()
    await host.control.uninstall_app(host.installation)
    assert await host.control.install_app(host.app_id, "acme") != host.installation
    assert (await session.create_repository(REQUEST)).owner == "acme"


async def test_an_installation_that_the_secret_names_is_not_exchanged_for_another(host: AppHost) -> None:
    session = await host.settled_session(installation=host.installation)
    await host.control.uninstall_app(host.installation)
    await host.control.install_app(host.app_id, "acme")
    with pytest.raises(Terminal, match=f"no installation {host.installation} of this App") as refused:
        await session.find_repository("acme", "site")
    assert refused.value.reason == "AppNotInstalled"
    looked_for = [entry.path for entry in (await host.control.journal()).entries[-2:]]
    named = f"/app/installations/{host.installation}"
    assert looked_for == [f"{named}/access_tokens", named], "nothing else was looked for"


# ---- clocks that do not agree


@pytest.mark.parametrize("ahead", [-50, 0, 500])
async def test_clocks_that_are_a_little_apart_cost_no_rejection(host: AppHost, ahead: float) -> None:
    host.clock.ahead = ahead
    await host.session().validate_connection()
    assert await host.rejected() == 0


@pytest.mark.parametrize("ahead", [-14 * 3600, -90, 600, 14 * 3600])
async def test_a_clock_that_is_wrong_is_made_up_for_by_that_of_the_host(host: AppHost, ahead: float) -> None:
    host.clock.ahead = ahead
    session = host.session()
    for _ in range(2):
        await session.validate_connection()
    assert await host.rejected() == 1


async def test_a_clock_that_was_put_right_is_trusted_again(host: AppHost) -> None:
    host.clock.ahead = 3600
    session = host.session()
    for ahead, rejected in ((3600, 1), (0, 2), (0, 2)):
        host.clock.ahead = ahead
        await session.validate_connection()
        assert await host.rejected() == rejected


async def test_however_many_are_rejected_for_a_wrong_clock_at_once_all_go_on(host: AppHost) -> None:
    host.clock.ahead = 3600
    sessions = [host.session() for _ in range(5)]
    accounts = await asyncio.gather(*(session.validate_connection() for session in sessions))
    assert {account.login for account in accounts} == {"provider[bot]"}


@pytest.mark.parametrize(("ahead", "rejected"), [(0, 1), (3600, 2), (100 * 24 * 3600, 1)])
async def test_a_key_that_is_wrong_is_not_tried_again_and_again(host: AppHost, ahead: float, rejected: int) -> None:
    host.clock.ahead = ahead
    host.private_key = (await host.control.create_app("other")).private_key
    with pytest.raises(Terminal, match=r"CredentialRejected.*githubAppPrivateKey"):
        await host.session().validate_connection()
    assert await host.rejected() == rejected


async def test_a_token_in_hand_is_of_no_use_while_the_app_is_suspended(host: AppHost) -> None:
    session = await host.settled_session()
    await host.control.edit_installation(host.installation, suspended=True)
    with pytest.raises(Terminal, match=r"CredentialRejected.*unsuspend it"):
        await session.find_repository("acme", "site")
    await host.control.edit_installation(host.installation, suspended=False)
    await session.find_repository("acme", "site")
    assert await host.minted() == 1


async def test_what_is_no_key_is_refused_before_anything_is_sent_and_not_quoted(host: AppHost) -> None:
    host.private_key = host.private_key.replace("M", "?", 40)
    with pytest.raises(Terminal) as refused:
        host.session()
    assert refused.value.reason == "CredentialInvalid"
    assert "BEGIN" not in refused.value.message
    assert (await host.control.journal()).total == 0


async def test_a_key_on_a_curve_that_nobody_here_knows_is_refused_like_any_other_that_is_not_rsa(host: AppHost) -> None:
    host.private_key = KEY_ON_SECP112R1
    with pytest.raises(Terminal) as refused:
        host.session()
    assert refused.value.reason == "CredentialInvalid"


async def test_creating_in_a_users_account_is_refused_before_the_call(host: AppHost) -> None:
    await host.control.install_app(host.app_id, "octocat")
    session = host.session("octocat")
    account = await session.validate_connection()
    assert account.capabilities[0].status == "No"
    await host.control.clear_journal()
    request = RepositoryRequest("octocat", "User", "site", "private", "", auto_init=False)
    with pytest.raises(Terminal) as refused:
        await session.create_repository(request)
    assert refused.value.reason == "AppCannotCreate"
    assert (await host.control.journal()).total == 0


async def test_creating_for_another_owner_than_the_connections_is_refused_before_the_call(host: AppHost) -> None:
    await host.control.create_org("other")
    await host.control.install_app(host.app_id, "other")
    session = host.session()
    await session.validate_connection()
    await host.control.clear_journal()
    with pytest.raises(Terminal, match=r"spec\.owner is other") as refused:
        await session.create_repository(replace(REQUEST, owner="other"))
    assert refused.value.reason == "OwnerMismatch"
    assert (await host.control.journal()).total == 0
    assert (await session.create_repository(replace(REQUEST, owner="ACME"))).owner == "acme"
