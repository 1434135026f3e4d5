"""Checking a repository's request body the way GitHub's own schema validation answers."""

from __future__ import annotations

from typing import Any

from devstack.githubsim import names
from devstack.githubsim.calls import ApiError, Call, invalid
from devstack.githubsim.records import TOGGLES, Account, Organization, Visibility

_STRINGS = ("name", "visibility", "default_branch", "new_owner", "new_name")
_NULLABLE_STRINGS = ("description", "homepage")
_BOOLEANS = ("private", "archived", "auto_init", *TOGGLES)
_VISIBILITIES: dict[str, Visibility] = {"public": "public", "private": "private", "internal": "internal"}


def repository_body(call: Call, *, required: str | None = None) -> dict[str, Any]:
    """The request's JSON object with each known field of the right type. Raises ApiError 400 or 422."""
    body = call.json()
    if required is not None and body.get(required) is None:
        raise ApiError(422, f'Invalid request.\n\n"{required}" wasn\'t supplied.')
    for fields, accepted, kind in (
        (_STRINGS, str, "string"),
        (_NULLABLE_STRINGS, (str, type(None)), "string"),
        (_BOOLEANS, bool, "boolean"),
    ):
        for field in fields:
            if field in body and not isinstance(body[field], accepted):
                shown = "nil" if body[field] is None else body[field]
                raise ApiError(422, f"Invalid request.\n\nFor 'properties/{field}', {shown} is not a {kind}.")
    return body


def requested_name(requested: str, *, summary: str = "Validation Failed") -> str:
    """The name that the host makes of it. Raises ApiError 422."""
    try:
        return names.repository_name(requested)
    except names.InvalidText as error:
        raise invalid("name", str(error), summary=summary) from None


def name_taken(*, summary: str = "Validation Failed") -> ApiError:
    return invalid("name", "name already exists on this account", summary=summary)


def requested_description(requested: str | None) -> str | None:
    """The description as stored; an empty one counts as none. Raises ApiError 422."""
    try:
        return names.description(requested) if requested else None
    except names.InvalidText as error:
        raise invalid("description", str(error)) from None


def requested_visibility(body: dict[str, Any], owner: Account) -> Visibility | None:
    """What `visibility`, or else `private`, asks for; None if neither is there. Raises ApiError 422."""
    if "visibility" in body:
        visibility = _VISIBILITIES.get(body["visibility"])
        if visibility is None:
            members = '["public", "private", "internal"]'
            message = f"For 'properties/visibility', {body['visibility']} is not a member of {members}."
            raise ApiError(422, f"Invalid request.\n\n{message}")
        if visibility == "internal" and not (isinstance(owner, Organization) and owner.enterprise):
            message = "Only organizations associated with an enterprise can set visibility to internal"
            raise invalid("visibility", message)
        return visibility
    if "private" in body:
        return "private" if body["private"] else "public"
    return None


def requested_toggles(body: dict[str, Any]) -> dict[str, bool]:
    return {name: body[name] for name in TOGGLES if name in body}
