"""The real kcp, and the client that tests use on it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from devstack.cluster import Cluster
from devstack.errors import ApiError, WaitTimeout
from devstack.kcp import Kcp, service_account_token
from devstack.resources import is_gone

pytestmark = pytest.mark.e2e


@pytest.fixture
async def workspace(kcp: Kcp, request: pytest.FixtureRequest) -> Cluster:
    return kcp.cluster(await kcp.create_workspace(f"root:devstack:w{abs(hash(request.node.name)):x}"))


async def test_workspaces_are_made_with_their_parents_and_only_once(kcp: Kcp) -> None:
    paths = ["root:devstack:a:one", "root:devstack:a:two", "root:devstack:a:one"]
    one, two, again = await asyncio.gather(*map(kcp.create_workspace, paths))
    assert one == again != two
    assert (await kcp.cluster(one).request("GET", "/api/v1/namespaces/default"))["metadata"]["name"] == "default"


async def test_an_applied_object_is_read_changed_and_deleted(workspace: Cluster) -> None:
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "it"}, "data": {"a": "1"}}
    await workspace.apply(manifest)
    await workspace.apply({**manifest, "data": {"a": "2"}})
    found = await workspace.get("configmaps", "it")
    assert found is not None
    assert found["data"] == {"a": "2"}
    await workspace.delete("configmaps", "it")
    assert await workspace.get("configmaps", "it") is None
    await workspace.delete("configmaps", "it")


async def test_waiting_sees_creation_change_and_deletion(workspace: Cluster) -> None:
    def has(value: str):
        return lambda found: found is not None and found["data"]["a"] == value

    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "seen"}, "data": {"a": "1"}}
    for value in ("1", "2"):
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(workspace.wait_for("configmaps", "seen", has(value), 10))
            group.create_task(workspace.apply({**manifest, "data": {"a": value}}))
        assert waiting.result() is not None
    async with asyncio.TaskGroup() as group:
        gone = group.create_task(workspace.wait_for("configmaps", "seen", is_gone, 10))
        group.create_task(workspace.delete("configmaps", "seen"))
    assert gone.result() is None


async def test_a_wait_that_fails_tells_the_last_state(workspace: Cluster) -> None:
    with pytest.raises(WaitTimeout, match=r"configmaps/never.*0\.3 s.*does not exist"):
        await workspace.wait_for("configmaps", "never", lambda found: found is not None, 0.3)


async def test_an_error_carries_the_reason_of_the_api_server(workspace: Cluster) -> None:
    with pytest.raises(ApiError) as problem:
        await workspace.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "Not A Name"}})
    assert (problem.value.status, problem.value.reason) == (422, "Invalid")


async def test_a_service_account_rules_its_own_workspace_and_no_other(kcp: Kcp, workspace: Cluster) -> None:
    token = await service_account_token(workspace, "member", admin_binding="kedge:member")
    assert await workspace.with_token(token).list("secrets")
    with pytest.raises(ApiError) as problem:
        await kcp.cluster("root", token=token).list("secrets")
    assert problem.value.status == 403


async def test_a_deleted_workspace_is_made_anew(kcp: Kcp) -> None:
    path = "root:devstack:brief"
    first = await kcp.create_workspace(path)
    await kcp.delete_workspace(path)
    await kcp.cluster("root:devstack").wait_for("workspaces", "brief", is_gone, 60)
    assert await kcp.create_workspace(path) != first


async def test_an_existing_control_plane_is_used_through_its_kubeconfig(kcp: Kcp, tmp_path: Path) -> None:
    async with Kcp(tmp_path, kubeconfig=kcp.kubeconfig) as existing:
        assert existing.process is None
        assert await existing.create_workspace("root:devstack:shared") == await kcp.create_workspace(
            "root:devstack:shared"
        )
    assert kcp.process is None or kcp.process.running
