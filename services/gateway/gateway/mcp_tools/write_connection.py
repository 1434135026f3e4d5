"""create_connection."""

from __future__ import annotations

from typing import Any

from codecommon.api.kinds import CONNECTIONS
from gateway.mcp_tools.shared import string
from gateway.mcp_tools.tool import Call, Tool
from gateway.mcp_tools.write_schemas import ADDS, CREATED, PLAN_WORDS, input_schema
from gateway.mcp_tools.writing import Pace, arguments_of, create, handler, plain, result_of


def connection_tools(patience: float) -> tuple[Tool, ...]:
    return (
        Tool(
            name="create_connection",
            title="Create a Connection to a git host",
            description=(
                "Create a Connection: it binds this workspace to one account on a git host, and repositories are made through "
                "it. It refers to a Secret that exists in the workspace already and holds a personal access token. Never pass "
                "a token itself in any argument: such a call is refused. If there is no Secret yet, ask a person to store the "
                "token with the portal or kubectl. Fails if a Connection of that name exists." + PLAN_WORDS
            ),
            input_schema=input_schema(
                ("name", "owner", "secretName"),
                name=string("Name of the new Connection in the workspace: lower-case letters, digits and '-'."),
                provider=string("Kind of git host. Default: github, which is the only one."),
                owner=string("User or organisation on the host under which repositories are made."),
                secretName=string("Name of the existing Secret that holds the token. Never the token itself."),
                secretNamespace=string("Namespace of the Secret. Default: the provider's, usually 'default'."),
                secretKey=string("Entry of the Secret that holds the token. Default: token."),
                baseURL=string(
                    "Address of a GitHub Enterprise host, such as https://ghe.example. Default: github.com."
                ),
            ),
            output_schema=CREATED,
            handler=handler(_create_connection, patience),
            annotations=ADDS,
        ),
    )


async def _create_connection(call: Call, pace: Pace) -> dict[str, Any]:
    arguments = call.arguments
    secret = {"name": arguments["secretName"]}
    for argument, field in (("secretNamespace", "namespace"), ("secretKey", "key")):
        if arguments.get(argument):
            secret[field] = arguments[argument]
    spec: dict[str, Any] = {
        "provider": arguments.get("provider") or "github",
        "type": "pat",
        "owner": arguments["owner"],
        "secretRef": secret,
        **arguments_of(call, "baseURL"),
    }
    planned = bool(arguments.get("plan"))
    made = await create(call, CONNECTIONS, arguments["name"], spec, dry_run=planned)
    if not planned:
        return await result_of(call, CONNECTIONS, made, pace)
    host = plain(spec.get("baseURL") or "github.com", 200)
    return {
        "name": arguments["name"],
        "kind": CONNECTIONS.kind,
        "created": False,
        "plan": (
            f"The host would gain and lose nothing. The provider would read Secret {plain(secret['name'], 253)} and ask {host} "
            f"whether its token may work for {plain(spec['owner'], 100)}. Whether the Secret exists was not checked. "
            "Nothing was changed."
        ),
    }
