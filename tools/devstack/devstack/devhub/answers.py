"""Errors as the hub sends them where it follows Kubernetes: a ``Status`` object."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web


class StatusError(web.HTTPException):
    """An HTTP error whose body is a Kubernetes ``Status``. Raise it in a handler."""

    def __init__(self, code: int, message: str, *, reason: str | None = None) -> None:
        self.status_code = code
        status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason or HTTPStatus(code).phrase.replace(" ", ""),
            "code": code,
        }
        answer = web.json_response(status)
        super().__init__(text=answer.text, content_type="application/json")
