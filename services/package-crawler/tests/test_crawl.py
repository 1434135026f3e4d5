"""One look at an owner: what becomes of the Package objects."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from crawl_bed import INTERVAL, OWNER, Bed, digest, image

from codecommon.api.package import package_object_name
from codecommon.api.reasons import Reason
from codecommon.api.results import NotReady, Retryable, Terminal
from codecommon.controller.delivery import Ack, PutBack
from codecommon.githost.protocol import CredentialRejected, HostUnavailable
from codecommon.testing.builders import made_repository, validated_connection
from codecommon.testing.harness import conditions, message

HEX = "a" * 64


@pytest.fixture
def bed() -> Bed:
    return Bed()


# ---- what is mirrored


async def test_a_published_package_becomes_an_object_of_its_repository(bed: Bed) -> None:
    repo = bed.repository()
    bed.publish("container", "Team/Site", image(1, "v1"), image(2, "v2", "latest"), repo=repo)
    await bed.run()

    name = package_object_name("site", "container", "Team/Site")
    assert name.startswith("site-container-team-site-")
    raw = bed.world.stored("packages", name)
    repository = bed.world.stored("repositories", "site")
    assert raw["spec"] == {"repositoryRef": "site"}
    assert raw["metadata"]["labels"] == {"code.kedge.faros.sh/repository": "site"}
    assert raw["metadata"]["ownerReferences"] == [
        {
            "apiVersion": "code.kedge.faros.sh/v1alpha1",
            "kind": "Repository",
            "name": "site",
            "uid": repository["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]
    status = raw["status"]
    assert status["packageName"] == "Team/Site"
    assert status["type"] == "container"
    assert status["imageRepository"] == "registry.git.example/octocat/team/site"
    assert status["versionCount"] == 2
    assert status["versions"] == [
        {"digest": digest(2), "tags": ["v2", "latest"], "createdAt": "2026-11-01T00:02:00Z"},
        {"digest": digest(1), "tags": ["v1"], "createdAt": "2026-11-01T00:01:00Z"},
    ]
    assert conditions(raw) == {"Ready": ("True", "Reconciled")}
    assert status["observedGeneration"] == 1
    assert status["lastSyncTime"]


async def test_packages_are_grouped_by_the_id_of_their_repository_and_those_of_others_are_left_alone(bed: Bed) -> None:
    site, shop = bed.repository("site"), bed.repository("shop")
    bed.publish("container", "same", image(1, "v1"), repo=site)
    bed.publish("npm", "same", repo=shop)
    bed.publish("npm", "unlinked", repo=None)
    bed.publish("npm", "of-another", repo="999999")
    bed.host.rename(site, "renamed")
    await bed.run()
    assert set(bed.packages) == {("site", "container", "same"), ("shop", "npm", "same")}


async def test_a_second_look_writes_nothing_and_reads_no_versions(bed: Bed) -> None:
    repo = bed.repository()
    bed.publish("container", "site", image(1, "v1"), repo=repo)
    bed.publish("npm", "lib", repo=repo)
    await bed.run()
    assert len(bed.writes) == 4
    bed.reads.clear()
    synced = bed.status("site")["lastSyncTime"]
    _ = bed.reads

    await bed.run()

    assert bed.writes == []
    assert [read for read in bed.reads if read[0] == "list_versions"] == []
    assert bed.status("site")["lastSyncTime"] == synced


async def test_a_new_version_and_a_moved_tag_change_their_object_alone(bed: Bed) -> None:
    repo = bed.repository()
    bed.publish("container", "site", image(1, "v1"), repo=repo)
    bed.publish("container", "other", image(1, "v1"), repo=repo)
    await bed.run()
    before, _ = bed.status("site"), bed.writes

    bed.publish("container", "site", image(5, "v2"), repo=repo)
    await bed.run()
    assert [v["digest"] for v in bed.status("site")["versions"]] == [digest(5), digest(1)]
    assert bed.status("site")["lastSyncTime"] != before["lastSyncTime"]
    assert [method for method, _ in bed.writes] == ["PATCH"]

    package = bed.host.packages[OWNER, "container", "site"]
    package.versions[:] = [image(5), image(1, "v2", "v1")]
    bed.publish("container", "site", repo=repo)
    await bed.run()
    assert [v["digest"] for v in bed.status("site")["versions"]] == [digest(1)]


async def test_a_deleted_version_shows_though_the_row_keeps_its_time(bed: Bed) -> None:
    repo = bed.repository()
    bed.publish("container", "site", image(1, "v1"), image(2, "v2"), repo=repo)
    await bed.run()
    package = bed.host.packages[OWNER, "container", "site"]
    del package.versions[0]
    from dataclasses import replace

    package.seen = replace(package.seen, version_count=1)
    await bed.run()
    assert [v["digest"] for v in bed.status("site")["versions"]] == [digest(1)]


async def test_a_version_of_the_same_second_is_not_missed(bed: Bed) -> None:
    repo = bed.repository()
    at = bed.time.strftime("%Y-%m-%dT%H:%M:%SZ")
    bed.host.publish(OWNER, "container", "site", image(1, "v1"), repository_id=repo, updated_at=at, version_count=0)
    await bed.run(after=timedelta(seconds=1))
    bed.host.publish(OWNER, "container", "site", image(2, "v2"), updated_at=at, version_count=0)
    await bed.run(after=timedelta(seconds=6))
    assert bed.status("site")["versions"][0]["digest"] == digest(2)
    for _ in range(3):
        await bed.run()
    _ = bed.reads
    await bed.run(after=timedelta(seconds=10))
    assert [read for read in bed.reads if read[0] == "list_versions"] == [], "once the time is past it is settled"


async def test_versions_are_looked_at_hourly_at_least(bed: Bed) -> None:
    repo = bed.repository()
    for number in range(20):
        bed.publish("container", f"site-{number}", image(1, "v1"), repo=repo)
    await bed.run()
    _ = bed.reads
    seen: list[list[Any]] = []
    for _round in range(15):
        await bed.run(after=timedelta(minutes=4))
        seen.append([args[0] for method, args in bed.reads if method == "list_versions"])
    assert {name for names in seen for name in names} == {f"site-{number}" for number in range(20)}
    assert max(map(len, seen)) < 10, "their turns are spread"


async def test_what_the_go_provider_left_is_taken_over_under_its_name(bed: Bed) -> None:
    repo = bed.repository()
    repository = bed.world.stored("repositories", "site")
    name = package_object_name("site", "npm", "lib")
    owner = {"apiVersion": "x/v1", "kind": "Repository", "name": "site", "uid": repository["metadata"]["uid"]}
    bed.world.add(
        {
            "apiVersion": "code.kedge.faros.sh/v1alpha1",
            "kind": "Package",
            "metadata": {"name": name, "ownerReferences": [owner]},
            "spec": {"repositoryRef": "site"},
            "status": {"packageName": "lib", "type": "npm", "versionCount": 0},
        }
    )
    uid = bed.world.stored("packages", name)["metadata"]["uid"]
    bed.publish("npm", "lib", image(1), repo=repo)
    await bed.run()
    assert bed.world.stored("packages", name)["metadata"]["uid"] == uid
    assert bed.status("lib", "npm")["versionCount"] == 1


async def test_an_object_of_a_repository_that_had_the_name_before_is_made_anew(bed: Bed) -> None:
    repo = bed.repository()
    bed.publish("npm", "lib", repo=repo)
    await bed.run()
    bed.world.kcp.edit("repositories", "site", {"metadata": {"finalizers": None}})
    bed.world.kcp.remove("repositories", "site")
    bed.world.add(made_repository("site", repo_id=repo))
    await bed.run()
    raw = bed.world.stored("packages", package_object_name("site", "npm", "lib"))
    assert raw["metadata"]["ownerReferences"][0]["uid"] == bed.world.stored("repositories", "site")["metadata"]["uid"]


async def test_nothing_is_mirrored_for_a_repository_that_is_paused_and_what_is_there_stays(bed: Bed) -> None:
    repo = bed.repository()
    bed.repository("shop")
    bed.publish("npm", "lib", repo=repo)
    await bed.run()
    bed.world.kcp.edit("repositories", "site", {"metadata": {"annotations": {"code.kedge.faros.sh/paused": "true"}}})
    bed.host.packages.clear()
    await bed.run()
    assert set(bed.packages) == {("site", "npm", "lib")}


# ---- what is removed


async def test_a_package_that_is_gone_from_a_whole_list_is_removed(bed: Bed) -> None:
    repo = bed.repository()
    bed.publish("npm", "lib", repo=repo)
    bed.publish("npm", "kept", repo=repo)
    await bed.run()
    del bed.host.packages[OWNER, "npm", "lib"]
    await bed.run()
    assert set(bed.packages) == {("site", "npm", "kept")}


async def test_a_package_that_only_slipped_from_page_to_page_is_not_removed(bed: Bed) -> None:
    repo = bed.repository()
    bed.host.page_size = 2
    for number in range(4):
        bed.publish("npm", f"lib-{number}", repo=repo)
    await bed.run()
    slipped = bed.host.packages.pop((OWNER, "npm", "lib-2"))
    gone = bed.host.packages.pop((OWNER, "npm", "lib-3"))

    async def get_package(owner: str, package_type: str, name: str) -> Any:
        return slipped.seen if name == "lib-2" else None

    bed.host.get_package = get_package  # type: ignore[method-assign]
    for number in range(5, 8):
        bed.publish("npm", f"lib-{number}", repo=repo)
    await bed.run()
    names = {name for _, _, name in bed.packages}
    assert "lib-2" in names
    assert gone.seen.name not in names


async def test_a_list_that_breaks_off_keeps_what_was_there_and_says_since_when_it_is_old(bed: Bed) -> None:
    repo = bed.repository()
    bed.host.page_size = 1
    for name in ("one", "two", "three"):
        bed.publish("container", name, image(1, "v1"), repo=repo)
    bed.publish("npm", "lib", repo=repo)
    await bed.run()
    began, _ = bed.time, bed.writes
    gone = HostUnavailable("the host broke off")
    bed.publish("container", "four", image(1, "v1"), repo=repo)
    del bed.host.packages[OWNER, "container", "one"]

    bed.host.raise_next("list_packages", None, None, gone)
    first = await bed.run()
    assert bed.writes == [], "once is no reason to write"
    assert isinstance(first, PutBack)
    assert first.after < 10

    bed.host.raise_next("list_packages", None, None, gone)
    await bed.run()
    assert {name for _, type_, name in bed.packages if type_ == "container"} == {"one", "two", "three"}
    stale = bed.packages["site", "container", "one"]
    assert conditions(stale) == {"Ready": ("Unknown", "ListingIncomplete"), "Stale": ("True", "ListingIncomplete")}
    assert began.strftime("%Y-%m-%dT%H:%M:%SZ") in message(stale, "Stale")
    assert conditions(bed.packages["site", "npm", "lib"]) == {"Ready": ("True", "Reconciled")}
    _ = bed.writes

    bed.host.raise_next("list_packages", None, None, gone)
    await bed.run()
    assert bed.writes == [], "it says so already"

    _ = bed.reads
    await bed.run()
    assert {args[0] for method, args in bed.reads if method == "list_versions"} == {"four"}
    assert {name for _, type_, name in bed.packages if type_ == "container"} == {"four", "two", "three"}
    assert conditions(bed.packages["site", "container", "two"]) == {"Ready": ("True", "Reconciled")}


async def test_a_package_whose_versions_cannot_be_read_keeps_its_state_and_is_read_again(bed: Bed) -> None:
    repo = bed.repository()
    bed.publish("container", "site", image(1, "v1"), repo=repo)
    await bed.run()
    before = bed.status("site")
    bed.publish("container", "site", image(2, "v2"), repo=repo)
    for _ in range(2):
        bed.host.raise_next("list_versions", HostUnavailable("the host broke off"))
        await bed.run()
    assert bed.status("site")["versions"] == before["versions"]
    assert conditions(bed.packages["site", "container", "site"])["Stale"] == ("True", "VersionsIncomplete")
    await bed.run()
    assert bed.status("site")["versions"][0]["digest"] == digest(2)
    assert "Stale" not in conditions(bed.packages["site", "container", "site"])


async def test_a_new_package_whose_versions_cannot_be_read_is_not_shown_without_them(bed: Bed) -> None:
    repo = bed.repository()
    bed.publish("container", "site", image(1, "v1"), repo=repo)
    bed.host.raise_next("list_versions", HostUnavailable("the host broke off"))
    await bed.run()
    assert bed.packages == {}
    await bed.run()
    assert bed.status("site")["versions"]


# ---- when


async def test_an_owner_where_nothing_moves_is_looked_at_ever_more_rarely_and_comes_back_with_the_first_change(
    bed: Bed,
) -> None:
    repo = bed.repository()
    bed.publish("npm", "lib", repo=repo)
    pauses: list[float] = []
    for _ in range(5):
        settlement = await bed.run()
        assert isinstance(settlement, PutBack)
        pauses.append(settlement.after / INTERVAL.total_seconds())
    for pause, times in zip(pauses, [1, 2, 4, 4, 4], strict=True):
        assert times <= pause <= times * 1.25
    bed.publish("npm", "new", repo=repo)
    settlement = await bed.run()
    assert isinstance(settlement, PutBack)
    assert settlement.after <= INTERVAL.total_seconds() * 1.25


async def test_events_in_a_row_are_one_look(bed: Bed) -> None:
    repo = bed.repository()
    bed.publish("npm", "lib", repo=repo)
    await bed.run()
    _ = bed.reads
    settlement = await bed.run(after=timedelta(seconds=1))
    assert isinstance(settlement, PutBack)
    assert 3 <= settlement.after <= 5
    assert bed.reads == []


async def test_a_job_ends_with_the_last_repository_of_its_owner(bed: Bed) -> None:
    assert await bed.run() == Ack()
    bed.repository()
    assert await bed.run("somebody-else") == Ack()


async def test_a_job_ends_with_its_connection(bed: Bed) -> None:
    bed.repository()
    event = bed.event()
    bed.world.kcp.edit("connections", "main", {"metadata": {"finalizers": None}})
    bed.world.kcp.remove("connections", "main")
    with pytest.raises(NotReady):
        await bed.crawl.run(event, bed.world.objects)
    bed.world.add(validated_connection())
    assert await bed.crawl.run(event, bed.world.objects) == Ack()


async def test_nothing_is_made_in_a_workspace_that_leaves(bed: Bed) -> None:
    repo = bed.repository()
    bed.publish("npm", "lib", repo=repo)
    bed.world.kcp.edit("apibindings", "code", {"metadata": {"deletionTimestamp": "2026-11-01T00:00:00Z"}})
    bed.world.kcp._stored["c1", "apibindings", None, "code"]["metadata"]["deletionTimestamp"] = "x"  # pyright: ignore
    assert await bed.run() == Ack()
    assert bed.packages == {}


async def test_who_has_no_turn_at_the_host_has_lost_nothing_and_goes_on(bed: Bed) -> None:
    repo = bed.repository()
    for number in range(10):
        bed.publish("container", f"site-{number}", image(1, "v1"), repo=repo)
    limited = Retryable(Reason.RATE_LIMITED, "wait", after=timedelta(seconds=60))
    bed.host.raise_next("list_versions", *[None] * 6, limited)
    with pytest.raises(Retryable):
        await bed.run()
    done = len(bed.packages)
    assert done >= 6
    _ = bed.reads
    await bed.run()
    assert len(bed.packages) == 10
    assert len([read for read in bed.reads if read[0] == "list_versions"]) == 10 - done


# ---- what others are told


async def test_a_repository_is_told_once_that_its_packages_are_mirrored(bed: Bed) -> None:
    repo = bed.repository()
    bed.publish("npm", "lib", repo=repo)
    await bed.run()
    finding = bed.told["repositories/site"]
    assert (finding.type, finding.status, finding.reason) == ("PackagesAvailable", "True", "PackagesMirrored")
    shown = {**finding.model_dump(by_alias=True), "lastTransitionTime": "2026-11-01T00:00:00Z"}
    bed.world.kcp.edit("repositories", "site", {"status": {"conditions": [shown]}})
    bed.world.bus.published.clear()
    await bed.run()
    assert bed.told == {}


@pytest.mark.parametrize("reason", [Reason.MISSING_PERMISSION, Reason.PACKAGES_UNSUPPORTED_BY_TOKEN])
async def test_a_refusal_ends_the_job_and_is_told_to_the_repositories_and_the_connection(
    bed: Bed, reason: Reason
) -> None:
    bed.repository()
    bed.host.raise_next("list_packages", Terminal(reason, "use a classic token with read:packages"))
    with pytest.raises(Terminal):
        await bed.run()
    for name in ("repositories/site", "connections/main"):
        assert (bed.told[name].status, bed.told[name].reason) == ("False", reason)
        assert "read:packages" in bed.told[name].message


async def test_a_rejected_credential_has_its_connection_validated_again(bed: Bed) -> None:
    bed.repository()
    bed.host.raise_next("list_packages", CredentialRejected("401"), CredentialRejected("401"))
    with pytest.raises(CredentialRejected):
        await bed.run()
    assert [e.reason for e in bed.world.bus.published if e.resource == "connections"] == ["revalidate"]


async def test_limits_are_told_and_what_is_there_stays(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    repo, other = bed.repository(), bed.repository("shop")
    bed.publish("npm", "old", repo=repo)
    await bed.run()
    monkeypatch.setattr("package_crawler.decide.MOST_OF_REPOSITORY", 2)
    for number in range(3):
        bed.publish("npm", f"new-{number}", repo=repo)
    bed.publish("npm", "lib", repo=other)
    bed.world.bus.published.clear()
    await bed.run()
    assert {name for home, _, name in bed.packages if home == "site"} == {"old", "new-2"}
    assert bed.told["repositories/site"].reason == Reason.PACKAGE_LIMIT
    assert "2 packages are not mirrored" in bed.told["repositories/site"].message
    assert bed.told["repositories/shop"].status == "True"

    monkeypatch.setattr("package_crawler.decide.MOST_OF_WORKSPACE", 3)
    bed.publish("npm", "lib-2", repo=other)
    await bed.run()
    assert len(bed.packages) == 3
    assert bed.told["repositories/shop"].reason == Reason.PACKAGE_LIMIT


async def test_a_package_that_alone_is_refused_holds_up_no_other(bed: Bed) -> None:
    repo = bed.repository()
    for number in range(6):
        bed.publish("container", f"site-{number}", image(1, "v1"), repo=repo)
    bed.host.raise_next("list_versions", None, Terminal(Reason.MISSING_PERMISSION, "not this one"))
    settlement = await bed.run()
    assert isinstance(settlement, PutBack)
    assert len(bed.packages) == 5
    await bed.run()
    assert len(bed.packages) == 6


async def test_a_type_that_the_host_does_not_know_holds_up_no_other(bed: Bed) -> None:
    repo = bed.repository()
    bed.publish("npm", "lib", repo=repo)
    bed.host.raise_next("list_packages", Terminal(Reason.VALIDATION_FAILED, "package_type is invalid"))
    await bed.run()
    assert set(bed.packages) == {("site", "npm", "lib")}


async def test_a_package_that_is_deleted_while_it_is_looked_at_keeps_its_state_until_the_next_list(bed: Bed) -> None:
    repo = bed.repository()
    bed.publish("container", "site", image(1, "v1"), repo=repo)
    await bed.run()
    bed.publish("container", "site", image(2, "v2"), repo=repo)

    async def list_versions(package: Any) -> Any:
        return
        yield ()

    bed.host.list_versions = list_versions  # type: ignore[method-assign]
    await bed.run()
    assert [v["tags"] for v in bed.status("site")["versions"]] == [["v1"]]


async def test_a_paused_connection_is_left_alone(bed: Bed) -> None:
    bed.publish("npm", "lib", repo=bed.repository())
    bed.world.kcp.edit("connections", "main", {"metadata": {"annotations": {"code.kedge.faros.sh/paused": "true"}}})
    assert await bed.fan() == Ack()
    assert bed.world.bus.published == []
    assert await bed.run() == Ack()
    assert bed.packages == {}


async def test_who_has_had_no_turn_for_an_hour_says_since_when_what_is_shown_is_old(bed: Bed) -> None:
    repo = bed.repository()
    bed.publish("container", "site", image(1, "v1"), repo=repo)
    await bed.run()
    limited = Retryable(Reason.RATE_LIMITED, "wait", after=timedelta(seconds=60))
    for after, stale in ((timedelta(minutes=50), False), (timedelta(minutes=15), True)):
        bed.host.raise_next("list_packages", limited)
        with pytest.raises(Retryable):
            await bed.run(after=after)
        assert ("Stale" in conditions(bed.packages["site", "container", "site"])) is stale
    await bed.run()
    assert "Stale" not in conditions(bed.packages["site", "container", "site"])


async def test_a_repository_is_not_told_that_all_is_mirrored_while_a_list_cannot_be_read(bed: Bed) -> None:
    bed.publish("npm", "lib", repo=bed.repository())
    bed.host.raise_next("list_packages", HostUnavailable("the host broke off"))
    await bed.run()
    assert bed.told == {}
    await bed.run()
    assert bed.told["repositories/site"].status == "True"
