"""Deploy keys."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from devstack.githubsim import SimControl
from devstack.githubsim.control import ControlRefused

KEYS = "/repos/alice/demo/keys"
DISABLED = "Deploy keys are disabled for this repository"


def public_key(number: int) -> str:
    """An ed25519 public key that nobody has the private half of."""
    name = b"ssh-ed25519"
    blob = len(name).to_bytes(4, "big") + name + (32).to_bytes(4, "big") + number.to_bytes(32, "big")
    return f"ssh-ed25519 {base64.b64encode(blob).decode()}"


@pytest.fixture
async def demo(control: SimControl, alice: Any) -> int:
    """alice/demo, private. Its id."""
    return (await control.create_repository("alice", "demo")).id


async def test_a_key_is_registered_read_and_removed(api: Any, alice: Any, demo: int, control: SimControl) -> None:
    sent = {"title": "ci", "key": f"{public_key(1)} me@laptop", "read_only": True}
    made = await api("POST", f"/repositories/{demo}/keys", token=alice, json=sent)
    assert (made.status, made.body["title"], made.body["key"]) == (201, "ci", public_key(1))
    assert (made.body["read_only"], made.body["added_by"], made.body["enabled"]) == (True, "alice", True)
    one = f"{KEYS}/{made.body['id']}"
    assert made.headers["Location"].endswith(one)
    assert (await api("GET", one, token=alice)).body == made.body
    (told,) = await control.all_keys()
    assert (told.repository, told.repo_id, told.key, told.read_only) == ("alice/demo", demo, public_key(1), True)
    assert (await api("DELETE", one, token=alice)).status == 204
    assert (await api("DELETE", one, token=alice)).status == 404
    assert (await api("GET", KEYS, token=alice)).body == []


async def test_a_key_may_write_unless_it_is_said_not_to(api: Any, alice: Any, demo: int) -> None:
    assert (await api("POST", KEYS, token=alice, json={"key": public_key(1)})).body["read_only"] is False


async def test_a_new_key_is_listed_after_the_delay_and_found_by_its_id_at_once(
    api: Any, alice: Any, demo: int, control: SimControl, clock: Any
) -> None:
    await control.set_switches(visibility_delay=10)
    made = await api("POST", KEYS, token=alice, json={"key": public_key(1)})
    one = f"{KEYS}/{made.body['id']}"
    assert (await api("GET", KEYS, token=alice)).body == []
    assert (await api("GET", one, token=alice)).status == 200
    assert (await api("POST", KEYS, token=alice, json={"key": public_key(1)})).status == 422
    clock.advance(10)
    assert (await api("GET", KEYS, token=alice)).body == [made.body]


async def test_keys_come_in_pages(api: Any, alice: Any, demo: int, control: SimControl) -> None:
    for number in range(101):
        await control.add_key("alice", "demo", public_key(number), login="alice")
    first = await api("GET", f"{KEYS}?per_page=100", token=alice)
    assert len(first.body) == 100
    assert 'page=2>; rel="next"' in first.headers["Link"]
    assert len((await api("GET", f"{KEYS}?per_page=100&page=2", token=alice)).body) == 1


async def test_a_key_serves_one_repository_of_the_whole_host(
    api: Any, alice: Any, demo: int, acme: str, control: SimControl
) -> None:
    await control.create_repository(acme, "web")
    await control.add_key(acme, "web", f"{public_key(1)} other comment", login="bob")
    refused = await api("POST", KEYS, token=alice, json={"key": public_key(1)})
    assert refused.status == 422
    assert refused.body["errors"] == [
        {"resource": "PublicKey", "code": "custom", "field": "key", "message": "key is already in use"}
    ]
    with pytest.raises(ControlRefused):
        await control.add_key("alice", "demo", public_key(1), login="alice")


@pytest.mark.parametrize("text", ["", "nonsense", "ssh-ed25519 !!!", "ssh-rsa " + public_key(1).split()[1]])
async def test_what_is_no_public_key_is_refused(api: Any, alice: Any, demo: int, text: str) -> None:
    refused = await api("POST", KEYS, token=alice, json={"key": text})
    assert (refused.status, refused.body["errors"][0]["field"]) == (422, "key")
    assert "OpenSSH public key format" in refused.body["errors"][0]["message"]


async def test_an_organisation_may_disable_deploy_keys(api: Any, alice: Any, acme: str, control: SimControl) -> None:
    await control.create_repository(acme, "web")
    before = await api("POST", "/repos/acme/web/keys", token=alice, json={"key": public_key(2)})
    await control.edit_org(acme, deploy_keys_enabled=False)
    refused = await api("POST", "/repos/acme/web/keys", token=alice, json={"key": public_key(1)})
    assert (refused.status, refused.body["errors"][0]["message"]) == (422, DISABLED)
    kept = await api("GET", "/repos/acme/web/keys", token=alice)
    assert [(key["id"], key["enabled"]) for key in kept.body] == [(before.body["id"], False)]


@pytest.mark.parametrize(("kind", "left"), [("classic", 0), ("oauth", 0), ("fine-grained", 1)])
async def test_a_key_goes_with_the_classic_or_oauth_token_that_made_it(
    api: Any, alice: Any, demo: int, control: SimControl, kind: Any, left: int
) -> None:
    token = await control.create_token("alice", kind=kind)
    await api("POST", KEYS, token=token, json={"key": public_key(1)})
    await control.revoke_token(token.id)
    assert len(await control.keys("alice", "demo")) == left


async def test_keys_are_for_administrators_with_the_right_token(
    api: Any, alice: Any, demo: int, control: SimControl
) -> None:
    await control.create_user("bob")
    bob = await control.create_token("bob")
    for role in ("read", "write", "maintain"):
        await control.edit_repository("alice", "demo", grants={"bob": role})
        assert (await api("GET", KEYS, token=bob)).status == 404
    reader = await control.create_token("alice", kind="fine-grained", permissions={"administration": "read"})
    assert (await api("GET", KEYS, token=reader)).status == 200
    assert (await api("POST", KEYS, token=reader, json={"key": public_key(1)})).status == 403
    nothing = await control.create_token("alice", kind="fine-grained", permissions={"metadata": "read"})
    assert (await api("GET", KEYS, token=nothing)).status == 403


async def test_a_deleted_repository_gives_its_keys_free(api: Any, alice: Any, demo: int, control: SimControl) -> None:
    await control.add_key("alice", "demo", public_key(1), login="alice")
    await control.delete_repository("alice", "demo")
    assert await control.all_keys() == []
