"""Repository: what is adopted, kept or lost, and which settings are sent: state in, one pass, state out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from codecommon.api.repository import Repository
from codecommon.api.results import Ready, Retryable, Terminal
from codecommon.controller.reconciler import Controller
from codecommon.githost.protocol import HostUnavailable
from codecommon.testing.builders import repository_object
from codecommon.testing.clock import Clock
from codecommon.testing.harness import World, conditions
from codecommon.testing.repositories import SITE, ago, held, made, moment_ago

# ---- adopting, keeping, losing


async def test_adopting_applies_what_spec_says_but_the_visibility_and_is_on_record(
    world: World, controller: Controller[Repository]
) -> None:
    found = world.host.add_repository("octocat", "site", visibility="public", description="theirs")
    world.add(repository_object(visibility="private", description="declared"))

    await world.reconcile(controller, "site")

    site = world.stored("repositories", "site")
    assert made(world) == ["update_repository"]
    now = world.host.repositories[found.id].seen
    assert (now.visibility, now.description) == ("public", "declared")
    assert (site["status"]["origin"], site["status"]["repoID"]) == ("Adopted", found.id)
    assert await world.claim_of("repositories", "site") is None
    assert conditions(site) == {"Ready": ("True", "Reconciled"), "SettingsDiffer": ("True", "LeftAsFound")}


async def test_adopting_a_repository_of_which_nothing_else_is_declared_sends_nothing(
    world: World, controller: Controller[Repository]
) -> None:
    world.host.add_repository("octocat", "site", visibility="public", description="theirs")
    world.add(repository_object(visibility="private"))
    await world.reconcile(controller, "site")
    assert made(world) == []


async def test_a_repository_renamed_on_the_host_is_followed_by_its_id(
    world: World, controller: Controller[Repository]
) -> None:
    world.add(repository_object())
    await world.reconcile(controller, "site")
    repo_id = world.stored("repositories", "site")["status"]["repoID"]
    world.host.rename(repo_id, "renamed")
    world.host.repositories[repo_id].seen = replace(
        world.host.repositories[repo_id].seen, html_url="https://git.example/octocat/renamed"
    )

    await world.reconcile(controller, "site")

    assert world.stored("repositories", "site")["status"]["htmlURL"] == "https://git.example/octocat/renamed"
    assert made(world) == ["create_repository"]


def is_due(world: World, controller: Controller[Repository]) -> bool:
    return controller.is_due(world.start(controller, "site").object, world.now())


def missing(world: World, seconds: float | None, *, owner: str = "octocat", **spec: str) -> None:
    """Ours, bound to an id that the host does not show; ``seconds``: for how long, as status says."""
    status: dict[str, str | int] = {**SITE, "owner": owner, "repoID": "7", "origin": "Created"}
    if seconds is not None:
        status["missingSince"] = ago(seconds)
    world.add(repository_object(**spec, metadata=held(), status=status))


async def test_ours_is_reported_and_not_made_again_when_it_is_missing(
    world: World, controller: Controller[Repository]
) -> None:
    missing(world, 900)

    assert isinstance(await world.reconcile(controller, "site"), Terminal)

    assert made(world) == []
    site = world.stored("repositories", "site")
    assert site["status"]["repoID"] == "7"
    assert conditions(site)["Ready"] == ("False", "HostObjectMissing")


async def test_ours_is_made_again_when_spec_says_so(world: World, controller: Controller[Repository]) -> None:
    missing(world, 900, missingPolicy="Recreate")

    assert isinstance(await world.reconcile(controller, "site"), Ready)

    site = world.stored("repositories", "site")
    assert site["status"]["repoID"] in world.host.repositories
    claim = await world.claim_of("repositories", "site")
    assert claim is not None
    assert claim.at > moment_ago(60)
    assert "missingSince" not in site["status"]


async def test_ours_is_not_made_again_when_its_owner_cannot_be_seen(
    world: World, controller: Controller[Repository]
) -> None:
    missing(world, 900, owner="hidden", missingPolicy="Recreate")
    world.kcp.edit("connections", "main", {"spec": {"owner": "hidden"}, "status": {"observedGeneration": 2}})

    result = await world.reconcile(controller, "site")

    assert isinstance(result, Terminal)
    assert result.reason == "HostObjectMissing"
    assert made(world) == []


async def test_a_missing_one_is_looked_at_again_until_it_is_reported_and_kept_once_it_is_seen(
    world: World, controller: Controller[Repository]
) -> None:
    """No process remembers since when it is missing: each pass could be another one's."""
    clock = Clock(datetime.now(UTC))
    world.now = clock.now
    world.add(repository_object())
    await world.reconcile(controller, "site")
    assert not is_due(world, controller)
    repo_id = world.stored("repositories", "site")["status"]["repoID"]
    hidden = world.host.repositories.pop(repo_id)

    for _ in range(2):
        result = await world.reconcile(controller, "site")
        assert isinstance(result, Retryable)
        assert result.reason == "HostNotYetVisible"
        assert result.after is None, "the delay grows from a second to minutes"
        assert is_due(world, controller), "also where the resync brought it: it is looked at again before its next turn"
        clock.advance(300)
    assert isinstance(await world.reconcile(controller, "site"), Terminal)
    assert not is_due(world, controller), "from now on the resync looks"
    assert "missingSince" in world.stored("repositories", "site")["status"]

    world.host.repositories[repo_id] = hidden
    assert isinstance(await world.reconcile(controller, "site"), Ready)
    site = world.stored("repositories", "site")
    assert site["status"]["repoID"] == repo_id
    assert "missingSince" not in site["status"]
    assert conditions(site) == {"Ready": ("True", "Reconciled")}
    assert made(world) == ["create_repository"]


async def test_one_404_by_id_and_one_by_an_old_name_make_nothing(
    world: World, controller: Controller[Repository]
) -> None:
    world.add(repository_object(metadata={"annotations": {}}))
    await world.reconcile(controller, "site")
    site = world.stored("repositories", "site")
    world.claims.lose()
    world.host.rename(site["status"]["repoID"], "renamed")
    world.host.redirects.clear()
    renamed = world.host.repositories.pop(site["status"]["repoID"])
    await world.reconcile(controller, "site")
    world.host.repositories[renamed.seen.id] = renamed

    assert isinstance(await world.reconcile(controller, "site"), Ready)
    assert world.stored("repositories", "site")["status"]["repoID"] == renamed.seen.id
    assert made(world) == ["create_repository"]


async def test_one_that_is_seen_by_its_name_is_not_missing(
    world: World, controller: Controller[Repository], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add(repository_object())
    await world.reconcile(controller, "site")

    async def not_by_id(repo_id: str) -> None:
        return None

    monkeypatch.setattr(world.host, "get_repository", not_by_id)
    assert isinstance(await world.reconcile(controller, "site"), Ready)


async def test_one_that_was_made_again_before_a_crash_is_ours(world: World, controller: Controller[Repository]) -> None:
    missing(world, 900, missingPolicy="Recreate")
    await world.claim("repositories", "site", moment_ago(5))
    again = world.host.add_repository("octocat", "site")

    assert isinstance(await world.reconcile(controller, "site"), Ready)

    site = world.stored("repositories", "site")
    assert (site["status"]["repoID"], site["status"]["origin"]) == (again.id, "Created")
    assert made(world) == []


async def test_another_repository_under_the_name_of_ours_is_not_taken(
    world: World, controller: Controller[Repository]
) -> None:
    status = {**SITE, "repoID": "7", "origin": "Created", "visibility": "private", "missingSince": ago(900)}
    world.host.add_repository("octocat", "site", visibility="public")
    world.add(repository_object(visibility="private", description="ours", metadata=held(), status=status))
    await world.claim("repositories", "site", moment_ago(900))

    await world.reconcile(controller, "site")

    assert made(world) == []
    site = world.stored("repositories", "site")
    assert (site["status"]["origin"], site["status"]["repoID"]) == ("Created", "7")
    assert conditions(site)["Ready"] == ("False", "HostObjectMissing")


# ---- settings


async def test_a_branch_that_does_not_exist_yet_is_pending_and_does_not_keep_it_from_ready(
    world: World, controller: Controller[Repository]
) -> None:
    world.add(repository_object(defaultBranch="trunk", autoInit=True))
    await world.reconcile(controller, "site")
    assert conditions(world.stored("repositories", "site")) == {
        "Ready": ("True", "Reconciled"),
        "DefaultBranchPending": ("True", "BranchMissing"),
    }

    repository = next(iter(world.host.repositories.values()))
    repository.branches.add("trunk")
    await world.reconcile(controller, "site")
    assert repository.seen.default_branch == "trunk"
    assert conditions(world.stored("repositories", "site")) == {"Ready": ("True", "Reconciled")}


async def test_taking_over_writes_nothing_until_the_object_is_edited(
    world: World, controller: Controller[Repository]
) -> None:
    found = world.host.add_repository("octocat", "site", description="as found")
    status = {"repoID": found.id, "htmlURL": found.html_url, "observedGeneration": 1}
    world.add(repository_object(description="wanted", visibility="public", metadata=held(), status=status))
    for _ in range(2):
        await world.reconcile(controller, "site")
    assert made(world) == []
    assert conditions(world.stored("repositories", "site"))["SettingsDiffer"] == ("True", "LeftAsFound")

    world.kcp.edit("repositories", "site", {"spec": {"description": "edited"}})
    await world.reconcile(controller, "site")
    repository = world.host.repositories[found.id].seen
    assert (repository.description, repository.visibility) == ("edited", "private")


async def test_taking_over_while_the_host_fails_does_not_turn_an_old_wish_into_an_edit(
    world: World, controller: Controller[Repository]
) -> None:
    found = world.host.add_repository("octocat", "site")
    status = {"repoID": found.id, "htmlURL": found.html_url, "observedGeneration": 1}
    world.add(repository_object(description="edited", visibility="public", metadata=held(generation=2), status=status))
    world.host.raise_next("update_repository", HostUnavailable("502"))

    for _ in range(3):
        await world.reconcile(controller, "site")

    assert world.host.repositories[found.id].seen.visibility == "private"


async def test_an_edit_of_visibility_is_not_forgotten_when_the_host_fails(
    world: World, controller: Controller[Repository]
) -> None:
    world.add(repository_object(visibility="private"))
    await world.reconcile(controller, "site")
    world.kcp.edit("repositories", "site", {"spec": {"visibility": "public"}})
    world.host.raise_next("update_repository", HostUnavailable("502"))

    await world.reconcile(controller, "site")
    assert conditions(world.stored("repositories", "site"))["Ready"] == ("Unknown", "HostUnavailable")
    await world.reconcile(controller, "site")

    assert [r.seen.visibility for r in world.host.repositories.values()] == ["public"]


async def test_an_id_is_kept_when_the_settings_that_follow_fail(
    world: World, controller: Controller[Repository]
) -> None:
    world.add(repository_object(defaultBranch="trunk"))
    world.host.raise_next("has_branch", HostUnavailable("502"))

    await world.reconcile(controller, "site")

    assert world.stored("repositories", "site")["status"]["repoID"] in world.host.repositories
    assert world.stored("repositories", "site")["status"]["origin"] == "Created"


async def test_an_archived_repository_is_reported_and_not_written_to(
    world: World, controller: Controller[Repository]
) -> None:
    world.host.add_repository("octocat", "site", archived=True)
    world.add(repository_object(description="wanted"))

    await world.reconcile(controller, "site")

    assert made(world) == []
    assert conditions(world.stored("repositories", "site"))["Archived"] == ("True", "ArchivedOnHost")
    assert conditions(world.stored("repositories", "site"))["Ready"] == ("True", "Reconciled")


async def test_a_request_to_reconcile_is_echoed(world: World, controller: Controller[Repository]) -> None:
    world.add(repository_object(metadata={"annotations": {"code.kedge.faros.sh/reconcile-requested-at": "now"}}))
    await world.reconcile(controller, "site")
    assert world.stored("repositories", "site")["status"]["lastHandledReconcileAt"] == "now"
