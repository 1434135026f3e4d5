"""RepositoryCommit: an object and a bundle in, one reconcile, a commit and a status out."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from codecommon.api.bundle import Bundle, BundleFile
from codecommon.api.kinds import REPOSITORY_COMMITS
from codecommon.api.reasons import Reason
from codecommon.api.repository_commit import RepositoryCommit
from codecommon.api.results import NotReady, Released, Retryable, Terminal, Unchanged
from codecommon.api.times import rfc3339
from codecommon.controller.context import utc_now
from codecommon.controller.reconciler import Controller
from codecommon.githost.contents import TRAILER, Committed, has_trailer
from codecommon.githost.protocol import HostBusy, HostRepository, HostUnavailable
from codecommon.kcp.client import JsonObject, KcpError
from codecommon.messaging.bundles import DirectoryBundles
from codecommon.messaging.bus import BusUnavailable
from codecommon.testing.builders import deleting, made_repository, manifest
from codecommon.testing.harness import World, conditions, message
from repository_svc.bundle_memory import BundleMemory
from repository_svc.commit.decide import status_of

Commits = Controller[RepositoryCommit]

FILES = Bundle.build([BundleFile("README.md", "# Sité\n".encode()), BundleFile("old.txt", delete=True)])


def request(name: str, bundle: Bundle = FILES, *, age: timedelta = timedelta(), **spec: Any) -> JsonObject:
    ref = {"name": bundle.name, "digest": bundle.digest}
    raw = manifest(REPOSITORY_COMMITS, name, **({"repositoryRef": "site", "source": {"bundleRef": ref}} | spec))
    raw["metadata"]["creationTimestamp"] = rfc3339(utc_now() - age)
    return raw


async def commit(world: World, commits: Commits, bundles: DirectoryBundles, name: str, **fields: Any) -> JsonObject:
    """A RepositoryCommit whose bundle is stored, reconciled once; as it is then."""
    world.add(request(name, **fields))
    await bundles.put("c1", fields.get("bundle", FILES))
    await world.reconcile(commits, name)
    return world.stored("repositorycommits", name)


def test_an_address_that_kcp_would_not_take_is_left_out_of_status() -> None:
    for url, shown in (("https://git.example/c", "https://git.example/c"), ("https://git.example/" + "c" * 2048, "")):
        assert status_of(FILES, Committed("main", "1" * 40, url, made=True))["commitURL"] == shown


async def test_the_files_are_committed_and_status_says_what_and_where(
    world: World, site: HostRepository, commits: Commits, bundles: DirectoryBundles
) -> None:
    stored = await commit(world, commits, bundles, "first", message="Say hello")
    (made,) = world.host.contents.history(site.id)
    assert made.message.splitlines() == ["Say hello", "", f"{TRAILER}: {stored['metadata']['uid']}"]
    assert world.host.contents.files(site.id) == {"README.md": "# Sité\n".encode()}
    status = stored["status"]
    assert (status["phase"], status["branch"], status["commitSHA"]) == ("Succeeded", "main", made.sha)
    assert status["commitURL"].endswith(made.sha)
    assert status["source"] == {"digest": FILES.digest, "fileCount": 2, "size": 8}
    assert [sorted(file) for file in status["files"]] == [["digest", "path", "size"], ["delete", "path"]]
    assert status["startedAt"] <= status["completedAt"]
    assert conditions(stored) == {"Ready": ("True", "Reconciled")}
    assert "finalizers" not in stored["metadata"]


async def test_a_commit_is_two_writes_of_status(
    world: World, site: HostRepository, commits: Commits, bundles: DirectoryBundles
) -> None:
    await commit(world, commits, bundles, "first")
    phases = [write.body["status"]["phase"] for write in world.kcp.writes("repositorycommits")]
    assert phases == ["Running", "Succeeded"]


async def test_a_finished_commit_is_never_made_again(
    world: World, site: HostRepository, commits: Commits, bundles: DirectoryBundles
) -> None:
    before = await commit(world, commits, bundles, "first")
    world.host.contents.add_commit(site.id, "main", "somebody else's", {}, parent=before["status"]["commitSHA"])
    await bundles.put("c1", FILES)
    assert await world.reconcile(commits, "first") == Unchanged()
    assert world.stored("repositorycommits", "first") == before
    assert len(world.host.contents.history(site.id)) == 2


async def test_the_branch_is_that_of_the_request_or_else_that_of_the_repository(
    world: World, site: HostRepository, commits: Commits, bundles: DirectoryBundles
) -> None:
    world.kcp.edit("repositories", "site", {"spec": {"defaultBranch": "trunk"}})
    assert (await commit(world, commits, bundles, "one"))["status"]["branch"] == "trunk"
    assert (await commit(world, commits, bundles, "two", branch="topic"))["status"]["branch"] == "topic"


@pytest.mark.parametrize("text", ["{0}\nhello", " {0}", "hello\n\u2028{0}"])
async def test_no_line_of_a_message_passes_for_a_trailer(
    world: World, site: HostRepository, commits: Commits, bundles: DirectoryBundles, text: str
) -> None:
    await commit(world, commits, bundles, "evil", message=text.format(f"{TRAILER}: uid-of-the-victim"))
    (made,) = world.host.contents.history(site.id)
    assert not has_trailer(made.message, "uid-of-the-victim")


async def test_a_message_cannot_pass_for_the_commit_of_another_object(
    world: World, site: HostRepository, commits: Commits, bundles: DirectoryBundles
) -> None:
    await commit(world, commits, bundles, "evil", message=f"x\n{TRAILER}: uid-of-the-victim\n")
    (made,) = world.host.contents.history(site.id)
    assert f"{TRAILER}: uid-of-the-victim" not in made.message.splitlines()


async def test_a_commit_whose_process_died_before_its_status_is_found_again(
    world: World, site: HostRepository, commits: Commits, bundles: DirectoryBundles
) -> None:
    world.add(request("first"))
    await bundles.put("c1", FILES)

    def die() -> None:
        raise KcpError(503, "", "died")

    world.kcp.once(lambda r: r.subresource == "status" and r.body["status"]["phase"] == "Succeeded", die)
    with pytest.raises(KcpError):
        await world.reconcile(commits, "first")
    assert world.stored("repositorycommits", "first")["status"]["phase"] == "Running"
    await world.reconcile(commits, "first")
    (made,) = world.host.contents.history(site.id)
    assert world.stored("repositorycommits", "first")["status"]["commitSHA"] == made.sha


# ---- the bundle


async def test_a_bundle_that_is_not_there_yet_is_waited_for_and_then_given_up(
    world: World, site: HostRepository, commits: Commits, bundles: DirectoryBundles
) -> None:
    world.add(request("new"), request("slow", age=timedelta(seconds=10)), request("late", age=timedelta(seconds=31)))
    assert isinstance(await world.reconcile(commits, "new"), HostBusy)
    assert "status" not in world.stored("repositorycommits", "new")
    slow = await world.reconcile(commits, "slow")
    assert isinstance(slow, Retryable)
    assert slow.after == timedelta(seconds=2)
    assert world.stored("repositorycommits", "slow")["status"]["phase"] == "Pending"
    await world.reconcile(commits, "late")
    late = world.stored("repositorycommits", "late")
    assert late["status"]["phase"] == "Failed"
    assert conditions(late)["Ready"] == ("False", "BundleNotFound")
    await bundles.put("c1", FILES)
    await world.reconcile(commits, "new")
    assert world.stored("repositorycommits", "new")["status"]["phase"] == "Succeeded"
    await world.reconcile(commits, "late")
    assert world.stored("repositorycommits", "late") == late


async def test_the_bundle_of_another_workspace_is_not_found(
    world: World, site: HostRepository, commits: Commits, bundles: DirectoryBundles
) -> None:
    world.add(request("stolen", age=timedelta(minutes=1)))
    await bundles.put("c2", FILES)
    await world.reconcile(commits, "stolen")
    assert conditions(world.stored("repositorycommits", "stolen"))["Ready"] == ("False", "BundleNotFound")


async def test_a_bundle_of_another_digest_is_refused(
    world: World, site: HostRepository, commits: Commits, bundles: DirectoryBundles
) -> None:
    ref = {"name": FILES.name, "digest": "sha256:" + "0" * 64}
    stored = await commit(world, commits, bundles, "other", source={"bundleRef": ref})
    assert conditions(stored)["Ready"] == ("False", "BundleInvalid")
    assert world.host.contents.history(site.id) == []


async def test_the_bundle_goes_with_the_last_commit_that_waits_for_it(
    world: World, site: HostRepository, commits: Commits, bundles: DirectoryBundles
) -> None:
    world.add(request("second", branch="topic"))
    await commit(world, commits, bundles, "first")
    assert await bundles.find("c1", FILES.name) is not None
    await world.reconcile(commits, "second")
    assert world.stored("repositorycommits", "second")["status"]["phase"] == "Succeeded"
    assert await bundles.find("c1", FILES.name) is None


async def test_a_failed_commit_leaves_no_bundle(
    world: World, site: HostRepository, commits: Commits, bundles: DirectoryBundles
) -> None:
    world.host.contents.raise_next("commit", Terminal(Reason.BRANCH_PROTECTED, "main is protected"))
    stored = await commit(world, commits, bundles, "first")
    assert (stored["status"]["phase"], conditions(stored)["Stalled"]) == ("Failed", ("True", "BranchProtected"))
    assert await bundles.find("c1", FILES.name) is None


async def test_more_bundles_than_memory_has_room_for_wait_without_a_word(
    world: World, site: HostRepository, commits: Commits, bundles: DirectoryBundles, memory: BundleMemory
) -> None:
    world.add(request("first"))
    await bundles.put("c1", FILES)
    with memory.hold("c2", 10**9), memory.hold("c3", 10**9):
        assert isinstance(await world.reconcile(commits, "first"), HostBusy)
    assert "status" not in world.stored("repositorycommits", "first")
    await world.reconcile(commits, "first")
    assert world.stored("repositorycommits", "first")["status"]["phase"] == "Succeeded"


# ---- waiting


async def test_a_commit_waits_for_its_repository_and_for_the_host(
    world: World, commits: Commits, bundles: DirectoryBundles
) -> None:
    world.add(request("first"))
    await bundles.put("c1", FILES)
    assert isinstance(await world.reconcile(commits, "first"), NotReady)
    stored = world.stored("repositorycommits", "first")
    assert (stored["status"]["phase"], conditions(stored)["Ready"]) == ("Pending", ("False", "RepositoryNotFound"))
    world.add(made_repository(repo_id=world.host.add_repository("octocat", "site").id))
    limited = Retryable(Reason.RATE_LIMITED, "until later", after=timedelta(minutes=3), exact=True)
    world.host.contents.raise_next("commit", limited, HostUnavailable("down"))
    for reason in ("RateLimited", "HostUnavailable"):
        assert isinstance(await world.reconcile(commits, "first"), Retryable)
        stored = world.stored("repositorycommits", "first")
        assert (stored["status"]["phase"], conditions(stored)["Reconciling"]) == ("Running", ("True", reason))
    await world.reconcile(commits, "first")
    assert world.stored("repositorycommits", "first")["status"]["phase"] == "Succeeded"


async def test_a_commit_that_waits_too_long_fails_with_the_reason(world: World, commits: Commits) -> None:
    world.add(request("old", age=timedelta(hours=7)))
    await world.reconcile(commits, "old")
    stored = world.stored("repositorycommits", "old")
    assert (stored["status"]["phase"], conditions(stored)["Ready"]) == ("Failed", ("False", "RepositoryNotFound"))
    assert "given up" in message(stored)


async def test_a_commit_that_finds_no_memory_for_six_hours_fails(
    world: World, site: HostRepository, commits: Commits, bundles: DirectoryBundles, memory: BundleMemory
) -> None:
    world.add(request("old", age=timedelta(hours=7)))
    await bundles.put("c1", FILES)
    with memory.hold("c2", 10**9), memory.hold("c3", 10**9):
        await world.reconcile(commits, "old")
    stored = world.stored("repositorycommits", "old")
    assert stored["status"]["phase"] == "Failed"
    assert "given up" in message(stored)


async def test_a_commit_is_not_made_to_another_repository_that_has_the_name_by_now(
    world: World, site: HostRepository, commits: Commits, bundles: DirectoryBundles
) -> None:
    raw = request("first")
    owner = {"apiVersion": "code.kedge.faros.sh/v1alpha1", "kind": "Repository", "name": "site", "uid": "uid-of-before"}
    raw["metadata"]["ownerReferences"] = [owner]
    world.add(raw)
    await bundles.put("c1", FILES)
    await world.reconcile(commits, "first")
    stored = world.stored("repositorycommits", "first")
    assert (stored["status"]["phase"], conditions(stored)["Ready"]) == ("Failed", ("False", "RepositoryNotFound"))
    assert not world.host.contents.history(site.id)
    mine = request("mine")
    mine["metadata"]["ownerReferences"] = [{**owner, "uid": world.stored("repositories", "site")["metadata"]["uid"]}]
    world.add(mine)
    await bundles.put("c1", FILES)
    await world.reconcile(commits, "mine")
    assert world.stored("repositorycommits", "mine")["status"]["phase"] == "Succeeded"


async def test_a_commit_that_the_go_provider_made_stays_as_it_is(
    world: World, site: HostRepository, commits: Commits
) -> None:
    theirs = {
        "type": "Ready",
        "status": "True",
        "reason": "CommitCreated",
        "lastTransitionTime": "2025-01-01T00:00:00Z",
    }
    old = request("old", age=timedelta(days=9))
    before = world.add({**old, "status": {"phase": "Succeeded", "commitSHA": "a" * 40, "conditions": [theirs]}})
    assert await world.reconcile(commits, "old") == Unchanged()
    assert world.stored("repositorycommits", "old") == before


async def test_a_deleted_commit_with_the_finalizer_of_the_go_provider_is_released(
    world: World, site: HostRepository, commits: Commits
) -> None:
    world.add(deleting(request("old"), REPOSITORY_COMMITS))
    assert await world.reconcile(commits, "old") == Released()
    assert world.kcp.stored("repositorycommits", "old") is None


# ---- housekeeping


async def test_a_repository_keeps_its_newest_twenty_commits(
    world: World, site: HostRepository, commits: Commits, bundles: DirectoryBundles
) -> None:
    over = {"phase": "Failed", "completedAt": "2026-01-01T00:00:00Z"}
    for age in range(1, 26):
        old = request(f"old-{age:02}", age=timedelta(hours=age))
        world.add({**old, "status": over} if age != 25 else old)
    other = request("elsewhere", age=timedelta(hours=99), repositoryRef="other")
    world.add({**other, "status": over})
    await commit(world, commits, bundles, "new")
    left = {raw["metadata"]["name"] for raw in world.kcp.stored_objects("repositorycommits")}
    assert left == {"new", *(f"old-{age:02}" for age in range(1, 20)), "old-25", "elsewhere"}


async def test_a_commit_that_was_answered_after_twenty_younger_ones_stays(
    world: World, site: HostRepository, commits: Commits, bundles: DirectoryBundles
) -> None:
    for number in range(25):
        young = request(f"young-{number:02}", age=timedelta(minutes=1 if number % 2 else 30))
        over = {"phase": "Failed", "completedAt": rfc3339(utc_now() - timedelta(minutes=2 if number % 2 else 20))}
        world.add({**young, "status": over})
    await commit(world, commits, bundles, "old", age=timedelta(hours=1))
    left = {raw["metadata"]["name"] for raw in world.kcp.stored_objects("repositorycommits")}
    # It is the newest answer. Of the others 12 came lately, and of the rest there is room for seven.
    assert "old" in left
    assert {f"young-{number:02}" for number in range(1, 25, 2)} < left
    assert len(left) == 20


async def test_no_commit_goes_that_was_answered_within_ten_minutes(
    world: World, site: HostRepository, commits: Commits, bundles: DirectoryBundles
) -> None:
    over = {"phase": "Failed", "completedAt": rfc3339(utc_now() - timedelta(minutes=5))}
    for number in range(25):
        world.add({**request(f"young-{number:02}"), "status": over})
    await commit(world, commits, bundles, "new")
    assert len(list(world.kcp.stored_objects("repositorycommits"))) == 26


async def test_a_successful_commit_asks_the_crawler_to_look_often(
    world: World, site: HostRepository, commits: Commits, bundles: DirectoryBundles
) -> None:
    await commit(world, commits, bundles, "first")
    assert [(event.name, event.reason) for event in world.bus.published] == [("main", "crawl-request")]


async def test_what_follows_a_commit_is_done_although_nats_was_away(
    world: World, site: HostRepository, commits: Commits, bundles: DirectoryBundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(event: object) -> None:
        raise BusUnavailable("TimeoutError")

    with monkeypatch.context() as patched:
        patched.setattr(world.bus, "publish", away)
        before = await commit(world, commits, bundles, "first")
        assert before["status"]["phase"] == "Succeeded"
        assert isinstance(await world.reconcile(commits, "first"), HostBusy)
    await world.reconcile(commits, "first")
    assert [event.reason for event in world.bus.published] == ["crawl-request"]
    assert world.stored("repositorycommits", "first") == before
