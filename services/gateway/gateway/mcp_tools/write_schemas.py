"""The JSON Schemas that the write tools have in common.

Inputs have no patterns and no length: a validator quotes the value that breaks one, and the value may be a token that somebody
gave by mistake. kcp judges values by the CRDs.
"""

from __future__ import annotations

from typing import Final

from codecommon.kcp.client import JsonObject
from gateway.mcp_tools.shared import boolean, schema, string

ADDS: Final = {"destructiveHint": False, "openWorldHint": True}
DELETES: Final = {"destructiveHint": True}
"""The annotations of the Go provider's tools."""

PLAN_WORDS: Final = (
    " With plan: true nothing is changed: kcp checks the request, and the answer says in words what would happen on the "
    "host."
)


PLAN: Final = boolean("true: change nothing, and say what would be gained or lost. Default: false.")


def input_schema(required: tuple[str, ...], **properties: JsonObject) -> JsonObject:
    """The arguments of a tool that can be called with ``plan``."""
    return schema({**properties, "plan": PLAN}, *required)


_MADE: Final[JsonObject] = {
    "name": string("Name of the object in the workspace."),
    "kind": string("Kind of the object."),
    "created": boolean("Whether the object was stored. false for a plan."),
    "ready": boolean("Whether the host is as declared by now."),
    "message": string("What came of it, what is pending, or why it was not made."),
}


_PLANNED: Final = {"plan": string("With plan: true, what would happen.")}
_SECRET: Final = {
    "secretName": string("Secret of the workspace that holds the private half of a generated pair."),
    "secretNamespace": string("Namespace of that Secret."),
}

CREATED: Final = schema({**_MADE, **_PLANNED}, "name", "kind", "created")
KEY_CREATED: Final = schema({**_MADE, **_SECRET, **_PLANNED}, "name", "kind", "created")

REPOSITORY_CREATED: Final = schema(
    {
        **_MADE,
        **_PLANNED,
        "htmlURL": string("Address of the repository on the host, for a browser."),
        "deployKeys": {
            "type": "array",
            "items": schema({**_MADE, **_SECRET}, "name", "kind", "created"),
            "description": "What became of each deploy key, in the order given.",
        },
        "collaborators": {
            "type": "array",
            "items": schema(_MADE, "name", "kind", "created"),
            "description": "What became of each collaborator, in the order given.",
        },
    },
    "name",
    "kind",
    "created",
)

DELETED: Final = schema(
    {
        "deleted": boolean("Whether an object was deleted by this call. false: there was none, or it was a plan."),
        "gone": boolean("Whether the object is gone by now. Before, the provider cleans up on the host."),
        "message": string("What happens on the host, and what is pending."),
        **_PLANNED,
    },
    "deleted",
)
