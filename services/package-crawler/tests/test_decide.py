"""What is mirrored of a package, and when: pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from crawl_bed import digest, image

from codecommon.api.meta import Workspace
from codecommon.api.package import package_object_name, repository_label
from codecommon.githost.protocol import HostPackage, PackageVersion
from codecommon.testing.builders import ENDPOINT, made_repository
from package_crawler import decide
from package_crawler.decide import Images, State

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
HEX = "0123456789abcdef" * 4
ROW = HostPackage(
    "octocat", "container", "site", "private", "https://x", "2026-11-01T00:00:00Z", 0, "1", "ghcr.io/octocat/site"
)
INTERVAL = timedelta(minutes=2)


def shown(*versions: PackageVersion, whole: bool = True, row: HostPackage = ROW) -> dict[str, Any]:
    images = Images()
    images.add(versions)
    return images.status(row, whole=whole)


# ---- names


def test_an_object_has_the_name_that_the_go_provider_gives_it() -> None:
    # printf 'site\0container\0Team/My_App' | sha256sum
    assert package_object_name("site", "container", "Team/My_App") == "site-container-team-my-app-d79debaa4f"
    assert package_object_name("site", "npm", "same") != package_object_name("site", "maven", "same")
    assert package_object_name("a", "npm", "x/y") != package_object_name("a", "npm", "x-y")
    assert len(package_object_name("r" * 100, "container", "n" * 200)) == 253


@pytest.mark.parametrize("length", [63, 64, 253])
def test_a_label_fits_whatever_the_name(length: int) -> None:
    (label,) = repository_label("r" * length).values()
    assert len(label) <= 63
    if length > 63:
        assert label.startswith("r" * 54 + "-")
        assert label != next(iter(repository_label("r" * (length + 1)).values()))


# ---- versions


@pytest.mark.parametrize("suffix", ["", ".sig", ".att", ".sbom", ".anything"])
def test_what_refers_to_an_image_never_stands_before_it_and_is_counted(suffix: str) -> None:
    status = shown(
        image(9, f"sha256-{HEX}{suffix}"),
        image(8),
        image(7, "v1", f"sha256-{HEX}{suffix}"),
        image(6),
    )
    assert [(v["digest"], v["tags"]) for v in status["versions"]] == [(digest(7), ["v1"])]
    assert status["versionCount"] == 4


def test_a_package_without_an_image_that_anybody_tagged_has_nothing_to_deploy() -> None:
    assert shown(image(2), image(1, f"sha256-{HEX}")) == {"versions": None, "versionCount": 2}


def test_the_newest_image_comes_first_whatever_the_order_of_the_host() -> None:
    status = shown(image(1, "a"), image(3, "b"), image(2, "c"))
    assert [v["tags"] for v in status["versions"]] == [["b"], ["c"], ["a"]]


@pytest.mark.parametrize("time", ["", "yesterday", "2026-11-01", "9" * 100])
def test_a_time_that_is_none_counts_as_the_oldest(time: str) -> None:
    status = shown(PackageVersion(digest(1), ("odd",), time), image(2, "v2"))
    assert status["versions"][0]["tags"] == ["v2"]


def test_a_hundred_versions_are_shown_and_the_count_is_that_of_all() -> None:
    many = [image(number, f"v{number}") for number in range(400, 0, -1)]
    status = shown(*many)
    assert len(status["versions"]) == 100
    assert status["versions"][0]["tags"] == ["v400"]
    assert status["versionCount"] == 400


@pytest.mark.parametrize(("told", "count"), [(0, 3), (2, 3), (10_000, 10_000)])
def test_where_not_all_were_read_the_larger_count_is_shown(told: int, count: int) -> None:
    row = replace(ROW, version_count=told)
    assert shown(image(1, "a"), image(2, "b"), image(3), whole=False, row=row)["versionCount"] == count


def test_where_tags_are_cut_those_of_commits_stay() -> None:
    tags = [f"t{number}" for number in range(400)] + [f"sha-{number:040x}" for number in range(40)]
    (version,) = shown(image(1, *tags))["versions"]
    assert len(version["tags"]) == 64
    assert sum(tag.startswith("sha-") for tag in version["tags"]) == 40
    assert version["tags"][0] == "t0"


def test_status_stays_below_what_kcp_stores_with_ten_thousand_versions_and_the_longest_tags() -> None:
    tags = tuple(f"{number:03}".ljust(128, "x") for number in range(500))
    images = Images()
    for page in range(100):
        images.add([image(number, *tags[:20]) for number in range(page * 100, page * 100 + 100)])
    images.add([image(1, *tags)])
    status = images.status(ROW, whole=True)
    assert len(orjson.dumps(status)) < decide.MOST_VERSION_BYTES + 1024
    assert status["versionCount"] == 10_001
    assert status["versions"]


def test_what_no_status_takes_is_left_out() -> None:
    row = replace(ROW, html_url="https://" + "x" * 3000, visibility="v" * 100, updated_at="")
    status = decide.shown(row)
    assert (status["htmlURL"], status["visibility"], status["updatedAt"]) == (None, None, None)
    versions = shown(PackageVersion("d" * 300, ("v1",), ""), image(1, "x" * 129, "ok"))["versions"]
    assert [v["tags"] for v in versions] == [["ok"]]


# ---- Repositories


def test_a_repository_that_is_not_on_the_host_or_has_an_odd_form_has_no_packages() -> None:
    def home(raw: dict[str, Any]) -> decide.Home | None:
        given = {"uid": "u", "resourceVersion": "1", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
        return decide.home_of({**raw, "metadata": {**given, **raw["metadata"]}}, Workspace(ENDPOINT, "c1"), "octocat")

    assert home(made_repository("site", repo_id="7")) is not None
    assert home({**made_repository("site", repo_id="7"), "status": {}}) is None
    assert home({**made_repository("site", repo_id="7"), "spec": {}}) is None


# ---- when


def test_failures_are_tried_again_soon_and_then_ever_more_rarely() -> None:
    state, pauses = State(NOW), []
    for _ in range(12):
        state = state.after(NOW, moved=False, failed=True)
        pauses.append(state.pause(INTERVAL).total_seconds())
    assert pauses[:4] == [5, 10, 20, 40]
    assert pauses[-1] == 300
    assert state.at == NOW, "since when what is shown is old"
    assert state.after(NOW, moved=True, failed=False) == State(NOW)


def test_a_state_survives_and_anything_else_counts_as_nothing_known() -> None:
    state = State(NOW, 2, 3)
    assert State.decode(state.encode()) == state
    for other in (b"", b"null", b"[]", b'{"at": "x", "quiet": 1, "failures": 1}', b'{"at": null}'):
        assert State.decode(other) == State()


def test_the_turns_of_packages_are_spread_over_the_hour() -> None:
    due = [
        sum(
            decide.wants_versions(f"p-{number}", ROW, KNOWN, NOW + minute - timedelta(minutes=1), NOW + minute)
            for number in range(500)
        )
        for minute in (timedelta(minutes=m) for m in range(1, 51))
    ]
    assert sum(due) == 500
    assert max(due) < 30


KNOWN = decide.Mirrored("p", "u", "1", 1, 1, "site", "u", {"updatedAt": ROW.updated_at, "versionCount": 1}, "", ())
