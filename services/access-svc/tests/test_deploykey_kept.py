"""DeployKey: no key is lost, made twice or taken from another object, whatever the host shows and whoever writes in between."""

from __future__ import annotations

import base64

import pytest

from access_svc.deploykey import material
from codecommon.api.access import DeployKey
from codecommon.api.results import Ready, Released, Retryable, Terminal
from codecommon.controller.reconciler import Controller
from codecommon.githost.protocol import HostKey, HostRepository, HostUnavailable, Listed
from codecommon.kcp.client import Forbidden, Invalid, NotFound
from codecommon.testing.builders import deploy_key_object
from codecommon.testing.git_host import StubBackend
from codecommon.testing.harness import NAMESPACE, World, conditions

GIVEN = material.generate().public
OTHER = material.generate().public


class Killed(BaseException):
    """The process dies here: nothing that handles errors sees it."""


class Host:
    """The host with what cannot be told it otherwise: lists that lag behind, and creates that are never answered."""

    def __init__(self, stub: StubBackend, site: HostRepository, monkeypatch: pytest.MonkeyPatch) -> None:
        self._stub = stub
        self._site = site
        self._patch = monkeypatch

    @property
    def keys(self) -> list[str]:
        return [key.key for key in self._stub.repositories[self._site.id].keys.values()]

    def hide_once(self, public: str) -> None:
        """The next list does not show the key yet."""
        read = self._stub.list_deploy_keys

        async def late(repo_id: str) -> Listed[HostKey] | None:
            self._patch.setattr(self._stub, "list_deploy_keys", read)
            listed = await read(repo_id)
            assert listed is not None
            return Listed(tuple(key for key in listed.items if key.key != public), listed.at)

        self._patch.setattr(self._stub, "list_deploy_keys", late)

    def leave_unanswered_once(self) -> None:
        """The next key is made, and the answer is lost."""
        create = self._stub.create_deploy_key

        async def unanswered(repo_id: str, title: str, public_key: str, read_only: bool) -> HostKey:
            self._patch.setattr(self._stub, "create_deploy_key", create)
            await create(repo_id, title, public_key, read_only)
            raise HostUnavailable("no answer")

        self._patch.setattr(self._stub, "create_deploy_key", unanswered)


@pytest.fixture(name="shown")
def _shown(host: StubBackend, site: HostRepository, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(host, site, monkeypatch)


def private_key(world: World) -> str:
    secret = world.kcp.stored("secrets", "deploykey-key", namespace=NAMESPACE)
    assert secret is not None
    return base64.b64decode(secret["data"]["ssh-privatekey"]).decode()


def overwrite(world: World, entry: str, value: str | None) -> None:
    encoded = None if value is None else base64.b64encode(value.encode()).decode()
    world.kcp.edit("secrets", "deploykey-key", {"data": {entry: encoded}}, namespace=NAMESPACE)


# ---- the host's list lags behind


async def test_a_key_that_is_not_listed_yet_goes_with_its_object(
    world: World, keys: Controller[DeployKey], shown: Host
) -> None:
    world.add(deploy_key_object(publicKey=GIVEN))
    await world.reconcile(keys, "key")
    shown.hide_once(GIVEN)
    world.kcp.remove("deploykeys", "key")
    assert isinstance(await world.reconcile(keys, "key"), Released)
    assert shown.keys == []


async def test_a_key_that_is_not_listed_yet_goes_when_another_takes_its_place(
    world: World, keys: Controller[DeployKey], shown: Host
) -> None:
    world.add(deploy_key_object(publicKey=GIVEN))
    await world.reconcile(keys, "key")
    shown.hide_once(GIVEN)
    world.kcp.edit("deploykeys", "key", {"spec": {"publicKey": OTHER}})
    assert isinstance(await world.reconcile(keys, "key"), Ready)
    assert shown.keys == [OTHER]


async def test_an_object_deleted_before_its_new_key_is_listed_waits_for_it(
    world: World, keys: Controller[DeployKey], shown: Host
) -> None:
    def die() -> None:
        raise Killed

    world.add(deploy_key_object(publicKey=GIVEN))
    world.kcp.once(lambda request: request.subresource == "status", die)
    with pytest.raises(Killed):
        await world.reconcile(keys, "key")
    shown.hide_once(GIVEN)
    world.kcp.remove("deploykeys", "key")
    waiting = await world.reconcile(keys, "key")
    assert isinstance(waiting, Retryable)
    assert waiting.reason == "HostNotYetVisible"
    assert isinstance(await world.reconcile(keys, "key"), Released)
    assert shown.keys == []


async def test_a_new_key_whose_answer_was_lost_is_ours_once_it_is_listed(
    world: World, keys: Controller[DeployKey], shown: Host
) -> None:
    world.add(deploy_key_object(publicKey=GIVEN))
    await world.reconcile(keys, "key")
    world.kcp.edit("deploykeys", "key", {"spec": {"publicKey": OTHER}})
    shown.leave_unanswered_once()
    await world.reconcile(keys, "key")
    shown.hide_once(OTHER)
    waiting = await world.reconcile(keys, "key")
    assert isinstance(waiting, Retryable)
    assert waiting.reason == "HostNotYetVisible"
    assert isinstance(await world.reconcile(keys, "key"), Ready)
    assert world.stored("deploykeys", "key")["status"]["origin"] == "Created"
    assert shown.keys == [OTHER]


@pytest.mark.parametrize("after", ["an edit", "a deletion"])
async def test_a_generated_key_whose_answer_was_lost_goes(
    world: World, keys: Controller[DeployKey], shown: Host, after: str
) -> None:
    world.add(deploy_key_object())
    shown.leave_unanswered_once()
    await world.reconcile(keys, "key")
    if after == "an edit":
        world.kcp.edit("deploykeys", "key", {"spec": {"publicKey": GIVEN}})
        assert isinstance(await world.reconcile(keys, "key"), Ready)
        assert shown.keys == [GIVEN]
    world.kcp.remove("deploykeys", "key")
    assert isinstance(await world.reconcile(keys, "key"), Released)
    assert shown.keys == []


# ---- other objects


async def test_a_key_that_moved_to_another_object_stays_that_ones(
    world: World, keys: Controller[DeployKey], shown: Host
) -> None:
    world.add(deploy_key_object("one", publicKey=GIVEN))
    await world.reconcile(keys, "one")
    world.kcp.edit("deploykeys", "one", {"spec": {"publicKey": None}})
    await world.reconcile(keys, "one")
    world.add(deploy_key_object("two", publicKey=GIVEN))
    await world.reconcile(keys, "two")
    await world.reconcile(keys, "one")
    assert GIVEN in shown.keys
    assert len(shown.keys) == 2


async def test_a_key_that_another_object_took_over_before_it_was_removed_stays(
    world: World, keys: Controller[DeployKey], shown: Host
) -> None:
    world.add(deploy_key_object("one", publicKey=GIVEN))
    await world.reconcile(keys, "one")
    world.kcp.edit("deploykeys", "one", {"spec": {"publicKey": OTHER}})
    world.add(deploy_key_object("two", publicKey=GIVEN))
    await world.reconcile(keys, "two")
    await world.reconcile(keys, "one")
    assert shown.keys == [GIVEN, OTHER]


# ---- what opens the repository


async def test_the_access_of_a_found_key_survives_a_replacement_that_fails_half_way(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    host.add_key(site.id, "before", GIVEN, read_only=False)
    world.add(deploy_key_object(publicKey=GIVEN, title="after"))
    host.raise_next("create_deploy_key", Retryable("RateLimited", "later"))
    await world.reconcile(keys, "key")
    await world.reconcile(keys, "key")
    (made,) = host.repositories[site.id].keys.values()
    assert (made.title, made.read_only) == ("after", False)


async def test_a_title_that_the_host_writes_in_its_own_way_is_no_drift(
    world: World, keys: Controller[DeployKey], host: StubBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = host.create_deploy_key

    async def trimming(repo_id: str, title: str, public_key: str, read_only: bool) -> HostKey:
        return await create(repo_id, title.strip(), public_key, read_only)

    monkeypatch.setattr(host, "create_deploy_key", trimming)
    world.add(deploy_key_object(publicKey=GIVEN, title="ci "))
    for _ in range(3):
        await world.reconcile(keys, "key")
    assert [method for method, _ in host.writes] == ["create_deploy_key"]


async def test_keys_that_an_organisation_disabled_later_are_not_ready(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    world.add(deploy_key_object(publicKey=GIVEN))
    await world.reconcile(keys, "key")
    host.repositories[site.id].keys_disabled = True
    assert isinstance(await world.reconcile(keys, "key"), Terminal)
    assert conditions(world.stored("deploykeys", "key"))["Ready"] == ("False", "DeployKeysDisabled")


async def test_a_private_half_that_opens_nothing_is_replaced_with_its_key(
    world: World, keys: Controller[DeployKey], shown: Host
) -> None:
    world.add(deploy_key_object())
    await world.reconcile(keys, "key")
    before = shown.keys
    overwrite(world, "ssh-privatekey", "not a key any more")
    assert isinstance(await world.reconcile(keys, "key"), Ready)
    assert material.public_half(private_key(world)) == shown.keys[0]
    assert len(shown.keys) == 1
    assert shown.keys != before


@pytest.mark.parametrize("public", [None, OTHER], ids=["removed", "another"])
async def test_a_public_half_that_somebody_changed_is_put_right_and_the_private_one_kept(
    world: World, keys: Controller[DeployKey], host: StubBackend, public: str | None
) -> None:
    world.add(deploy_key_object())
    await world.reconcile(keys, "key")
    before = world.kcp.stored("secrets", "deploykey-key", namespace=NAMESPACE)
    assert before is not None
    host.writes.clear()
    overwrite(world, "ssh-publickey", public)
    assert isinstance(await world.reconcile(keys, "key"), Ready)
    after = world.kcp.stored("secrets", "deploykey-key", namespace=NAMESPACE)
    assert after is not None
    assert after["data"] == before["data"]
    assert host.writes == []


# ---- a workspace that does not take the Secret


@pytest.mark.parametrize(
    "refusal",
    [Forbidden(403, "Forbidden", "exceeded quota"), Invalid(422, "Invalid", "field is immutable")],
    ids=["forbidden", "invalid"],
)
async def test_a_secret_that_the_workspace_refuses_is_told_of_in_status(
    world: World, keys: Controller[DeployKey], host: StubBackend, refusal: Exception
) -> None:
    def refuse() -> None:
        raise refusal

    world.add(deploy_key_object())
    world.kcp.once(lambda request: request.writes and request.resource == "secrets", refuse)
    assert isinstance(await world.reconcile(keys, "key"), Terminal)
    assert conditions(world.stored("deploykeys", "key"))["Ready"] == ("False", "SecretNotWritable")
    assert host.writes == []


async def test_a_missing_namespace_for_secrets_is_told_of_and_tried_again(
    world: World, keys: Controller[DeployKey], host: StubBackend
) -> None:
    def refuse() -> None:
        raise NotFound(404, "NotFound", "namespaces not found")

    world.add(deploy_key_object())
    world.kcp.once(lambda request: request.writes and request.resource == "secrets", refuse)
    waiting = await world.reconcile(keys, "key")
    assert isinstance(waiting, Retryable)
    assert waiting.reason == "CredentialUnavailable"
    assert host.writes == []
