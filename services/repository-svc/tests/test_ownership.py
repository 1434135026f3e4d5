"""Two workspaces of one account: who made a repository, and what the deletion of the other's object leaves alone."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from codecommon.api.repository import Repository
from codecommon.api.results import Ready, Released, Retryable, Terminal
from codecommon.controller.reconciler import Controller
from codecommon.githost.protocol import HostRepository, HostUnavailable
from codecommon.kcp.client import KcpError
from codecommon.testing.builders import api_binding, repository_object, secret_object, validated_connection
from codecommon.testing.harness import World, conditions, message
from codecommon.testing.repositories import ago, held, made, moment_ago

CLAIM_ANNOTATION = "code.kedge.faros.sh/create-claim"


@pytest.fixture
def a(world: World) -> World:
    """One workspace."""
    world.add(api_binding())
    return world


@pytest.fixture
def b(a: World) -> World:
    """Another workspace with the same credential."""
    other = World(cluster="c2", beside=a)
    other.add(api_binding(), secret_object(), validated_connection())
    return other


def origin(world: World) -> Any:
    return world.stored("repositories", "site").get("status", {}).get("origin")


async def delete(world: World, controller: Controller[Repository], **spec: Any) -> Any:
    world.kcp.edit("repositories", "site", {"spec": spec}, world.cluster)
    world.kcp.remove("repositories", "site", world.cluster)
    return await world.reconcile(controller, "site")


async def both_claim(a: World, b: World, controller: Controller[Repository], **spec_of_b: Any) -> None:
    """B's create gets a 502 and its claim stays; A creates the repository with CreateOnly; then B looks again."""
    b.add(repository_object(**spec_of_b))
    b.host.raise_next("create_repository", HostUnavailable("502"))
    await b.reconcile(controller, "site")
    a.add(repository_object(adoptionPolicy="CreateOnly"))
    assert isinstance(await a.reconcile(controller, "site"), Ready)
    await b.reconcile(controller, "site")


async def test_the_claim_of_one_workspace_does_not_make_the_repository_of_another_its_own(
    a: World, b: World, controller: Controller[Repository]
) -> None:
    await both_claim(a, b, controller)
    assert (origin(a), origin(b)) == ("Created", "Adopted")

    assert isinstance(await delete(b, controller), Released)
    assert len(a.host.repositories) == 1

    assert isinstance(await delete(a, controller), Released)
    assert a.host.repositories == {}
    assert not [key for key in a.owners.stored if key.startswith("repositories.")], "the record goes with the object"


async def test_who_comes_second_and_wants_none_but_its_own_is_told_that_the_name_is_taken(
    a: World, b: World, controller: Controller[Repository]
) -> None:
    await both_claim(a, b, controller, adoptionPolicy="CreateOnly")
    assert conditions(b.stored("repositories", "site"))["Stalled"] == ("True", "NameTaken")
    assert origin(b) is None

    assert isinstance(await delete(b, controller), Released)
    assert len(a.host.repositories) == 1


async def test_the_answer_of_the_host_outweighs_what_another_concluded_from_its_claim(
    a: World, b: World, controller: Controller[Repository]
) -> None:
    """B takes what A's request made for its own, before A's answer is in."""
    b.add(repository_object())
    b.host.raise_next("create_repository", HostUnavailable("502"))
    await b.reconcile(controller, "site")
    a.add(repository_object(adoptionPolicy="CreateOnly"))
    create = a.host.create_repository

    async def slow(request: Any) -> HostRepository:
        seen = await create(request)
        await b.reconcile(controller, "site")
        return seen

    a.host.create_repository = slow  # type: ignore[method-assign]
    assert isinstance(await a.reconcile(controller, "site"), Ready)
    assert (origin(a), origin(b)) == ("Created", "Created")
    await b.reconcile(controller, "site")
    assert (origin(a), origin(b)) == ("Created", "Adopted")


async def test_an_annotation_that_a_tenant_writes_makes_nothing_ours(
    b: World, controller: Controller[Repository]
) -> None:
    b.host.add_repository("octocat", "site")
    b.add(repository_object(metadata=held(annotations={CLAIM_ANNOTATION: ago(5)})))
    await b.reconcile(controller, "site")
    assert origin(b) == "Adopted"
    assert isinstance(await delete(b, controller), Released)
    assert len(b.host.repositories) == 1


async def test_what_was_made_before_a_crash_is_still_ours(a: World, controller: Controller[Repository]) -> None:
    """The process ends after the host made it, and before it is recorded anywhere."""
    a.add(repository_object(adoptionPolicy="CreateOnly"))
    a.owners.before = lambda method, key: _die() if method == "create" else None
    with pytest.raises(_Killed):
        await a.reconcile(controller, "site")
    a.owners.before = lambda method, key: None

    assert isinstance(await a.reconcile(controller, "site"), Ready)
    assert origin(a) == "Created"
    assert made(a) == ["create_repository"]
    assert isinstance(await delete(a, controller), Released)
    assert a.host.repositories == {}


async def test_what_was_made_before_a_crash_is_still_ours_for_a_copy_from_before_it(
    a: World, controller: Controller[Repository]
) -> None:
    """The copy lacks our finalizer, so no claim is looked up for it. The first write finds out that it is stale."""
    before = a.add(repository_object())
    a.owners.before = lambda method, key: _die() if method == "create" else None
    with pytest.raises(_Killed):
        await a.reconcile(controller, "site")
    a.owners.before = lambda method, key: None

    assert isinstance(await a.reconcile(controller, "site", a.start(controller, "site", copy=before)), Ready)
    assert (origin(a), made(a)) == ("Created", ["create_repository"])


async def test_while_nats_does_not_answer_created_is_not_reported(a: World, controller: Controller[Repository]) -> None:
    a.add(repository_object())
    a.owners.down = True
    result = await a.reconcile(controller, "site")
    assert isinstance(result, Retryable)
    assert result.reason == "OwnershipUnknown"
    assert origin(a) is None
    a.owners.down = False
    assert isinstance(await a.reconcile(controller, "site"), Ready)
    assert (origin(a), made(a)) == ("Created", ["create_repository"])


@pytest.mark.parametrize(
    "failure", [KcpError(503, "ServiceUnavailable", ""), asyncio.CancelledError()], ids=["503", "stop"]
)
async def test_a_claim_for_what_was_never_sent_makes_nothing_ours(
    a: World, controller: Controller[Repository], failure: BaseException
) -> None:
    """Somebody makes the repository by hand a moment later."""
    a.add(repository_object(metadata={"finalizers": [controller.kind.finalizer]}))

    def fail() -> None:
        raise failure

    # The live read before the create.
    a.kcp.once(lambda request: request.resource == "repositories" and request.name == "site", fail)
    with pytest.raises(type(failure)):
        await a.reconcile(controller, "site")
    assert made(a) == []
    a.host.add_repository("octocat", "site", created_at=moment_ago(0))
    await a.reconcile(controller, "site")
    assert origin(a) == "Adopted"


async def test_without_its_claim_what_was_made_counts_as_found(a: World, controller: Controller[Repository]) -> None:
    a.host.add_repository("octocat", "site")
    a.add(repository_object())
    await a.claim("repositories", "site", moment_ago(5))
    a.claims.lose()
    await a.reconcile(controller, "site")
    assert origin(a) == "Adopted"


@pytest.mark.parametrize("claimed", [True, False])
async def test_another_object_of_the_workspace_that_may_be_making_it_is_waited_for(
    a: World, controller: Controller[Repository], claimed: bool
) -> None:
    a.host.add_repository("octocat", "site")
    a.add(validated_connection("second"))
    a.add(repository_object("other", metadata=held(), name="site", connectionRef="second"), repository_object())
    if claimed:
        await a.claim("repositories", "other", moment_ago(5))
    result = await a.reconcile(controller, "site")
    if claimed:
        assert isinstance(result, Retryable)
        assert result.reason == "DuplicateRepository"
    else:
        assert isinstance(result, Ready)


# ---- two objects of one workspace with a create claim


async def crash_in_the_create(world: World, controller: Controller[Repository], name: str, *, at: str) -> None:
    """The process ends after the host made it. ``at``: before the record (``owners``), or after it (``status``)."""
    if at == "owners":
        world.owners.before = lambda method, key: _die() if method == "create" else None
    else:
        world.kcp.once(lambda request: request.subresource == "status" and bool(world.host.repositories), _die)
    with pytest.raises(_Killed):
        await world.reconcile(controller, name)
    world.owners.before = lambda method, key: None


async def two_claim_it(a: World, controller: Controller[Repository], *, at: str = "owners") -> None:
    """The create of ``x`` gets a 502 and its claim stays; ``y``, of another Connection, makes the repository and crashes."""
    a.add(validated_connection("second"))
    a.add(repository_object("x", name="site"), repository_object("y", name="site", connectionRef="second"))
    a.host.raise_next("create_repository", HostUnavailable("502"))
    await a.reconcile(controller, "x")
    await crash_in_the_create(a, controller, "y", at=at)
    assert len(a.host.repositories) == 1


def after_the_window(world: World) -> None:
    """No request that was made under the claims is under way any more."""
    world.now = lambda: datetime.now(UTC) + timedelta(minutes=2)


def is_duplicate(result: Any, kind: type[Exception]) -> bool:
    return isinstance(result, kind) and result.reason == "DuplicateRepository"


async def test_claims_for_repositories_of_one_name_and_two_owners_do_not_block_each_other(
    a: World, controller: Controller[Repository]
) -> None:
    for owner in ("octocat", "acme"):
        a.add(repository_object(owner, name="site", owner=owner, adoptionPolicy="CreateOnly"))
        await crash_in_the_create(a, controller, owner, at="owners")
    for owner in ("octocat", "acme"):
        assert isinstance(await a.reconcile(controller, owner), Ready)
        assert a.stored("repositories", owner)["status"]["origin"] == "Created"


async def test_of_two_whose_claims_fit_the_first_to_record_it_has_it(
    a: World, controller: Controller[Repository]
) -> None:
    await two_claim_it(a, controller)
    for name in ("x", "y"):
        assert is_duplicate(await a.reconcile(controller, name), Retryable), "the other one may still get an answer"
    after_the_window(a)
    assert isinstance(await a.reconcile(controller, "x"), Ready)
    assert is_duplicate(await a.reconcile(controller, "y"), Terminal)
    assert a.stored("repositories", "x")["status"]["origin"] == "Created"


async def test_who_comes_second_waits_until_the_maker_is_bound(a: World, controller: Controller[Repository]) -> None:
    await two_claim_it(a, controller, at="status")
    assert is_duplicate(await a.reconcile(controller, "x"), Retryable)
    assert isinstance(await a.reconcile(controller, "y"), Ready)
    assert is_duplicate(await a.reconcile(controller, "x"), Terminal)


async def test_an_object_whose_request_made_it_is_not_bound_beside_another_whose_claim_fits(
    a: World, controller: Controller[Repository]
) -> None:
    """``x`` finds what the request of ``y`` made, before the host's answer to ``y`` is in."""
    a.add(validated_connection("second"))
    a.add(repository_object("x", name="site"), repository_object("y", name="site", connectionRef="second"))
    a.host.raise_next("create_repository", HostUnavailable("502"))
    await a.reconcile(controller, "x")
    create = a.host.create_repository

    async def slow(request: Any) -> HostRepository:
        seen = await create(request)
        assert is_duplicate(await a.reconcile(controller, "x"), Retryable)
        return seen

    a.host.create_repository = slow  # type: ignore[method-assign]
    assert isinstance(await a.reconcile(controller, "y"), Ready)
    assert is_duplicate(await a.reconcile(controller, "x"), Terminal)


async def test_two_whose_claims_fit_what_another_workspace_made_do_not_wait_for_each_other(
    a: World, b: World, controller: Controller[Repository]
) -> None:
    a.add(validated_connection("second"))
    a.add(repository_object("x", name="site"), repository_object("y", name="site", connectionRef="second"))
    for name in ("x", "y"):
        a.host.raise_next("create_repository", HostUnavailable("502"))
        await a.reconcile(controller, name)
    b.add(repository_object())
    assert isinstance(await b.reconcile(controller, "site"), Ready)
    assert isinstance(await a.reconcile(controller, "x"), Ready)
    assert a.stored("repositories", "x")["status"]["origin"] == "Adopted"
    assert is_duplicate(await a.reconcile(controller, "y"), Terminal)


async def test_what_another_object_may_have_made_is_not_deleted(a: World, controller: Controller[Repository]) -> None:
    await two_claim_it(a, controller)
    a.kcp.remove("repositories", "x")
    assert is_duplicate(await a.reconcile(controller, "x"), Retryable)
    after_the_window(a)
    assert is_duplicate(await a.reconcile(controller, "x"), Retryable)
    assert isinstance(await a.reconcile(controller, "y"), Ready)
    assert isinstance(await a.reconcile(controller, "x"), Released)
    assert len(a.host.repositories) == 1
    assert a.stored("repositories", "y")["status"]["origin"] == "Created"


async def test_two_that_may_have_made_it_and_are_both_deleted_do_not_wait_for_each_other(
    a: World, controller: Controller[Repository]
) -> None:
    await two_claim_it(a, controller)
    for name in ("x", "y"):
        a.kcp.remove("repositories", name)
    assert isinstance(await a.reconcile(controller, "x"), Released)
    assert a.host.repositories == {}


@pytest.mark.parametrize(
    ("seconds", "key", "waits"),
    [
        (5, "git.example/octocat/site", True),
        (5, "git.example/acme/site", False),
        (200, "git.example/octocat/site", False),
        # As earlier versions stored it.
        (5, None, True),
        (200, None, False),
    ],
)
async def test_a_claim_blocks_an_adoption_only_if_what_is_found_may_have_been_made_under_it(
    a: World, controller: Controller[Repository], seconds: float, key: str | None, waits: bool
) -> None:
    a.host.add_repository("octocat", "site")
    a.add(validated_connection("second"))
    a.add(repository_object("other", name="site", connectionRef="second"), repository_object())
    await a.claim("repositories", "other", moment_ago(seconds), key)
    result = await a.reconcile(controller, "site")
    assert is_duplicate(result, Retryable) if waits else isinstance(result, Ready)


@pytest.mark.parametrize("looked_at", [False, True])
async def test_a_claim_for_a_repository_of_another_owner_makes_nothing_ours(
    a: World, controller: Controller[Repository], looked_at: bool
) -> None:
    """The object named another owner when its create got a 502."""
    a.host.add_repository("octocat", "site")
    a.add(repository_object())
    await a.claim("repositories", "site", moment_ago(5), "git.example/acme/site")
    if looked_at:
        await a.reconcile(controller, "site")
        assert origin(a) == "Adopted"
    assert isinstance(await delete(a, controller), Released)
    assert len(a.host.repositories) == 1


# ---- a tenant writes status


def forge(a: World, b: World) -> None:
    """B's tenant writes that its object made A's repository."""
    status = a.stored("repositories", "site")["status"]
    b.add(repository_object(metadata=held(), status=status))


@pytest.mark.parametrize("looked_at", [False, True])
async def test_a_status_that_a_tenant_forges_deletes_nothing(
    a: World, b: World, controller: Controller[Repository], looked_at: bool
) -> None:
    a.add(repository_object())
    await a.reconcile(controller, "site")
    forge(a, b)
    if looked_at:
        await b.reconcile(controller, "site")
        assert origin(b) == "Adopted"

    assert isinstance(await delete(b, controller), Released)
    assert len(a.host.repositories) == 1
    assert isinstance(await delete(a, controller), Released)
    assert a.host.repositories == {}


async def test_a_status_without_origin_is_no_way_around_the_record(
    a: World, b: World, controller: Controller[Repository]
) -> None:
    """It counts as one of the Go provider's, which worked out by times who made it."""
    a.add(repository_object())
    await a.reconcile(controller, "site")
    status = {k: v for k, v in a.stored("repositories", "site")["status"].items() if k != "origin"}
    b.add(repository_object(metadata=held(creationTimestamp="2020-01-01T00:00:00Z"), status=status))
    assert isinstance(await delete(b, controller), Released)
    assert len(a.host.repositories) == 1


async def test_a_status_that_names_an_id_in_advance_takes_nothing_from_whom_the_host_gives_it(
    a: World, b: World, controller: Controller[Repository]
) -> None:
    status = {"repoID": "1001", "host": "git.example", "owner": "octocat", "origin": "Created"}
    b.add(repository_object(metadata=held(), status=status))
    b.host.raise_next("delete_repository", HostUnavailable("502"))
    assert isinstance(await delete(b, controller), Retryable)
    assert [key for key in a.owners.stored if key.startswith("repositories.")], "it is recorded by then"

    a.add(repository_object(adoptionPolicy="CreateOnly"))
    assert isinstance(await a.reconcile(controller, "site"), Ready)
    assert a.stored("repositories", "site")["status"]["repoID"] == "1001"
    assert origin(a) == "Created"
    assert isinstance(await b.reconcile(controller, "site"), Released)
    assert list(a.host.repositories) == ["1001"]


async def test_the_policy_delete_deletes_what_the_credential_may_whoever_made_it(
    a: World, b: World, controller: Controller[Repository]
) -> None:
    await both_claim(a, b, controller)
    assert isinstance(await delete(b, controller, deletionPolicy="Delete"), Released)
    assert a.host.repositories == {}


async def test_a_deletion_reads_the_record_and_writes_none(a: World, controller: Controller[Repository]) -> None:
    a.add(repository_object())
    await a.reconcile(controller, "site")
    a.owners.calls.clear()
    await delete(a, controller)
    assert [method for method, _ in a.owners.calls][:1] == ["get"]
    assert {method for method, _ in a.owners.calls} == {"get", "remove"}


# ---- NATS lost its data


async def test_after_nats_lost_its_data_the_maker_still_deletes(a: World, controller: Controller[Repository]) -> None:
    a.add(repository_object())
    await a.reconcile(controller, "site")
    a.owners.lose()
    a.claims.lose()
    assert isinstance(await delete(a, controller), Released)
    assert a.host.repositories == {}


async def test_where_two_claim_one_repository_after_the_loss_neither_deletes_it(
    a: World, b: World, controller: Controller[Repository]
) -> None:
    a.add(repository_object())
    await a.reconcile(controller, "site")
    forge(a, b)
    a.owners.lose()
    for world in (b, a):
        result = await delete(world, controller)
        assert isinstance(result, Terminal)
        assert result.reason == "OwnershipDisputed"
        said = message(world.stored("repositories", "site"))
        assert "deletionPolicy to Delete" in said
        assert "credential" not in said, "it is not what is missing"
    assert len(a.host.repositories) == 1

    b.kcp.edit("repositories", "site", {"spec": {"deletionPolicy": "Orphan"}}, "c2")
    assert isinstance(await b.reconcile(controller, "site"), Released)
    assert len(a.host.repositories) == 1
    assert isinstance(await a.reconcile(controller, "site"), Released)
    assert a.host.repositories == {}, "one claimant is left, and it is the one whom nobody contradicts"


async def test_a_dispute_changes_nothing_for_objects_that_stay(
    a: World, b: World, controller: Controller[Repository]
) -> None:
    a.add(repository_object())
    await a.reconcile(controller, "site")
    forge(a, b)
    a.owners.lose()
    await delete(b, controller)
    assert isinstance(await a.reconcile(controller, "site"), Ready)
    assert origin(a) == "Created"


async def test_who_lets_go_of_a_repository_does_not_make_it_another_s(
    a: World, b: World, controller: Controller[Repository]
) -> None:
    a.add(repository_object())
    await a.reconcile(controller, "site")
    assert isinstance(await delete(a, controller, deletionPolicy="Orphan"), Released)
    b.add(repository_object())
    await b.reconcile(controller, "site")
    assert origin(b) == "Adopted"
    assert isinstance(await delete(b, controller), Released)
    assert len(a.host.repositories) == 1


async def test_a_settled_object_costs_one_read_of_its_record(a: World, controller: Controller[Repository]) -> None:
    a.add(repository_object())
    await a.reconcile(controller, "site")
    a.owners.calls.clear()
    a.claims.calls.clear()
    await a.reconcile(controller, "site")
    assert [method for method, _ in a.owners.calls] == ["get"]
    assert a.claims.calls == []


class _Killed(BaseException):
    """The process ends here."""


def _die() -> None:
    raise _Killed
