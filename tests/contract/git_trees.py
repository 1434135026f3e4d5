"""What the contract cases about contents and builds need of a host besides the protocol: a person who pushes and looks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from codecommon.githost.builds import BuildJob, BuildRun
from codecommon.githost.protocol import HostRepository
from codecommon.testing.git_contents import StubFile, StubRun
from codecommon.testing.git_host import StubBackend
from devstack.githubsim import SimControl

Files = Mapping[str, bytes | None]


@dataclass(frozen=True)
class HostTree:
    """``push``: a person's commit, (files, branch, modes); returns its SHA. ``files`` and ``modes`` by path, at a branch's head.
    ``messages``: of a branch's commits, the newest first. ``edit``: ``archived`` and ``protected`` (branches) of a repository.
    ``run``: a run of a workflow, with its jobs (name, conclusion, log or None). ``offers_builds``: whether the host has any."""

    push: Callable[..., Awaitable[str]]
    files: Callable[..., Awaitable[dict[str, bytes]]]
    modes: Callable[..., Awaitable[dict[str, str]]]
    messages: Callable[..., Awaitable[list[str]]]
    edit: Callable[..., Awaitable[None]]
    run: Callable[..., Awaitable[None]]
    dispatched: Callable[..., Awaitable[list[tuple[str, str]]]]
    offers_builds: Callable[[HostRepository, bool], Awaitable[None]]


def stub_tree(stub: StubBackend) -> HostTree:
    async def push(
        repo: HostRepository, files: Files, branch: str = "main", modes: Mapping[str, str] | None = None
    ) -> str:
        tree = stub.repositories[repo.id].tree
        head = tree.heads.get(branch, "")
        now = dict(tree.commits[head].files) if head else {}
        for path, content in files.items():
            if content is None:
                del now[path]
            else:
                now[path] = StubFile(content, (modes or {}).get(path, "100644"))
        for path, content in files.items():
            if content is not None and path.startswith(".github/workflows/"):
                tree.workflows[path.rpartition("/")[2]] = b"workflow_dispatch" in content
        return stub.contents.add_commit(repo.id, branch, "by a person", now, parent=head)

    async def files(repo: HostRepository, branch: str = "main") -> dict[str, bytes]:
        return stub.contents.files(repo.id, branch)

    async def modes(repo: HostRepository, branch: str = "main") -> dict[str, str]:
        tree = stub.repositories[repo.id].tree
        return {path: file.mode for path, file in tree.commits[tree.heads[branch]].files.items()}

    async def messages(repo: HostRepository, branch: str = "main") -> list[str]:
        return [commit.message for commit in stub.contents.history(repo.id, branch)]

    async def edit(repo: HostRepository, **changes: Any) -> None:
        repository = stub.repositories[repo.id]
        repository.tree.protected |= set(changes.get("protected", ()))
        if changes.get("archived"):
            from dataclasses import replace

            repository.seen = replace(repository.seen, archived=True)

    async def run(
        repo: HostRepository,
        workflow: str,
        *,
        branch: str = "main",
        status: str = "completed",
        conclusion: str = "success",
        jobs: list[tuple[str, str, str | None]] | None = None,
    ) -> None:
        tree = stub.repositories[repo.id].tree
        number = str(1000 + len(tree.runs))
        made = [
            BuildJob(f"{number}{index}", name, "completed", ending, ending == "failure")
            for index, (name, ending, _) in enumerate(jobs or ())
        ]
        logs = {job.id: log for job, (_, _, log) in zip(made, jobs or (), strict=True) if log is not None}
        sha = tree.heads[branch]
        tree.runs.append(StubRun(workflow, branch, BuildRun(number, status, conclusion, sha, "https://x"), made, logs))

    async def dispatched(repo: HostRepository) -> list[tuple[str, str]]:
        return stub.repositories[repo.id].tree.dispatched

    async def offers_builds(repo: HostRepository, offers: bool) -> None:
        stub.repositories[repo.id].tree.offers_builds = offers

    return HostTree(push, files, modes, messages, edit, run, dispatched, offers_builds)


def simulated_tree(control: SimControl) -> HostTree:
    async def push(
        repo: HostRepository, files: Files, branch: str = "main", modes: Mapping[str, str] | None = None
    ) -> str:
        return await control.push(repo.owner, repo.name, files, branch=branch, modes=modes, message="by a person")

    async def files(repo: HostRepository, branch: str = "main") -> dict[str, bytes]:
        return await control.files(repo.owner, repo.name, branch)

    async def modes(repo: HostRepository, branch: str = "main") -> dict[str, str]:
        return await control.modes(repo.owner, repo.name, branch)

    async def messages(repo: HostRepository, branch: str = "main") -> list[str]:
        return [commit.message for commit in await control.commits(repo.owner, repo.name, branch)]

    async def edit(repo: HostRepository, **changes: Any) -> None:
        await control.edit_repository(repo.owner, repo.name, **changes)

    async def run(
        repo: HostRepository,
        workflow: str,
        *,
        branch: str = "main",
        status: str = "completed",
        conclusion: str = "success",
        jobs: list[tuple[str, str, str | None]] | None = None,
    ) -> None:
        made = [{"name": name, "conclusion": ending, "log": log} for name, ending, log in jobs or ()]
        await control.create_run(
            repo.owner, repo.name, workflow, branch=branch, status=status, conclusion=conclusion, jobs=made
        )

    async def dispatched(repo: HostRepository) -> list[tuple[str, str]]:
        runs = await control.runs(repo.owner, repo.name)
        return [(run.workflow, run.branch) for run in runs if run.event == "workflow_dispatch"]

    async def offers_builds(repo: HostRepository, offers: bool) -> None:
        await control.set_switches(actions=offers)

    return HostTree(push, files, modes, messages, edit, run, dispatched, offers_builds)
