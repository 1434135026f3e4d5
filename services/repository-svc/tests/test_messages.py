"""Messages of conditions are for people: no decision depends on their words."""

from __future__ import annotations

import pytest

from codecommon.api.repository import Repository
from codecommon.api.results import Ready
from codecommon.controller.reconciler import Controller
from codecommon.testing.builders import api_binding, repository_object
from codecommon.testing.harness import World, conditions
from codecommon.testing.repositories import made


@pytest.fixture
async def differing(world: World, controller: Controller[Repository]) -> World:
    """``site`` was adopted: private on the host, public in spec. It is deleted with its object."""
    world.host.add_repository("octocat", "site", visibility="private")
    world.add(api_binding(), repository_object(visibility="public", deletionPolicy="Delete"))
    await world.reconcile(controller, "site")
    assert conditions(world.stored("repositories", "site"))["SettingsDiffer"] == ("True", "LeftAsFound")
    assert world.stored("repositories", "site")["status"]["unmanagedSettings"] == ["visibility"]
    return world


def reword(world: World, text: str) -> None:
    told = [c | {"message": text} for c in world.stored("repositories", "site")["status"]["conditions"]]
    world.kcp.edit("repositories", "site", {"status": {"conditions": told}})


async def deleted_as_public(world: World, controller: Controller[Repository], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Delete the object; whether the host was told that everybody could see the repository."""
    told: list[bool] = []

    async def delete(repo_id: str, *, public: bool = False) -> None:
        told.append(public)

    monkeypatch.setattr(world.host, "delete_repository", delete)
    world.kcp.remove("repositories", "site")
    await world.reconcile(controller, "site")
    (public,) = told
    return public


@pytest.mark.parametrize("text", ["", "in other words: description"])
async def test_a_repository_whose_visibility_was_left_as_found_is_not_deleted_as_a_public_one(
    differing: World, controller: Controller[Repository], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    reword(differing, text)
    assert not await deleted_as_public(differing, controller, monkeypatch)


async def test_nor_is_one_whose_status_was_stored_before_it_had_a_field_for_that(
    differing: World, controller: Controller[Repository], monkeypatch: pytest.MonkeyPatch
) -> None:
    differing.kcp.edit("repositories", "site", {"status": {"unmanagedSettings": None}})
    assert not await deleted_as_public(differing, controller, monkeypatch)


async def test_a_public_one_is_deleted_as_such(
    world: World, controller: Controller[Repository], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add(api_binding(), repository_object(visibility="public"))
    await world.reconcile(controller, "site")
    reword(world, "visibility")
    assert await deleted_as_public(world, controller, monkeypatch)


@pytest.mark.parametrize("text", ["", "in other words: visibility"])
async def test_settings_are_left_as_found_as_before_and_reported_no_longer_once_they_agree(
    differing: World, controller: Controller[Repository], text: str
) -> None:
    reword(differing, text)
    assert isinstance(await differing.reconcile(controller, "site"), Ready)
    assert made(differing) == []

    differing.kcp.edit("repositories", "site", {"spec": {"visibility": "private"}})
    await differing.reconcile(controller, "site")
    assert "unmanagedSettings" not in differing.stored("repositories", "site")["status"]
    assert conditions(differing.stored("repositories", "site")) == {"Ready": ("True", "Reconciled")}
