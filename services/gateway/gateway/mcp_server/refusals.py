"""What a caller is told when kcp refuses or is away: one sentence that a language model can act on."""

from __future__ import annotations

import aiohttp
from pydantic import ValidationError

from codecommon.kcp.errors import AnswerTooLong, KcpError
from codecommon.kcp.kubeconfig import KubeconfigError
from gateway.plain_text import plain

_LONGEST_MESSAGE = 1024


def refusal(error: Exception, *, writes: bool) -> str | None:
    """The sentence for an error of a request to kcp. None: it is none of those, and its text is for nobody but the operator.

    ``writes``: the call would have changed something. Reads and plans do not.
    """
    match error:
        case KcpError():
            return _refused(error, _again(writes))
        case KubeconfigError():
            return (
                "The provider does not know how to reach kcp, because its kubeconfig is missing or unusable. "
                "Nothing was done. Its operator must mend this; calling again before does not help."
            )
        case ValidationError():
            # Its own text repeats the object.
            return (
                "An object that this tool read has fields of a form that this provider does not know. "
                "Somebody has to correct it. Read the objects before you call again."
            )
        case AnswerTooLong():
            return "kcp's answer is too large to be read. Ask for a single object instead of a list."
        case TimeoutError() | aiohttp.ClientError():
            unsure = "It is not known whether a change arrived there." if writes else "Nothing was changed."
            return f"kcp did not answer. {unsure} {_again(writes)}."
        case _:
            return None


def _again(writes: bool) -> str:
    return "Read the object before you try again in some seconds" if writes else "Try again in some seconds"


def _refused(error: KcpError, again: str) -> str:
    said = f" kcp says: {plain(error.message, _LONGEST_MESSAGE)}" if error.message else ""
    match error.status:
        case 401:
            return (
                "kcp does not accept the bearer token for this workspace. "
                "It may have expired, or be for another workspace: get a new one and call again."
            )
        case 403:
            return (
                "The caller has no permission for this in the workspace. Nothing was done. Ask an administrator of the "
                f"workspace for the right, or use another workspace; calling again does not help.{said}"
            )
        case 404:
            return (
                "There is no such object in the workspace, or the code provider is not enabled there. "
                f"List what there is to find the right name, or enable the provider in the workspace.{said}"
            )
        case 409 if error.reason == "AlreadyExists":
            return f"An object of that name exists already. Use it, or choose another name.{said}"
        case 409:
            return f"Somebody else changed the object at the same time. Read it anew and call again.{said}"
        case 422:
            return f"The workspace refuses these values as invalid. Correct the argument that is named and call again.{said}"
        case 429:
            seconds = f"{error.retry_after:g}" if error.retry_after else "some"
            return f"kcp is busy and has turned the request away. Wait {seconds} seconds and call again."
        case status:
            return (
                f"kcp answered with status {status}. {again}; if it stays so, the workspace or the provider needs its "
                f"operator.{said}"
            )
