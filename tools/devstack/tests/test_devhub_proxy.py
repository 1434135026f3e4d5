"""The gate in front of kcp (hub-contract.md §4.5)."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from aiohttp import web

from devstack.devhub.proxy import kcp_path, service_account_cluster


def token(claims: Any) -> str:
    def part(content: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    return f"{part({'alg': 'RS256'})}.{part(claims)}.signature"


LEGACY = token({"kubernetes.io/serviceaccount/clusterName": "own"})
BOUND = token({"kubernetes.io": {"clusterName": "own"}})


@pytest.mark.parametrize("credential", [LEGACY, BOUND])
def test_a_service_account_is_known_by_its_cluster(credential: str) -> None:
    assert service_account_cluster(credential) == "own"


@pytest.mark.parametrize(
    "other", ["opaque", "a.b.c", token({"sub": "somebody"}), token(["list"]), token({"kubernetes.io": 1})]
)
def test_other_tokens_are_not_taken_for_one(other: str) -> None:
    assert service_account_cluster(other) is None


@pytest.mark.parametrize(
    ("path", "at_kcp"),
    [
        ("/clusters/own/api/v1/namespaces", "/clusters/own/api/v1/namespaces"),
        ("/clusters/own", "/clusters/own"),
        ("/api/v1/namespaces", "/clusters/own/api/v1/namespaces"),
        ("/clusters/other/api/v1", "/clusters/own/clusters/other/api/v1"),
        ("/clusters/ownership/api/v1", "/clusters/own/clusters/ownership/api/v1"),
    ],
)
def test_a_service_account_is_held_to_its_own_cluster(path: str, at_kcp: str) -> None:
    assert kcp_path(path, LEGACY) == at_kcp


def test_everybody_else_addresses_workspaces_by_id() -> None:
    assert kcp_path("/clusters/2w4kdoaiguo378uo/api/v1", "opaque") == "/clusters/2w4kdoaiguo378uo/api/v1"
    with pytest.raises(web.HTTPForbidden):
        kcp_path("/clusters/root:kedge:tenants:a/api/v1", "opaque")
    with pytest.raises(web.HTTPBadRequest):
        kcp_path("/api/v1/namespaces", "opaque")
