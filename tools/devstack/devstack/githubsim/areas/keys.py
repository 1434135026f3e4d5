"""Deploy keys."""

from __future__ import annotations

import base64
import binascii

from devstack.githubsim import views_access as views
from devstack.githubsim.access import requested_repository, require_settings
from devstack.githubsim.calls import Answer, ApiError, Call, Operation, invalid, not_found
from devstack.githubsim.paging import page
from devstack.githubsim.records import DeployKey, Organization, Repository
from devstack.githubsim.world import KeyTaken

_RESOURCE = "PublicKey"
_NOT_A_KEY = "key is invalid. You must supply a key in OpenSSH public key format"
_DISABLED = "Deploy keys are disabled for this repository"


def list_keys(call: Call) -> Answer:
    repository = requested_repository(call)
    require_settings(call, repository, write=False)
    shown = [key for key in call.world.keys_of(repository) if call.now >= key.visible_from]
    keys, headers = page(call, shown)
    return Answer(body=[views.deploy_key(call, repository, key) for key in keys], headers=headers)


def get_key(call: Call) -> Answer:
    repository = requested_repository(call)
    require_settings(call, repository, write=False)
    return Answer(body=views.deploy_key(call, repository, _requested(call, repository)))


def create_key(call: Call) -> Answer:
    """The title may be left out. The key is compared without its comment, over the whole host."""
    repository = requested_repository(call)
    require_settings(call, repository, write=True)
    owner, body = call.world.owner(repository), call.json()
    if isinstance(owner, Organization) and not owner.deploy_keys_enabled:
        raise invalid("key", _DISABLED, resource=_RESOURCE)
    given = body.get("key")
    if not isinstance(given, str):
        raise ApiError(422, 'Invalid request.\n\n"key" wasn\'t supplied.')
    read_only = bool(body.get("read_only", False))
    try:
        key = call.world.new_key(
            repository, body.get("title") or "", _material(given), read_only, call.user, call.caller.token
        )
    except KeyTaken:
        raise invalid("key", "key is already in use", resource=_RESOURCE) from None
    key.visible_from = call.now + call.switches.visibility_delay
    created = views.deploy_key(call, repository, key)
    return Answer(201, created, {"Location": created["url"]})


def delete_key(call: Call) -> Answer:
    repository = requested_repository(call)
    require_settings(call, repository, write=True)
    del call.world.keys[_requested(call, repository).id]
    return Answer(204)


def _requested(call: Call, repository: Repository) -> DeployKey:
    key = call.world.keys.get(int(call.params["key_id"]))
    if key is None or key.repository_id != repository.id:
        raise not_found()
    return key


def _material(given: str) -> str:
    """Algorithm and base64, if that is what the text begins with. Raises ApiError 422."""
    fields = given.split()
    try:
        blob = base64.b64decode(fields[1], validate=True)
    except (IndexError, binascii.Error):
        raise invalid("key", _NOT_A_KEY, resource=_RESOURCE) from None
    name = fields[0].encode()
    if "\n" in given.strip() or not blob.startswith(len(name).to_bytes(4, "big") + name):
        raise invalid("key", _NOT_A_KEY, resource=_RESOURCE)
    return f"{fields[0]} {fields[1]}"


OPERATIONS = (
    Operation(
        method="GET",
        path="/repos/{owner}/{repo}/keys",
        handler=list_keys,
        docs="deploy-keys/deploy-keys#list-deploy-keys",
        scopes="public_repo, repo",
        permissions="administration=read",
    ),
    Operation(
        method="POST",
        path="/repos/{owner}/{repo}/keys",
        handler=create_key,
        docs="deploy-keys/deploy-keys#create-a-deploy-key",
        scopes="public_repo, repo",
        permissions="administration=write",
    ),
    Operation(
        method="GET",
        path=r"/repos/{owner}/{repo}/keys/{key_id:\d+}",
        handler=get_key,
        docs="deploy-keys/deploy-keys#get-a-deploy-key",
        scopes="public_repo, repo",
        permissions="administration=read",
    ),
    Operation(
        method="DELETE",
        path=r"/repos/{owner}/{repo}/keys/{key_id:\d+}",
        handler=delete_key,
        docs="deploy-keys/deploy-keys#delete-a-deploy-key",
        scopes="public_repo, repo",
        permissions="administration=write",
    ),
)
