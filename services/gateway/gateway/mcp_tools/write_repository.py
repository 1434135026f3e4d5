"""create_repository and delete_repository."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

import aiohttp

from codecommon.api.kinds import COLLABORATORS, CONNECTIONS, DEPLOY_KEYS, REPOSITORIES, KindSpec
from codecommon.kcp.client import Conflict, JsonObject, KcpError, NotFound
from gateway.mcp_tools.shared import schema, string
from gateway.mcp_tools.tool import Call, Tool, ToolError
from gateway.mcp_tools.write_access import (
    KEY_PROPERTIES,
    PERMISSION,
    USERNAME,
    absent,
    gain,
    make_collaborator,
    make_deploy_key,
)
from gateway.mcp_tools.write_schemas import (
    ADDS,
    DELETED,
    DELETES,
    PLAN_WORDS,
    REPOSITORY_CREATED,
    input_schema,
)
from gateway.mcp_tools.writing import (
    Pace,
    arguments_of,
    create,
    find,
    full_name,
    gone,
    handler,
    object_name,
    plain,
    refusal,
    result_of,
)

# Of each kind. Every one is read a few times while it is waited for.
_MOST_CHILDREN: Final = 10
_MOST_NAMED: Final = 10

_Make = Callable[..., Awaitable[tuple[KindSpec[Any], JsonObject]]]


def _children(description: str, required: tuple[str, ...], **properties: JsonObject) -> JsonObject:
    item = schema(properties, *required)
    return {"type": "array", "maxItems": _MOST_CHILDREN, "items": item, "description": description}


def repository_tools(patience: float, *, confirm_deletes: bool) -> tuple[Tool, ...]:
    must_confirm = " This installation requires confirm." if confirm_deletes else ""
    return (
        Tool(
            name="create_repository",
            title="Create a repository",
            description=(
                "Create a Repository object, and by it a repository on the git host of a Connection. In the same call deploy "
                "keys and collaborators can be made; each is reported on its own, and one that fails stops no other. If the "
                "host has a repository of that name already, the object takes it over as it is. Fails if a Repository object "
                "of that name exists." + PLAN_WORDS
            ),
            input_schema=input_schema(
                ("name", "connectionRef"),
                name=string("Name of the new Repository object in the workspace: lower-case letters, digits and '-'."),
                connectionRef=string(
                    "Name of the Connection object whose account and credential are used (see list_connections)."
                ),
                repo=string("Name of the repository on the host. Default: name."),
                owner=string("User or organisation that owns it on the host. Default: the Connection's owner."),
                visibility=string("private, public or internal. Default: private."),
                description=string("Description of the repository on the host."),
                defaultBranch=string("Default branch. It is applied once that branch exists."),
                autoInit={
                    "type": ["null", "boolean"],
                    "description": "Whether the host makes a first commit with a README. Default: true.",
                },
                deployKeys=_children(
                    "Deploy keys to add to the repository.",
                    (),
                    name=string("Name of the DeployKey object. Default: made of the repository's name and the title."),
                    **KEY_PROPERTIES,
                ),
                collaborators=_children(
                    "Users to give access to the repository.",
                    ("username",),
                    name=string(
                        "Name of the Collaborator object. Default: made of the repository's name and the username."
                    ),
                    username=USERNAME,
                    permission=PERMISSION,
                ),
            ),
            output_schema=REPOSITORY_CREATED,
            handler=handler(_create_repository, patience),
            annotations=ADDS,
        ),
        Tool(
            name="delete_repository",
            title="Delete a repository",
            description=(
                "Delete a Repository object. Unless its deletionPolicy says otherwise, the repository on the host is deleted "
                "with everything in it if this API created it, and stays if it was there before. Call with plan: true first "
                "and tell the person what it says. Succeeds with deleted: false if there is no such object."
                + must_confirm
                + PLAN_WORDS
            ),
            input_schema=input_schema(
                ("name",),
                name=string("Name of the Repository object in the workspace."),
                confirm=string(
                    "Full name of the repository on the host, owner/name. Another name than the repository's is refused."
                    + must_confirm
                ),
            ),
            output_schema=DELETED,
            handler=handler(partial(_delete_repository, confirm_deletes=confirm_deletes), patience),
            annotations=DELETES,
        ),
    )


async def _create_repository(call: Call, pace: Pace) -> dict[str, Any]:
    arguments = call.arguments
    name, planned = arguments["name"], bool(arguments.get("plan"))
    spec = {
        "connectionRef": arguments["connectionRef"],
        "name": arguments.get("repo") or name,
        "autoInit": arguments.get("autoInit") is not False,
        **{k: v for k, v in arguments_of(call, "owner", "visibility", "description", "defaultBranch").items() if v},
    }
    made = await create(call, REPOSITORIES, name, spec, dry_run=planned)
    wanted = _wanted(name, arguments)
    fates = [_child(call, kind, make, child, name, given, pace) for kind, make, child, given in wanted]
    output: dict[str, Any]
    if planned:
        output = {"name": name, "kind": REPOSITORIES.kind, "created": False, "plan": await _plan(call, spec)}
        children = await asyncio.gather(*fates)
    else:
        output, *children = await asyncio.gather(result_of(call, REPOSITORIES, made, pace), *fates)
    keys = len(arguments.get("deployKeys") or ())
    if keys:
        output["deployKeys"] = children[:keys]
    if children[keys:]:
        output["collaborators"] = children[keys:]
    return output


def _wanted(repository: str, arguments: Mapping[str, Any]) -> list[tuple[KindSpec[Any], _Make, str, Mapping[str, Any]]]:
    """The children to make: kind, how to make one, name, and what was given for it."""
    wanted: list[tuple[KindSpec[Any], _Make, str, Mapping[str, Any]]] = []
    taken: set[str] = set()
    for given in arguments.get("deployKeys") or ():
        name = given.get("name") or _free(object_name(repository, given.get("title") or "key"), taken)
        taken.add(name)
        wanted.append((DEPLOY_KEYS, make_deploy_key, name, given))
    taken.clear()
    for given in arguments.get("collaborators") or ():
        name = given.get("name") or _free(object_name(repository, given["username"]), taken)
        taken.add(name)
        wanted.append((COLLABORATORS, make_collaborator, name, given))
    return wanted


def _free(name: str, taken: set[str]) -> str:
    """A name that none of the same call has: two keys without title are two keys."""
    return next(n for n in (name, *(f"{name}-{i}" for i in range(2, _MOST_CHILDREN + 2))) if n not in taken)


async def _child(
    call: Call, kind: KindSpec[Any], make: _Make, name: str, repository: str, given: Mapping[str, Any], pace: Pace
) -> dict[str, Any]:
    """The fate of one child. It never raises what kcp refuses: the Repository and the other children are made all the same."""
    planned = bool(call.arguments.get("plan"))
    try:
        async with asyncio.timeout_at(pace.write_until):
            _, made = await make(call, name, repository, given, dry_run=planned)
    except (KcpError, aiohttp.ClientError, TimeoutError) as error:
        fate = {"name": plain(name, 253), "kind": kind.kind, "created": False, "ready": False}
        return fate | {"message": refusal(error, planned=planned)}
    if planned:
        return {"name": name, "kind": kind.kind, "created": False, "message": f"Would be gained: {gain(made['spec'])}."}
    return await result_of(call, kind, made, pace)


async def _plan(call: Call, spec: Mapping[str, Any]) -> str:
    name = await full_name(call.objects, spec, {})
    visibility = plain(str(spec.get("visibility", "private")), 20)
    first = "with a first commit (README)" if spec["autoInit"] else "empty"
    return (
        f"{await _without_connection(call, spec['connectionRef'])}The host would gain the {visibility} repository {name}, "
        f"{first}. If it has a repository of that name already, that one is taken over instead, and its visibility stays. "
        "Nothing was changed."
    )


async def _without_connection(call: Call, name: str) -> str:
    """A sentence where the Connection does not exist, else nothing."""
    try:
        found = await find(call.objects, CONNECTIONS, name)
    except KcpError:
        return ""
    missing = f"There is no Connection {plain(name, 253)} in this workspace, so the Repository would wait for it. "
    return missing if found is None else ""


# ---- deleting


async def _delete_repository(call: Call, pace: Pace, *, confirm_deletes: bool) -> dict[str, Any]:
    try:
        return await _delete_as_read(call, pace, confirm_deletes=confirm_deletes)
    except Conflict:
        # Somebody changed the object after it was read. What the host loses is decided by how it is now.
        return await _delete_as_read(call, pace, confirm_deletes=confirm_deletes)


async def _delete_as_read(call: Call, pace: Pace, *, confirm_deletes: bool) -> dict[str, Any]:
    """Raises ``Conflict`` if the object changes between the read and the deletion."""
    name, planned = call.arguments["name"], bool(call.arguments.get("plan"))
    raw = await find(call.objects, REPOSITORIES, name)
    if raw is None:
        return absent(REPOSITORIES, name)
    spec, status = raw["spec"], raw.get("status") or {}
    on_host = await full_name(call.objects, spec, status)
    fate = _fate_on_host(spec, status, on_host)
    held = await _held_by(call, name)
    if not planned:
        _require_confirmed(call.arguments.get("confirm"), on_host, fate + held, required=confirm_deletes)
    try:
        metadata = raw["metadata"]
        await call.objects.delete(
            REPOSITORIES.resource,
            name,
            uid=metadata["uid"],
            resource_version=metadata["resourceVersion"],
            dry_run=planned,
        )
    except NotFound:
        return absent(REPOSITORIES, name)
    if planned:
        return {"deleted": False, "plan": f"The Repository object would be deleted. {fate}{held} Nothing was changed."}
    is_gone, message = await gone(call, REPOSITORIES, raw, pace)
    return {"deleted": True, "gone": is_gone, "message": f"{message} {fate}{'' if is_gone else held}"}


def _require_confirmed(confirm: str | None, on_host: str, fate: str, *, required: bool) -> None:
    if confirm is None:
        if required:
            raise ToolError(
                f"Nothing was deleted: this installation asks for a confirmation. {fate} If the person wants that, call again "
                f"with confirm: {on_host}"
            )
    # Names on the host do not tell upper case from lower case.
    elif confirm.casefold() != on_host.casefold():
        raise ToolError(
            f"Nothing was deleted: confirm does not name the repository of this object, which is {on_host}. Look whether you "
            f"mean that one. {fate}"
        )


def _fate_on_host(spec: Mapping[str, Any], status: Mapping[str, Any], name: str) -> str:
    """What becomes of the repository on the host, from the object alone. repository-svc's deletion policy decides it."""
    policy, origin = spec.get("deletionPolicy"), status.get("origin")
    goes = "is archived" if policy == "Archive" else "is deleted"
    if policy == "Orphan":
        return f"{name} stays on the host, because deletionPolicy is Orphan."
    if spec.get("adoptionPolicy") == "Observe":
        return f"{name} stays on the host, because adoptionPolicy is Observe."
    if not status.get("repoID"):
        return (
            f"No repository is recorded for the object yet. If {name} is being created at this moment, it {goes} again."
        )
    if policy is None and origin == "Adopted":
        return f"{name} stays on the host, because it was there before the object."
    if origin is None:
        whose = " if this API created it, and stays if it was there before" if policy is None else ""
        return f"It is not recorded who created {name}. The provider looks at the host first: {name} {goes}{whose}."
    if policy == "Archive":
        return f"{name} is archived on the host: it stays and becomes read-only."
    return f"{name} is deleted on the host, with its code, issues and everything in it. That cannot be undone here."


async def _held_by(call: Call, repository: str) -> str:
    """A sentence about the children that the deletion waits for; empty: there are none."""
    names: list[str] = []
    for kind in (DEPLOY_KEYS, COLLABORATORS):
        try:
            found = await call.objects.list(
                kind.resource,
                keep=lambda raw: str(raw["metadata"]["name"]),
                fields={"spec.repositoryRef": repository},
                most=_MOST_NAMED + 1,
            )
        except KcpError:
            return " Whether DeployKeys or Collaborators hold it could not be read."
        names += [f"{kind.kind} {name}" for name in found]
    if not names:
        return ""
    more = ", and more" if len(names) > _MOST_NAMED else ""
    return f" The deletion waits until these are deleted, too: {', '.join(names[:_MOST_NAMED])}{more}."
