"""From the Go provider to ours and back: its export, its objects and the host as it left them, without a write on the host."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from devstack.cluster import Predicate
from devstack.devhub import DevHub
from devstack.devhub.provisioning import provision_provider
from devstack.githubsim import SimControl
from devstack.kcp import SECRETS_CLAIM, Kcp
from devstack.paths import REPOSITORY
from devstack.provider import EXPORT, ProviderInstallation, install_provider, run_init, wait_serving
from devstack.resources import Manifest, is_ready
from devstack.scenario import (
    Account,
    Scenario,
    collaborator,
    connection,
    deploy_key,
    has,
    repository,
    secret,
    unique,
)
from devstack.settings import Settings
from devstack.simulator import SimulatorProcess
from devstack.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

OURS = REPOSITORY / "crds/kcp"
GOS = REPOSITORY / "tests/fixtures/go-provider/schemas"
GO_SCHEMAS = {"KEDGE_SCHEMAS_DIR": str(GOS)}
LONG_AGO = (datetime.now(UTC) - timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Left:
    """What the Go provider leaves: its installation, and a tenant with objects whose things are on the host.

    ``objects``: resource and name of each object, and the object as kcp stored it.
    """

    installation: ProviderInstallation
    tenant: Tenant
    scenario: Scenario
    account: Account
    objects: dict[tuple[str, str], Manifest]


@pytest_asyncio.fixture
async def left(
    kcp: Kcp, devhub: DevHub, github_sim: SimulatorProcess, dev_settings: Settings, run_dir: Path
) -> AsyncIterator[Left]:
    folder = run_dir / "migration"
    provisioned = await provision_provider(kcp, unique("migration"), kcp.url)
    installation = install_provider(provisioned, folder, hub_url="", inherited=dev_settings.environment)
    await run_init(installation, extra=GO_SCHEMAS)
    tenant = await devhub.create_tenant()
    await kcp.bind(tenant.cluster, provisioned.workspace_path, EXPORT, [SECRETS_CLAIM])
    async with SimControl(github_sim.url) as control:
        scenario = Scenario(github_sim, control)
        account = await scenario.account()
        objects = await _leave_all(kcp, tenant, scenario, account)
        await control.clear_journal()
        yield Left(installation, tenant, scenario, account, objects)
    await devhub.delete_tenant(tenant)


async def _leave_all(kcp: Kcp, tenant: Tenant, scenario: Scenario, account: Account) -> dict[tuple[str, str], Manifest]:
    """A Connection, a Repository, a generated key, a grant and an open invitation, on the host and in the workspace."""
    control, login = scenario.control, account.login
    objects: dict[tuple[str, str], Manifest] = {}

    async def leave(resource: str, manifest: Manifest, condition_type: str = "Ready", **status: Any) -> None:
        if resource != "connections":
            manifest["metadata"]["finalizers"] = [f"{resource}.code.kedge.faros.sh/finalizer"]
        name = manifest["metadata"]["name"]
        await tenant.create(manifest)
        ready = {
            "type": condition_type,
            "status": "True",
            "reason": "Reconciled",
            "message": "",
            "observedGeneration": 1,
        }
        conditions = [{**ready, "lastTransitionTime": LONG_AGO}]
        whole = {"observedGeneration": 1, "conditions": conditions, **status}
        objects[resource, name] = await kcp.cluster(tenant.cluster).patch_status(resource, name, whole)

    await tenant.apply(secret("acme-token", account.token.value))
    theirs = connection("acme", login, scenario.url)
    await leave("connections", theirs, "Validated", login=login, scopes=["repo"])

    made = await control.create_repository(login, "site", description="as it was")
    page = f"{scenario.url}/{login}/site"
    await leave(
        "repositories",
        repository("site", "acme", description="as it was", visibility="public"),
        repoID=str(made.id),
        htmlURL=page,
        cloneURL=f"{page}.git",
    )

    pair = Ed25519PrivateKey.generate()
    public = pair.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    private = pair.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    key = await control.add_key(login, "site", public, login=login, title="ci", read_only=True)
    pair_secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "deploykey-ci", "namespace": "default"},
        "type": "kubernetes.io/ssh-auth",
        "stringData": {"ssh-privatekey": private, "ssh-publickey": public},
    }
    await tenant.apply(pair_secret)
    reference = {"name": "deploykey-ci", "namespace": "default", "key": "ssh-privatekey"}
    await leave(
        "deploykeys", deploy_key("ci", "site", title="ci", readOnly=True), keyID=str(key.id), secretRef=reference
    )

    friend, guest = unique("friend"), unique("guest")
    for user in (friend, guest):
        await control.create_user(user)
    await control.edit_repository(login, "site", grants={friend: "write"})
    await leave("collaborators", collaborator("friend", "site", friend, permission="push"))
    await control.invite(login, "site", guest, by=login, role="read")
    (invitation,) = await control.invitations(login, "site")
    await leave(
        "collaborators", collaborator("guest", "site", guest, permission="pull"), invitationID=str(invitation.id)
    )
    return objects


async def test_what_the_go_provider_left_is_ready_after_the_upgrade_and_its_own_again_after_the_rollback(
    left: Left, kcp: Kcp
) -> None:
    tenant = left.tenant
    await run_init(left.installation)
    await _bound(tenant, OURS)
    serve = left.installation.command("serve", {"CODE_ALLOWED_GIT_HOSTS": left.scenario.url})
    async with serve:
        await wait_serving(serve, left.installation.url, kcp.session)
        for resource, name in left.objects:
            settled = has("InvitationPending", "True") if name == "guest" else is_ready
            recorded = "login" if resource == "connections" else "origin"

            await _taken_over(left, resource, name, settled, recorded)
        assert await left.scenario.requests_of(left.account.login, writes_only=True) == []

    # The operator scales ours to 0, and installs the Go provider's chart again: its init puts its schemas back.
    async with left.installation.command("rollback") as rollback:
        assert await rollback.wait(60) == 0, rollback.tail()
        assert "rollback: took our finalizer off 1 objects" in rollback.tail()
    await run_init(left.installation, extra=GO_SCHEMAS)
    await _bound(tenant, GOS)
    for (resource, name), before in left.objects.items():
        after = await tenant.get(resource, name)
        assert after is not None
        assert after["spec"] == before["spec"], "the Go provider finds what it was told to do"
        assert after["metadata"].get("finalizers", []) == before["metadata"].get("finalizers", []), (
            "it can let go of it"
        )
        read = {field: after["status"].get(field) for field in before["status"] if field != "conditions"}
        assert read == {field: value for field, value in before["status"].items() if field != "conditions"} | (
            {"scopes": after["status"]["scopes"]} if resource == "connections" else {}
        )
    assert await left.scenario.requests_of(left.account.login, writes_only=True) == []


async def _taken_over(left: Left, resource: str, name: str, settled: Predicate, recorded: str) -> None:
    """Return once the object is settled and its status has the field ``recorded``.

    Each look is a read of its own: a watch that began under the schemas before goes on to show what those know.
    """

    async def is_recorded() -> bool:
        found = await left.tenant.get(resource, name)
        return found is not None and settled(found) and recorded in found["status"]

    await left.scenario.wait_until(is_recorded, True, timeout=60, what=f"{resource}/{name} is taken over")


async def _bound(tenant: Tenant, schemas: Path) -> None:
    """Return once the workspace's binding names these schemas."""
    names = {yaml.safe_load(path.read_text())["metadata"]["name"] for path in schemas.glob("*.yaml")}
    await tenant.wait_for("apibindings", "code", lambda binding: _schemas_of(binding) == names, 60)


def _schemas_of(binding: Manifest | None) -> set[str]:
    bound = (binding or {}).get("status", {}).get("boundResources", [])
    return {resource["schema"]["name"] for resource in bound}
