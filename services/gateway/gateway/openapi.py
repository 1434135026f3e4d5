"""Parts of the OpenAPI document of the routes. It is not served; the tests compare the answers with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def body(**properties: Any) -> dict[str, Any]:
    """The content of an answer: a JSON object that has these properties at least."""
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"application/json": {"schema": schema}}


def text(media_type: str) -> dict[str, Any]:
    """The content of an answer that is no JSON."""
    return {media_type: {"schema": {"type": "string"}}}


def in_query(name: str, *, pattern: str = "", required: bool = False) -> dict[str, Any]:
    """A parameter of the URL."""
    schema = {"type": "string", **({"pattern": pattern} if pattern else {})}
    return {"name": name, "in": "query", "required": required, "schema": schema}


def documented(
    path: str,
    handler: Callable[[Request], Awaitable[Response]],
    answers: Mapping[int, Mapping[str, Any]],
    parameters: Sequence[Mapping[str, Any]] = (),
    *,
    changes: bool = False,
) -> list[Route]:
    """Routes for GET and HEAD. ``answers``: what an answer to GET may contain, by its status.

    ``changes``: a request changes something, so there is no route for HEAD, which must not.
    """
    responses = {status: {"description": "", "content": content} for status, content in answers.items()}
    route = APIRoute(
        path,
        handler,
        methods=["GET"],
        responses={**responses},
        openapi_extra={"parameters": list(parameters)},
    )
    return [route] if changes else [route, Route(path, handler, methods=["HEAD"])]
