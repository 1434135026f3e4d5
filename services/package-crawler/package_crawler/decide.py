"""What is mirrored of what an owner has published, and when it is looked at again. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final
from zlib import crc32

import orjson
from pydantic import ValidationError

from codecommon.api.group import API_VERSION
from codecommon.api.meta import Condition, Workspace
from codecommon.api.package import Package, is_referrers_tag, package_object_name, repository_label
from codecommon.api.reasons import ConditionType, Reason
from codecommon.api.repository import Repository
from codecommon.api.times import rfc3339
from codecommon.controller import conditions
from codecommon.controller.conditions import condition
from codecommon.githost.protocol import HostPackage, PackageVersion
from codecommon.process.redact import cut, redact

JsonObject = dict[str, Any]

MOST_OF_REPOSITORY: Final = 1_000
MOST_OF_WORKSPACE: Final = 10_000
"""Packages. What an account has published is not the tenant's doing alone, and each object is stored and watched."""

MOST_OWNERS: Final = 100
"""Owners of the Repositories of one Connection. Each has a crawl of its own."""

MOST_VERSIONS: Final = 100
_MOST_TAGS: Final = 64
_LONGEST_TAG: Final = 128
_LONGEST_DIGEST: Final = 256
MOST_VERSION_BYTES: Final = 128 * 1024
"""Of ``status.versions`` as JSON. Ordinary ones have 25 KiB. kcp stores 1.5 MiB in one object, and whoever lists gets it all."""

_TEXTS: Final = {
    "packageName": 255,
    "type": 32,
    "visibility": 32,
    "htmlURL": 2048,
    "updatedAt": 64,
    "imageRepository": 512,
}
"""Fields of status by wire name, and the characters that the schema admits."""

_OF_A_COMMIT: Final = "sha-"

_LONGEST_MESSAGE: Final = 512
# Of the interval, each time that nothing has moved.
_MOST_DOUBLINGS: Final = 2
# Each package's versions are looked at hourly at least: this, and the longest pause between two looks at the owner.
_VERSIONS_EVERY: Final = timedelta(minutes=50)
# More than a second, which is what a row's time tells, and than clocks usually differ.
_SETTLED: Final = timedelta(seconds=10)
SHORTEST_GAP: Final = timedelta(seconds=5)
"""Between two looks at an owner, however many events there are."""
_FIRST_RETRY: Final = timedelta(seconds=5)
_OVERDUE: Final = timedelta(hours=1)
_STALE_FROM: Final = 2
"""Failures in a row. One alone is over a few seconds later, and would be two writes of each object for nothing."""


# ---- the Repositories


@dataclass(frozen=True, slots=True)
class Home:
    """A Repository object whose packages are mirrored. ``shown``: its condition PackagesAvailable, None for none."""

    name: str
    uid: str
    version: str
    generation: int
    owner: str
    host: str
    repo_id: str
    shown: Condition | None


def home_of(raw: JsonObject, workspace: Workspace, connection_owner: str) -> Home | None:
    """None: nothing is mirrored for the Repository, because it is not on the host, is paused, or is being deleted."""
    try:
        repository = Repository.parse(raw, workspace)
    except ValidationError:
        return None
    status = repository.status
    if repository.deleting or repository.paused or not status.repo_id or not status.host:
        return None
    return Home(
        name=repository.name,
        uid=repository.metadata.uid,
        version=repository.metadata.resource_version,
        generation=repository.metadata.generation,
        owner=status.owner or repository.spec.owner or connection_owner,
        host=status.host,
        repo_id=status.repo_id,
        shown=status.condition(ConditionType.PACKAGES_AVAILABLE),
    )


def owners_of(homes: Iterable[Home]) -> dict[str, list[Home]]:
    """The homes by owner, as the first one of each spells it."""
    spelled: dict[str, str] = {}
    owners: dict[str, list[Home]] = {}
    for home in homes:
        owners.setdefault(spelled.setdefault(home.owner.lower(), home.owner), []).append(home)
    return owners


# ---- the objects that are there


@dataclass(frozen=True, slots=True)
class Mirrored:
    """A Package object as it is stored. ``owner_uid``: of the Repository object that it goes with.

    ``content``: its ``_TEXTS`` and versionCount. ``versions``: a digest of them.
    """

    name: str
    uid: str
    version: str
    generation: int
    observed_generation: int | None
    repository: str
    owner_uid: str | None
    content: Mapping[str, Any]
    versions: str
    conditions: tuple[Condition, ...]

    @property
    def stale(self) -> str | None:
        """Why it says that it is out of date; None: it does not."""
        return next((c.reason for c in self.conditions if c.type == ConditionType.STALE), None)

    @property
    def type(self) -> str | None:
        return self.content.get("type")


def mirrored_of(raw: JsonObject, workspace: Workspace) -> Mirrored | None:
    """What is compared of a Package object. None: it has a form that no object of ours has."""
    try:
        package = Package.parse(raw, workspace)
    except ValidationError:
        return None
    status: JsonObject = raw.get("status") or {}
    return Mirrored(
        name=package.name,
        uid=package.metadata.uid,
        version=package.metadata.resource_version,
        generation=package.metadata.generation,
        observed_generation=package.status.observed_generation,
        repository=package.spec.repository_ref,
        owner_uid=next(
            (o.get("uid") for o in raw["metadata"].get("ownerReferences") or () if o.get("kind") == "Repository"), None
        ),
        content={name: status[name] for name in (*_TEXTS, "versionCount") if name in status},
        versions=_digest(status.get("versions")),
        conditions=package.status.conditions,
    )


def _digest(versions: object) -> str:
    return sha256(orjson.dumps(versions, option=orjson.OPT_SORT_KEYS)).hexdigest() if versions else ""


# ---- which objects there shall be


@dataclass(frozen=True, slots=True)
class Wanted:
    """A package of a home."""

    home: Home
    row: HostPackage


def wanted_of(homes: Mapping[str, Home], rows: Iterable[HostPackage]) -> dict[str, Wanted]:
    """The packages by the name of their object. ``homes``: by the id of their repository, because a name may have moved."""
    return {
        package_object_name(home.name, row.type, row.name): Wanted(home, row)
        for row in rows
        if row.repository_id is not None and (home := homes.get(row.repository_id)) is not None
    }


def within_limits(
    wanted: Mapping[str, Wanted], mirrored: Collection[str], others: int
) -> tuple[dict[str, Wanted], Counter[str]]:
    """What is mirrored of ``wanted``, and how many packages are not, by the name of their home.

    What is there already stays, and of the rest the newest come first. ``others``: the further Packages of the workspace.
    """
    by_age = sorted(wanted.items(), key=lambda item: item[1].row.updated_at, reverse=True)
    by_age.sort(key=lambda item: item[0] not in mirrored)
    kept: dict[str, Wanted] = {}
    of_home: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    for name, package in by_age:
        home = package.home.name
        if of_home[home] >= MOST_OF_REPOSITORY or others + len(kept) >= MOST_OF_WORKSPACE:
            left_out[home] += 1
        else:
            of_home[home] += 1
            kept[name] = package
    return kept, left_out


def manifest(name: str, home: Home) -> JsonObject:
    """The object of a package. It goes with its Repository."""
    owner = {
        "apiVersion": API_VERSION,
        "kind": "Repository",
        "name": home.name,
        "uid": home.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "Package",
        "metadata": {"name": name, "labels": repository_label(home.name), "ownerReferences": [owner]},
        "spec": {"repositoryRef": home.name},
    }


# ---- what status says


def shown(row: HostPackage) -> JsonObject:
    """Status fields by wire name, without versions. None: the host does not tell, or more than a status takes."""
    told = {
        "packageName": row.name,
        "type": row.type,
        "visibility": row.visibility,
        "htmlURL": row.html_url,
        "updatedAt": row.updated_at,
        "imageRepository": row.image_repository,
    }
    return {name: text if text and len(text) <= _TEXTS[name] else None for name, text in told.items()}


@dataclass(slots=True)
class Images:
    """The images among the versions of a package, as its pages come. ``count``: of all versions so far."""

    count: int = 0
    found: list[JsonObject] = field(default_factory=list[JsonObject])

    def add(self, page: Sequence[PackageVersion]) -> None:
        self.count += len(page)
        for version in page:
            image = _image(version)
            if image is not None:
                self.found.append(image)

    @property
    def enough(self) -> bool:
        """Whether further, older versions would not be shown."""
        return len(self.found) >= MOST_VERSIONS

    def status(self, row: HostPackage, *, whole: bool) -> JsonObject:
        """``versions`` and ``versionCount``. ``whole``: all pages were added, so the count is right whatever ``row`` says."""
        newest = sorted(self.found, key=lambda image: _moment(image.get("createdAt")), reverse=True)
        versions: list[JsonObject] = []
        left = MOST_VERSION_BYTES
        for image in newest[:MOST_VERSIONS]:
            left -= len(orjson.dumps(image)) + 1
            if left < 0:
                break
            versions.append(image)
        return {
            "versions": versions or None,
            "versionCount": self.count if whole else max(self.count, row.version_count),
        }


def _image(version: PackageVersion) -> JsonObject | None:
    """None: nobody has tagged it as an image, so nobody shall deploy it. Signatures and the manifests of single platforms."""
    tags = [tag for tag in version.tags if 0 < len(tag) <= _LONGEST_TAG and not is_referrers_tag(tag)]
    if not tags or not 0 < len(version.name) <= _LONGEST_DIGEST:
        return None
    if len(tags) > _MOST_TAGS:
        # Deployers look for the tag of a commit.
        first = [tag for tag in tags if tag.startswith(_OF_A_COMMIT)][:_MOST_TAGS]
        others = [tag for tag in tags if not tag.startswith(_OF_A_COMMIT)][: _MOST_TAGS - len(first)]
        kept = {*first, *others}
        tags = [tag for tag in tags if tag in kept]
    image: JsonObject = {"digest": version.name, "tags": tags}
    if 0 < len(version.created_at) <= _TEXTS["updatedAt"]:
        image["createdAt"] = version.created_at
    return image


def _moment(text: str | None) -> datetime:
    """A time as the host writes it. What is none counts as the oldest."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def wants_versions(name: str, row: HostPackage, known: Mirrored | None, last: datetime | None, now: datetime) -> bool:
    """Whether the versions of a package are read: its row has changed, the last attempt failed, or their turn has come.

    A row that had just changed at the last look may have changed again unseen, because its time has whole seconds.

    The turns of packages follow from their names, so they are spread evenly. ``last``: the look before this one.
    """
    if row.image_repository is None:
        return False
    if (
        known is None
        or known.stale == Reason.VERSIONS_INCOMPLETE
        or known.content.get("updatedAt") != (row.updated_at or None)
    ):
        return True
    if row.version_count and row.version_count != known.content.get("versionCount"):
        # That a version was deleted shows in nothing else. A count of 0 says nothing.
        return True
    if "versionCount" not in known.content or _moment(row.updated_at) > (last or now) - _SETTLED:
        return True
    return last is not None and _turn(name, now) != _turn(name, last)


def _turn(name: str, at: datetime) -> int:
    period = _VERSIONS_EVERY.total_seconds()
    return int((at.timestamp() + crc32(name.encode()) % period) // period)


def status_patch(known: Mirrored, wanted: Mapping[str, Any], now: datetime) -> JsonObject:
    """The fields of status that change, by wire name; empty for none. ``lastSyncTime`` moves with the content alone."""
    patch = {name: value for name, value in wanted.items() if name != "versions" and known.content.get(name) != value}
    if "versions" in wanted and known.versions != _digest(wanted["versions"]):
        patch["versions"] = wanted["versions"]
    if patch:
        patch["lastSyncTime"] = rfc3339(now)
    ready = condition(ConditionType.READY, "True", Reason.RECONCILED, "as the git host lists it")
    return patch | _conditions(known, (ready,), now)


def stale_patch(known: Mirrored, reason: Reason, since: datetime | None, now: datetime) -> JsonObject:
    """The status of an object that could not be compared with the host, but for its content. Empty: it says so already."""
    if known.stale:
        return {}
    when = f"what is shown is as of {rfc3339(since)}" if since is not None else "what is shown may be out of date"
    message = f"the git host did not give the whole list; {when}"
    said = (
        condition(ConditionType.READY, "Unknown", reason, message),
        condition(ConditionType.STALE, "True", reason, message),
    )
    return _conditions(known, said, now)


def _conditions(known: Mirrored, said: tuple[Condition, ...], now: datetime) -> JsonObject:
    merged = conditions.merge(
        known.conditions,
        said,
        owned=frozenset({ConditionType.READY, ConditionType.STALE}),
        generation=known.generation,
        now=rfc3339(now),
    )
    patch: JsonObject = {}
    if merged != known.conditions:
        patch["conditions"] = [c.model_dump(by_alias=True) for c in merged]
    if known.observed_generation != known.generation:
        patch["observedGeneration"] = known.generation
    return patch


# ---- what others are told

AVAILABLE: Final = condition(
    ConditionType.PACKAGES_AVAILABLE, "True", Reason.PACKAGES_MIRRORED, "what the repository has published is mirrored"
)


def unavailable(reason: Reason, message: str) -> Condition:
    return condition(ConditionType.PACKAGES_AVAILABLE, "False", reason, cut(redact(message), _LONGEST_MESSAGE))


def over_limit(left_out: int) -> Condition:
    return unavailable(
        Reason.PACKAGE_LIMIT,
        f"{left_out} packages are not mirrored: at most {MOST_OF_REPOSITORY} of a repository are, and {MOST_OF_WORKSPACE} of a "
        "workspace; delete packages on the host that nobody needs",
    )


TOO_MANY_OWNERS: Final = unavailable(
    Reason.PACKAGE_LIMIT,
    f"the Repositories of this Connection have more than {MOST_OWNERS} owners, and the packages of the others are not mirrored; "
    "use another Connection",
)


def is_news(told: Condition | None, finding: Condition) -> bool:
    """Whether a finding says something else than the object does. ``told``: its condition of that type."""
    return told is None or (told.status, told.reason, told.message) != (finding.status, finding.reason, finding.message)


# ---- when


@dataclass(frozen=True, slots=True)
class State:
    """What is kept of the crawl of one owner.

    ``at``: when the last look began of which everything was read. ``quiet``: looks in a row at which nothing had moved.
    ``failures``: looks in a row that failed.
    """

    at: datetime | None = None
    quiet: int = 0
    failures: int = 0

    @property
    def is_stale(self) -> bool:
        """Whether objects say that they are out of date, when this look has failed, too."""
        return self.failures + 1 >= _STALE_FROM

    def is_overdue(self, now: datetime) -> bool:
        """Whether the last look that read everything is so long ago that objects say that they are out of date."""
        return self.at is not None and now - self.at >= _OVERDUE

    def after(self, began: datetime, *, moved: bool, failed: bool) -> State:
        """The state after a look that began then. ``moved``: an object was written or removed."""
        if failed:
            return replace(self, failures=min(self.failures + 1, 32))
        return State(began, 0 if moved else min(self.quiet + 1, _MOST_DOUBLINGS))

    def pause(self, interval: timedelta) -> timedelta:
        """How long to wait for the next look, without jitter."""
        if self.failures:
            return min(_FIRST_RETRY * 2 ** min(self.failures - 1, 10), max(interval, timedelta(minutes=5)))
        return interval * 2**self.quiet

    def too_early(self, now: datetime, interval: timedelta) -> timedelta | None:
        """How long an event waits, because the owner was looked at a moment ago. None: it does not."""
        gap = min(SHORTEST_GAP, interval)
        if self.at is None or self.failures or not timedelta() <= now - self.at < gap:
            return None
        return gap - (now - self.at)

    def encode(self) -> bytes:
        at = self.at.isoformat() if self.at is not None else None
        return orjson.dumps({"at": at, "quiet": self.quiet, "failures": self.failures})

    @classmethod
    def decode(cls, value: bytes) -> State:
        """What ``encode`` wrote. Anything else counts as nothing known."""
        try:
            data = orjson.loads(value)
            at = data["at"]
            return cls(
                datetime.fromisoformat(at) if at is not None else None, int(data["quiet"]), int(data["failures"])
            )
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            return cls()
