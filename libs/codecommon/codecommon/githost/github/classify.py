"""What an error answer of GitHub means: who must act, and what to tell the user. Pure.

Limits come first, because GitHub answers 403 for them as it does for a missing right. An answer that nothing here recognises can
be tried again. Every reason is in docs/conditions.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

import httpx

from codecommon.api.reasons import Reason
from codecommon.api.results import Interruption, Retryable, Terminal
from codecommon.api.times import rfc3339
from codecommon.githost.github.answer import LONGEST_TEXT, Answer, parse_date
from codecommon.githost.github.rights import granted_scopes, missing_rights
from codecommon.githost.http.network import AnswerTooLong, is_certificate_error
from codecommon.githost.limits import LONGEST_PAUSE_SECONDS
from codecommon.githost.protocol import AlreadyExists, CredentialRejected, HostUnavailable, KeyInUse
from codecommon.process.redact import cut

_LONGEST_QUOTE: Final = 1024
_MOST_ERRORS: Final = 100
# GitHub asks for a minute at least where it names no time.
_SHORTEST_WAIT: Final = timedelta(seconds=1)
_USUAL_WAIT: Final = timedelta(seconds=60)
_LONGEST_WAIT: Final = timedelta(seconds=LONGEST_PAUSE_SECONDS)

_SECONDARY: Final = re.compile(r"secondary rate limit|abuse detection|temporarily blocked from content creation", re.I)
_PRIMARY: Final = re.compile(r"\brate limit exceeded\b", re.I)
_LOGIN_LOCK: Final = re.compile(r"maximum number of login attempts", re.I)
_SSO_URL: Final = re.compile(r"url=(https?://\S+)")
_SSO_TEXT: Final = re.compile(r"\bSAML enforcement\b", re.I)
_ARCHIVED: Final = re.compile(r"\barchived\b", re.I)
_SUSPENDED: Final = re.compile(r"account (?:was|is|has been) suspended", re.I)
_INSTALLATION_SUSPENDED: Final = re.compile(r"installation has been suspended|suspended your access", re.I)
_IP_ALLOW_LIST: Final = re.compile(r"\bIP allow list\b", re.I)
_NAME_TAKEN: Final = re.compile(r"already exists", re.I)


# Within a day after the limit was reached, invitations become possible again one by one.
_INVITATION_WAIT: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A 403 or 422 whose meaning GitHub tells only by its words.

    ``words``: looked for in its message and errors, in time linear in their length. ``advice``: what a person can do. ``after``:
    when to try again, for a refusal that passes by itself. ``statuses``: those of the answer.
    """

    words: re.Pattern[str]
    reason: Reason
    advice: str
    after: timedelta | None = None
    statuses: frozenset[int] = frozenset({403, 422})


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was asked of the host.

    ``doing``: for the message, as in "to {doing}". ``write``: whether it changes the host. ``creates``: whether "the name is
    taken" is a possible answer. ``scope``: the classic token scope that it is known to need. ``refusals``: for what it can be
    refused besides rights; the first that fits counts.
    """

    doing: str
    write: bool = False
    creates: bool = False
    scope: str = ""
    refusals: tuple[Refusal, ...] = ()


OF_KEYS: Final = (
    Refusal(
        re.compile(r"key is already in use", re.I),
        Reason.KEY_IN_USE,
        "A deploy key serves one repository of the whole host; use another key, or remove this one where it is",
    ),
    Refusal(
        re.compile(r"deploy keys are disabled", re.I),
        Reason.DEPLOY_KEYS_DISABLED,
        "An owner of the organisation can allow deploy keys in its settings",
    ),
    Refusal(
        re.compile(r"key is (?:invalid|too weak|not supported)|OpenSSH public key format", re.I),
        Reason.INVALID_PUBLIC_KEY,
        "Give a public key in OpenSSH format, of a kind that the host takes",
    ),
)
OF_INVITATIONS: Final = (
    # The sentence names the member, so it comes before the words that may be part of a name.
    Refusal(
        re.compile(r"\A(?>.*?cannot assign\b).*\bpermission of\b", re.I | re.S),
        Reason.PERMISSION_UNSUPPORTED,
        "A member of an organisation can be given its base permission or more; change spec.permission, or the base permission in "
        "the organisation's settings",
        statuses=frozenset({422}),
    ),
    Refusal(
        re.compile(r"\A(?=.*(?:limit|exceed|too many))(?=.*\binvitations?\b)", re.I | re.S),
        Reason.INVITATION_LIMIT,
        "A repository has 50 invitations in 24 hours; tried again every hour",
        _INVITATION_WAIT,
    ),
    Refusal(
        re.compile(r"outside collaborator|\bblocked\b|\binvit(?:e|ed|ing|ations?)\b", re.I),
        Reason.INVITATION_REFUSED,
        "The organisation or the user does not admit the invitation; an owner of the organisation can invite, or change that",
    ),
    Refusal(
        re.compile(r"\bpermissions?\b|\brole\b|owner cannot be a collaborator", re.I),
        Reason.PERMISSION_UNSUPPORTED,
        "The host does not give this permission here; change spec.permission",
        # In a 403 such words are about the caller's rights.
        statuses=frozenset({422}),
    ),
)


OF_PACKAGES: Final = (
    Refusal(
        # An App's token, or one of a workflow: "Invalid argument." A fine-grained one: "Resource not accessible by …".
        re.compile(r"invalid argument|resource not accessible by", re.I),
        Reason.PACKAGES_UNSUPPORTED_BY_TOKEN,
        "GitHub serves packages to classic and OAuth tokens only; use one with read:packages in the Connection",
        statuses=frozenset({400, 403}),
    ),
)


OF_CONTENTS: Final = (
    # GitHub gives up after 10 s and blames the input, which has a bound.
    Refusal(
        re.compile(r"request timed out", re.I),
        Reason.HOST_UNAVAILABLE,
        "What was made so far is kept, and the rest tried again",
        timedelta(seconds=30),
        statuses=frozenset({422}),
    ),
    # Of a workflow file a refusal names the path, so it comes before the words that may be part of one.
    Refusal(
        re.compile(r"without [`'\"]?workflows?[`'\"]? (?:scope|permission)", re.I),
        Reason.MISSING_PERMISSION,
        "Files below .github/workflows need a token with the scope workflow (an App or a fine-grained token: the permission "
        "workflows)",
        statuses=frozenset({403, 404, 409, 422}),
    ),
    Refusal(
        re.compile(
            r"protected (?:branch|ref)|rule violations?|pull request|status check|approving review|"
            r"not authorized to push|verified signatures?|reference update failed",
            re.I,
        ),
        Reason.BRANCH_PROTECTED,
        "Commit to another branch, or let this credential past the rule",
        statuses=frozenset({403, 409, 422}),
    ),
)
OF_DISPATCHES: Final = (
    Refusal(
        re.compile(r"no ref found", re.I),
        Reason.REF_NOT_FOUND,
        "Name a branch that the repository has",
        statuses=frozenset({404, 422}),
    ),
    Refusal(
        re.compile(r"workflow_dispatch|disabled workflow", re.I),
        Reason.WORKFLOW_NOT_DISPATCHABLE,
        "Put workflow_dispatch below on: in the workflow file, and enable the workflow if it is disabled",
        statuses=frozenset({403, 422}),
    ),
)


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of the host for which a request was refused.

    ``what``: what the host does, for the message. ``now``: the moment of the refusal, by the host's clock. ``named``: how
    long the host says to wait, None where it names no time to come.
    """

    what: str
    now: datetime
    named: timedelta | None


Scrub = Callable[[str], str]


def classify(answer: Answer, attempt: Attempt, scrub: Scrub) -> Interruption | AlreadyExists:
    """The exception for an answer that is not a success. ``scrub`` removes secrets from what is quoted of it."""
    text = scrub(answer.message or "")[:_LONGEST_QUOTE]
    if answer.status in (403, 429) and (limit := limit_of(answer)) is not None:
        return _wait(answer, limit)
    if answer.is_redirect:
        return _redirect(answer, scrub)
    if answer.message is None and answer.status != 401:
        return _unavailable(answer, "the answer is not one of GitHub's API")
    if (refused := _refused(answer, attempt, scrub)) is not None:
        return refused
    match answer.status:
        case 401:
            return CredentialRejected(
                f"{answer.host} rejected the credential: it has been revoked, has expired or was mistyped. "
                "Put a valid token into the Secret",
            )
        case 403:
            return _forbidden(answer, attempt, text)
        case 404:
            return _not_found(answer, attempt)
        case 409:
            return Retryable(Reason.HOST_CONFLICT, f"{answer.host} is busy with the same thing: {text}")
        case 410:
            return Terminal(Reason.GONE, f"{answer.host} no longer offers this: {text}")
        case 422:
            return _unprocessable(answer, attempt, scrub)
        case 451:
            return Terminal(
                Reason.UNAVAILABLE_FOR_LEGAL_REASONS, f"{answer.host} withholds this for legal reasons: {text}"
            )
        case status if status >= 500:
            return _unavailable(answer, text)
        case status:
            return Retryable(
                Reason.UNEXPECTED_ANSWER, f"{answer.host} answered {status} to the attempt to {attempt.doing}: {text}"
            )


def unreachable(host: str, error: httpx.HTTPError) -> HostUnavailable:
    """The exception for a request without an answer. The library's words are not quoted: they may hold addresses."""
    if isinstance(error, httpx.TimeoutException):
        what = "did not answer in time"
    elif is_certificate_error(error):
        what = (
            "shows a certificate that is not trusted here; if the host has its own authority, put it into spec.caBundle"
        )
    elif isinstance(error, httpx.ProxyError):
        what = "cannot be reached through the proxy"
    elif isinstance(error, AnswerTooLong):
        what = "answered with more than an answer of its API can have"
    elif isinstance(error, httpx.ConnectError):
        what = "cannot be reached"
    else:
        what = "broke off the connection"
    return HostUnavailable(f"{host} {what}")


def withheld(answer: Answer, attempt: Attempt) -> Terminal:
    """The exception for a 404 about something that is known to be there."""
    missing = missing_rights(answer.headers, attempt.scope)
    hint = missing or "The account of the credential must be an administrator of the repository"
    return Terminal(Reason.MISSING_PERMISSION, f"{answer.host} refused to {attempt.doing}. {hint}")


def lacks_scope(answer: Answer, attempt: Attempt) -> bool:
    """Whether a classic token was answered 404 for want of a scope, whatever is there."""
    return granted_scopes(answer.headers) is not None and bool(missing_rights(answer.headers, attempt.scope))


def limit_of(answer: Answer) -> Limit | None:
    """The limit that a 403 or 429 is for; None when it is not for a limit.

    https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit
    """
    text = answer.message or ""
    now = answer.date or datetime.now(UTC)
    named = _retry_after(answer, now)
    if named is not None or _SECONDARY.search(text):
        return Limit("asks for fewer requests", now, named)
    if answer.headers.get("x-ratelimit-remaining") == "0" or _PRIMARY.search(text):
        return Limit("has used up the quota of this account", now, _reset(answer, now))
    if "retry-after" in answer.headers or answer.status == 429 or _LOGIN_LOCK.search(text):
        return Limit("asks for fewer requests", now, None)
    return None


def _wait(answer: Answer, limit: Limit) -> Retryable:
    after = limit.named or _USUAL_WAIT
    until = rfc3339(limit.now + after)
    return Retryable(Reason.RATE_LIMITED, f"{answer.host} {limit.what}; waiting until {until}", after=after)


def _retry_after(answer: Answer, now: datetime) -> timedelta | None:
    """Retry-After as a time to wait: seconds or an HTTP date. Any other value names no time."""
    value = answer.headers.get("retry-after")
    if value is None:
        return None
    if value.isdecimal():
        return _to_come(timedelta(seconds=int(value[:9])))
    until = parse_date(value)
    return None if until is None else _to_come(until - now)


def _reset(answer: Answer, now: datetime) -> timedelta | None:
    """The time until the quota is renewed, by the host's clock."""
    value = answer.headers.get("x-ratelimit-reset", "")
    if not value.isdecimal() or len(value) > 11:
        return None
    return _to_come(datetime.fromtimestamp(int(value), UTC) - now)


def _to_come(named: timedelta) -> timedelta | None:
    """A time that the host named, within bounds; None for one that is over already."""
    return min(max(named, _SHORTEST_WAIT), _LONGEST_WAIT) if named > timedelta() else None


def _refused(answer: Answer, attempt: Attempt, scrub: Scrub) -> Interruption | None:
    """The refusal of ``attempt`` that GitHub's words tell; None where they tell none."""
    words = _all_words(answer)
    refusal = next((r for r in attempt.refusals if answer.status in r.statuses and r.words.search(words)), None)
    if refusal is None or _single_sign_on(answer) is not None:
        return None
    message = f"{answer.host} refused to {attempt.doing}: {scrub(words)[:_LONGEST_QUOTE]}. {refusal.advice}"
    if refusal.after is not None:
        return Retryable(refusal.reason, message, after=refusal.after)
    return KeyInUse(message) if refusal.reason == Reason.KEY_IN_USE else Terminal(refusal.reason, message)


def _forbidden(answer: Answer, attempt: Attempt, text: str) -> Terminal:
    if (sso := _single_sign_on(answer)) is not None:
        return sso
    if _SUSPENDED.search(text):
        return CredentialRejected(f"{answer.host} has suspended the account of this credential: {text}")
    if _INSTALLATION_SUSPENDED.search(text):
        return CredentialRejected(
            f"the App's installation is suspended; unsuspend it in the account's settings ({answer.host}: {text})",
        )
    if attempt.write and _ARCHIVED.search(text):
        return Terminal(
            Reason.REPOSITORY_ARCHIVED,
            f"{answer.host} refused to {attempt.doing}: the repository is archived and read-only",
        )
    # No right helps against an IP allow list.
    missing = "" if _IP_ALLOW_LIST.search(text) else missing_rights(answer.headers, attempt.scope)
    hint = f". {missing}" if missing else ""
    return Terminal(Reason.MISSING_PERMISSION, f"{answer.host} refused to {attempt.doing}: {text}{hint}")


def _not_found(answer: Answer, attempt: Attempt) -> Terminal:
    """GitHub answers 404 also to a token that may not know of the thing, or lacks the scope to write to it."""
    if (sso := _single_sign_on(answer)) is not None:
        return sso
    if attempt.write and (missing := missing_rights(answer.headers, attempt.scope)):
        return Terminal(Reason.MISSING_PERMISSION, f"{answer.host} refused to {attempt.doing}. {missing}")
    return Terminal(
        Reason.NOT_FOUND_OR_NO_ACCESS,
        f"{answer.host} found nothing when asked to {attempt.doing}: it does not exist, or this credential must not see it "
        "(a missing scope, an organisation that does not admit the token)",
    )


def _single_sign_on(answer: Answer) -> Terminal | None:
    header = answer.headers.get("x-github-sso", "")
    if not header.startswith("required") and not _SSO_TEXT.search(answer.message or ""):
        return None
    found = _SSO_URL.search(header)
    return _sso(found[1][:_LONGEST_QUOTE] if found else None)


def _sso(url: str | None) -> Terminal:
    where = f"open {url}" if url else "in the settings of the token, under Configure SSO"
    return Terminal(
        Reason.SSO_REQUIRED,
        f"the organisation requires single sign-on: authorise this token for it ({where}) and try again",
    )


def require_whole(answer: Answer) -> None:
    """Raises ``Terminal`` (``SSORequired``) for a list that lacks what single sign-on protects."""
    if answer.headers.get("x-github-sso", "").startswith("partial-results"):
        raise _sso(None)


def _unprocessable(answer: Answer, attempt: Attempt, scrub: Scrub) -> Interruption | AlreadyExists:
    details = _error_texts(answer.object() or {})
    if attempt.creates and any(field == "name" and _NAME_TAKEN.search(detail) for field, detail in details):
        return AlreadyExists(f"{answer.host} refused to {attempt.doing}: the name is taken")
    words = scrub(_all_words(answer))[:_LONGEST_QUOTE]
    return Terminal(Reason.VALIDATION_FAILED, f"{answer.host} refused to {attempt.doing}: {words}")


def _all_words(answer: Answer) -> str:
    """GitHub's message and its errors, as one text."""
    details = _error_texts(answer.object() or {})
    quoted = "; ".join(f"{field}: {detail}" if field else detail for field, detail in details)
    return cut(f"{answer.message or ''} ({quoted})", LONGEST_TEXT) if quoted else answer.message or ""


def _error_texts(body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(field, what is wrong with it) of GitHub's ``errors``: a list of objects or of strings."""
    errors = body.get("errors")
    if not isinstance(errors, list):
        return []
    texts: list[tuple[str, str]] = []
    for error in cast(list[object], errors)[:_MOST_ERRORS]:
        if isinstance(error, dict):
            entry = cast(dict[str, object], error)
            field, detail = str(entry.get("field") or ""), str(entry.get("message") or entry.get("code") or "")
        else:
            field, detail = "", str(error)
        texts.append((cut(field, LONGEST_TEXT), cut(detail, LONGEST_TEXT)))
    return texts


def _redirect(answer: Answer, scrub: Scrub) -> Retryable:
    if answer.says_moved:
        return Retryable(
            Reason.UNEXPECTED_ANSWER,
            f"{answer.host} answers with a redirect, which is not followed; check spec.baseURL",
        )
    # Of the address only the host, as it was sent: the rest is a login's, and another one each time.
    host = scrub(answer.location.raw_host.decode())[:_LONGEST_QUOTE] if answer.location is not None else ""
    where = f"to {host}" if host else "elsewhere"
    return HostUnavailable(
        f"something between here and {answer.host} redirects {where}, which is not followed; check the proxy, and spec.baseURL",
    )


def _unavailable(answer: Answer, text: str) -> HostUnavailable:
    return HostUnavailable(f"{answer.host} answered {answer.status}: {text}")
