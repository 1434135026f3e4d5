"""The gate in front of kcp, rule by rule (hub-contract.md §4.5)."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hub_bed import ALICE, BOB, Bed, hub_bed

from devstack.devhub.identity import service_account_cluster
from devstack.ports import free_ports


def token(claims: Any) -> str:
    def part(content: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    return f"{part({'alg': 'RS256'})}.{part(claims)}.signature"


LEGACY = token({"kubernetes.io/serviceaccount/clusterName": "own"})
BOUND = token({"kubernetes.io": {"clusterName": "own"}})


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    async with hub_bed(tmp_path) as made:
        yield made


async def ask(bed: Bed, path: str, credential: str | None) -> tuple[int, dict[str, Any] | str]:
    """Status and body; the body is the ``Status`` object of a refusal, or what the control plane has been asked for."""
    headers = {"Authorization": f"Bearer {credential}"} if credential else {}
    async with bed.client.get(path, headers=headers) as response:
        if response.status == 200:
            return 200, bed.kcp.last.line.split(" ")[1]
        return response.status, await response.json()


async def refusal(bed: Bed, path: str, credential: str | None) -> tuple[int, str, str]:
    status, body = await ask(bed, path, credential)
    assert isinstance(body, dict), body
    assert (body["kind"], body["code"]) == ("Status", status)
    assert bed.kcp.requests == []
    return status, body["reason"], body["message"]


@pytest.mark.parametrize("credential", [LEGACY, BOUND])
def test_a_service_account_is_known_by_its_cluster(credential: str) -> None:
    assert service_account_cluster(credential) == "own"


@pytest.mark.parametrize(
    "other",
    [
        "opaque",
        "a.b.c",
        token({"sub": "somebody"}),
        token(["list"]),
        token({"kubernetes.io": 1}),
        token({"kubernetes.io": {"clusterName": 1}}),
    ],
)
def test_other_tokens_are_not_taken_for_one(other: str) -> None:
    assert service_account_cluster(other) is None


@pytest.mark.parametrize(
    ("path", "at_kcp"),
    [
        ("/clusters/own/api/v1/namespaces?limit=1", "/clusters/own/api/v1/namespaces?limit=1"),
        ("/clusters/own", "/clusters/own"),
        ("/api/v1/namespaces", "/clusters/own/api/v1/namespaces"),
        ("/apis", "/clusters/own/apis"),
        ("/clusters/other/api/v1", "/clusters/own/clusters/other/api/v1"),
        ("/clusters/ownership/api/v1", "/clusters/own/clusters/ownership/api/v1"),
        ("/clusters/root:kedge/api/v1", "/clusters/own/clusters/root:kedge/api/v1"),
    ],
)
async def test_a_service_account_is_held_to_its_own_cluster(bed: Bed, path: str, at_kcp: str) -> None:
    assert await ask(bed, path, LEGACY) == (200, at_kcp)
    assert bed.kcp.last.header("Authorization") == f"Bearer {LEGACY}"


async def test_a_service_account_of_an_impossible_cluster_is_refused(bed: Bed) -> None:
    odd = token({"kubernetes.io": {"clusterName": "own/../other"}})
    assert (await refusal(bed, "/api/v1", odd))[0] == 401


async def test_a_member_reaches_their_workspace_by_its_id_with_their_own_token(bed: Bed) -> None:
    path = f"/clusters/{bed.team.cluster}/api/v1/namespaces/default/secrets/a%2Fb?watch=1"
    assert await ask(bed, path, ALICE.token) == (200, path)
    assert bed.kcp.last.header("Authorization") == f"Bearer {ALICE.token}"
    assert (await ask(bed, f"/clusters/{bed.team.cluster}:edge/api", ALICE.token))[0] == 200


async def test_a_member_of_the_organisation_reaches_its_workspaces(bed: Bed) -> None:
    bed.hub.tenancy.join(BOB, bed.team.organization)
    assert (await ask(bed, f"/clusters/{bed.team.cluster}/api", BOB.token))[0] == 200


async def test_who_is_no_member_is_refused_before_kcp_is_asked(bed: Bed) -> None:
    expected = (403, "Forbidden", "cluster access denied")
    assert await refusal(bed, f"/clusters/{bed.team.cluster}/api", BOB.token) == expected
    assert await refusal(bed, "/clusters/unknown/api", ALICE.token) == expected


async def test_the_workspace_of_an_organisation_is_refused_by_id_too(bed: Bed) -> None:
    bed.hub.kcp._ready_workspaces[bed.team.organization.path] = "2acme"
    assert (await refusal(bed, "/clusters/2acme/api", ALICE.token))[0] == 403


async def test_paths_are_refused(bed: Bed) -> None:
    status, reason, _ = await refusal(bed, f"/clusters/{bed.team.organization.path}/api", ALICE.token)
    assert (status, reason) == (403, "OrgWorkspaceNotDirectlyAccessible")
    by_id = (403, "Forbidden", "address workspaces by cluster ID")
    assert await refusal(bed, f"/clusters/{bed.team.path}/api", ALICE.token) == by_id
    assert await refusal(bed, "/clusters/root:kedge/api", ALICE.token) == by_id


@pytest.mark.parametrize("path", ["/api/v1/namespaces", "/apis", "/clusters", "/clusters/"])
async def test_a_user_must_name_a_workspace(bed: Bed, path: str) -> None:
    assert await refusal(bed, path, ALICE.token) == (400, "BadRequest", "no workspace selected")


@pytest.mark.parametrize("credential", [None, "unknown"])
async def test_who_is_nobody_is_refused(bed: Bed, credential: str | None) -> None:
    assert (await refusal(bed, f"/clusters/{bed.team.cluster}/api", credential))[0] == 401


async def test_other_methods_on_a_heartbeat_meet_the_gate(bed: Bed) -> None:
    assert (await refusal(bed, "/api/providers/code/heartbeat", None))[0] == 401
    assert (await refusal(bed, "/api/providers/code/heartbeat", ALICE.token))[0] == 400


async def test_a_control_plane_that_is_away_is_a_bad_gateway(bed: Bed) -> None:
    object.__setattr__(bed.hub.kcp.access, "server", f"http://127.0.0.1:{free_ports(1)[0]}/clusters/root")
    assert (await refusal(bed, f"/clusters/{bed.team.cluster}/api", ALICE.token))[0] == 502
