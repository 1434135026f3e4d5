"""PackagesAvailable: found out by the crawler, written by the service of the kind, and left alone by everything else."""

from __future__ import annotations

from codecommon.api.meta import Condition
from codecommon.api.repository import Repository
from codecommon.controller.reconciler import Controller
from codecommon.testing.builders import api_binding, repository_object
from codecommon.testing.harness import World, conditions

FOUND = Condition(type="PackagesAvailable", status="False", reason="PackagesUnsupportedByToken", message="m")


async def test_a_finding_is_written_without_a_request_to_the_host_and_stays(
    world: World, controller: Controller[Repository]
) -> None:
    world.add(api_binding(), repository_object())
    await world.reconcile(controller, "site")
    ready = conditions(world.stored("repositories", "site"))

    opened = len(world.opened)
    await world.start(controller, "site").learn(lambda obj: controller.learn(obj, FOUND))
    assert conditions(world.stored("repositories", "site")) == {
        **ready,
        "PackagesAvailable": ("False", "PackagesUnsupportedByToken"),
    }
    assert len(world.opened) == opened
    world.kcp.edit("repositories", "site", {"spec": {"description": "new"}})
    await world.reconcile(controller, "site")
    assert conditions(world.stored("repositories", "site"))["PackagesAvailable"] == (
        "False",
        "PackagesUnsupportedByToken",
    )


async def test_the_same_finding_is_written_once_and_another_writers_change_is_kept(
    world: World, controller: Controller[Repository]
) -> None:
    world.add(api_binding(), repository_object())
    await world.reconcile(controller, "site")
    ctx = world.start(controller, "site")
    world.kcp.edit("repositories", "site", {"status": {"repoID": "77"}})
    await ctx.learn(lambda obj: controller.learn(obj, FOUND))
    raw = world.stored("repositories", "site")
    assert raw["status"]["repoID"] == "77"
    world.kcp.requests.clear()
    await world.start(controller, "site").learn(lambda obj: controller.learn(obj, FOUND))
    assert world.kcp.writes("repositories") == []
