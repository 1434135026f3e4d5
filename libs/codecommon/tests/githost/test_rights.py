"""What scopes and permissions are worth to us, and when a token ends."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from codecommon.githost.github import rights
from codecommon.githost.github.answer import token_expiry
from codecommon.githost.protocol import Capability

NAMES = ("createRepository", "deleteRepository", "deployKeys", "collaborators", "packages")


def verdicts(found: tuple[Capability, ...]) -> str:
    assert tuple(capability.name for capability in found) == NAMES
    return " ".join(capability.status for capability in found)


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        (("repo", "delete_repo", "write:packages"), "Yes Yes Yes Yes Yes"),
        (("repo",), "Yes No Yes Yes No"),
        (("public_repo",), "Yes No Yes Yes No"),
        (("admin:public_key", "read:packages"), "No No No No Yes"),
        ((), "No No No No No"),
    ],
)
def test_scopes_decide_where_they_are_told(scopes: tuple[str, ...], expected: str) -> None:
    assert verdicts(rights.of_token("classic", scopes)) == expected


def test_what_is_missing_is_named() -> None:
    found = {c.name: c.message for c in rights.of_token("oauth", ("public_repo",))}
    assert "scope delete_repo" in found["deleteRepository"]
    assert "read:packages" in found["packages"]
    assert "for public repositories" in found["createRepository"]


@pytest.mark.parametrize(
    ("kind", "expected", "needs"),
    [
        ("fine-grained", "Unknown Unknown Unknown Unknown No", "administration: write"),
        ("app-user", "Unknown Unknown Unknown Unknown No", "administration: write"),
        ("classic", "Unknown Unknown Unknown Unknown Unknown", "scope repo"),
        ("unknown", "Unknown Unknown Unknown Unknown Unknown", "scope repo or the permission administration: write"),
    ],
)
def test_what_the_host_does_not_tell_is_unknown_with_what_is_needed(kind: Any, expected: str, needs: str) -> None:
    found = rights.of_token(kind, None)
    assert verdicts(found) == expected
    assert needs in found[0].message


@pytest.mark.parametrize(
    ("permissions", "account", "expected"),
    [
        ({"administration": "write"}, "Organization", "Yes Yes Yes Yes No"),
        ({"administration": "write"}, "User", "No Yes Yes Yes No"),
        ({"administration": "read", "contents": "write"}, "Organization", "No No No No No"),
    ],
)
def test_permissions_decide_for_an_installation(permissions: dict[str, str], account: Any, expected: str) -> None:
    assert verdicts(rights.of_installation(permissions, account)) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("2026-12-01 00:00:00 UTC", datetime(2026, 12, 1, tzinfo=UTC)),
        ("2026-12-01 02:00:00 +0200", datetime(2026, 12, 1, tzinfo=UTC)),
        ("soon", None),
        ("", None),
    ],
)
def test_the_end_of_a_token_is_read_in_either_form(header: str, expected: datetime | None) -> None:
    assert token_expiry(httpx.Headers({"GitHub-Authentication-Token-Expiration": header})) == expected


def test_a_token_without_an_end_has_none() -> None:
    assert token_expiry(httpx.Headers()) is None
