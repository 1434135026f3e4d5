"""DeployKeys and Collaborators as the Go provider leaves them become ours without a write on the host."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from devstack.kcp import Kcp
from devstack.processes import Process
from devstack.resources import Manifest, condition, is_gone, is_ready
from devstack.scenario import Scenario, collaborator, deploy_key, has, repository, unique
from devstack.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

PAUSED = "code.kedge.faros.sh/paused"


async def _leave(kcp: Kcp, tenant: Tenant, plural: str, manifest: Manifest, **status: Any) -> None:
    """An object with that provider's finalizer and status, paused until the test lets ours have it."""
    finalizer = f"{plural}.code.kedge.faros.sh/finalizer"
    manifest["metadata"] |= {"annotations": {PAUSED: "true"}, "finalizers": [finalizer]}
    made = await tenant.create(manifest)
    generation = made["metadata"]["generation"]
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "Ready",
        "message": "",
        "lastTransitionTime": (datetime.now(UTC) - timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "observedGeneration": generation,
    }
    merged = {"observedGeneration": generation, "conditions": [ready], **status}
    await kcp.cluster(tenant.cluster).patch_status(plural, manifest["metadata"]["name"], merged)


async def test_keys_grants_and_invitations_are_taken_over_without_a_write_and_without_a_lost_finalizer(
    services: Process, scenario: Scenario, tenant: Tenant, kcp: Kcp
) -> None:
    account = await scenario.account()
    friend, guest = unique("friend"), unique("guest")
    for login in (friend, guest):
        await scenario.control.create_user(login)
    await scenario.connect(tenant, account)
    await tenant.apply(repository("site", "acme"))
    await tenant.wait_for("repositories", "site", is_ready)

    pair = Ed25519PrivateKey.generate()
    public = pair.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    private = pair.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    key = await scenario.control.add_key(
        account.login, "site", public, login=account.login, title="theirs", read_only=False
    )
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "deploykey-old", "namespace": "default"},
        "type": "kubernetes.io/ssh-auth",
        "stringData": {"ssh-privatekey": private, "ssh-publickey": public},
    }
    await tenant.apply(secret)
    await scenario.control.edit_repository(account.login, "site", grants={friend: "read"})
    reference = {"name": "deploykey-old", "namespace": "default", "key": "ssh-privatekey"}
    await _leave(
        kcp,
        tenant,
        "deploykeys",
        deploy_key("old", "site", title="edited, never sent", readOnly=True),
        keyID=str(key.id),
        secretRef=reference,
    )
    await _leave(kcp, tenant, "collaborators", collaborator("friend", "site", friend, permission="admin"))
    await scenario.control.invite(account.login, "site", guest, by=account.login, role="read")
    (invitation,) = await scenario.control.invitations(account.login, "site")
    theirs = collaborator("guest", "site", guest, permission="admin")
    await _leave(kcp, tenant, "collaborators", theirs, invitationID=str(invitation.id))
    await scenario.control.clear_journal()

    for resource, name in (("deploykeys", "old"), ("collaborators", "friend"), ("collaborators", "guest")):
        await tenant.patch(resource, name, {"metadata": {"annotations": {PAUSED: None}}})
    old = await tenant.wait_for("deploykeys", "old", lambda r: is_ready(r) and "origin" in r["status"])
    taken = await tenant.wait_for("collaborators", "friend", lambda r: is_ready(r) and "origin" in r["status"])
    invited = await tenant.wait_for("collaborators", "guest", has("InvitationPending", "True"))

    assert await scenario.requests_of(account.login, writes_only=True) == []
    assert old["metadata"]["finalizers"] == ["deploykeys.code.kedge.faros.sh/finalizer"]
    assert taken["metadata"]["finalizers"] == ["collaborators.code.kedge.faros.sh/finalizer"]
    assert (old["status"]["keyID"], old["status"]["secretRef"]) == (str(key.id), reference)
    assert "title, readOnly" in condition(old, "SettingsDiffer")["message"]
    assert "pull" in condition(taken, "SettingsDiffer")["message"]
    assert invited["metadata"]["finalizers"] == ["collaborators.code.kedge.faros.sh/finalizer"]
    assert (invited["status"]["invitationID"], invited["status"]["origin"]) == (str(invitation.id), "Created")
    assert await scenario.control.invitations(account.login, "site") == [invitation]
    kept = await tenant.get("secrets", "deploykey-old")
    assert kept is not None
    assert kept["metadata"]["ownerReferences"][0]["uid"] == old["metadata"]["uid"]

    await tenant.patch("deploykeys", "old", {"spec": {"title": "edited"}})
    await tenant.wait_for("deploykeys", "old", is_ready)
    (now,) = await scenario.control.keys(account.login, "site")
    assert (now.title, now.read_only, now.key) == ("edited", True, public)

    await tenant.delete("deploykeys", "old")
    await tenant.wait_for("deploykeys", "old", is_gone)
    assert await tenant.get("secrets", "deploykey-old") is None
