"""The portal's REST calls, rule by rule (hub-contract.md §4.2, §4.4). What they do at kcp is in test_devhub.py."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from hub_bed import ALICE, BOB, Bed, answer, hub_bed

from devstack.static_users import StaticUser, write_token_file

AUTHORIZED = {"Authorization": f"Bearer {ALICE.token}"}


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    async with hub_bed(tmp_path) as made:
        yield made


def test_every_name_of_a_user_follows_from_the_token() -> None:
    user = StaticUser("dev-token")
    # printf 'static-token/dev-token' | sha256sum
    assert user.subject == "47b9dce0e91570a1e1fff9c4c57d664279c2a0a755bf3db1f374bf64d75cf66"
    assert user.name == f"static-user-{user.subject[:16]}"
    assert user.kcp_name == f"kedge:static:{user.subject[:16]}"
    assert user.email == "static-dev-token@kedge.local"
    assert user.token not in repr(user)


def test_kcp_reads_the_users_as_members_of_system_authenticated(tmp_path: Path) -> None:
    path = write_token_file(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert f'{ALICE.token},{ALICE.kcp_name},{ALICE.name},"system:authenticated"' in path.read_text().splitlines()


async def test_token_login_gives_a_kubeconfig_for_the_users_first_workspace(bed: Bed) -> None:
    async with bed.client.post("/auth/token-login", headers=AUTHORIZED) as response:
        assert response.status == 200
        body = await response.json()
    assert (body["email"], body["userId"]) == (ALICE.email, ALICE.name)
    config = yaml.safe_load(base64.b64decode(body["kubeconfig"]))
    assert config["clusters"][0]["cluster"]["server"] == f"{bed.hub.url}/clusters/{bed.team.cluster}"
    assert config["users"][0]["user"]["token"] == ALICE.token
    assert config["current-context"] == "kedge"


async def test_token_login_refuses_unknown_tokens_and_is_post_only(bed: Bed) -> None:
    for headers in ({}, {"Authorization": "Bearer unknown"}):
        async with bed.client.post("/auth/token-login", headers=headers) as response:
            assert response.status == 401
    async with bed.client.get("/auth/token-login", headers=AUTHORIZED) as response:
        assert response.status == 404


async def test_organisations_are_the_personal_one_and_those_with_a_membership(bed: Bed) -> None:
    async with bed.client.get("/api/orgs", headers=AUTHORIZED) as response:
        items = (await response.json())["items"]
    assert [(item["displayName"], item["personal"]) for item in items] == [(ALICE.email, True), ("acme", False)]
    async with bed.client.get("/api/orgs") as response:
        assert (response.status, (await response.json())["kind"]) == (401, "Status")


async def test_workspaces_name_their_logical_cluster(bed: Bed) -> None:
    org = bed.team.organization.uuid
    async with bed.client.get(f"/api/orgs/{org}/workspaces", headers=AUTHORIZED | {"X-Kedge-Org": org}) as response:
        assert (await response.json())["items"] == [
            {"uuid": bed.team.uuid, "orgUUID": org, "displayName": "team", "clusterName": bed.team.cluster}
        ]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer unknown"}, 401),
        ({"X-Kedge-Org": ""}, 400),
        ({"X-Kedge-Org": "other"}, 400),
        ({"X-Kedge-Workspace": ""}, 400),
        ({"X-Kedge-Workspace": "other"}, 400),
        ({"Authorization": f"Bearer {BOB.token}"}, 403),
    ],
)
async def test_a_call_about_a_workspace_is_held_to_its_headers_and_membership(
    bed: Bed, changes: dict[str, str], status: int
) -> None:
    path = f"/api/orgs/{bed.team.organization.uuid}/workspaces/{bed.team.uuid}/providers/enabled"
    async with bed.client.get(path, headers=bed.as_alice(**changes)) as response:
        assert (response.status, (await response.json())["code"]) == (status, status)


async def test_a_membership_of_the_organisation_alone_does_not_do_here(bed: Bed) -> None:
    bed.hub.tenancy.join(BOB, bed.team.organization)
    path = f"/api/orgs/{bed.team.organization.uuid}/workspaces/{bed.team.uuid}/providers/enabled"
    async with bed.client.get(path, headers=bed.as_alice(Authorization=f"Bearer {BOB.token}")) as response:
        assert response.status == 403


async def test_what_cannot_be_enabled_is_refused(bed: Bed) -> None:
    bed.register("needy", apiExport={"name": "needy.example"}, dependencies=[{"name": "code"}])
    bed.register("exported", apiExport={"name": "exported.example"})
    bed.kcp.respond = lambda received: _json(b'{"items":[]}')
    base = f"/api/orgs/{bed.team.organization.uuid}/workspaces/{bed.team.uuid}/providers"
    statuses = {}
    for name in ("nobody", "code", "needy"):
        async with bed.client.post(f"{base}/{name}/enable", headers=bed.as_alice(), json={}) as response:
            statuses[name] = response.status
    async with bed.client.post(f"{base}/exported/enable", headers=bed.as_alice(), data=b"{") as response:
        statuses["bad JSON"] = response.status
    assert statuses == {"nobody": 404, "code": 400, "needy": 409, "bad JSON": 400}


async def test_an_mcp_server_that_is_not_there_is_not_found(bed: Bed) -> None:
    path = f"/api/orgs/{bed.team.organization.uuid}/workspaces/{bed.team.uuid}/mcpservers/other/connect"
    async with bed.client.get(path, headers=bed.as_alice()) as response:
        assert response.status == 404


def _json(body: bytes) -> bytes:
    return answer(body, headers="Content-Type: application/json\r\n")
