"""commit_files: one commit of many files, by a RepositoryCommit object. The contents go into the bundle store, never into kcp."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final

from codecommon.api.annotations import CLUSTER_ANNOTATION
from codecommon.api.bundle import MOST_BYTES, MOST_FILE_BYTES, MOST_FILES, Bundle, BundleFile, InvalidBundle
from codecommon.api.group import API_VERSION
from codecommon.api.kinds import REPOSITORIES, REPOSITORY_COMMITS
from codecommon.api.package import repository_label
from codecommon.api.request import is_finished
from codecommon.kcp.client import JsonObject
from codecommon.messaging.bundles import BundlesFull
from codecommon.messaging.bus import BusUnavailable
from gateway.bundles import Bundles
from gateway.mcp_tools.requests import (
    NAME,
    REPOSITORY_REF,
    Room,
    Wanted,
    by_name,
    finished,
    repository_of,
    request_handler,
    store,
)
from gateway.mcp_tools.shared import LONG, nullable_list, present, quoted, schema, string, text
from gateway.mcp_tools.tool import Call, Tool, ToolError
from gateway.mcp_tools.write_schemas import PLAN, PLAN_WORDS
from gateway.mcp_tools.writing import Pace, full_name, plain
from gateway.plain_text import Verbatim

TOOL: Final = "commit_files"
_LONGEST_MESSAGE: Final = 512
"""Characters, as the CRD admits."""
_SHORTENED: Final = "\n\n[This message was shortened.]"
_FILE_FIELDS: Final = frozenset({"path", "content"})


def commit_tool(bundles: Bundles, patience: float) -> Tool:
    return Tool(
        name=TOOL,
        title="Commit files to a repository",
        description=(
            "Make one commit on a branch that writes the given files whole and removes the given paths. Everything else in the "
            "repository stays. Files with the same content as on the branch change nothing; if nothing changes, no commit is "
            f"made and the answer has the SHA of the branch's head. At most {MOST_FILES} paths, {MOST_FILE_BYTES >> 20} MiB a "
            f"file and {MOST_BYTES >> 20} MiB together, UTF-8 text. An answer that is no error means that the commit is on the "
            "host. An error that says that the commit has not finished names it: call again with that name, or with the same "
            "arguments, and it is made once." + PLAN_WORDS
        ),
        input_schema=schema(
            {
                "repositoryRef": string(REPOSITORY_REF),
                "message": string(
                    f"Message of the commit. It is cut off after {_LONGEST_MESSAGE} characters, and says so then."
                ),
                "branch": string("Branch to commit to. Default: the repository's default branch."),
                "files": nullable_list(
                    "Files to write. One that exists is replaced and keeps its mode.",
                    schema(
                        {
                            "path": string("Path from the root of the repository, such as src/main.py."),
                            "content": string("The whole content of the file."),
                        },
                        "path",
                        "content",
                    ),
                ),
                "deletePaths": nullable_list(
                    "Paths of files to remove. One that is not there is no error.", {"type": "string"}
                ),
                "name": string(f"{NAME} files and deletePaths may be left out then."),
                "plan": PLAN,
            },
            "repositoryRef",
        ),
        output_schema=schema(
            {
                "repositoryRef": string("Name of the Repository object."),
                "name": string("Name of the RepositoryCommit object."),
                "phase": string("Succeeded. Any other end is an error. Absent for a plan."),
                "bundleRef": string("Name of the bundle with the contents."),
                "bundleDigest": string("Digest of that bundle."),
                "commitSHA": string("SHA of the commit; of the branch's head if nothing was to be changed."),
                "commitURL": string("Page of the commit on the git host."),
                "branch": string("The branch that the commit is on."),
                "files": nullable_list("Paths of the commit, the removed ones included.", {"type": "string"}),
                "deletedPaths": nullable_list("Those of them that were to be removed.", {"type": "string"}),
                "note": string("What was shortened or left out."),
                "plan": string("With plan: true, what would happen."),
            },
            "repositoryRef",
        ),
        handler=request_handler(partial(_commit_files, bundles=bundles), patience),
        annotations={"destructiveHint": True, "openWorldHint": True},
        bulk=frozenset({"files", "deletePaths"}),
    )


async def _commit_files(call: Call, pace: Pace, *, bundles: Bundles) -> JsonObject:
    arguments = call.arguments
    has_files = arguments.get("files") or arguments.get("deletePaths")
    if arguments.get("plan") and has_files:
        # Before the name: the files of a commit that waits for them would let it go on.
        bundle = await _bundle(arguments)
        repository = await repository_of(call)
        return await _plan(call, await store(call, _wanted(arguments, bundle, repository), pace), bundle, repository)
    if arguments.get("name"):
        asked = await by_name(call, REPOSITORY_COMMITS, TOOL)
        if not has_files or is_finished(asked.get("status") or {}):
            return await _result(call, asked, pace)
        bundle = await _bundle(arguments)
        if asked["spec"]["source"]["bundleRef"]["name"] != bundle.name:
            raise ToolError(
                f"RepositoryCommit {arguments['name']} is a commit of other files than these. Call {TOOL} with its name and "
                "without files for its result, or with these files and without name for another commit."
            )
    elif has_files:
        bundle = await _bundle(arguments)
        repository = await repository_of(call)
        asked = await store(call, _wanted(arguments, bundle, repository), pace)
    else:
        raise ToolError(f"{TOOL} was not called: there is nothing to commit. Give files, deletePaths or both.")
    name = asked["metadata"]["name"]
    trouble = await _put(bundles, bundle, asked, pace)
    if trouble:
        raise ToolError(
            f"RepositoryCommit {name} is stored, but not its files: {trouble} Nothing is committed. Call {TOOL} again with the "
            "same arguments, not with name alone: that stores the files for the same RepositoryCommit."
        )
    return await _result(call, asked, pace)


async def _bundle(arguments: Mapping[str, Any]) -> Bundle:
    """The files as a bundle. Raises ``ToolError``, which names no content."""
    files, deleted = list(_files(arguments)), list(_deleted(arguments))

    def build() -> Bundle:
        # One after another, so that each text is encoded while others have their turn.
        return Bundle.build(chain((BundleFile.of_text(path, content) for path, content in files), deleted))

    try:
        return await asyncio.to_thread(build)
    except InvalidBundle as error:
        raise ToolError(f"{TOOL} was not called: {plain(str(error))}. Correct this and call again.") from None


def _files(arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for index, file in enumerate(_listed(arguments, "files")):
        if not isinstance(file, dict) or file.keys() != _FILE_FIELDS:
            raise _wrong(f"files[{index}]", "an object with path and content, and nothing else")
        path, content = file["path"], file["content"]  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(path, str) or not isinstance(content, str):
            raise _wrong(f"files[{index}]", "an object whose path and content are texts")
        yield path, content


def _deleted(arguments: Mapping[str, Any]) -> Iterator[BundleFile]:
    for index, path in enumerate(_listed(arguments, "deletePaths")):
        if not isinstance(path, str):
            raise _wrong(f"deletePaths[{index}]", "a text")
        yield BundleFile(path, delete=True)


def _listed(arguments: Mapping[str, Any], name: str) -> Sequence[Any]:
    given = arguments.get(name) or []
    if not isinstance(given, list):
        raise _wrong(name, "a list")
    if len(given) > MOST_FILES:  # pyright: ignore[reportUnknownArgumentType]
        raise ToolError(
            f"{TOOL} was not called: {name} has more than {MOST_FILES} entries. Make several commits of at most {MOST_FILES} "
            "paths each."
        )
    return given  # pyright: ignore[reportUnknownVariableType]


def _wrong(where: str, form: str) -> ToolError:
    return ToolError(f"{TOOL} was not called: argument {where} is not {form}. Correct this and call again.")


def _wanted(arguments: Mapping[str, Any], bundle: Bundle, repository: JsonObject) -> Wanted:
    name: str = repository["metadata"]["name"]
    spec: JsonObject = {
        "repositoryRef": name,
        "source": {"bundleRef": {"name": bundle.name, "digest": bundle.digest}},
        **present(branch=arguments.get("branch") or None, message=_message(arguments) or None),
    }
    owner = {
        "apiVersion": API_VERSION,
        "kind": REPOSITORIES.kind,
        "name": name,
        "uid": repository["metadata"]["uid"],
    }
    labels = {**(repository["metadata"].get("labels") or {}), **repository_label(name)}
    content = bundle.digest.rpartition(":")[2]
    return Wanted(REPOSITORY_COMMITS, TOOL, "commit", name, content, spec, labels, (owner,), goes=False)


def _message(arguments: Mapping[str, Any]) -> str:
    message: str = arguments.get("message") or ""
    if len(message) <= _LONGEST_MESSAGE:
        return message
    return message[: _LONGEST_MESSAGE - len(_SHORTENED)].rstrip() + _SHORTENED


async def _put(bundles: Bundles, bundle: Bundle, asked: JsonObject, pace: Pace) -> str:
    """Store the files for a commit that kcp has accepted. Returns why it failed; empty: they are stored."""
    # kcp says in which workspace the caller may ask for the commit. The cluster that the hub names is unverified.
    cluster = (asked["metadata"].get("annotations") or {}).get(CLUSTER_ANNOTATION)
    if not cluster:
        return "kcp does not say which workspace they belong to."
    try:
        async with asyncio.timeout_at(pace.write_until):
            await bundles.put(cluster, bundle)
    except BundlesFull as error:
        return f"{plain(str(error)).rstrip('.')}."
    except (BusUnavailable, TimeoutError):
        return "the store of the provider does not answer."
    return ""


async def _result(call: Call, asked: JsonObject, pace: Pace) -> JsonObject:
    done = await finished(call, REPOSITORY_COMMITS, TOOL, asked, pace, goes=False)
    if done is None:
        raise ToolError(
            f"RepositoryCommit {asked['metadata']['name']} was deleted before it finished, so it is not known whether the commit "
            f"was made. Call {TOOL} with the same arguments: what is committed already changes nothing."
        )
    status, ref = done["status"], done["spec"]["source"]["bundleRef"]
    notes = list[str]()
    if str(done["spec"].get("message", "")).endswith(_SHORTENED):
        notes.append(f"The message was longer than {_LONGEST_MESSAGE} characters and was shortened.")
    room, paths, deleted, left_out = Room(), list[Verbatim](), list[Verbatim](), 0
    for file in status.get("files") or []:
        path = Verbatim(file["path"])
        if not room.take([path, path]):
            left_out += 1
            continue
        paths.append(path)
        if file.get("delete"):
            deleted.append(path)
    if left_out:
        notes.append(f"{left_out} paths are left out, because the answer would be too long. All of them are committed.")
    return present(
        repositoryRef=done["spec"]["repositoryRef"],
        name=done["metadata"]["name"],
        phase=status["phase"],
        bundleRef=text(ref.get("name")),
        bundleDigest=text(ref.get("digest")),
        commitSHA=text(status.get("commitSHA")),
        commitURL=text(status.get("commitURL"), LONG),
        branch=text(status.get("branch")),
        files=paths,
        deletedPaths=deleted,
        note=" ".join(notes) or None,
    )


async def _plan(call: Call, asked: JsonObject, bundle: Bundle, repository: JsonObject) -> JsonObject:
    written = sum(not file.delete for file in bundle.files)
    deleted = len(bundle.files) - written
    where = await full_name(call.objects, repository["spec"], repository.get("status") or {})
    branch = quoted(asked["spec"].get("branch")) or "the default branch"
    told = (
        f"{where} would gain one commit on {branch} that writes {written} files ({bundle.size} bytes) and removes {deleted} "
        "paths, as far as the branch differs from that. Nothing was changed."
    )
    return {
        "repositoryRef": repository["metadata"]["name"],
        "name": asked["metadata"]["name"],
        "bundleRef": bundle.name,
        "bundleDigest": bundle.digest,
        "plan": told,
    }
