"""One pass over one object: guarded writes, and what is left in status."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from codecommon.api.access import DeployKey
from codecommon.api.annotations import RECONCILE_REQUESTED_AT
from codecommon.api.group import API_VERSION
from codecommon.api.kinds import DEPLOY_KEYS, REPOSITORIES, children_of
from codecommon.api.reasons import Reason
from codecommon.api.repository import Repository
from codecommon.api.results import NotReady, Ready, Retryable, Terminal
from codecommon.api.times import rfc3339
from codecommon.controller.conditions import condition
from codecommon.controller.context import Gone, ReconcileContext, Superseded
from codecommon.kcp.client import Invalid, JsonObject
from codecommon.testing.builders import api_binding, deleting, repository_object
from codecommon.testing.builders import condition as stored_condition
from codecommon.testing.harness import conditions, message
from codecommon.testing.objects import InMemoryKcp, Request, workspace

NOW = datetime(2026, 1, 2, tzinfo=UTC)
FINALIZER = REPOSITORIES.finalizer


@pytest.fixture
def kcp() -> InMemoryKcp:
    return InMemoryKcp()


def start(
    kcp: InMemoryKcp,
    raw: JsonObject,
    *,
    owned: frozenset[str] = frozenset({"Archived"}),
    now: datetime = NOW,
    is_copy: bool = False,
) -> ReconcileContext[Repository]:
    objects = kcp.objects(workspace())
    return ReconcileContext(REPOSITORIES, owned, objects, raw, clock=lambda: now, is_copy=is_copy)


def site(kcp: InMemoryKcp) -> JsonObject:
    raw = kcp.stored("repositories", "site")
    assert raw is not None
    return raw


def somebody_edits(kcp: InMemoryKcp, before: Any = lambda request: request.writes) -> None:
    kcp.once(before, lambda: kcp.edit("repositories", "site", {"spec": {"description": "theirs"}}))


# ---- every write is guarded


async def test_every_write_carries_uid_and_version_of_what_was_read_last(kcp: InMemoryKcp) -> None:
    raw = kcp.add(repository_object())
    ctx = start(kcp, raw)
    await ctx.ensure_finalizer()
    after_hold = site(kcp)["metadata"]["resourceVersion"]
    await ctx.commit(Ready({"repoID": "7"}))

    guards = [(r.body["metadata"]["uid"], r.body["metadata"]["resourceVersion"]) for r in kcp.writes("repositories")]
    assert guards == [("uid-1", raw["metadata"]["resourceVersion"]), ("uid-1", after_hold)]
    assert [sorted(r.body) for r in kcp.writes("repositories")] == [["metadata"], ["metadata", "status"]]


async def test_an_object_that_was_edited_meanwhile_is_decided_about_again(kcp: InMemoryKcp) -> None:
    ctx = start(kcp, kcp.add(repository_object()))
    somebody_edits(kcp)
    with pytest.raises(Superseded):
        await ctx.ensure_finalizer()


async def test_an_object_that_is_gone_is_gone(kcp: InMemoryKcp) -> None:
    ctx = start(kcp, kcp.add(repository_object()))
    kcp.remove("repositories", "site")
    with pytest.raises(Gone):
        await ctx.ensure_finalizer()
    with pytest.raises(Gone):
        await ctx.commit(Ready())
    with pytest.raises(Gone):
        await ctx.reload()


async def test_another_object_of_the_same_name_is_not_this_one(kcp: InMemoryKcp) -> None:
    ctx = start(kcp, kcp.add(repository_object()))
    kcp.remove("repositories", "site")
    kcp.add(repository_object())
    with pytest.raises(Superseded):
        await ctx.ensure_finalizer()
    with pytest.raises(Gone):
        await ctx.reload()


# ---- hold and release


async def test_our_finalizer_goes_beside_those_of_others(kcp: InMemoryKcp) -> None:
    raw = kcp.add(repository_object(metadata={"finalizers": ["theirs/x"]}))
    await start(kcp, raw).ensure_finalizer()
    assert len(kcp.writes("repositories")) == 1
    assert site(kcp)["metadata"]["finalizers"] == ["theirs/x", FINALIZER]


async def test_what_is_held_already_is_not_written(kcp: InMemoryKcp) -> None:
    raw = kcp.add(repository_object(metadata={"finalizers": [FINALIZER]}))
    await start(kcp, raw).ensure_finalizer()
    assert kcp.writes("repositories") == []


async def test_a_finalizer_that_comes_too_late_means_that_the_object_is_being_deleted(kcp: InMemoryKcp) -> None:
    raw = kcp.add(repository_object(metadata={"finalizers": ["theirs/x"]}))
    ctx = start(kcp, raw)

    def refuse() -> None:
        raise Invalid(422, "Invalid", "no new finalizers can be added if the object is being deleted")

    kcp.once(lambda request: request.writes, refuse)
    with pytest.raises(Superseded):
        await ctx.ensure_finalizer()


async def test_only_our_finalizer_is_taken_off(kcp: InMemoryKcp) -> None:
    raw = kcp.add(repository_object(metadata={"finalizers": ["theirs/x", FINALIZER]}))
    kcp.remove("repositories", "site")
    await start(kcp, site(kcp)).remove_finalizer()
    assert site(kcp)["metadata"]["finalizers"] == ["theirs/x"]
    assert raw["metadata"]["uid"] == site(kcp)["metadata"]["uid"]


async def test_an_object_that_is_gone_counts_as_released(kcp: InMemoryKcp) -> None:
    ctx = start(kcp, kcp.add(deleting(repository_object())))
    kcp.edit("repositories", "site", {"metadata": {"finalizers": None}})
    await ctx.remove_finalizer()


async def test_a_release_is_guarded_too(kcp: InMemoryKcp) -> None:
    ctx = start(kcp, kcp.add(deleting(repository_object())))
    somebody_edits(kcp)
    with pytest.raises(Superseded):
        await ctx.remove_finalizer()


# ---- confirmation before the host is written to


async def test_what_is_still_as_decided_is_confirmed_by_a_live_read(kcp: InMemoryKcp) -> None:
    await start(kcp, kcp.add(deleting(repository_object()))).confirm_deleting()
    await start(kcp, kcp.add(repository_object())).confirm_not_deleting()
    assert [request.params for request in kcp.requests] == [{}, {}]


async def test_what_changed_since_is_not_confirmed(kcp: InMemoryKcp) -> None:
    wanted = start(kcp, kcp.add(repository_object(metadata={"finalizers": [FINALIZER]})))
    with pytest.raises(Superseded):
        await wanted.confirm_deleting()
    somebody_edits(kcp, lambda request: True)
    with pytest.raises(Superseded):
        await wanted.confirm_not_deleting()
    kcp.remove("repositories", "site")
    with pytest.raises(Superseded):
        await wanted.confirm_not_deleting()
    wanted_no_more = start(kcp, site(kcp))
    kcp.edit("repositories", "site", {"metadata": {"finalizers": None}})
    with pytest.raises(Gone):
        await wanted_no_more.confirm_deleting()


# ---- status


async def test_nothing_new_is_not_written(kcp: InMemoryKcp) -> None:
    ctx = start(kcp, kcp.add(repository_object()))
    result = Ready({"repoID": "7", "baselineGeneration": None}, (condition("Archived", "True", "ArchivedOnHost"),), "m")
    await ctx.commit(result)
    await ctx.commit(result)
    await start(kcp, site(kcp), now=NOW + timedelta(days=365)).commit(result)
    assert len(kcp.writes("repositories")) == 1


async def test_a_field_that_is_left_out_stays_and_none_removes_it(kcp: InMemoryKcp) -> None:
    raw = kcp.add(repository_object(status={"repoID": "7", "htmlURL": "https://git.example/x"}))
    await start(kcp, raw).commit(Ready({"htmlURL": None}))
    assert site(kcp)["status"]["repoID"] == "7"
    assert "htmlURL" not in site(kcp)["status"]


async def test_conditions_of_others_stay_and_ours_leave(kcp: InMemoryKcp) -> None:
    held = [stored_condition(type_, "True", "R") for type_ in ("Theirs", "Archived", "Stalled", "Reconciling")]
    await start(kcp, kcp.add(repository_object(status={"conditions": held}))).commit(Ready())
    assert conditions(site(kcp)) == {"Ready": ("True", "Reconciled"), "Theirs": ("True", "R")}


async def test_giving_up_for_now_says_nothing_about_the_other_conditions_of_the_kind(kcp: InMemoryKcp) -> None:
    held = [stored_condition("Archived", "True", "R"), stored_condition("Stalled", "True", "R")]
    raw = kcp.add(repository_object(status={"conditions": held}))
    for result in (Retryable("Busy", "m"), NotReady("Waiting", "m")):
        await start(kcp, site(kcp)).commit(result)
        assert conditions(site(kcp))["Archived"] == ("True", "R")
        assert "Stalled" not in conditions(site(kcp))
    assert raw["metadata"]["generation"] == 1


@pytest.mark.parametrize(
    ("result", "observed"),
    [(Ready(), 2), (Terminal("R", "m"), 2), (NotReady("R", "m"), 2), (Retryable("R", "m"), 1)],
    ids=["Ready", "Terminal", "NotReady", "Retryable"],
)
async def test_a_generation_is_observed_once_something_is_known_of_it(
    kcp: InMemoryKcp, result: Any, observed: int
) -> None:
    metadata = {"generation": 2, "annotations": {RECONCILE_REQUESTED_AT: "t"}}
    await start(kcp, kcp.add(repository_object(metadata=metadata, status={"observedGeneration": 1}))).commit(result)
    assert site(kcp)["status"]["observedGeneration"] == observed
    assert site(kcp)["status"].get("lastHandledReconcileAt") == ("t" if observed == 2 else None)


async def test_a_conflict_in_status_is_answered_with_the_same_result_at_its_generation(kcp: InMemoryKcp) -> None:
    ctx = start(kcp, kcp.add(repository_object(metadata={"annotations": {RECONCILE_REQUESTED_AT: "first"}})))

    def edit() -> None:
        patch: JsonObject = {
            "spec": {"description": "theirs"},
            "metadata": {"annotations": {RECONCILE_REQUESTED_AT: "second"}},
        }
        kcp.edit("repositories", "site", patch)

    kcp.once(lambda request: request.writes, edit)
    await ctx.commit(Ready({"repoID": "7"}))
    status = site(kcp)["status"]
    assert (status["repoID"], status["observedGeneration"]) == ("7", 1)
    assert status["lastHandledReconcileAt"] == "first", "the second request was not seen by this pass"


async def test_three_conflicts_in_a_row_are_handed_back(kcp: InMemoryKcp) -> None:
    ctx = start(kcp, kcp.add(repository_object()))

    def somebody_writes(request: Request) -> None:
        if request.writes:
            kcp.edit("repositories", "site", {"metadata": {"labels": {"n": str(len(kcp.requests))}}})

    kcp.before.append(somebody_writes)
    with pytest.raises(Superseded):
        await ctx.commit(Ready({"repoID": "7"}))
    assert len(kcp.writes("repositories")) == 3


async def test_a_status_that_kcp_refuses_is_an_error_and_no_conflict(kcp: InMemoryKcp) -> None:
    ctx = start(kcp, kcp.add(repository_object()))

    def refuse() -> None:
        raise Invalid(422, "Invalid", "status.htmlURL: Too long")

    kcp.once(lambda request: request.subresource == "status", refuse)
    with pytest.raises(Invalid):
        await ctx.commit(Ready({"htmlURL": "x"}))


async def test_what_is_recorded_in_between_stays_beside_the_rest_unless_the_object_was_edited(kcp: InMemoryKcp) -> None:
    ctx = start(kcp, kcp.add(repository_object(status={"htmlURL": "x"})))
    await ctx.record_status({"repoID": "7"})
    assert site(kcp)["status"] == {"htmlURL": "x", "repoID": "7"}
    assert ctx.object.status.repo_id == "7"
    somebody_edits(kcp)
    with pytest.raises(Superseded):
        await ctx.record_status({"repoID": "8"})


async def test_an_announcement_adds_one_condition_and_the_result_takes_it_away(kcp: InMemoryKcp) -> None:
    held = [stored_condition("Ready", "True", "Reconciled")]
    ctx = start(kcp, kcp.add(repository_object(status={"conditions": held})))
    await ctx.announce("Progressing", "working on it")
    assert conditions(site(kcp)) == {"Ready": ("True", "Reconciled"), "Reconciling": ("True", "Progressing")}
    await ctx.commit(Ready())
    assert conditions(site(kcp)) == {"Ready": ("True", "Reconciled")}


async def test_an_announcement_stands_for_no_other_reason_to_reconcile(kcp: InMemoryKcp) -> None:
    held = [
        stored_condition("Ready", "True", "Reconciled"),
        stored_condition("Reconciling", "True", "HostUnavailable", "down"),
    ]
    ctx = start(kcp, kcp.add(repository_object(status={"conditions": held})))
    await ctx.announce("Progressing", "working on it")
    await ctx.commit(Retryable("HostUnavailable", "down"))
    assert kcp.writes("repositories") == []


async def test_an_announcement_about_an_object_that_changed_or_went_is_dropped(kcp: InMemoryKcp) -> None:
    ctx = start(kcp, kcp.add(repository_object()))
    somebody_edits(kcp)
    await ctx.announce("Progressing", "working on it")
    kcp.remove("repositories", "site")
    await ctx.announce("Progressing", "working on it")


def test_an_id_is_news_until_it_is_stored(kcp: InMemoryKcp) -> None:
    ctx = start(kcp, kcp.add(repository_object(status={"repoID": "7"})))
    assert not ctx.learns_from(Retryable("R", "m"))
    assert not ctx.learns_from(Retryable("R", "m", status={"repoID": "7"}))
    assert ctx.learns_from(Retryable("R", "m", status={"repoID": "8"}))


# ---- the workspace


BINDINGS: dict[str, tuple[list[JsonObject], bool | None]] = {
    "one, bound": ([api_binding()], False),
    "one, terminating": ([api_binding(terminating=True)], True),
    "two, one of them terminating": ([api_binding(terminating=True), api_binding("second")], False),
    "two, both terminating": ([api_binding(terminating=True), api_binding("second", terminating=True)], True),
    "none": ([], None),
    "only one of another API": ([api_binding(export="tenancy.kcp.io")], None),
}


@pytest.mark.parametrize(("bindings", "wanted"), BINDINGS.values(), ids=BINDINGS)
async def test_a_workspace_leaves_when_every_binding_of_ours_is_terminating(
    kcp: InMemoryKcp, bindings: list[JsonObject], wanted: bool | None
) -> None:
    for binding in bindings:
        kcp.add(binding)
    ctx = start(kcp, kcp.add(repository_object()))
    if wanted is None:
        with pytest.raises(Retryable):
            await ctx.is_leaving()
    else:
        assert await ctx.is_leaving() is wanted
    read: Request = kcp.requests[-1]
    assert (read.resource, read.params) == ("apibindings", {"limit": "32"}), "bindings are read live"


async def test_referrers_are_named_ten_at_most(kcp: InMemoryKcp) -> None:
    for n in range(12):
        metadata = {"name": f"key{n:02}", "finalizers": [DEPLOY_KEYS.finalizer]}
        kcp.add(
            {"apiVersion": API_VERSION, "kind": "DeployKey", "metadata": metadata, "spec": {"repositoryRef": "site"}}
        )
    ctx = start(kcp, kcp.add(deleting(repository_object())))
    with pytest.raises(NotReady) as blocked:
        await ctx.require_no_referrers(children_of("repositories"))
    await ctx.commit(blocked.value)
    assert "DeployKey/key09 and 2 more" in message(site(kcp))
    assert "key10" not in message(site(kcp))


# ---- a decision on the event's copy


def reads(kcp: InMemoryKcp) -> int:
    return sum(not request.writes for request in kcp.requests)


async def test_a_copy_is_confirmed_by_one_live_read_and_not_after_a_write(kcp: InMemoryKcp) -> None:
    raw = kcp.add(repository_object(metadata={"finalizers": [FINALIZER]}))
    ctx = start(kcp, raw, is_copy=True)
    await ctx.ensure_finalizer()
    await ctx.confirm_current()
    await ctx.confirm_current()
    assert reads(kcp) == 1
    written = start(kcp, raw, is_copy=True)
    await written.record_status({"repoID": "7"})
    await written.confirm_current()
    await start(kcp, site(kcp)).confirm_current()
    assert reads(kcp) == 1


async def test_a_copy_that_was_overtaken_is_superseded_and_the_context_shows_what_is_true_now(kcp: InMemoryKcp) -> None:
    ctx = start(kcp, kcp.add(repository_object()), is_copy=True)
    kcp.edit("repositories", "site", {"spec": {"description": "theirs"}})
    with pytest.raises(Superseded):
        await ctx.confirm_current()
    assert ctx.object.spec.description == "theirs"


async def test_a_result_that_a_copy_led_to_is_not_written_over_a_newer_object(kcp: InMemoryKcp) -> None:
    raw = kcp.add(repository_object())
    ctx = start(kcp, raw, is_copy=True)
    kcp.edit("repositories", "site", {"status": {"repoID": "7"}})
    with pytest.raises(Superseded):
        await ctx.commit(Terminal(Reason.NAME_TAKEN, "m"))
    assert site(kcp)["status"] == {"repoID": "7"}


def add_key(kcp: InMemoryKcp, name: str, created: datetime, repository: str = "site", **metadata: Any) -> JsonObject:
    return kcp.add(
        {
            "apiVersion": API_VERSION,
            "kind": "DeployKey",
            "metadata": {"name": name, "creationTimestamp": rfc3339(created), **metadata},
            "spec": {"repositoryRef": repository},
        }
    )


async def test_a_deletion_waits_for_referrers_also_where_kcp_cannot_find_them_by_field(kcp: InMemoryKcp) -> None:
    kcp.foreign_schemas = True
    add_key(kcp, "theirs", NOW, "other", finalizers=[DEPLOY_KEYS.finalizer])
    ctx = start(kcp, kcp.add(deleting(repository_object())))
    await ctx.require_no_referrers(children_of("repositories"))
    add_key(kcp, "ours", NOW, finalizers=[DEPLOY_KEYS.finalizer])
    with pytest.raises(NotReady, match="kept until these are deleted: DeployKey/ours"):
        await ctx.require_no_referrers(children_of("repositories"))


# ---- elders


def start_key(kcp: InMemoryKcp, raw: JsonObject) -> ReconcileContext[DeployKey]:
    return ReconcileContext(DEPLOY_KEYS, frozenset(), kcp.objects(workspace()), raw)


OF_SITE = {"spec.repositoryRef": "site"}


async def test_the_elder_is_the_eldest_of_those_that_stand_for_the_same(kcp: InMemoryKcp) -> None:
    mine = add_key(kcp, "mine", NOW)
    for n in range(40):
        add_key(kcp, f"younger{n:02}", NOW + timedelta(minutes=1))
    add_key(kcp, "elder", NOW - timedelta(minutes=1))
    add_key(kcp, "eldest", NOW - timedelta(minutes=3))
    add_key(kcp, "another", NOW - timedelta(minutes=5))
    add_key(kcp, "elsewhere", NOW - timedelta(minutes=5), "other")
    ctx = start_key(kcp, mine)
    assert await ctx.find_elder(lambda other: other.name != "another", fields=OF_SITE) == "eldest"
    assert await ctx.find_elder(lambda other: other.name.startswith("younger"), fields=OF_SITE) is None


async def test_of_two_objects_of_the_same_second_exactly_one_is_the_elder(kcp: InMemoryKcp) -> None:
    first, second = add_key(kcp, "b", NOW, uid="uid-a"), add_key(kcp, "a", NOW, uid="uid-b")
    assert await start_key(kcp, first).find_elder(lambda _: True, fields=OF_SITE) is None
    assert await start_key(kcp, second).find_elder(lambda _: True, fields=OF_SITE) == "b"
