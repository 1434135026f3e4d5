"""What ``make up`` tells, without a stack."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from devstack.demo.session import Session
from devstack.demo.up import _instructions
from devstack.demo.workload import Team


@pytest.mark.parametrize("knows_static_users", [True, False])
def test_a_token_is_shown_for_the_login_only_if_somebody_can_log_in_with_it(knows_static_users: bool) -> None:
    hub = SimpleNamespace(url="https://hub.test", mcp_url=lambda *_, **__: "https://hub.test/mcp")
    team = Team("team", cast(Any, None), {"one": ""})
    tenant = SimpleNamespace(cluster="2team", token="the-token", mcp_token="m", organization="o", workspace="w")
    stack = SimpleNamespace(
        hub=hub,
        oauth={},
        simulator=None,
        provider=SimpleNamespace(url=""),
        nats=SimpleNamespace(address=""),
        kcp=SimpleNamespace(kubeconfig=Path("kubeconfig"), knows_static_users=knows_static_users),
    )

    told = _instructions(cast(Session, SimpleNamespace(stack=stack, teams={team: tenant})), Path("folder"))

    assert ("the-token" in told) is ("/ui/ in a browser" in told) is knows_static_users
