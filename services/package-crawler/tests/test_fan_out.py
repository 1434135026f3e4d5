"""From a Connection to its owners."""

from __future__ import annotations

from datetime import timedelta

import pytest
from crawl_bed import OWNER, Bed

from codecommon.api.reasons import Reason
from codecommon.api.results import NotReady
from codecommon.controller.delivery import Ack, PutBack
from codecommon.testing.builders import made_repository, validated_connection


@pytest.fixture
def bed() -> Bed:
    return Bed()


def owned(bed: Bed, name: str, owner: str) -> None:
    raw = made_repository(name, repo_id=str(7000 + len(name)))
    raw["status"]["owner"] = owner
    bed.world.add(raw)


def jobs(bed: Bed) -> list[str]:
    return [event.owner for event in bed.world.bus.published if event.reason == "crawl"]


async def test_there_is_one_job_for_each_owner_however_it_is_spelled(bed: Bed) -> None:
    for name, owner in (("a", OWNER), ("bb", "Octocat"), ("ccc", "acme")):
        owned(bed, name, owner)
    assert await bed.fan() == Ack()
    assert jobs(bed) == [OWNER, "acme"]
    subjects = {event.subject for event in bed.world.bus.published}
    assert len(subjects) == 2
    assert all(subject.startswith("code.events.crawls.c1.main.") for subject in subjects)


async def test_a_job_names_the_versions_that_must_not_be_older(bed: Bed) -> None:
    owned(bed, "a", OWNER)
    bed.world.kcp.edit("connections", "main", {"status": {"observedSecretVersion": "77"}})
    raw = bed.world.stored("connections", "main")
    await bed.fan()
    (job,) = bed.world.bus.published
    assert (job.resource_version, job.versions.secret) == (raw["metadata"]["resourceVersion"], "77")


async def test_more_owners_than_a_connection_may_have_are_told_to_their_repositories(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("package_crawler.decide.MOST_OWNERS", 2)
    for name, owner in (("a", "one"), ("bb", "two"), ("ccc", "three")):
        owned(bed, name, owner)
    await bed.fan()
    assert len(jobs(bed)) == 2
    (told,) = bed.told.values()
    assert (told.status, told.reason) == ("False", Reason.PACKAGE_LIMIT)


@pytest.mark.parametrize(
    ("token_type", "reason"),
    [
        ("classic", "MissingPermission"),
        ("oauth", "MissingPermission"),
        ("fine-grained", "PackagesUnsupportedByToken"),
        ("installation", "PackagesUnsupportedByToken"),
        ("app-user", "PackagesUnsupportedByToken"),
    ],
)
async def test_a_credential_that_cannot_see_packages_is_told_and_asks_for_nothing(
    bed: Bed, token_type: str, reason: str
) -> None:
    owned(bed, "a", OWNER)
    capability = {"name": "packages", "status": "No", "message": "use another one"}
    bed.world.kcp.edit("connections", "main", {"status": {"tokenType": token_type, "capabilities": [capability]}})
    await bed.fan()
    assert jobs(bed) == []
    assert bed.told["repositories/a"].reason == reason
    assert "use another one" in bed.told["repositories/a"].message

    bed.world.kcp.edit(
        "repositories",
        "a",
        {"status": {"conditions": [bed.told["repositories/a"].model_dump(by_alias=True)]}},
    )
    bed.world.bus.published.clear()
    await bed.fan()
    assert bed.told == {}, "it says so already"


async def test_a_request_is_put_back_until_it_is_over(bed: Bed) -> None:
    owned(bed, "a", OWNER)
    began = bed.time
    assert await bed.fan(reason="crawl-request", time=began) == PutBack(30)
    bed.time += timedelta(minutes=9, seconds=59)
    assert await bed.fan(reason="crawl-request", time=began) == PutBack(30)
    bed.time += timedelta(seconds=1)
    assert await bed.fan(reason="crawl-request", time=began) == Ack()
    assert len(jobs(bed)) == 3


async def test_a_connection_that_is_not_validated_or_is_gone_has_no_jobs(bed: Bed) -> None:
    owned(bed, "a", OWNER)
    bed.world.kcp.edit("connections", "main", {"spec": {"owner": "other"}})
    with pytest.raises(NotReady):
        await bed.fan()
    event = bed.event("")
    bed.world.kcp.edit("connections", "main", {"metadata": {"finalizers": None}})
    bed.world.kcp.remove("connections", "main")
    assert await bed.fan_out.run(event, bed.world.objects) == Ack()
    bed.world.add(validated_connection())
    assert jobs(bed) == []
