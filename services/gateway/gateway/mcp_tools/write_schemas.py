"""The JSON Schemas that the write tools have in common.

Inputs have no patterns and no length: a validator quotes the value that breaks one, and the value may be a token that somebody
gave by mistake. kcp judges values by the CRDs.
"""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]

ADDS: Final = {"destructiveHint": False, "openWorldHint": True}
DELETES: Final = {"destructiveHint": True}
"""The annotations of the Go provider's tools."""

PLAN_WORDS: Final = (
    " With plan: true nothing is changed: kcp checks the request, and the answer says in words what would happen on the "
    "host."
)


def text(description: str) -> Schema:
    return {"type": "string", "description": description}


def flag(description: str) -> Schema:
    return {"type": "boolean", "description": description}


PLAN: Final = flag("true: change nothing, and say what would be gained or lost. Default: false.")


def input_schema(required: tuple[str, ...], **properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": {**properties, "plan": PLAN},
        "required": list(required),
        "additionalProperties": False,
    }


_MADE: Final[dict[str, Schema]] = {
    "name": text("Name of the object in the workspace."),
    "kind": text("Kind of the object."),
    "created": flag("Whether the object was stored. false for a plan."),
    "ready": flag("Whether the host is as declared by now."),
    "message": text("What came of it, what is pending, or why it was not made."),
}


def _object(properties: dict[str, Schema], *required: str) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


_PLANNED: Final = {"plan": text("With plan: true, what would happen.")}
_SECRET: Final = {
    "secretName": text("Secret of the workspace that holds the private half of a generated pair."),
    "secretNamespace": text("Namespace of that Secret."),
}

CREATED: Final = _object({**_MADE, **_PLANNED}, "name", "kind", "created")
KEY_CREATED: Final = _object({**_MADE, **_SECRET, **_PLANNED}, "name", "kind", "created")

REPOSITORY_CREATED: Final = _object(
    {
        **_MADE,
        **_PLANNED,
        "htmlURL": text("Address of the repository on the host, for a browser."),
        "deployKeys": {
            "type": "array",
            "items": _object({**_MADE, **_SECRET}, "name", "kind", "created"),
            "description": "What became of each deploy key, in the order given.",
        },
        "collaborators": {
            "type": "array",
            "items": _object(_MADE, "name", "kind", "created"),
            "description": "What became of each collaborator, in the order given.",
        },
    },
    "name",
    "kind",
    "created",
)

DELETED: Final = _object(
    {
        "deleted": flag("Whether an object was deleted by this call. false: there was none, or it was a plan."),
        "gone": flag("Whether the object is gone by now. Before, the provider cleans up on the host."),
        "message": text("What happens on the host, and what is pending."),
        **_PLANNED,
    },
    "deleted",
)
