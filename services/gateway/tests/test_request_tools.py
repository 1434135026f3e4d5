"""commit_files, checkout_repository, build_status and rebuild on a workspace in memory, read as their callers read them.

A caller takes any answer that is no error for done, and a checkout without files for an empty repository.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import mcp_types as types
import orjson
import pytest
from jsonschema_rs import Draft202012Validator

from codecommon.api.bundle import Bundle, BundleFile, scope_of
from codecommon.api.reasons import ConditionType, Reason
from codecommon.api.times import rfc3339
from codecommon.kcp.client import Forbidden, JsonObject, Objects
from codecommon.messaging.bundles import BundlesFull, BundleStore, DirectoryBundles
from codecommon.testing.builders import ENDPOINT, TOKEN, condition, made_repository, repository_object
from codecommon.testing.objects import InMemoryKcp
from gateway import time_limits
from gateway.bundles import Bundles, no_store
from gateway.mcp_server.arguments import Arguments
from gateway.mcp_server.server import _result
from gateway.mcp_tools import requests, wait
from gateway.mcp_tools.table import request_tools
from gateway.mcp_tools.tool import Call, Tool, ToolError

LABEL = "code.kedge.faros.sh/repository"
COMMITS, CHECKOUTS, BUILDS = "repositorycommits", "repositorycheckouts", "repositorybuildstatuses"
RESOURCES = {
    "commit_files": COMMITS,
    "checkout_repository": CHECKOUTS,
    "build_status": BUILDS,
    "rebuild": BUILDS,
}
FILES = [{"path": "README.md", "content": "hello\n"}, {"path": "src/a.py", "content": "a = 1\n"}]
ARGUMENTS: dict[str, JsonObject] = {
    "commit_files": {"repositoryRef": "site", "files": FILES},
    "checkout_repository": {"repositoryRef": "site"},
    "build_status": {"repositoryRef": "site", "workflowFileName": "build.yaml"},
    "rebuild": {"repositoryRef": "site", "workflowFileName": "build.yaml"},
}
DONE: dict[str, JsonObject] = {
    "commit_files": {"commitSHA": "c" * 40, "branch": "main"},
    "checkout_repository": {},
    "build_status": {"run": {"found": False}},
    "rebuild": {"dispatched": True},
}
TOOLS = list(RESOURCES)
MOST_ANSWER = 3584 << 10
"""3.5 MiB, in the hub's answer."""
LONGEST = 20.0
"""Seconds after which a test that hangs has failed."""
COMPLETED = "2026-01-01T00:00:10Z"


class Kcp(InMemoryKcp):
    """A kcp whose provider finishes requests at once, unless told otherwise.

    Attributes:
        status: Of the next requests when they are read; None: they are not worked on.
        real_cluster: What kcp says of where the caller's objects live.
    """

    def __init__(self) -> None:
        super().__init__()
        self.status: Mapping[str, Any] | None = None
        self.real_cluster = "c1"

    async def request(self, method: str, url: str, **given: Any) -> JsonObject:
        resource, _, name = url.partition("/v1alpha1/")[2].partition("/")
        if method == "GET" and name and resource in RESOURCES.values() and self.status is not None:
            found = self.stored(resource, name)
            if found is not None and not found.get("status"):
                self.edit(resource, name, {"status": self.status})
        answer = await super().request(method, url, **given)
        if "metadata" in answer and "annotations" in answer["metadata"]:
            answer["metadata"]["annotations"]["kcp.io/cluster"] = self.real_cluster
        return answer


@pytest.fixture
def kcp(monkeypatch: pytest.MonkeyPatch) -> Kcp:
    monkeypatch.setattr(wait, "_FIRST_PAUSE", 0.001)
    kcp = Kcp()
    labels = {"app": "shop", "team": "web"}
    kcp.add(made_repository(repo_id="7", metadata={"labels": labels}))
    return kcp


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "bundles"


@pytest.fixture
def bundles(folder: Path) -> Bundles:
    return in_folder(folder)


def in_folder(folder: Path) -> Bundles:
    """The store of one gateway. Several may share the folder, as replicas do."""

    @asynccontextmanager
    async def store() -> AsyncIterator[BundleStore]:
        yield DirectoryBundles(folder)

    return Bundles(store)


def text_file(path: str, content: str) -> BundleFile:
    return BundleFile.of_text(path, content)


def succeeded(**status: Any) -> JsonObject:
    return {"phase": "Succeeded", "completedAt": COMPLETED, **status}


def failed(reason: str, message: str) -> JsonObject:
    conditions = [condition(ConditionType.READY, "False", reason, message)]
    return {"phase": "Failed", "completedAt": COMPLETED, "conditions": conditions}


def tool_of(name: str, bundles: Bundles, patience: float = LONGEST) -> Tool:
    return next(tool for tool in request_tools(bundles, patience=patience) if tool.name == name)


async def run(
    kcp: Kcp,
    bundles: Bundles,
    name: str,
    /,
    *,
    patience: float = LONGEST,
    arrived: float | None = None,
    **arguments: Any,
) -> types.CallToolResult:
    """Call a tool as the endpoint does. Raises ``ToolError``, which the endpoint answers with ``isError``."""
    tool = tool_of(name, bundles, patience)
    Arguments(tool).require_valid(arguments)
    call = Call(Objects(kcp, f"{ENDPOINT}/clusters/c1"), arguments, "alice", "an agent", arrived)
    output = await asyncio.wait_for(tool.handler(call), LONGEST)
    result = await _result(output)
    Draft202012Validator(tool.output_schema).validate(result.structured_content)
    return result


def read(result: types.CallToolResult) -> JsonObject:
    """The JSON of an answer, as all callers read it: there is one text block, and it is within the bound of all of them."""
    [block] = result.content
    assert isinstance(block, types.TextContent)
    assert len(hubs_answer(result)) <= MOST_ANSWER
    answer: JsonObject = json.loads(block.text)
    assert answer == result.structured_content
    return answer


def hubs_answer(result: types.CallToolResult) -> bytes:
    """The event that the hub sends, as Go writes JSON."""
    content = {"jsonrpc": "2.0", "id": 1, "result": result.model_dump(by_alias=True, mode="json", exclude_none=True)}
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f"event: message\ndata: {text}\n\n".encode()


async def refused(kcp: Kcp, bundles: Bundles, name: str, /, **given: Any) -> str:
    with pytest.raises(ToolError) as error:
        await run(kcp, bundles, name, **given)
    return str(error.value)


def only(kcp: InMemoryKcp, resource: str) -> JsonObject:
    [raw] = kcp.stored_objects(resource)
    return raw


def age(kcp: InMemoryKcp, resource: str, name: str) -> None:
    """Make a request older than the call that stored it may be."""
    raw = kcp.stored(resource, name)
    assert raw is not None
    kcp.remove(resource, name)
    created = rfc3339(datetime.now(UTC) - timedelta(seconds=time_limits.WAIT + 2))
    kcp.add(raw | {"metadata": raw["metadata"] | {"creationTimestamp": created}})


def names(kcp: InMemoryKcp, resource: str) -> list[str]:
    return sorted(raw["metadata"]["name"] for raw in kcp.stored_objects(resource))


async def checked_out(
    kcp: Kcp, bundles: Bundles, files: Iterable[BundleFile], skipped: Iterable[str] = (), cluster: str = "c1"
) -> Bundle:
    """The next checkouts are of these files."""
    bundle = Bundle.build(files)
    await bundles.put(cluster, bundle)
    ref = {"name": bundle.name, "digest": bundle.digest}
    kcp.status = succeeded(ref="main", commitSHA="c" * 40, bundleRef=ref, skipped=list(skipped))
    return bundle


# ---- the table


def test_the_tools_have_the_go_providers_inputs_and_annotations() -> None:
    go: dict[str, tuple[set[str], set[str], dict[str, bool]]] = {
        "commit_files": (
            {"repositoryRef"},
            {"message", "branch", "files", "deletePaths"},
            {"destructiveHint": True, "openWorldHint": True},
        ),
        "checkout_repository": ({"repositoryRef"}, {"ref"}, {"idempotentHint": True, "openWorldHint": True}),
        "build_status": (
            {"repositoryRef", "workflowFileName"},
            {"ref", "maxLogLines"},
            {"idempotentHint": True, "openWorldHint": True},
        ),
        "rebuild": ({"repositoryRef", "workflowFileName"}, {"ref"}, {"openWorldHint": True}),
    }
    added = {"checkout_repository": {"paths"}}
    tools = {tool.name: tool for tool in request_tools(Bundles(no_store))}
    assert list(tools) == list(go)
    for name, (required, optional, hints) in go.items():
        schema = tools[name].input_schema
        assert set(schema["required"]) == required
        assert set(schema["properties"]) == required | optional | added.get(name, set()) | {"name", "plan"}
        assert dict(tools[name].annotations) == hints
        assert not tools[name].is_read_only


# ---- what all four have in common


@pytest.mark.parametrize("tool", TOOLS)
async def test_what_has_not_finished_is_an_error_that_names_the_request(kcp: Kcp, bundles: Bundles, tool: str) -> None:
    sentence = await refused(kcp, bundles, tool, patience=0.05, **ARGUMENTS[tool])
    name = only(kcp, RESOURCES[tool])["metadata"]["name"]
    assert f" {name} has not finished" in sentence
    assert f"name: {name}" in sentence


@pytest.mark.parametrize("tool", TOOLS)
async def test_asked_by_name_an_unfinished_request_is_waited_for(kcp: Kcp, bundles: Bundles, tool: str) -> None:
    await refused(kcp, bundles, tool, patience=0.05, **ARGUMENTS[tool])
    name = only(kcp, RESOURCES[tool])["metadata"]["name"]
    kcp.status = succeeded(**DONE[tool])
    given = {key: value for key, value in ARGUMENTS[tool].items() if key != "files"}

    answer = read(await run(kcp, bundles, tool, name=name, **given))

    assert answer["repositoryRef"] == "site"
    is_deleted = tool in ("checkout_repository", "build_status")
    assert [request.method for request in kcp.writes(RESOURCES[tool])] == ["POST", *["DELETE"] * is_deleted]


@pytest.mark.parametrize("tool", TOOLS)
async def test_the_same_request_joins_the_one_that_runs(kcp: Kcp, bundles: Bundles, folder: Path, tool: str) -> None:
    await refused(kcp, bundles, tool, patience=0.05, **ARGUMENTS[tool])
    name = only(kcp, RESOURCES[tool])["metadata"]["name"]
    age(kcp, RESOURCES[tool], name)
    kcp.edit(RESOURCES[tool], name, {"status": {"phase": "Running"}})
    await refused(kcp, in_folder(folder), tool, patience=0.05, **ARGUMENTS[tool])
    only(kcp, RESOURCES[tool])


@pytest.mark.parametrize("tool", TOOLS)
async def test_of_two_gateways_that_are_asked_at_once_one_begins_the_request(kcp: Kcp, folder: Path, tool: str) -> None:
    calls = [refused(kcp, in_folder(folder), tool, patience=0.05, **ARGUMENTS[tool]) for _ in range(2)]
    await asyncio.gather(*calls)
    only(kcp, RESOURCES[tool])


@pytest.mark.parametrize("how", ["Succeeded", "Failed"])
async def test_the_same_request_after_the_end_of_the_first_is_another_one(kcp: Kcp, bundles: Bundles, how: str) -> None:
    given = ARGUMENTS["commit_files"]
    for count in range(1, 4):
        await refused(kcp, bundles, "commit_files", patience=0.05, **given)
        assert len(names(kcp, COMMITS)) == count
        for name in names(kcp, COMMITS):
            kcp.edit(COMMITS, name, {"status": {"phase": how, "completedAt": COMPLETED}})


@pytest.mark.parametrize("tool", ["checkout_repository", "build_status"])
async def test_a_request_that_ended_at_an_unknown_time_is_not_joined(kcp: Kcp, bundles: Bundles, tool: str) -> None:
    await refused(kcp, bundles, tool, patience=0.05, **ARGUMENTS[tool])
    name = only(kcp, RESOURCES[tool])["metadata"]["name"]
    for completed_at in (None, "yesterday", "2026-01-01T00:00:00"):
        kcp.edit(RESOURCES[tool], name, {"status": {"phase": "Succeeded", "completedAt": completed_at}})
        await refused(kcp, bundles, tool, patience=0.05, **ARGUMENTS[tool])
        assert len(kcp.stored_objects(RESOURCES[tool])) == 2


@pytest.mark.parametrize("tool", ["checkout_repository", "build_status"])
async def test_what_finished_after_its_caller_had_its_answer_is_read_by_the_same_call(
    kcp: Kcp, bundles: Bundles, tool: str
) -> None:
    await refused(kcp, bundles, tool, patience=0.05, **ARGUMENTS[tool])
    name = only(kcp, RESOURCES[tool])["metadata"]["name"]
    age(kcp, RESOURCES[tool], name)
    now = rfc3339(datetime.now(UTC))
    kcp.edit(RESOURCES[tool], name, {"status": succeeded(**DONE[tool]) | {"completedAt": now}})
    read(await run(kcp, bundles, tool, **ARGUMENTS[tool]))
    assert [request.method for request in kcp.writes(RESOURCES[tool])] == ["POST", "POST", "DELETE"]
    assert kcp.stored_objects(RESOURCES[tool]) == []


@pytest.mark.parametrize("tool", TOOLS)
async def test_a_failure_that_was_read_stays_for_commits_alone(kcp: Kcp, bundles: Bundles, tool: str) -> None:
    kcp.status = failed(Reason.REF_NOT_FOUND, "there is no such branch")
    await refused(kcp, bundles, tool, **ARGUMENTS[tool])
    assert len(kcp.stored_objects(RESOURCES[tool])) == (tool == "commit_files")


@pytest.mark.parametrize(
    ("tool", "other"),
    [
        ("commit_files", {"branch": "next"}),
        ("commit_files", {"message": "Another"}),
        ("commit_files", {"files": FILES[:1]}),
        ("commit_files", {"deletePaths": ["old"]}),
        ("checkout_repository", {"ref": "next"}),
        ("build_status", {"ref": "c" * 40}),
        ("build_status", {"workflowFileName": "test.yaml"}),
        ("build_status", {"maxLogLines": 10}),
        ("rebuild", {"ref": "next"}),
    ],
)
async def test_another_request_joins_none(kcp: Kcp, bundles: Bundles, tool: str, other: JsonObject) -> None:
    for given in (ARGUMENTS[tool], ARGUMENTS[tool] | other):
        await refused(kcp, bundles, tool, patience=0.05, **given)
    assert len(names(kcp, RESOURCES[tool])) == 2


async def test_build_status_and_rebuild_do_not_join_each_other(kcp: Kcp, bundles: Bundles) -> None:
    for tool in ("build_status", "rebuild"):
        await refused(kcp, bundles, tool, patience=0.05, **ARGUMENTS[tool])
    status, rerun = kcp.stored_objects(BUILDS)
    assert (status["spec"]["action"], rerun["spec"]["action"]) == ("status", "rerun")
    name = rerun["metadata"]["name"]
    kcp.status = succeeded(dispatched=True)
    sentence = await refused(kcp, bundles, "build_status", name=name, **ARGUMENTS["build_status"])
    assert "rebuild" in sentence


@pytest.mark.parametrize("tool", TOOLS)
async def test_a_request_that_failed_is_an_error_with_what_the_provider_says(
    kcp: Kcp, bundles: Bundles, tool: str
) -> None:
    kcp.status = failed(Reason.MISSING_PERMISSION, "the token lacks workflow")
    sentence = await refused(kcp, bundles, tool, **ARGUMENTS[tool])
    assert "failed" in sentence
    assert 'MissingPermission: "the token lacks workflow"' in sentence


@pytest.mark.parametrize("tool", TOOLS)
async def test_a_repository_that_is_not_there_is_said_and_nothing_is_stored(
    kcp: Kcp, bundles: Bundles, tool: str
) -> None:
    sentence = await refused(kcp, bundles, tool, **ARGUMENTS[tool] | {"repositoryRef": "sites"})
    assert '"sites"' in sentence
    assert kcp.writes(RESOURCES[tool]) == []


@pytest.mark.parametrize("tool", TOOLS)
async def test_a_repository_that_is_being_deleted_takes_no_request(kcp: Kcp, bundles: Bundles, tool: str) -> None:
    kcp.remove("repositories", "site")
    assert "being deleted" in await refused(kcp, bundles, tool, **ARGUMENTS[tool])
    assert kcp.writes(RESOURCES[tool]) == []


@pytest.mark.parametrize("tool", TOOLS)
async def test_a_name_of_another_repository_is_refused(kcp: Kcp, bundles: Bundles, tool: str) -> None:
    kcp.add(repository_object("other"))
    await refused(kcp, bundles, tool, patience=0.05, **ARGUMENTS[tool])
    name = only(kcp, RESOURCES[tool])["metadata"]["name"]
    sentence = await refused(kcp, bundles, tool, name=name, **ARGUMENTS[tool] | {"repositoryRef": "other"})
    assert "not of that in repositoryRef" in sentence


@pytest.mark.parametrize("tool", TOOLS)
async def test_a_name_that_is_gone_is_said(kcp: Kcp, bundles: Bundles, tool: str) -> None:
    assert '"gone"' in await refused(kcp, bundles, tool, name="gone", **ARGUMENTS[tool])


@pytest.mark.parametrize("tool", TOOLS)
async def test_a_plan_stores_nothing_and_says_what_would_happen(
    kcp: Kcp, bundles: Bundles, folder: Path, tool: str
) -> None:
    answer = read(await run(kcp, bundles, tool, plan=True, **ARGUMENTS[tool]))
    assert "octocat/site" in answer["plan"]
    assert "Nothing was changed" in answer["plan"]
    assert kcp.stored_objects(RESOURCES[tool]) == []
    assert not folder.exists()


async def test_a_plan_with_the_name_of_a_waiting_commit_stores_no_files_for_it(
    kcp: Kcp, bundles: Bundles, folder: Path
) -> None:
    await refused(kcp, Bundles(no_store), "commit_files", **ARGUMENTS["commit_files"])
    name = only(kcp, COMMITS)["metadata"]["name"]
    answer = read(await run(kcp, bundles, "commit_files", name=name, plan=True, **ARGUMENTS["commit_files"]))
    assert "Nothing was changed" in answer["plan"]
    assert not folder.exists()
    only(kcp, COMMITS)


@pytest.mark.parametrize("tool", TOOLS)
async def test_a_request_says_who_asked_for_it(kcp: Kcp, bundles: Bundles, tool: str) -> None:
    await refused(kcp, bundles, tool, patience=0.05, **ARGUMENTS[tool])
    annotations = only(kcp, RESOURCES[tool])["metadata"]["annotations"]
    assert annotations["code.kedge.faros.sh/requested-by"] == "alice (unverified)"
    assert annotations["code.kedge.faros.sh/requested-with"] == "an agent (unverified)"


@pytest.mark.parametrize("tool", TOOLS)
async def test_a_kcp_that_fails_while_the_request_is_waited_for_makes_no_success(
    kcp: Kcp, bundles: Bundles, tool: str
) -> None:
    def fail() -> None:
        raise Forbidden(403, "Forbidden", "no")

    kcp.once(lambda r: r.method == "GET" and r.resource == RESOURCES[tool], fail)
    sentence = await refused(kcp, bundles, tool, **ARGUMENTS[tool])
    assert "has not finished" in sentence
    assert only(kcp, RESOURCES[tool])["metadata"]["name"] in sentence


@pytest.mark.parametrize("tool", TOOLS)
async def test_a_name_is_one_that_kcp_takes_however_long_that_of_the_repository(
    kcp: Kcp, bundles: Bundles, tool: str
) -> None:
    long = "a." * 126 + "a"
    kcp.add(repository_object(long))
    await refused(kcp, bundles, tool, patience=0.05, **ARGUMENTS[tool] | {"repositoryRef": long})
    name = only(kcp, RESOURCES[tool])["metadata"]["name"]
    assert len(name) <= 253
    # The client refuses to ask for a name that no object can have.
    assert await Objects(kcp, f"{ENDPOINT}/clusters/c1").get(RESOURCES[tool], name)


@pytest.mark.parametrize("tool", TOOLS)
async def test_a_request_that_was_long_on_its_way_is_stored_and_not_waited_for(
    kcp: Kcp, bundles: Bundles, tool: str
) -> None:
    arrived = asyncio.get_running_loop().time() - 60
    sentence = await refused(kcp, bundles, tool, arrived=arrived, **ARGUMENTS[tool])
    raw = only(kcp, RESOURCES[tool])
    assert f"{raw['metadata']['name']} has not finished" in sentence
    if tool == "commit_files":
        assert await bundles.get("c1", raw["spec"]["source"]["bundleRef"]["name"]) is not None


async def test_a_request_by_name_is_of_the_form_that_is_documented(kcp: Kcp, bundles: Bundles) -> None:
    await refused(kcp, bundles, "commit_files", patience=0.05, **ARGUMENTS["commit_files"])
    raw = only(kcp, COMMITS)
    digest = raw["spec"]["source"]["bundleRef"]["digest"].removeprefix("sha256:")
    assert raw["metadata"]["name"].startswith(f"site-commit-{digest[:12]}-")


# ---- commit_files


async def test_a_commit_refers_to_its_contents_and_belongs_to_its_repository(
    kcp: Kcp, bundles: Bundles, folder: Path
) -> None:
    kcp.status = succeeded(commitSHA="c" * 40, commitURL="https://git.example/c", branch="main", files=[
        {"path": "README.md", "size": 6}, {"path": "old", "delete": True},
    ])  # fmt: skip

    answer = read(
        await run(
            kcp, bundles, "commit_files", message="Hi", branch="main", deletePaths=["old"], **ARGUMENTS["commit_files"]
        )
    )

    raw, owner = only(kcp, COMMITS), kcp.stored("repositories", "site")
    assert owner is not None
    bundle = Bundle.build([*(text_file(**file) for file in FILES), BundleFile("old", delete=True)])
    assert raw["spec"] == {
        "repositoryRef": "site",
        "branch": "main",
        "message": "Hi",
        "source": {"bundleRef": {"name": bundle.name, "digest": bundle.digest}},
    }
    assert raw["metadata"]["labels"] == {"app": "shop", "team": "web", LABEL: "site"}
    [reference] = raw["metadata"]["ownerReferences"]
    assert reference == {
        "apiVersion": "code.kedge.faros.sh/v1alpha1",
        "kind": "Repository",
        "name": "site",
        "uid": owner["metadata"]["uid"],
    }
    assert answer == {
        "repositoryRef": "site",
        "name": raw["metadata"]["name"],
        "phase": "Succeeded",
        "bundleRef": bundle.name,
        "bundleDigest": bundle.digest,
        "commitSHA": "c" * 40,
        "commitURL": "https://git.example/c",
        "branch": "main",
        "files": ["README.md", "old"],
        "deletedPaths": ["old"],
    }
    assert await bundles.get("c1", bundle.name) == bundle
    assert "hello" not in repr(kcp.requests)


async def test_contents_are_stored_for_the_workspace_that_kcp_names_and_no_other(
    kcp: Kcp, bundles: Bundles, folder: Path
) -> None:
    kcp.real_cluster = "2x5yknxhwy4dkw5f"
    await refused(kcp, bundles, "commit_files", patience=0.05, **ARGUMENTS["commit_files"])
    assert [scope.name for scope in folder.iterdir()] == [scope_of("2x5yknxhwy4dkw5f")]


async def test_without_a_word_of_kcp_where_they_belong_contents_are_not_stored(
    kcp: Kcp, bundles: Bundles, folder: Path
) -> None:
    kcp.real_cluster = ""
    sentence = await refused(kcp, bundles, "commit_files", **ARGUMENTS["commit_files"])
    assert "which workspace" in sentence
    assert not folder.exists()


@pytest.mark.parametrize("step", ["GET", "POST"])
async def test_contents_are_not_stored_before_kcp_has_accepted_the_commit(
    kcp: Kcp, bundles: Bundles, folder: Path, step: str
) -> None:
    def refuse() -> None:
        raise Forbidden(403, "Forbidden", "no")

    kcp.once(lambda r: r.method == step, refuse)
    with pytest.raises(Forbidden):
        await run(kcp, bundles, "commit_files", **ARGUMENTS["commit_files"])
    assert not folder.exists()


@pytest.mark.parametrize("error", ["away", "full"])
async def test_a_commit_whose_contents_could_not_be_stored_is_completed_by_the_same_call(
    kcp: Kcp, bundles: Bundles, error: str
) -> None:
    class Full(Bundles):
        async def put(self, cluster: str, bundle: Bundle) -> None:
            raise BundlesFull("256 bundles of this workspace have not been read yet")

    broken = Bundles(no_store) if error == "away" else Full(no_store)
    sentence = await refused(kcp, broken, "commit_files", **ARGUMENTS["commit_files"])
    name = only(kcp, COMMITS)["metadata"]["name"]
    assert name in sentence
    assert ("256 bundles" if error == "full" else "does not answer") in sentence

    class Repaired(Bundles):
        async def put(self, cluster: str, bundle: Bundle) -> None:
            await bundles.put(cluster, bundle)
            kcp.status = succeeded(**DONE["commit_files"])

    for given in ({"name": name}, {}):
        answer = read(await run(kcp, Repaired(no_store), "commit_files", **ARGUMENTS["commit_files"] | given))
        assert answer["phase"] == "Succeeded"
        assert await bundles.get("c1", answer["bundleRef"]) is not None


async def test_a_name_with_other_files_is_refused(kcp: Kcp, bundles: Bundles) -> None:
    await refused(kcp, bundles, "commit_files", patience=0.05, **ARGUMENTS["commit_files"])
    name = only(kcp, COMMITS)["metadata"]["name"]
    sentence = await refused(kcp, bundles, "commit_files", name=name, repositoryRef="site", files=FILES[:1])
    assert "of other files" in sentence


async def test_a_commit_that_somebody_deleted_is_no_success(kcp: Kcp, bundles: Bundles) -> None:
    kcp.once(
        lambda r: r.method == "GET" and r.resource == COMMITS,
        lambda: kcp.remove(COMMITS, only(kcp, COMMITS)["metadata"]["name"]),
    )
    assert "was deleted" in await refused(kcp, bundles, "commit_files", **ARGUMENTS["commit_files"])


@pytest.mark.parametrize("length", [512, 513, 20_000])
async def test_a_message_is_not_longer_than_the_crd_admits_and_says_if_it_was(
    kcp: Kcp, bundles: Bundles, length: int
) -> None:
    kcp.status = succeeded(**DONE["commit_files"])
    answer = read(await run(kcp, bundles, "commit_files", message="é" * length, **ARGUMENTS["commit_files"]))
    message = only(kcp, COMMITS)["spec"]["message"]
    assert len(message) <= 512
    assert message.endswith("[This message was shortened.]") == (length > 512)
    assert ("shortened" in answer.get("note", "")) == (length > 512)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "nothing to commit"),
        ({"files": [], "deletePaths": None}, "nothing to commit"),
        ({"files": "README.md"}, "files is not a list"),
        ({"files": ["README.md"]}, "files[0] is not an object"),
        ({"files": [FILES[0], {"path": "a"}]}, "files[1] is not an object"),
        ({"files": [{"path": "a", "content": "", "mode": "100755"}]}, "files[0] is not an object"),
        ({"files": [{"path": "a", "content": None}]}, "files[0] is not an object"),
        ({"deletePaths": [1]}, "deletePaths[0] is not a text"),
        ({"files": [{"path": "../a", "content": ""}]}, "leaves the repository"),
        ({"files": [{"path": "/a", "content": ""}]}, "absolute"),
        ({"files": [{"path": ".git/config", "content": ""}]}, ".git"),
        ({"files": [{"path": "a\0", "content": ""}]}, "NUL"),
        ({"files": FILES, "deletePaths": ["./README.md"]}, "twice"),
        ({"files": [{"path": "a", "content": "\ud800"}]}, "Unicode"),
        ({"files": [{"path": "a", "content": "x" * ((2 << 20) + 1)}]}, "2097153 bytes"),
        ({"files": [{"path": f"{i}", "content": "x" * (2 << 20)} for i in range(9)]}, "together"),
        ({"files": [{"path": f"{i}", "content": ""} for i in range(501)]}, "more than 500"),
        ({"deletePaths": [f"{i}" for i in range(501)]}, "more than 500"),
        (
            {
                "files": [{"path": f"{i}", "content": ""} for i in range(300)],
                "deletePaths": [f"x{i}" for i in range(201)],
            },
            "more than 500",
        ),
        ({"files": FILES, "branch": TOKEN}, "looks like it holds a token"),
        ({"files": FILES, "file": []}, "no argument 'file'"),
    ],
)
async def test_what_cannot_be_committed_is_said_before_anything_is_stored(
    kcp: Kcp, bundles: Bundles, given: JsonObject, said: str
) -> None:
    sentence = await refused(kcp, bundles, "commit_files", repositoryRef="site", **given)
    assert said in sentence
    assert len(sentence) < 2000
    assert kcp.requests == []


async def test_content_of_files_may_look_like_anything(kcp: Kcp, bundles: Bundles) -> None:
    kcp.status = succeeded(**DONE["commit_files"])
    files = [
        {"path": "a.env", "content": f"TOKEN={TOKEN}\n\u202e\u200b<&>"},
        {"path": "big", "content": "é" * (1 << 20)},
    ]
    answer = read(await run(kcp, bundles, "commit_files", repositoryRef="site", files=files))
    bundle = await bundles.get("c1", answer["bundleRef"])
    assert bundle is not None
    assert [file.content.decode() for file in bundle.files] == [file["content"] for file in files]


async def test_a_commit_of_long_paths_is_answered_within_the_bound(kcp: Kcp, bundles: Bundles) -> None:
    paths = [f"{i:03}" + "<" * 1000 for i in range(500)]
    kcp.status = succeeded(**DONE["commit_files"], files=[{"path": path, "delete": True} for path in paths])
    answer = read(await run(kcp, bundles, "commit_files", repositoryRef="site", deletePaths=paths[:1]))
    left_out = 500 - len(answer["files"])
    assert f"{left_out} paths are left out" in answer["note"]
    assert answer["commitSHA"] == "c" * 40


# ---- checkout_repository


async def test_a_checkout_has_the_files_as_they_are(kcp: Kcp, bundles: Bundles) -> None:
    odd = text_file("b\u202e c.txt", f"{TOKEN}\n\u200b\ttwo  blanks \x01<>&\u2028" + "x" * 20_000)
    bundle = await checked_out(kcp, bundles, [text_file("a", ""), odd], ["logo.png: binary"])

    answer = read(await run(kcp, bundles, "checkout_repository", repositoryRef="site", ref="main"))

    assert answer["files"] == [{"path": file.path, "content": file.content.decode()} for file in bundle.files]
    assert answer["skipped"] == ["logo.png: binary"]
    assert (answer["ref"], answer["commitSHA"], answer["phase"]) == ("main", "c" * 40, "Succeeded")


async def test_a_checkout_carries_the_label_alone_and_is_deleted_once_answered(
    kcp: Kcp, bundles: Bundles, folder: Path
) -> None:
    await checked_out(kcp, bundles, [text_file("a", "b")])
    await run(kcp, bundles, "checkout_repository", repositoryRef="site")
    created, deleted = kcp.writes(CHECKOUTS)
    assert created.body["metadata"]["labels"] == {LABEL: "site"}
    assert "ownerReferences" not in created.body["metadata"]
    assert created.body["spec"] == {"repositoryRef": "site"}
    assert deleted.method == "DELETE"
    assert kcp.stored_objects(CHECKOUTS) == []
    assert list((folder / scope_of("c1")).glob("*.json")) == []


async def test_an_empty_repository_is_a_success_without_files(kcp: Kcp, bundles: Bundles) -> None:
    kcp.status = succeeded(ref="main")
    answer = read(await run(kcp, bundles, "checkout_repository", repositoryRef="site"))
    assert answer["files"] == []
    assert answer["skipped"] == []


async def test_a_repository_whose_files_cannot_be_shown_does_not_look_empty(kcp: Kcp, bundles: Bundles) -> None:
    kcp.status = succeeded(ref="main", commitSHA="c" * 40, skipped=["logo.png: binary"])
    sentence = await refused(kcp, bundles, "checkout_repository", repositoryRef="site")
    assert "not empty" in sentence
    assert "logo.png: binary" in sentence


async def everything(kcp: Kcp, bundles: Bundles) -> tuple[dict[str, str], int]:
    """All files by path, asked for again and again, and the number of calls."""
    answer = read(await run(kcp, bundles, "checkout_repository", repositoryRef="site"))
    found, calls = {file["path"]: file["content"] for file in answer["files"]}, 1
    while left := [entry.partition(": no room")[0] for entry in answer["skipped"] if ": no room" in entry]:
        assert answer["name"] in answer["note"]
        more = {"name": answer["name"], "paths": left}
        answer = read(await run(kcp, bundles, "checkout_repository", repositoryRef="site", **more))
        assert answer["files"]
        found.update((file["path"], file["content"]) for file in answer["files"])
        calls += 1
    return found, calls


@pytest.mark.parametrize("character", ["<", '"', "\x01", "\u2028", "a"])
async def test_what_an_answer_has_no_room_for_is_named_and_can_be_had(
    kcp: Kcp, bundles: Bundles, character: str
) -> None:
    size = 256 << 10
    content = character * (size // len(character.encode()))
    path = (character if character > " " else "a") * 1000
    bundle = await checked_out(
        kcp, bundles, [text_file(f"{path[: 1000 // len(character.encode())]}{i}", content) for i in range(7)]
    )
    found, calls = await everything(kcp, bundles)
    assert found == {file.path: file.content.decode() for file in bundle.files}
    assert calls > 1


async def test_paths_name_files_and_folders(kcp: Kcp, bundles: Bundles) -> None:
    files = [text_file(path, path) for path in ("a", "b/c", "b/d/e", "bc")]
    await checked_out(kcp, bundles, files, ["b/logo.png: binary", "logo.png: binary"])
    answer = read(await run(kcp, bundles, "checkout_repository", repositoryRef="site", paths=["./b/", "nothing"]))
    assert [file["path"] for file in answer["files"]] == ["b/c", "b/d/e"]
    assert answer["skipped"] == ["b/logo.png: binary", "nothing: not there, or not a text file"]
    whole = read(await run(kcp, bundles, "checkout_repository", repositoryRef="site", paths=["."]))
    assert len(whole["files"]) == 4


async def test_paths_take_in_nothing_whose_name_begins_alike(kcp: Kcp, bundles: Bundles) -> None:
    skipped = ["src.bin: binary", "srcx/b: binary", "src/logo.png: binary", "README: binary"]
    await checked_out(kcp, bundles, [text_file("a", "b")], skipped)
    answer = read(await run(kcp, bundles, "checkout_repository", repositoryRef="site", paths=["a", "src", "README"]))
    assert answer["skipped"] == ["src/logo.png: binary", "README: binary"]
    answer = read(await run(kcp, bundles, "checkout_repository", repositoryRef="site", paths=["a", "sr"]))
    assert answer["skipped"] == ["sr: not there, or not a text file"]


@pytest.mark.parametrize("phase", ["Running", "Succeeded"])
async def test_a_checkout_does_not_join_one_that_may_have_read_before_the_last_commit(
    kcp: Kcp, bundles: Bundles, phase: str
) -> None:
    arguments = ARGUMENTS["checkout_repository"]
    await refused(kcp, bundles, "checkout_repository", patience=0.05, **arguments)
    name = only(kcp, CHECKOUTS)["metadata"]["name"]
    completed = {"completedAt": rfc3339(datetime.now(UTC))} if phase == "Succeeded" else {}
    kcp.edit(CHECKOUTS, name, {"status": {"phase": phase, **completed}})
    await refused(kcp, bundles, "checkout_repository", patience=0.05, **arguments)
    assert len(names(kcp, CHECKOUTS)) == 2


async def test_a_checkout_joins_one_that_has_not_begun_to_read(kcp: Kcp, bundles: Bundles) -> None:
    arguments = ARGUMENTS["checkout_repository"]
    await refused(kcp, bundles, "checkout_repository", patience=0.05, **arguments)
    for status in ({}, {"phase": "Pending"}):
        kcp.edit(CHECKOUTS, only(kcp, CHECKOUTS)["metadata"]["name"], {"status": status})
        await refused(kcp, bundles, "checkout_repository", patience=0.05, **arguments)
    only(kcp, CHECKOUTS)


async def test_paths_that_find_nothing_are_an_error(kcp: Kcp, bundles: Bundles) -> None:
    await checked_out(kcp, bundles, [text_file("a", "b")])
    sentence = await refused(kcp, bundles, "checkout_repository", repositoryRef="site", paths=["c"])
    assert "c: not there" in sentence
    kcp.status = succeeded(ref="main")
    assert "not there" in await refused(kcp, bundles, "checkout_repository", repositoryRef="site", paths=["c"])


async def test_a_file_that_fits_into_no_answer_is_said_to(kcp: Kcp, bundles: Bundles) -> None:
    await checked_out(kcp, bundles, [text_file("a", "b"), text_file("big", "x" * (2 << 20))])
    answer = read(await run(kcp, bundles, "checkout_repository", repositoryRef="site"))
    assert answer["skipped"] == ["big: too large for an answer"]


@pytest.mark.parametrize("what", ["gone", "away", "another", "broken"])
async def test_files_that_cannot_be_read_are_an_error_and_no_empty_repository(
    kcp: Kcp, bundles: Bundles, folder: Path, what: str
) -> None:
    bundle = await checked_out(kcp, bundles, [text_file("a", "b")])
    path = folder / scope_of("c1") / f"{bundle.name}.json"
    match what:
        case "gone":
            path.unlink()
        case "away":
            bundles = Bundles(no_store)
        case "another":
            status = cast(JsonObject, kcp.status)
            status["bundleRef"]["digest"] = "sha256:" + "0" * 64
        case _:
            path.write_text("{}")
    sentence = await refused(kcp, bundles, "checkout_repository", repositoryRef="site")
    assert ("does not answer" if what == "away" else "not stored any more") in sentence


async def test_a_checkout_reads_contents_of_its_own_workspace_alone(kcp: Kcp, bundles: Bundles) -> None:
    await checked_out(kcp, bundles, [text_file("a", "b")], cluster="of-another-tenant")
    assert "not stored" in await refused(kcp, bundles, "checkout_repository", repositoryRef="site")


async def test_a_joined_checkout_that_another_call_has_answered_begins_again(kcp: Kcp, bundles: Bundles) -> None:
    await checked_out(kcp, bundles, [text_file("a", "b")])
    kcp.once(
        lambda r: r.method == "GET" and r.resource == CHECKOUTS,
        lambda: kcp.remove(CHECKOUTS, only(kcp, CHECKOUTS)["metadata"]["name"]),
    )
    assert read(await run(kcp, bundles, "checkout_repository", repositoryRef="site"))["files"]


# ---- build_status and rebuild


RUN = {
    "found": True,
    "runID": 17,
    "htmlURL": "https://git.example/runs/17",
    "headSHA": "c" * 40,
    "status": "completed",
    "conclusion": "failure",
    "jobs": [
        {"name": "build", "status": "completed", "conclusion": "failure", "failureLog": "one\ntwo"},
        {"name": "test", "status": "completed", "conclusion": "skipped"},
    ],
}


async def test_a_build_status_is_the_run_with_its_jobs(kcp: Kcp, bundles: Bundles) -> None:
    kcp.status = succeeded(run=RUN)
    answer = read(await run(kcp, bundles, "build_status", ref="c" * 40, **ARGUMENTS["build_status"]))
    assert answer == {"repositoryRef": "site", **RUN}
    created, deleted = kcp.writes(BUILDS)
    assert created.body["spec"] == {
        "repositoryRef": "site",
        "workflowFileName": "build.yaml",
        "action": "status",
        "ref": "c" * 40,
        "maxLogLines": 200,
    }
    assert created.body["metadata"]["labels"] == {LABEL: "site"}
    assert "ownerReferences" not in created.body["metadata"]
    assert deleted.method == "DELETE"


async def test_no_run_is_an_answer(kcp: Kcp, bundles: Bundles) -> None:
    kcp.status = succeeded(run={"found": False})
    answer = read(await run(kcp, bundles, "build_status", **ARGUMENTS["build_status"]))
    assert answer == {"repositoryRef": "site", "found": False}


@pytest.mark.parametrize(("given", "lines"), [(0, 200), (-5, 200), (1, 1), (5.0, 5), (1000, 1000), (10**9, 1000)])
async def test_the_lines_of_a_log_are_bounded(kcp: Kcp, bundles: Bundles, given: float, lines: int) -> None:
    arguments = ARGUMENTS["build_status"] | {"maxLogLines": given}
    await refused(kcp, bundles, "build_status", patience=0.05, **arguments)
    assert only(kcp, BUILDS)["spec"]["maxLogLines"] == lines


async def test_of_a_long_log_the_end_is_shown_without_what_hides_in_it(kcp: Kcp, bundles: Bundles) -> None:
    log = "\n".join(f"line {i} \u202e\x1b[31m" for i in range(20_000)) + f"\nthe end, with {TOKEN}"
    kcp.status = succeeded(run=RUN | {"jobs": [{"name": "build", "failureLog": log}] * 300})
    answer = read(await run(kcp, bundles, "build_status", **ARGUMENTS["build_status"]))
    shown = answer["jobs"][0]["failureLog"]
    assert shown.startswith("[untrusted text, written by the job: the end of the log]\nline ")
    assert shown.endswith("the end, with <redacted>")
    assert not any(c in shown for c in ("\u202e", "\x1b", TOKEN))
    assert "44 jobs are left out" in answer["note"]
    assert "logs of" in answer["note"]


async def test_a_rebuild_is_dispatched_on_a_branch(kcp: Kcp, bundles: Bundles) -> None:
    kcp.status = succeeded(dispatched=True)
    answer = read(await run(kcp, bundles, "rebuild", ref="next", **ARGUMENTS["rebuild"]))
    assert answer == {"repositoryRef": "site", "dispatched": True}
    [created] = kcp.writes(BUILDS)
    assert created.body["spec"] == {
        "repositoryRef": "site",
        "workflowFileName": "build.yaml",
        "action": "rerun",
        "ref": "next",
    }


@pytest.mark.parametrize("is_answered", [True, False])
async def test_the_same_rebuild_starts_no_second_run_and_says_so(
    kcp: Kcp, bundles: Bundles, folder: Path, is_answered: bool
) -> None:
    if is_answered:  # but the hub gave up before
        kcp.status = succeeded(dispatched=True)
        read(await run(kcp, bundles, "rebuild", **ARGUMENTS["rebuild"]))
    else:
        await refused(kcp, bundles, "rebuild", patience=0.05, **ARGUMENTS["rebuild"])
        kcp.edit(BUILDS, only(kcp, BUILDS)["metadata"]["name"], {"status": succeeded(dispatched=True)})
    for _ in range(2):
        answer = read(await run(kcp, in_folder(folder), "rebuild", **ARGUMENTS["rebuild"]))
        assert answer["dispatched"] is True
        assert "An earlier call has started this run" in answer["note"]
    only(kcp, BUILDS)


async def test_a_rebuild_after_the_provider_deleted_the_last_one_starts_another_run(kcp: Kcp, bundles: Bundles) -> None:
    kcp.status = succeeded(dispatched=True)
    for _ in range(2):
        assert "note" not in read(await run(kcp, bundles, "rebuild", **ARGUMENTS["rebuild"]))
        kcp.remove(BUILDS, only(kcp, BUILDS)["metadata"]["name"])
    assert [request.method for request in kcp.writes(BUILDS)] == ["POST", "POST"]


@pytest.mark.parametrize("status", [succeeded(), failed(Reason.MISSING_PERMISSION, "the token lacks workflow")])
async def test_a_rebuild_that_started_nothing_is_an_error_and_the_next_one_is_another(
    kcp: Kcp, bundles: Bundles, status: JsonObject
) -> None:
    kcp.status = status
    sentence = await refused(kcp, bundles, "rebuild", **ARGUMENTS["rebuild"])
    assert "without a new run" in sentence or "failed" in sentence
    kcp.status = succeeded(dispatched=True)
    assert "note" not in read(await run(kcp, bundles, "rebuild", **ARGUMENTS["rebuild"]))


# ---- the measure of an answer


@pytest.mark.parametrize(
    "text", ["", "plain", 'a"b\\c\n', "<a href='&amp;'>", "é\u2028\u2029\U0001f600", "\x00\x1f\x7f"]
)
def test_an_answer_is_measured_as_the_hub_sends_it(text: str) -> None:
    def sent(value: Any) -> int:
        result = types.CallToolResult(
            content=[types.TextContent(text=orjson.dumps(value).decode())], structured_content=value
        )
        return len(hubs_answer(result))

    # The hub writes the control characters below blank as \u00XX, where json.dumps writes some of them shorter.
    assert requests.answer_bytes(text) >= sent({"a": [text, text]}) - sent({"a": [text]})
