"""The check against GitHub's description itself finds what is wrong."""

from __future__ import annotations

import re
from typing import Any

import pytest

from devstack.githubsim import SimControl
from devstack.githubsim.openapi import ContractViolation

OPERATION = ("GET", "/repos/{owner}/{repo}", 200)


@pytest.fixture
async def repository(api: Any, alice: Any, control: SimControl) -> dict[str, Any]:
    await control.create_repository("alice", "demo")
    return (await api("GET", "/repos/alice/demo", token=alice)).body


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": "1"}, 'id: "1" is not of type "integer"'),
        ({"created_at": "yesterday"}, 'created_at: "yesterday" is not a "date-time"'),
        ({"owner": None}, "owner: null is not of type"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_wrong_or_unknown_property_is_a_violation(
    contracts: Any, repository: dict[str, Any], change: dict[str, Any], said: str
) -> None:
    with pytest.raises(ContractViolation, match=re.escape(said)):
        contracts["2022-11-28"].check(*OPERATION, repository | change)


def test_a_missing_property_is_a_violation_and_null_only_where_it_may_be(
    contracts: Any, repository: dict[str, Any]
) -> None:
    contracts["2022-11-28"].check(*OPERATION, repository | {"description": None})
    del repository["full_name"]
    with pytest.raises(ContractViolation, match="full_name"):
        contracts["2022-11-28"].check(*OPERATION, repository)


def test_a_property_that_a_version_has_taken_away_is_a_violation_in_it(
    contracts: Any, repository: dict[str, Any]
) -> None:
    assert repository["has_downloads"] is True
    with pytest.raises(ContractViolation, match="has_downloads"):
        contracts["2026-03-10"].check(*OPERATION, repository)


def test_statuses_and_paths_that_are_not_described_are_violations(contracts: Any) -> None:
    contract = contracts["2022-11-28"]
    with pytest.raises(ContractViolation, match="is not described"):
        contract.check("GET", "/nowhere", 200, {})
    with pytest.raises(ContractViolation, match="has no answer 201"):
        contract.check("GET", "/user", 201, {})
    with pytest.raises(ContractViolation, match="a body where there is none"):
        contract.check("DELETE", "/repos/{owner}/{repo}", 204, {})
