"""Deploy keys: generated and given, edited, repaired, rotated, removed; and git over SSH with one."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from codecommon.api.times import rfc3339
from devstack.githubsim.control_answers import SimKey
from devstack.gitserver import GitServer, why_not
from devstack.processes import Process
from devstack.resources import Manifest, condition, is_gone, is_ready
from devstack.scenario import Account, Scenario, deploy_key, has, repository, secret
from devstack.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def public_key() -> str:
    made = Ed25519PrivateKey.generate().public_key()
    return made.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


async def _site(scenario: Scenario, tenant: Tenant) -> Account:
    """A Repository ``site`` that is ready; returns whose it is."""
    account = await scenario.account()
    await scenario.connect(tenant, account)
    await tenant.apply(repository("site", "acme"))
    await tenant.wait_for("repositories", "site", is_ready)
    return account


async def _only_key(scenario: Scenario, account: Account) -> SimKey:
    (key,) = await scenario.control.keys(account.login, "site")
    return key


async def _secret(tenant: Tenant, key: Manifest) -> Manifest:
    found = await tenant.get("secrets", key["status"]["secretRef"]["name"])
    assert found is not None
    return found


async def _made(tenant: Tenant, name: str, ago: timedelta) -> None:
    """As if the pair had been made that long ago."""
    await tenant.patch_status("deploykeys", name, {"rotatedAt": rfc3339(datetime.now(UTC) - ago)})


async def _key_file(tenant: Tenant, key: Manifest, folder: Path) -> Path:
    """The private key as a consumer mounts it."""
    path = folder / key["metadata"]["name"]
    path.write_bytes(base64.b64decode((await _secret(tenant, key))["data"]["ssh-privatekey"]))
    path.chmod(0o600)
    return path


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
async def test_a_generated_key_clones_and_pushes_over_ssh_and_a_read_only_one_cannot_push(
    services: Process, scenario: Scenario, tenant: Tenant, tmp_path: Path
) -> None:
    account = await _site(scenario, tenant)
    await tenant.apply(deploy_key("writer", "site", readOnly=False))
    await tenant.apply(deploy_key("reader", "site"))
    writer = await _key_file(tenant, await tenant.wait_for("deploykeys", "writer", is_ready), tmp_path)
    reader = await _key_file(tenant, await tenant.wait_for("deploykeys", "reader", is_ready), tmp_path)

    async with GitServer(scenario.control.all_keys, tmp_path) as server:
        await server.add_repository(account.login, "site")
        url = server.url(account.login, "site")

        async def git(key: Path, *arguments: str, folder: str = ".") -> tuple[int, str]:
            finished = await server.git(key, *arguments, folder=tmp_path / folder)
            return finished.code, finished.output

        assert (await git(writer, "clone", url, "one"))[0] == 0
        (tmp_path / "one" / "file").write_text("content")
        assert (await git(writer, "add", "file", folder="one"))[0] == 0
        assert (await git(writer, "commit", "--message=first", folder="one"))[0] == 0
        code, output = await git(writer, "push", "origin", "HEAD:main", folder="one")
        assert code == 0, output

        assert (await git(reader, "clone", url, "two"))[0] == 0
        assert (tmp_path / "two" / "file").read_text() == "content"
        await git(reader, "commit", "--allow-empty", "--message=second", folder="two")
        code, output = await git(reader, "push", "origin", "HEAD:main", folder="two")
        assert code != 0
        assert "read only" in output

        await tenant.delete("deploykeys", "writer")
        await tenant.wait_for("deploykeys", "writer", is_gone)
        code, output = await git(writer, "ls-remote", url)
        assert code != 0
        assert "Permission denied" in output


async def test_a_generated_pair_lives_in_a_secret_that_is_owned_and_goes_with_the_object(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account = await _site(scenario, tenant)
    await tenant.apply(deploy_key("ci", "site"))
    ready = await tenant.wait_for("deploykeys", "ci", is_ready)
    assert ready["status"]["secretRef"] == {"name": "deploykey-ci", "namespace": "default", "key": "ssh-privatekey"}
    pair = await _secret(tenant, ready)
    assert pair["type"] == "kubernetes.io/ssh-auth"
    assert set(pair["data"]) == {"ssh-privatekey", "ssh-publickey"}
    (owner,) = pair["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("DeployKey", ready["metadata"]["uid"])
    key = await _only_key(scenario, account)
    assert base64.b64decode(pair["data"]["ssh-publickey"]).decode().startswith(key.key)
    assert (str(key.id), key.read_only) == (ready["status"]["keyID"], True)

    await tenant.delete("deploykeys", "ci")
    await tenant.wait_for("deploykeys", "ci", is_gone)
    assert await scenario.control.keys(account.login, "site") == []
    assert await tenant.get("secrets", "deploykey-ci") is None


async def test_the_secret_of_a_key_with_the_longest_name_ends_in_a_hash(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    await _site(scenario, tenant)
    longest = "k" * 253
    await tenant.apply(deploy_key(longest, "site"))
    ready = await tenant.wait_for("deploykeys", longest, is_ready)
    name = ready["status"]["secretRef"]["name"]
    assert (len(name), name.startswith("deploykey-kkk")) == (253, True)
    assert "ssh-privatekey" in (await _secret(tenant, ready))["data"]


async def test_a_given_key_follows_its_spec_and_comes_back_when_somebody_removes_it(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account = await _site(scenario, tenant)
    first, second = public_key(), public_key()
    await tenant.apply(deploy_key("ci", "site", publicKey=f"{first} me@laptop", title="one"))
    await tenant.wait_for("deploykeys", "ci", is_ready)

    await tenant.patch("deploykeys", "ci", {"spec": {"title": "two", "readOnly": False}})
    await tenant.wait_for("deploykeys", "ci", is_ready)
    key = await _only_key(scenario, account)
    assert (key.title, key.read_only, key.key) == ("two", False, first)

    await tenant.patch("deploykeys", "ci", {"spec": {"publicKey": second}})
    await tenant.wait_for("deploykeys", "ci", is_ready)
    key = await _only_key(scenario, account)
    assert (key.title, key.read_only, key.key) == ("two", False, second)

    await scenario.control.delete_key(account.login, "site", key.id)
    await scenario.wait_until(
        lambda: _keys(scenario, account), [("two", False, second)], timeout=40, what="the key on the host"
    )


async def _keys(scenario: Scenario, account: Account) -> list[tuple[str, bool, str]]:
    return [(k.title, k.read_only, k.key) for k in await scenario.control.keys(account.login, "site")]


async def test_a_replacement_that_fails_half_way_says_so_until_the_key_is_there_again(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account = await _site(scenario, tenant)
    given = public_key()
    await tenant.apply(deploy_key("ci", "site", publicKey=given, title="one"))
    await tenant.wait_for("deploykeys", "ci", is_ready)
    await scenario.control.add_fault("status", status=502, method="POST", path=".*/keys")
    await tenant.patch("deploykeys", "ci", {"spec": {"title": "two"}})
    await tenant.wait_for("deploykeys", "ci", has("KeyReplacing", "True", "Recreating"))
    ready = await tenant.wait_for("deploykeys", "ci", is_ready)
    assert condition(ready, "KeyReplacing") is None
    assert await _keys(scenario, account) == [("two", True, given)]


async def test_a_token_that_sees_the_repository_and_not_its_keys_is_told_what_it_lacks(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account, given = await _site(scenario, tenant), public_key()
    limited = await scenario.control.create_token(
        account.login, kind="fine-grained", permissions={"contents": "write", "metadata": "read"}
    )
    version = (await tenant.apply(secret("acme-token", limited.value)))["metadata"]["resourceVersion"]
    await tenant.wait_for(
        "connections", "acme", lambda c: is_ready(c) and c["status"]["observedSecretVersion"] == version
    )

    await tenant.apply(deploy_key("ci", "site", publicKey=given))
    refused = await tenant.wait_for("deploykeys", "ci", has("Stalled", "True", "MissingPermission"))
    assert "administration" in condition(refused, "Ready")["message"]
    assert is_ready(await tenant.get("repositories", "site"))
    assert await scenario.control.keys(account.login, "site") == []

    # The token stays the same text, so that nothing but the user tells of it.
    await scenario.control.edit_token(limited.id, permissions={"administration": "write", "metadata": "read"})
    await tenant.request_reconcile("deploykeys", "ci")
    await tenant.wait_for("deploykeys", "ci", is_ready)
    assert await _keys(scenario, account) == [("ci", True, given)]


async def test_a_new_key_that_the_host_does_not_list_yet_is_known_by_its_id(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account = await _site(scenario, tenant)
    await scenario.control.set_switches(token_id=account.token.id, visibility_delay=8.0)
    await tenant.apply(deploy_key("ci", "site"))
    made = await tenant.wait_for("deploykeys", "ci", is_ready)
    ready = await tenant.reconcile("deploykeys", "ci", "unlisted")
    assert is_ready(ready)
    assert ready["status"]["keyID"] == made["status"]["keyID"]
    assert str((await _only_key(scenario, account)).id) == ready["status"]["keyID"]


async def test_a_generated_pair_is_rotated_and_the_old_key_works_a_while_longer(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account = await _site(scenario, tenant)
    await tenant.apply(deploy_key("ci", "site", rotateEvery="720h"))
    first = await tenant.wait_for("deploykeys", "ci", is_ready)
    before = await _secret(tenant, first)

    def rotated(found: Manifest | None) -> bool:
        return found is not None and found["status"]["keyID"] != first["status"]["keyID"]

    await _made(tenant, "ci", timedelta(days=31))
    await tenant.wait_for("deploykeys", "ci", rotated)
    # The ids are in status before the rotation is over. Another look begins only after its end.
    during = await tenant.reconcile("deploykeys", "ci", "rotated")
    assert during["status"]["previousKeyID"] == first["status"]["keyID"]
    ids = {str(k.id) for k in await scenario.control.keys(account.login, "site")}
    assert ids == {first["status"]["keyID"], during["status"]["keyID"]}
    assert (await _secret(tenant, during))["data"] != before["data"]

    await _made(tenant, "ci", timedelta(minutes=11))
    after = await tenant.wait_for("deploykeys", "ci", lambda r: "previousKeyID" not in r["status"], 60)
    ids = {str(k.id) for k in await scenario.control.keys(account.login, "site")}
    assert ids == {after["status"]["keyID"]}


@pytest.mark.parametrize("spec", [{}, {"deletionPolicy": "Orphan"}])
async def test_everything_deleted_at_once_finishes(
    services: Process, scenario: Scenario, tenant: Tenant, spec: dict[str, Any]
) -> None:
    account = await _site(scenario, tenant)
    await tenant.apply(deploy_key("ci", "site", **spec))
    await tenant.wait_for("deploykeys", "ci", is_ready)
    everything = [("connections", "acme"), ("repositories", "site"), ("deploykeys", "ci")]
    for resource, name in everything:
        await tenant.delete(resource, name)
    for resource, name in everything:
        await tenant.wait_for(resource, name, is_gone, 60)
    assert await scenario.repositories_of(account.login) == {}
