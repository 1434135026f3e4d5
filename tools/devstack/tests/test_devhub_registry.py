"""Heartbeats and readiness (hub-contract.md §2) and the catalogue (§4.1)."""

from __future__ import annotations

from typing import Any

import pytest

from devstack.devhub.registry import HEARTBEAT_TTL, ProviderRegistry, endpoints_valid

SPEC: dict[str, Any] = {
    "displayName": "Code",
    "version": "0.1.0",
    "category": "Developer",
    "ui": {
        "url": "http://localhost:8083",
        "indexPath": "/",
        "children": [{"displayName": "Connections", "builtinRoute": "connections"}],
    },
    "backend": {"url": "http://localhost:8083"},
    "apiExport": {
        "name": "code.providers.kedge.faros.sh",
        "permissionClaims": [{"resource": "secrets", "verbs": ["get"], "tenantScoped": True}],
    },
}


def entry(name: str = "code", **changes: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {**SPEC, **changes}}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(clock: Clock) -> ProviderRegistry:
    made = ProviderRegistry(clock)
    made.upsert(entry())
    return made


def is_ready(registry: ProviderRegistry) -> bool:
    return registry.catalogue()["items"][0]["ready"]


def test_the_catalogue_has_the_keys_that_the_portal_reads(registry: ProviderRegistry) -> None:
    assert registry.catalogue()["items"] == [
        {
            "name": "code",
            "displayName": "Code",
            "version": "0.1.0",
            "ready": True,
            "hasUI": True,
            "hasBackend": True,
            "iconURL": "/ui/providers/code/icon.svg",
            "children": [{"displayName": "Connections", "builtinRoute": "connections"}],
            "category": "Developer",
            "apiExportPath": "root:kedge:providers:code",
            "apiExportName": "code.providers.kedge.faros.sh",
            "permissionClaims": [{"resource": "secrets", "verbs": ["get"], "tenantScoped": True}],
        }
    ]


def test_the_catalogue_is_sorted_by_name(registry: ProviderRegistry) -> None:
    registry.upsert(entry("agent"))
    assert [item["name"] for item in registry.catalogue()["items"]] == ["agent", "code"]


def test_a_provider_that_never_beats_stays_ready(registry: ProviderRegistry, clock: Clock) -> None:
    clock.now += 10 * HEARTBEAT_TTL
    registry.sweep()
    assert is_ready(registry)


def test_a_provider_that_stops_beating_is_not_ready_from_the_sweep_after_the_ttl(
    registry: ProviderRegistry, clock: Clock
) -> None:
    registry.beat("code", "0.1.0")
    clock.now += HEARTBEAT_TTL
    registry.sweep()
    assert is_ready(registry)
    clock.now += 1
    assert is_ready(registry)
    registry.sweep()
    assert not is_ready(registry)


def test_a_new_beat_makes_a_stale_provider_ready_at_once(registry: ProviderRegistry, clock: Clock) -> None:
    registry.beat("code", "")
    clock.now += 2 * HEARTBEAT_TTL
    registry.sweep()
    registry.beat("code", "")
    assert is_ready(registry)


def test_a_beat_of_an_unknown_provider_is_refused(registry: ProviderRegistry) -> None:
    assert not registry.beat("nobody", "0.1.0")


def test_an_empty_version_leaves_the_reported_one(registry: ProviderRegistry) -> None:
    registry.beat("code", "0.2.0")
    registry.beat("code", "")
    record = registry.get("code")
    assert record is not None
    assert record.reported_version == "0.2.0"


def test_a_change_of_the_entry_keeps_what_heartbeats_told(registry: ProviderRegistry, clock: Clock) -> None:
    registry.beat("code", "0.2.0")
    clock.now += 2 * HEARTBEAT_TTL
    registry.sweep()
    registry.upsert(entry(displayName="Code 2"))
    assert not is_ready(registry)


def test_a_removed_entry_leaves_the_catalogue(registry: ProviderRegistry) -> None:
    registry.remove("code")
    assert registry.catalogue()["items"] == []


@pytest.mark.parametrize(
    ("spec", "valid"),
    [
        ({"ui": {"url": "http://a.test"}}, True),
        ({"backend": {"url": "http://a.test:8083/base"}}, True),
        ({"ui": {"builtinRoute": "code"}}, True),
        ({}, False),
        ({"ui": {"url": "a.test"}}, False),
        ({"ui": {"url": "http://a.test"}, "backend": {"url": "/no/host"}}, False),
    ],
)
def test_endpoints_need_a_scheme_and_a_host(spec: dict[str, Any], valid: bool) -> None:
    assert endpoints_valid(spec) is valid
