"""Repository: state in, one pass, state out. The workspace and the host are in memory, everything between is real."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from codecommon.api.kinds import REPOSITORIES
from codecommon.api.reasons import Reason
from codecommon.api.repository import Repository
from codecommon.api.results import Interruption, Ready, Retryable, Terminal
from codecommon.controller.context import Superseded
from codecommon.controller.reconcile import reconcile
from codecommon.controller.reconciler import Controller
from codecommon.githost.protocol import AlreadyExists, CredentialRejected, HostRepository, HostUnavailable
from codecommon.kcp.client import JsonObject
from codecommon.messaging.events import Versions
from codecommon.testing.builders import (
    api_binding,
    connection_object,
    repository_object,
    validated_connection,
)
from codecommon.testing.harness import World, conditions
from codecommon.testing.repositories import SITE, ago, held, made, moment_ago


def drop_connection(world: World) -> None:
    world.kcp.edit("connections", "main", {"metadata": {"finalizers": None}})
    world.kcp.remove("connections", "main")


def a_host_call_fails_the_test(world: World) -> None:
    unexpected = AssertionError("the host was called")
    for method in ("find_repository", "get_repository", "get_owner_kind", "create_repository", "has_branch"):
        world.host.raise_next(method, unexpected)


# ---- creating


async def test_a_new_object_is_claimed_then_made_then_reported(
    world: World, controller: Controller[Repository]
) -> None:
    world.add(repository_object(description="hello", autoInit=True))
    made_before: list[list[str]] = []
    world.kcp.before.append(lambda request: made_before.append(made(world)) if request.writes else None)

    assert isinstance(await world.reconcile(controller, "site"), Ready)

    hold, status = world.kcp.writes("repositories")
    assert hold.subresource == ""
    assert hold.body["metadata"]["finalizers"] == [REPOSITORIES.finalizer]
    assert status.subresource == "status"
    assert made_before == [[], ["create_repository"]], "the finalizer is stored before the host is written to"
    assert [method for method, _ in world.claims.calls] == ["put"], "a claim costs one write and no read"
    assert [method for method, _ in world.owners.calls] == ["create"], "a record costs one write and no read"
    site = world.stored("repositories", "site")
    repo_id = next(iter(world.host.repositories))
    assert {name: site["status"][name] for name in ("repoID", "host", "owner", "origin", "observedGeneration")} == {
        "repoID": repo_id, "host": "git.example", "owner": "octocat", "origin": "Created", "observedGeneration": 1,
    }  # fmt: skip
    assert conditions(site) == {"Ready": ("True", "Reconciled")}


async def test_a_settled_object_costs_no_write(world: World, controller: Controller[Repository]) -> None:
    world.add(repository_object(description="hello", visibility="private"))
    await world.reconcile(controller, "site")
    world.kcp.requests.clear()
    world.host.writes.clear()

    await world.reconcile(controller, "site")

    assert world.kcp.writes("repositories") == []
    assert made(world) == []


async def test_a_repository_made_before_a_crash_is_ours_and_not_made_twice(
    world: World, controller: Controller[Repository]
) -> None:
    world.host.add_repository("octocat", "site")
    world.add(repository_object())
    await world.claim("repositories", "site", moment_ago(5))

    await world.reconcile(controller, "site")

    assert world.stored("repositories", "site")["status"]["origin"] == "Created"
    assert made(world) == []


async def test_an_answered_422_withdraws_the_claim(world: World, controller: Controller[Repository]) -> None:
    world.add(repository_object())
    world.host.raise_next("create_repository", AlreadyExists("octocat/site"))

    result = await world.reconcile(controller, "site")

    assert isinstance(result, Retryable)
    assert result.reason == "NameTaken"
    assert await world.claim_of("repositories", "site") is None


async def test_after_an_answered_422_what_shows_up_is_adopted(world: World, controller: Controller[Repository]) -> None:
    world.add(repository_object())
    world.host.raise_next("create_repository", AlreadyExists("octocat/site"))
    await world.reconcile(controller, "site")
    world.host.add_repository("octocat", "site")

    await world.reconcile(controller, "site")

    assert world.stored("repositories", "site")["status"]["origin"] == "Adopted"


async def test_nothing_is_created_for_an_organisation_that_cannot_be_seen(
    world: World, controller: Controller[Repository]
) -> None:
    world.add(repository_object(owner="hidden"))

    result = await world.reconcile(controller, "site")

    assert isinstance(result, Terminal)
    assert result.reason == "OwnerNotFound"
    assert made(world) == []
    assert conditions(world.stored("repositories", "site"))["Stalled"] == ("True", "OwnerNotFound")


async def test_a_repository_of_an_organisation_is_made_there(world: World, controller: Controller[Repository]) -> None:
    world.add(repository_object(owner="acme"))
    await world.reconcile(controller, "site")
    assert [r.seen.owner for r in world.host.repositories.values()] == ["acme"]


@pytest.mark.parametrize(
    ("failure", "may_have_been_made"),
    [(HostUnavailable("502"), True), (Retryable(Reason.RATE_LIMITED, "until 12:00"), False)],
)
async def test_a_failed_create_is_visible_and_keeps_its_claim_only_if_it_may_have_taken_effect(
    world: World, controller: Controller[Repository], failure: Retryable, may_have_been_made: bool
) -> None:
    world.add(repository_object())
    world.host.raise_next("create_repository", failure)

    await world.reconcile(controller, "site")

    site = world.stored("repositories", "site")
    assert conditions(site) == {"Ready": ("Unknown", failure.reason), "Reconciling": ("True", failure.reason)}
    assert (await world.claim_of("repositories", "site") is not None) is may_have_been_made


async def test_while_its_turn_has_not_come_nothing_is_claimed(world: World, controller: Controller[Repository]) -> None:
    world.add(repository_object())
    world.host.raise_next("await_turn", Retryable("RateLimited", "until 12:00"))

    await world.reconcile(controller, "site")

    assert made(world) == []
    assert [write.subresource for write in world.kcp.writes("repositories")] == ["status"]
    assert conditions(world.stored("repositories", "site"))["Reconciling"] == ("True", "RateLimited")


# ---- guards: what happens between the read and the write


async def test_a_stale_read_does_not_bring_a_deleted_repository_back(
    world: World, controller: Controller[Repository]
) -> None:
    world.add(repository_object())
    ctx = world.start(controller, "site")
    world.kcp.remove("repositories", "site")

    assert await world.reconcile(controller, "site", ctx) is None
    assert made(world) == []


async def test_an_object_made_anew_under_the_same_name_is_not_this_one(
    world: World, controller: Controller[Repository]
) -> None:
    world.add(repository_object())
    ctx = world.start(controller, "site")
    world.kcp.remove("repositories", "site")
    world.add(repository_object())

    assert await world.reconcile(controller, "site", ctx) is None
    assert made(world) == []


async def test_nothing_is_created_for_a_claimed_object_that_is_deleted_meanwhile(
    world: World, controller: Controller[Repository]
) -> None:
    world.add(repository_object(deletionPolicy="Orphan"))
    await world.claim("repositories", "site", moment_ago(5))
    world.kcp.once(
        lambda request: request.name == "site" and not request.writes,
        lambda: world.kcp.remove("repositories", "site"),
    )
    world.add(api_binding())

    await world.reconcile(controller, "site")

    assert made(world) == []
    assert world.kcp.stored("repositories", "site") is None


async def test_an_object_that_is_edited_before_its_claim_is_stored_is_made_as_edited(
    world: World, controller: Controller[Repository]
) -> None:
    world.add(repository_object(visibility="private"))
    world.kcp.once(
        lambda request: request.writes,
        lambda: world.kcp.edit("repositories", "site", {"spec": {"visibility": "public"}}),
    )

    await world.reconcile(controller, "site")

    assert [r.seen.visibility for r in world.host.repositories.values()] == ["public"]


async def test_a_claimed_object_that_is_edited_meanwhile_is_made_as_edited(
    world: World, controller: Controller[Repository]
) -> None:
    world.add(repository_object(visibility="private"))
    await world.claim("repositories", "site", moment_ago(5))
    world.kcp.once(
        lambda request: request.name == "site" and not request.writes,
        lambda: world.kcp.edit("repositories", "site", {"spec": {"visibility": "public"}}),
    )

    await world.reconcile(controller, "site")

    assert [r.seen.visibility for r in world.host.repositories.values()] == ["public"]
    assert world.stored("repositories", "site")["status"]["observedGeneration"] == 2


async def test_an_id_from_the_host_survives_a_conflict_in_status(
    world: World, controller: Controller[Repository]
) -> None:
    world.add(repository_object())
    world.kcp.once(
        lambda request: request.subresource == "status",
        lambda: world.kcp.edit("repositories", "site", {"metadata": {"labels": {"team": "web"}}}),
    )

    await world.reconcile(controller, "site")

    assert world.stored("repositories", "site")["status"]["repoID"] in world.host.repositories
    assert made(world) == ["create_repository"]


# ---- dependencies and identity


@pytest.mark.parametrize(
    ("connection", "reason"),
    [
        (None, "ConnectionNotFound"),
        (connection_object(), "ConnectionNotReady"),
        (validated_connection() | {"metadata": {"name": "main", "generation": 2}}, "ConnectionNotReady"),
        (validated_connection() | {"metadata": {"name": "main", "deletionTimestamp": ago(1)}}, "ConnectionNotReady"),
    ],
    ids=["missing", "never validated", "edited since", "on its way out"],
)
async def test_a_repository_waits_for_its_connection_without_a_call(
    world: World, controller: Controller[Repository], connection: JsonObject | None, reason: str
) -> None:
    drop_connection(world)
    if connection is not None:
        world.add(connection)
    world.add(repository_object())
    a_host_call_fails_the_test(world)

    result = await world.reconcile(controller, "site")

    assert isinstance(result, Interruption)
    assert conditions(world.stored("repositories", "site")) == {
        "Ready": ("False", reason),
        "Reconciling": ("True", reason),
    }


def renamed_account(world: World, *, name: str = "site", new: str = "acme") -> HostRepository:
    """A repository of ours whose owner took the name ``new``, and somebody else who took the old name and uses it."""
    site = world.host.add_repository("octocat", name)
    world.host.rename(site.id, name, owner=new)
    world.host.add_repository("octocat", name, description="somebody else's")
    return site


async def test_another_owner_that_does_not_have_the_repository_is_refused_and_nothing_is_looked_up_by_name(
    world: World, controller: Controller[Repository]
) -> None:
    site = world.host.add_repository("octocat", "site")
    world.add(validated_connection("other", owner="acme"))
    world.add(
        repository_object(
            connectionRef="other", status={**SITE, "repoID": site.id, "origin": "Created"}, metadata=held()
        )
    )
    unexpected = AssertionError("the host was asked by name")
    for method in ("find_repository", "get_owner_kind", "create_repository", "has_branch", "update_repository"):
        world.host.raise_next(method, unexpected)

    result = await world.reconcile(controller, "site")

    assert isinstance(result, Terminal)
    assert result.reason == "IdentityConflict"
    assert world.stored("repositories", "site")["status"]["owner"] == "octocat"


async def test_a_renamed_account_is_followed_by_moving_to_a_connection_of_its_new_name(
    world: World, controller: Controller[Repository]
) -> None:
    site = renamed_account(world)
    world.add(validated_connection("other", owner="Acme"))
    world.add(
        repository_object(
            connectionRef="other",
            status={**SITE, "repoID": site.id, "origin": "Created", "visibility": "private"},
            metadata=held(),
        )
    )

    assert isinstance(await world.reconcile(controller, "site"), Ready)

    status = world.stored("repositories", "site")["status"]
    assert (status["repoID"], status["owner"], status["origin"]) == (site.id, "Acme", "Created")
    assert made(world) == []

    # Back again is refused: the old name is somebody else's by now.
    world.kcp.edit("repositories", "site", {"spec": {"connectionRef": "main"}})
    refused = await world.reconcile(controller, "site")
    assert isinstance(refused, Terminal)
    assert refused.reason == "IdentityConflict"
    assert world.stored("repositories", "site")["status"]["repoID"] == site.id
    assert made(world) == []


async def test_the_younger_of_two_objects_for_one_repository_is_refused(
    world: World, controller: Controller[Repository]
) -> None:
    world.add(repository_object("elder", metadata={"creationTimestamp": "2026-01-01T00:00:00Z"}))
    world.add(repository_object("younger", metadata={"creationTimestamp": "2026-01-01T00:00:01Z"}))

    assert isinstance(await world.reconcile(controller, "younger"), Terminal)
    assert made(world) == []
    assert conditions(world.stored("repositories", "younger"))["Ready"] == ("False", "DuplicateRepository")
    assert isinstance(await world.reconcile(controller, "elder"), Ready)


async def test_two_objects_through_two_connections_do_not_share_a_repository(
    world: World, controller: Controller[Repository]
) -> None:
    world.add(validated_connection("second"))
    world.add(repository_object("first", metadata={"creationTimestamp": "2026-01-01T00:00:00Z"}))
    world.add(repository_object("other", connectionRef="second"))
    await world.reconcile(controller, "first")

    result = await world.reconcile(controller, "other")

    assert isinstance(result, Terminal)
    assert result.reason == "DuplicateRepository"


async def test_a_rejected_credential_that_was_replaced_is_used_once_more(
    world: World, controller: Controller[Repository]
) -> None:
    world.add(repository_object())
    world.host.raise_next("find_repository", CredentialRejected("401"))
    world.kcp.once(
        lambda request: request.resource == "secrets" and bool(world.opened),
        lambda: world.kcp.edit(
            "secrets", "credential", {"metadata": {"labels": {"rotated": "yes"}}}, namespace="default"
        ),
    )

    assert isinstance(await world.reconcile(controller, "site"), Ready)
    assert world.bus.published == []


@pytest.mark.parametrize("reason", [Reason.CREDENTIAL_REJECTED, Reason.APP_NOT_INSTALLED])
async def test_a_rejected_credential_asks_the_connection_to_validate_itself_once_a_minute(
    world: World, controller: Controller[Repository], reason: Reason
) -> None:
    world.add(repository_object())
    for _ in range(3):
        world.host.raise_next("find_repository", CredentialRejected("m", reason=reason))

    await world.reconcile(controller, "site")
    await world.reconcile(controller, "site")
    asked = [(event.resource, event.name, event.reason) for event in world.bus.published]
    assert asked == [("connections", "main", "revalidate")]
    assert conditions(world.stored("repositories", "site"))["Ready"] == ("False", reason)

    world.clock.advance(60)
    await world.reconcile(controller, "site")
    assert len(world.bus.published) == 2


async def test_news_from_before_the_workspace_gave_up_the_api_makes_nothing(
    world: World, controller: Controller[Repository]
) -> None:
    world.add(api_binding(terminating=True), repository_object())
    ctx = world.start(controller, "site", event_time=datetime.now(UTC) - timedelta(seconds=60))
    with pytest.raises(Superseded):
        await controller.reconciler.reconcile(ctx)
    assert made(world) == []


# ---- the copy that an event carries


def reads(world: World) -> list[str]:
    return [r.method for r in world.kcp.requests if r.resource == "repositories" and not r.writes]


async def test_a_new_object_is_made_from_the_copy_without_a_read(
    world: World, controller: Controller[Repository]
) -> None:
    raw = world.add(repository_object(description="hello", visibility="private"))
    ctx = world.start(controller, "site", versions=Versions(), copy=raw)
    assert isinstance((await reconcile(controller, ctx)).result, Ready)
    assert made(world) == ["create_repository"]
    # Nobody says here whether there are duplicates, so they are looked for.
    assert len(reads(world)) == 1


async def test_a_setting_is_not_sent_on_a_copy_that_was_overtaken(
    world: World, controller: Controller[Repository]
) -> None:
    world.add(repository_object(visibility="private"))
    await world.reconcile(controller, "site")
    copy = world.kcp.edit("repositories", "site", {"spec": {"visibility": "public"}})
    world.kcp.edit("repositories", "site", {"spec": {"visibility": "private"}})
    world.host.writes.clear()
    ctx = world.start(controller, "site", copy=copy)
    assert isinstance((await reconcile(controller, ctx)).result, Ready)
    assert world.host.writes == []
    assert world.stored("repositories", "site")["status"]["observedGeneration"] == 3
