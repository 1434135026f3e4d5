"""Repository: a setting that the host refuses holds up no other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from codecommon.api.reasons import Reason
from codecommon.api.repository import Repository
from codecommon.api.results import Interruption, Ready, Retryable, Terminal
from codecommon.controller.reconciler import Controller
from codecommon.githost.protocol import CredentialRejected, HostRepository, HostUnavailable, RepositoryChanges
from codecommon.testing.builders import repository_object
from codecommon.testing.git_host import StubBackend
from codecommon.testing.harness import World, conditions, message
from codecommon.testing.repositories import SITE, held

Refuse = Callable[..., None]

NO_POLICY = Terminal(Reason.VALIDATION_FAILED, "the description is not allowed here")
NO_RIGHT = Terminal(Reason.MISSING_PERMISSION, "members may not change the visibility")


@pytest.fixture
def refuse(world: World, monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """The host refuses every change of the named settings, with the errors given. ``None`` takes it back."""
    errors: dict[str, Interruption | None] = {}

    async def update_repository(repo_id: str, changes: RepositoryChanges) -> HostRepository:
        for name, error in errors.items():
            if error is not None and getattr(changes, name) is not None:
                raise error
        return await StubBackend.update_repository(world.host, repo_id, changes)

    monkeypatch.setattr(world.host, "update_repository", update_repository)
    return errors.update


def opened_by_somebody(world: World, **spec: str) -> str:
    """Ours, private by spec, which somebody made public; returns its id."""
    found = world.host.add_repository("octocat", "site", visibility="public", branches=["main", "trunk"])
    status = {**SITE, "repoID": found.id, "origin": "Created", "visibility": "private"}
    world.add(repository_object(visibility="private", **spec, metadata=held(), status=status))
    return found.id


def sent(world: World) -> list[RepositoryChanges]:
    return [arguments[1] for method, arguments in world.host.writes if method == "update_repository"]


async def test_a_refused_description_does_not_keep_a_repository_open(
    world: World, controller: Controller[Repository], refuse: Refuse
) -> None:
    repo_id = opened_by_somebody(world, description="refused")
    refuse(description=NO_POLICY)

    result = await world.reconcile(controller, "site")

    assert world.host.repositories[repo_id].seen.visibility == "private"
    assert isinstance(result, Terminal)
    site = world.stored("repositories", "site")
    assert conditions(site)["Stalled"] == ("True", "ValidationFailed")
    assert "description" in message(site)
    assert "not allowed here" in message(site)
    assert site["status"]["repoID"] == repo_id


async def test_what_narrows_access_is_sent_first_and_alone(world: World, controller: Controller[Repository]) -> None:
    opened_by_somebody(world, description="new", defaultBranch="trunk")

    assert isinstance(await world.reconcile(controller, "site"), Ready)

    assert sent(world)[0] == RepositoryChanges(visibility="private")


async def test_a_refused_visibility_does_not_hold_up_the_other_settings(
    world: World, controller: Controller[Repository], refuse: Refuse
) -> None:
    repo_id = opened_by_somebody(world, description="new", defaultBranch="trunk")
    refuse(visibility=NO_RIGHT)

    await world.reconcile(controller, "site")

    seen = world.host.repositories[repo_id].seen
    assert (seen.description, seen.default_branch) == ("new", "trunk")
    site = world.stored("repositories", "site")
    assert conditions(site)["Ready"] == ("False", "MissingPermission")
    assert "members may not" in message(site)


async def test_every_refused_setting_is_reported(
    world: World, controller: Controller[Repository], refuse: Refuse
) -> None:
    opened_by_somebody(world, description="refused")
    refuse(visibility=NO_RIGHT, description=NO_POLICY)

    await world.reconcile(controller, "site")

    said = message(world.stored("repositories", "site"))
    assert "visibility" in said
    assert "members may not" in said
    assert "description" in said
    assert "not allowed here" in said


async def test_a_failed_setting_is_tried_again_while_another_one_is_refused(
    world: World, controller: Controller[Repository], refuse: Refuse
) -> None:
    repo_id = opened_by_somebody(world, description="refused")
    refuse(visibility=HostUnavailable("502"), description=NO_POLICY)

    result = await world.reconcile(controller, "site")
    assert isinstance(result, HostUnavailable), "what was not applied comes back by itself"
    assert "not allowed here" in result.message

    refuse(visibility=None)
    assert isinstance(await world.reconcile(controller, "site"), Terminal)
    assert world.host.repositories[repo_id].seen.visibility == "private"


async def test_after_the_host_asked_for_a_pause_nothing_more_is_sent(
    world: World, controller: Controller[Repository], refuse: Refuse
) -> None:
    opened_by_somebody(world, description="new")
    pause = timedelta(minutes=1)
    refuse(visibility=Retryable(Reason.RATE_LIMITED, "until 12:00", after=pause))

    result = await world.reconcile(controller, "site")

    assert isinstance(result, Retryable)
    assert result.after == pause
    assert sent(world) == []


async def test_after_a_rejected_credential_nothing_more_is_sent(
    world: World, controller: Controller[Repository], refuse: Refuse
) -> None:
    opened_by_somebody(world, description="new")
    refuse(visibility=CredentialRejected("401"))

    assert isinstance(await world.reconcile(controller, "site"), CredentialRejected)
    assert sent(world) == []


async def test_an_edit_of_visibility_that_was_applied_is_on_record_though_another_setting_is_refused(
    world: World, controller: Controller[Repository], refuse: Refuse
) -> None:
    found = world.host.add_repository("octocat", "site")
    status = {**SITE, "repoID": found.id, "origin": "Created", "visibility": "private"}
    world.add(repository_object(visibility="public", description="refused", metadata=held(generation=2), status=status))
    refuse(description=NO_POLICY)

    await world.reconcile(controller, "site")
    assert world.host.repositories[found.id].seen.visibility == "public"
    assert world.stored("repositories", "site")["status"]["visibility"] == "public"


async def test_a_branch_that_cannot_be_looked_for_does_not_keep_a_repository_open(
    world: World, controller: Controller[Repository]
) -> None:
    repo_id = opened_by_somebody(world, defaultBranch="trunk", description="new")
    world.host.raise_next("has_branch", HostUnavailable("502"))

    assert isinstance(await world.reconcile(controller, "site"), HostUnavailable)

    seen = world.host.repositories[repo_id].seen
    assert (seen.visibility, seen.description) == ("private", "new")


async def test_a_missing_branch_is_reported_though_another_setting_is_refused(
    world: World, controller: Controller[Repository], refuse: Refuse
) -> None:
    opened_by_somebody(world, defaultBranch="absent", description="refused")
    refuse(description=NO_POLICY)

    await world.reconcile(controller, "site")

    assert conditions(world.stored("repositories", "site"))["DefaultBranchPending"] == ("True", "BranchMissing")
