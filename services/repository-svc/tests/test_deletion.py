"""Repository: what a deletion does on the host, and what it takes for the finalizer to leave."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from codecommon.api.group import API_VERSION
from codecommon.api.kinds import DEPLOY_KEYS
from codecommon.api.repository import Repository
from codecommon.api.results import NotReady, Released, Retryable, Terminal
from codecommon.controller.reconciler import Controller
from codecommon.githost.protocol import CredentialRejected, HostRepository, HostUnavailable
from codecommon.kcp.client import JsonObject, KcpError
from codecommon.testing.builders import api_binding, deleting, repository_object, secret_object
from codecommon.testing.harness import World, conditions, message


@pytest.fixture
def site(world: World) -> HostRepository:
    """A repository on the host."""
    return world.host.add_repository("octocat", "site")


def going(site: HostRepository | None, origin: str | None = "Created", **spec: Any) -> JsonObject:
    """A Repository that a user deleted."""
    status = {"repoID": site.id, "host": "git.example", "owner": "octocat", "origin": origin} if site else {}
    return deleting(repository_object(status=status, **spec))


def deploy_key(*, held: bool = True, repository: str = "site", **spec: Any) -> JsonObject:
    return {
        "apiVersion": API_VERSION,
        "kind": "DeployKey",
        "metadata": {"name": "key", "finalizers": [DEPLOY_KEYS.finalizer] if held else ["somebody/else"]},
        "spec": {"repositoryRef": repository} | spec,
    }


def present(world: World) -> bool:
    return world.kcp.stored("repositories", "site") is not None


def a_host_call_fails_the_test(world: World) -> None:
    for method in ("find_repository", "get_repository", "delete_repository", "update_repository"):
        world.host.raise_next(method, AssertionError("the host was called"))


# ---- a user deletes the object


async def test_what_we_made_is_deleted_and_the_object_goes(
    world: World, controller: Controller[Repository], site: HostRepository
) -> None:
    world.add(api_binding(), going(site))

    assert isinstance(await world.reconcile(controller, "site"), Released)

    assert world.host.repositories == {}
    assert not present(world)


async def test_binding_secret_and_object_are_read_live_before_anything_is_deleted(
    world: World, controller: Controller[Repository], site: HostRepository
) -> None:
    world.add(api_binding(), going(site))

    await world.reconcile(controller, "site")

    reads = [r for r in world.kcp.requests if not r.writes and r.resource in ("apibindings", "secrets", "repositories")]
    assert [(r.resource, r.name) for r in reads] == [
        ("apibindings", None),
        ("secrets", "credential"),
        ("repositories", "site"),
    ]
    assert all("resourceVersion" not in r.params for r in reads)


async def test_what_we_adopted_stays_on_the_host(
    world: World, controller: Controller[Repository], site: HostRepository
) -> None:
    world.add(api_binding(), going(site, "Adopted"))
    a_host_call_fails_the_test(world)

    await world.reconcile(controller, "site")

    assert site.id in world.host.repositories
    assert not present(world)


async def test_archive_archives(world: World, controller: Controller[Repository], site: HostRepository) -> None:
    world.add(api_binding(), going(site, deletionPolicy="Archive"))
    await world.reconcile(controller, "site")
    assert world.host.repositories[site.id].seen.archived
    assert not present(world)


async def test_what_is_gone_from_the_host_already_does_not_hold_the_object(
    world: World, controller: Controller[Repository], site: HostRepository
) -> None:
    for name, policy in (("Delete", None), ("Archive", "Archive")):
        world.host.repositories.clear()
        world.add(api_binding(name.lower()), going(site, deletionPolicy=policy))
        await world.reconcile(controller, "site")
        assert not present(world), name


async def test_a_renamed_repository_is_deleted_by_its_id(
    world: World, controller: Controller[Repository], site: HostRepository
) -> None:
    world.host.rename(site.id, "renamed")
    other = world.host.add_repository("octocat", "site")
    world.add(api_binding(), going(site))

    await world.reconcile(controller, "site")

    assert list(world.host.repositories) == [other.id]


async def test_the_object_stays_while_the_host_fails(
    world: World, controller: Controller[Repository], site: HostRepository
) -> None:
    world.add(api_binding(), going(site))
    world.host.raise_next("delete_repository", HostUnavailable("502"))

    assert isinstance(await world.reconcile(controller, "site"), Retryable)
    assert conditions(world.stored("repositories", "site"))["Reconciling"] == ("True", "HostUnavailable")

    await world.reconcile(controller, "site")
    assert not present(world)


async def test_a_create_whose_answer_was_lost_is_cleaned_up(
    world: World, controller: Controller[Repository], site: HostRepository
) -> None:
    world.add(api_binding(), going(None))
    await world.claim("repositories", "site", site.created_at - timedelta(seconds=1))

    await world.reconcile(controller, "site")

    assert world.host.repositories == {}
    assert not present(world)


async def test_a_create_that_may_still_show_up_is_waited_for(world: World, controller: Controller[Repository]) -> None:
    world.add(api_binding(), going(None))
    await world.claim("repositories", "site", datetime.now(UTC))
    assert isinstance(await world.reconcile(controller, "site"), Retryable)
    assert present(world)


async def test_another_owner_than_the_pinned_one_deletes_nothing(
    world: World, controller: Controller[Repository], site: HostRepository
) -> None:
    world.kcp.edit("connections", "main", {"spec": {"owner": "acme"}})
    world.add(api_binding(), going(site))

    result = await world.reconcile(controller, "site")

    assert isinstance(result, Terminal)
    assert result.reason == "IdentityConflict"
    assert site.id in world.host.repositories
    assert present(world)


@pytest.mark.parametrize("moved", [True, False], ids=["connectionRef was moved", "nothing was edited"])
async def test_a_repository_whose_owner_was_renamed_is_deleted_by_its_id_and_that_of_the_old_names_new_owner_stays(
    world: World, controller: Controller[Repository], site: HostRepository, moved: bool
) -> None:
    world.host.rename(site.id, "site", owner="acme")
    other = world.host.add_repository("octocat", "site")
    if moved:
        world.kcp.edit("connections", "main", {"spec": {"owner": "acme"}})
    world.add(api_binding(), going(site))

    assert isinstance(await world.reconcile(controller, "site"), Released)

    assert list(world.host.repositories) == [other.id]
    assert not present(world)


# ---- the guard of a delete


async def test_an_object_that_was_made_anew_meanwhile_loses_nothing(
    world: World, controller: Controller[Repository], site: HostRepository
) -> None:
    world.add(api_binding(), going(site))
    ctx = world.start(controller, "site")
    world.kcp.edit("repositories", "site", {"metadata": {"finalizers": None}})
    world.add(repository_object())

    assert await world.reconcile(controller, "site", ctx) is None
    assert site.id in world.host.repositories


async def test_a_change_of_mind_just_before_the_delete_is_heeded(
    world: World, controller: Controller[Repository], site: HostRepository
) -> None:
    world.add(api_binding(), going(site))
    world.kcp.once(
        lambda request: (request.resource, request.method) == ("secrets", "GET"),
        lambda: world.kcp.edit("repositories", "site", {"spec": {"deletionPolicy": "Orphan"}}),
    )

    await world.reconcile(controller, "site")

    assert site.id in world.host.repositories
    assert not present(world)


# ---- the credential is gone


@pytest.mark.parametrize("lost", ["secret absent", "secret terminating", "key absent", "connection absent"])
async def test_without_its_credential_the_object_stays_and_says_how_to_release_it(
    world: World, controller: Controller[Repository], site: HostRepository, lost: str
) -> None:
    world.add(api_binding(), going(site))
    if lost == "secret absent":
        world.kcp.remove("secrets", "credential", namespace="default")
    elif lost == "secret terminating":
        world.kcp.edit("secrets", "credential", {"metadata": {"finalizers": ["a/b"]}}, namespace="default")
        world.kcp.remove("secrets", "credential", namespace="default")
    elif lost == "key absent":
        world.kcp.edit("secrets", "credential", {"data": None}, namespace="default")
    else:
        world.kcp.edit("connections", "main", {"metadata": {"finalizers": None}})
        world.kcp.remove("connections", "main")

    result = await world.reconcile(controller, "site")

    assert isinstance(result, NotReady)
    assert site.id in world.host.repositories
    assert conditions(world.stored("repositories", "site"))["Ready"] == ("False", "CredentialUnavailable")
    assert "restore the credential" in message(world.stored("repositories", "site"))
    assert "deletionPolicy to Orphan" in message(world.stored("repositories", "site"))


async def test_orphan_releases_an_object_whose_credential_is_gone(
    world: World, controller: Controller[Repository], site: HostRepository
) -> None:
    world.kcp.remove("secrets", "credential", namespace="default")
    world.add(api_binding(), going(site))
    await world.reconcile(controller, "site")

    world.kcp.edit("repositories", "site", {"spec": {"deletionPolicy": "Orphan"}})
    await world.reconcile(controller, "site")

    assert not present(world)
    assert site.id in world.host.repositories


async def test_nothing_was_made_so_no_credential_is_needed(world: World, controller: Controller[Repository]) -> None:
    world.kcp.remove("secrets", "credential", namespace="default")
    world.add(api_binding(), going(None))
    await world.reconcile(controller, "site")
    assert not present(world)


# ---- children


async def test_children_with_our_finalizer_hold_their_repository(
    world: World, controller: Controller[Repository], site: HostRepository
) -> None:
    world.add(api_binding(), deploy_key(), going(site))

    result = await world.reconcile(controller, "site")

    assert isinstance(result, NotReady)
    assert conditions(world.stored("repositories", "site"))["Ready"] == ("False", "DeletionBlocked")
    assert "DeployKey/key" in message(world.stored("repositories", "site"))
    assert site.id in world.host.repositories


OWNED_POLICY = [{"manager": "status"}, {"manager": "kubectl", "fieldsV1": {"f:spec": {"f:deletionPolicy": {}}}}]


async def test_a_repository_whose_policy_was_lost_is_not_deleted(
    world: World, controller: Controller[Repository], site: HostRepository
) -> None:
    """Schemas that do not have the field hide it, and ``Orphan`` would read like no policy."""
    lost = going(site)
    lost["metadata"]["managedFields"] = OWNED_POLICY
    world.add(api_binding(), secret_object(), lost)
    await world.reconcile(controller, "site")
    stored = world.stored("repositories", "site")
    assert conditions(stored)["Ready"] == ("False", "DeletionBlocked")
    assert message(stored).endswith("set it again")
    assert site.id in world.host.repositories
    world.kcp.edit("repositories", "site", {"spec": {"deletionPolicy": "Orphan"}})
    await world.reconcile(controller, "site")
    assert not present(world)
    assert site.id in world.host.repositories


async def test_deletions_go_on_while_the_export_serves_schemas_that_are_not_ours(
    world: World, controller: Controller[Repository], site: HostRepository
) -> None:
    world.kcp.foreign_schemas = True
    world.add(api_binding(), secret_object(), deploy_key(), going(site))
    await world.reconcile(controller, "site")
    assert conditions(world.stored("repositories", "site"))["Ready"] == ("False", "DeletionBlocked")
    world.kcp.edit("deploykeys", "key", {"metadata": {"finalizers": []}})
    await world.reconcile(controller, "site")
    assert world.host.repositories == {}
    assert not present(world)


@pytest.mark.parametrize(
    "child", [deploy_key(held=False), deploy_key(repository="other")], ids=["not ours", "of another"]
)
async def test_other_children_do_not(
    world: World, controller: Controller[Repository], site: HostRepository, child: JsonObject
) -> None:
    world.add(api_binding(), child, going(site))
    await world.reconcile(controller, "site")
    assert not present(world)


# ---- leaving is not deleting


async def test_a_workspace_that_leaves_keeps_its_repositories(
    world: World, controller: Controller[Repository], site: HostRepository
) -> None:
    world.add(api_binding(terminating=True), deploy_key(), going(site))
    world.kcp.remove("secrets", "credential", namespace="default")
    a_host_call_fails_the_test(world)

    await world.reconcile(controller, "site")

    assert not present(world)
    assert site.id in world.host.repositories


async def test_a_workspace_that_leaves_deletes_what_it_was_told_to(
    world: World, controller: Controller[Repository], site: HostRepository
) -> None:
    world.add(api_binding(terminating=True), going(site, deletionPolicy="Delete"))
    await world.reconcile(controller, "site")
    assert world.host.repositories == {}
    assert not present(world)


async def test_a_workspace_that_leaves_waits_for_the_children_that_say_delete(
    world: World, controller: Controller[Repository], site: HostRepository
) -> None:
    """Without the object of their repository they could not find it."""
    repository = going(site)
    repository["metadata"]["deletionTimestamp"] = datetime.now(UTC).isoformat()
    world.add(api_binding(terminating=True), deploy_key(deletionPolicy="Delete"), repository)

    result = await world.reconcile(controller, "site")

    assert isinstance(result, Retryable)
    assert conditions(world.stored("repositories", "site"))["Reconciling"] == ("True", "DeletionBlocked")

    world.kcp.edit("deploykeys", "key", {"metadata": {"finalizers": ["somebody/else"]}})
    await world.reconcile(controller, "site")
    assert not present(world)
    assert site.id in world.host.repositories


async def test_a_workspace_that_leaves_waits_for_a_child_no_longer_than_for_a_host(
    world: World, controller: Controller[Repository], site: HostRepository
) -> None:
    world.add(api_binding(terminating=True), deploy_key(deletionPolicy="Delete"), going(site))
    await world.reconcile(controller, "site")
    assert not present(world)


@pytest.mark.parametrize("failure", [None, Terminal("CredentialRejected", "401"), Terminal("Forbidden", "403")])
async def test_a_workspace_that_leaves_does_not_hang_on_a_credential_that_does_not_work(
    world: World, controller: Controller[Repository], site: HostRepository, failure: Terminal | None
) -> None:
    world.add(api_binding(terminating=True), going(site, deletionPolicy="Delete"))
    if failure is None:
        world.kcp.remove("secrets", "credential", namespace="default")
    else:
        world.host.raise_next("delete_repository", failure)

    await world.reconcile(controller, "site")

    assert not present(world)
    assert site.id in world.host.repositories


async def test_a_second_binding_of_the_api_means_that_the_workspace_stays(
    world: World, controller: Controller[Repository], site: HostRepository
) -> None:
    world.add(api_binding(terminating=True), api_binding("second"), going(site))
    await world.reconcile(controller, "site")
    assert world.host.repositories == {}


async def test_a_binding_of_another_api_says_nothing(
    world: World, controller: Controller[Repository], site: HostRepository
) -> None:
    world.add(api_binding(terminating=True), api_binding("tenancy", export="tenancy.kcp.io"), going(site))
    await world.reconcile(controller, "site")
    assert site.id in world.host.repositories
    assert not present(world)


async def test_no_binding_in_the_answer_is_not_an_answer(
    world: World, controller: Controller[Repository], site: HostRepository
) -> None:
    world.add(going(site))

    result = await world.reconcile(controller, "site")

    assert isinstance(result, Retryable)
    assert present(world)
    assert site.id in world.host.repositories


async def test_an_error_in_place_of_the_bindings_deletes_and_releases_nothing(
    world: World, controller: Controller[Repository], site: HostRepository
) -> None:
    world.add(api_binding(terminating=True), going(site))
    world.kcp.refused.add("apibindings")

    with pytest.raises(KcpError):
        await world.reconcile(controller, "site")

    assert present(world)
    assert site.id in world.host.repositories


async def test_a_refused_duplicate_that_goes_takes_nothing_of_the_others_with_it(
    world: World, controller: Controller[Repository], site: HostRepository
) -> None:
    """Its claim may fit the repository that the other object made in the same minute."""
    bound = {"repoID": site.id, "host": "git.example", "owner": "octocat", "origin": "Created"}
    world.add(api_binding(), repository_object("other", name="site", status=bound))
    world.add(going(None))
    await world.claim("repositories", "site", site.created_at - timedelta(seconds=1))

    await world.reconcile(controller, "site")

    assert not present(world)
    assert site.id in world.host.repositories


async def test_a_rejected_credential_that_was_replaced_meanwhile_still_deletes_the_repository(
    world: World, controller: Controller[Repository], site: HostRepository
) -> None:
    world.add(api_binding(), going(site))
    delete = world.host.delete_repository

    async def rejected_once(repo_id: str, *, public: bool = False) -> None:
        world.host.delete_repository = delete  # type: ignore[method-assign]
        world.kcp.edit(
            "secrets", "credential", {"data": secret_object(token="ghp_" + "c" * 36)["data"]}, namespace="default"
        )
        raise CredentialRejected("401")

    world.host.delete_repository = rejected_once  # type: ignore[method-assign]
    result = await world.reconcile(controller, "site")
    assert isinstance(result, Released)
    assert world.host.repositories == {}


async def test_a_rejected_credential_of_a_deleted_object_has_its_connection_validated_again(
    world: World, controller: Controller[Repository], site: HostRepository
) -> None:
    world.add(api_binding(), going(site))
    world.host.raise_next("delete_repository", *[CredentialRejected("401")] * 2)
    result = await world.reconcile(controller, "site")
    assert isinstance(result, Terminal)
    assert "restore the credential" in result.message
    assert [event.reason for event in world.bus.published] == ["revalidate"]
