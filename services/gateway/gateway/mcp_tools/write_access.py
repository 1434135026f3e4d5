"""add_deploy_key, delete_deploy_key, add_collaborator and remove_collaborator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from codecommon.api.access import Collaborator, DeployKey
from codecommon.api.kinds import COLLABORATORS, DEPLOY_KEYS, REPOSITORIES, KindSpec
from codecommon.api.origin import is_recorded
from codecommon.api.package import repository_label
from codecommon.api.reasons import ConditionType
from codecommon.api.repository import Repository
from codecommon.kcp.client import JsonObject, KcpError, NotFound, Objects
from gateway.mcp_tools.shared import boolean, parsed, string
from gateway.mcp_tools.tool import Call, Tool
from gateway.mcp_tools.write_schemas import (
    ADDS,
    CREATED,
    DELETED,
    DELETES,
    KEY_CREATED,
    PLAN_WORDS,
    input_schema,
)
from gateway.mcp_tools.writing import Pace, create, find, full_name, gone, handler, plain, result_of

_REPOSITORY_REF = string(
    "Name of the Repository object in the workspace (see list_repositories), not of the one on the host."
)

KEY_PROPERTIES = {
    "title": string("Title of the key on the host. Default: the object's name."),
    "publicKey": string(
        "Public key in OpenSSH format, such as 'ssh-ed25519 AAAA…'. Never a private key. Default: the provider generates a "
        "pair and stores it in the Secret deploykey-<name> of the workspace."
    ),
    "readOnly": boolean("false: the key may push, too. Default: true, the key may only read."),
}
USERNAME = string("Login of the user on the host.")
PERMISSION = string("pull, triage, push, maintain, admin, or a custom role of the organisation. Default: pull.")


def access_tools(patience: float) -> tuple[Tool, ...]:
    return (
        Tool(
            name="add_deploy_key",
            title="Add a deploy key to a repository",
            description=(
                "Add an SSH key that opens one repository. Without publicKey the provider generates a pair; its private half "
                "is stored in a Secret of the workspace and never shown here. The key may only read unless readOnly is false. "
                "Fails if a DeployKey object of that name exists." + PLAN_WORDS
            ),
            input_schema=input_schema(
                ("name", "repositoryRef"),
                name=string("Name of the new DeployKey object in the workspace: lower-case letters, digits and '-'."),
                repositoryRef=_REPOSITORY_REF,
                **KEY_PROPERTIES,
            ),
            output_schema=KEY_CREATED,
            handler=handler(_add_deploy_key, patience),
            annotations=ADDS,
        ),
        Tool(
            name="delete_deploy_key",
            title="Delete a deploy key",
            description=(
                "Delete a DeployKey object. The key is removed on the host as the object's deletionPolicy says, and whoever "
                "uses it loses access. Succeeds with deleted: false if there is no such object." + PLAN_WORDS
            ),
            input_schema=input_schema(("name",), name=string("Name of the DeployKey object in the workspace.")),
            output_schema=DELETED,
            handler=handler(_delete_deploy_key, patience),
            annotations=DELETES,
        ),
        Tool(
            name="add_collaborator",
            title="Give a user access to a repository",
            description=(
                "Give one user of the host access to one repository. Where the host requires it, the user is invited and has "
                "to accept before the access is in force. Fails if a Collaborator object of that name exists."
                + PLAN_WORDS
            ),
            input_schema=input_schema(
                ("name", "repositoryRef", "username"),
                name=string(
                    "Name of the new Collaborator object in the workspace: lower-case letters, digits and '-'."
                ),
                repositoryRef=_REPOSITORY_REF,
                username=USERNAME,
                permission=PERMISSION,
            ),
            output_schema=CREATED,
            handler=handler(_add_collaborator, patience),
            annotations=ADDS,
        ),
        Tool(
            name="remove_collaborator",
            title="Take a user's access to a repository away",
            description=(
                "Delete a Collaborator object. The access is withdrawn on the host as the object's deletionPolicy says. Access "
                "through a team or the organisation stays. Succeeds with deleted: false if there is no such object."
                + PLAN_WORDS
            ),
            input_schema=input_schema(("name",), name=string("Name of the Collaborator object in the workspace.")),
            output_schema=DELETED,
            handler=handler(_remove_collaborator, patience),
            annotations=DELETES,
        ),
    )


# ---- what both the tools here and create_repository make


async def make_deploy_key(
    call: Call, name: str, repository: str, given: Mapping[str, Any], *, dry_run: bool
) -> tuple[KindSpec[Any], JsonObject]:
    spec = {"repositoryRef": repository, "readOnly": given.get("readOnly") is not False}
    spec |= {field: given[field] for field in ("title", "publicKey") if given.get(field)}
    made = await create(call, DEPLOY_KEYS, name, spec, dry_run=dry_run, labels=repository_label(repository))
    return DEPLOY_KEYS, made


async def make_collaborator(
    call: Call, name: str, repository: str, given: Mapping[str, Any], *, dry_run: bool
) -> tuple[KindSpec[Any], JsonObject]:
    spec = {
        "repositoryRef": repository,
        "username": given["username"],
        "permission": given.get("permission") or "pull",
    }
    made = await create(call, COLLABORATORS, name, spec, dry_run=dry_run, labels=repository_label(repository))
    return COLLABORATORS, made


def gain(spec: Mapping[str, Any]) -> str:
    """What the host would gain by a DeployKey or a Collaborator."""
    if "username" in spec:
        user, permission = plain(spec["username"], 100), plain(spec["permission"], 100)
        return f"user {user} with permission {permission}, invited where the host requires it"
    pair = "the given public key" if spec.get("publicKey") else "a key pair that the provider generates"
    return f"a deploy key ({pair}) that " + ("may only read" if spec["readOnly"] else "may read and push")


# ---- handlers


async def _add_deploy_key(call: Call, pace: Pace) -> dict[str, Any]:
    arguments = call.arguments
    planned = bool(arguments.get("plan"))
    kind, made = await make_deploy_key(call, arguments["name"], arguments["repositoryRef"], arguments, dry_run=planned)
    return await _planned_gain(call, kind, made) if planned else await result_of(call, kind, made, pace)


async def _add_collaborator(call: Call, pace: Pace) -> dict[str, Any]:
    arguments = call.arguments
    planned = bool(arguments.get("plan"))
    kind, made = await make_collaborator(
        call, arguments["name"], arguments["repositoryRef"], arguments, dry_run=planned
    )
    return await _planned_gain(call, kind, made) if planned else await result_of(call, kind, made, pace)


async def _planned_gain(call: Call, kind: KindSpec[Any], shown: JsonObject) -> dict[str, Any]:
    reference = shown["spec"]["repositoryRef"]
    where, _ = await _where(call.objects, reference)
    missing = "" if where else f"There is no Repository object {plain(reference, 253)}, so this would wait for it. "
    return {
        "name": call.arguments["name"],
        "kind": kind.kind,
        "created": False,
        "plan": f"{missing}{where or 'Its repository'} would gain {gain(shown['spec'])}. Nothing was changed.",
    }


async def _where(objects: Objects, reference: str) -> tuple[str | None, Repository | None]:
    """The repository on the host that a Repository object stands for, in words, and that object where it can be read.

    None instead of words: there is no such object.
    """
    try:
        raw = await objects.get(REPOSITORIES.resource, reference)
        repository = parsed(REPOSITORIES, raw)
    except NotFound:
        return None, None
    except (KcpError, ValidationError):
        return f"the repository of Repository object {plain(reference, 253)}", None
    return await full_name(objects, raw["spec"], raw.get("status") or {}), repository


async def _delete_deploy_key(call: Call, pace: Pace) -> dict[str, Any]:
    return await _delete(call, DEPLOY_KEYS, pace)


async def _remove_collaborator(call: Call, pace: Pace) -> dict[str, Any]:
    return await _delete(call, COLLABORATORS, pace)


async def _delete(call: Call, kind: KindSpec[Any], pace: Pace) -> dict[str, Any]:
    name, planned = call.arguments["name"], bool(call.arguments.get("plan"))
    raw = await find(call.objects, kind, name)
    if raw is None:
        return absent(kind, name)
    # Where the repository is can only be said before: afterwards its owner might be gone.
    where, repository = await _where(call.objects, raw["spec"]["repositoryRef"])
    try:
        loss = _loss(parsed(kind, raw), where, repository)
    except ValidationError:
        loss = (
            "What becomes of it on the host cannot be said: it has fields of a form that this provider does not know."
        )
    try:
        await call.objects.delete(kind.resource, name, uid=raw["metadata"]["uid"], dry_run=planned)
    except NotFound:
        return absent(kind, name)
    if planned:
        return {"deleted": False, "plan": f"The {kind.kind} object would be deleted. {loss} Nothing was changed."}
    is_gone, message = await gone(call, kind, raw, pace)
    return {"deleted": True, "gone": is_gone, "message": f"{message} {loss}"}


def absent(kind: KindSpec[Any], name: str) -> dict[str, Any]:
    """The output where there is nothing to delete."""
    message = f"There is no {kind.kind} object {plain(name, 253)} in this workspace, so nothing was deleted."
    return {"deleted": False, "gone": True, "message": message}


def _loss(found: DeployKey | Collaborator, where: str | None, repository: Repository | None) -> str:
    """What the host loses by the deletion of a DeployKey or a Collaborator. access-svc's deletion policy decides it."""
    policy = found.spec.deletion_policy
    is_user = isinstance(found, Collaborator)
    what = "The deploy key"
    if isinstance(found, Collaborator):
        what = f"The access of user {plain(found.spec.username, 100)}"
    ready = found.status.condition(ConditionType.READY)
    if not found.status.bound and (ready is None or ready.status != "True"):
        removed = policy != "Orphan" and where is not None
        fate = (
            "If it is being made there at this moment, it is removed again." if removed else "Nothing is removed there."
        )
        return f"{what} is not recorded to be on the host. {fate}" + ("" if policy == "Orphan" else _lost_secret(found))
    stays = f"{what} stays on the host" + (f" ({where})" if where else "")
    adopted = found.status.origin == "Adopted"
    if policy == "Orphan":
        return f"{stays}, because deletionPolicy is Orphan."
    if policy is None and adopted:
        return f"{stays}, because it was there before the object."
    if where is None:
        return f"{stays}, because its Repository object is gone." + ("" if adopted else _lost_secret(found))
    if repository is not None and _is_deleted_on_host(repository):
        told = f"{what} goes with {where}, which is being deleted on the host."
        return told + ("" if adopted else _lost_secret(found))
    if repository is not None and repository.status.repo_id is None:
        return f"{stays}, because its Repository object stands for no repository there." + _lost_secret(found)
    lost = f"{what} to {where} is withdrawn" if is_user else f"{what} is removed from {where}"
    unless = "" if policy or is_recorded(found.status.origin) else ", unless it was there before the object"
    team = " Access through a team or the organisation stays." if is_user else ""
    return f"{lost}, as far as the host shows it{unless}.{team}{_lost_secret(found)}"


def _is_deleted_on_host(repository: Repository) -> bool:
    policy, origin = repository.spec.deletion_policy, repository.status.origin
    if not repository.deleting or repository.spec.adoption_policy == "Observe" or not is_recorded(origin):
        return False
    return policy == "Delete" or (policy is None and origin == "Created")


def _lost_secret(found: DeployKey | Collaborator) -> str:
    if isinstance(found, Collaborator) or found.spec.public_key:
        return ""
    return " The Secret with its generated pair goes, too."
