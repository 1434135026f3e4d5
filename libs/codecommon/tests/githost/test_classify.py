from __future__ import annotations

import json
import ssl
from datetime import timedelta

import httpx
import pytest

from codecommon.api.results import Interruption, Retryable, Terminal
from codecommon.githost.github.answer import Answer
from codecommon.githost.github.classify import (
    OF_INVITATIONS,
    OF_KEYS,
    Attempt,
    classify,
    lacks_scope,
    unreachable,
    withheld,
)
from codecommon.githost.http.network import AnswerTooLong
from codecommon.githost.protocol import AlreadyExists, HostUnavailable
from codecommon.process.redact import Redactor, redact

NOON = "Mon, 23 Nov 2026 12:00:00 GMT"
NOON_EPOCH = 1795435200
READ = Attempt("read acme/web")
CREATE = Attempt("create acme/web", write=True, creates=True)
CHANGE = Attempt("change acme/web", write=True)
DELETE = Attempt("delete acme/web", write=True, scope="delete_repo")


def answer(status: int, body: object = None, **headers: str) -> Answer:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"date": NOON} | {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer("git.example", status, httpx.Headers(fields), content, "https://git.example/api/v3")


def says(message: str, **more: object) -> dict[str, object]:
    return {"message": message, **more}


def meaning(given: Answer, attempt: Attempt = READ) -> Interruption:
    found = classify(given, attempt, redact)
    assert isinstance(found, Interruption)
    return found


SECONDARY = says("You have exceeded a secondary rate limit. Please wait a few minutes before you try again.")
PRIMARY = says("API rate limit exceeded for user ID 1.")
NO_ADMIN = says("Must have admin rights to Repository.")


@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize(
    ("body", "headers", "seconds"),
    [
        (PRIMARY, {"x_ratelimit_remaining": "0", "x_ratelimit_reset": str(NOON_EPOCH + 600)}, 600),
        (PRIMARY, {"x_ratelimit_remaining": "0", "x_ratelimit_reset": str(NOON_EPOCH - 600)}, 60),
        (PRIMARY, {"x_ratelimit_remaining": "0", "x_ratelimit_reset": str(NOON_EPOCH)}, 60),
        (PRIMARY, {"x_ratelimit_remaining": "0", "x_ratelimit_reset": str(NOON_EPOCH + 999_999)}, 3600),
        (PRIMARY, {"x_ratelimit_remaining": "0", "x_ratelimit_reset": "soon"}, 60),
        (PRIMARY, {"x_ratelimit_remaining": "0", "x_ratelimit_reset": "9" * 30}, 60),
        (PRIMARY, {}, 60),
        (SECONDARY, {"retry_after": "30"}, 30),
        (SECONDARY, {"retry_after": "999999999999999999999999"}, 3600),
        (SECONDARY, {"retry_after": "86400"}, 3600),
        (SECONDARY, {"retry_after": "0"}, 60),
        (NO_ADMIN, {"retry_after": "0"}, 60),
        (
            PRIMARY,
            {"retry_after": "0", "x_ratelimit_remaining": "0", "x_ratelimit_reset": str(NOON_EPOCH + 600)},
            600,
        ),
        (SECONDARY, {"retry_after": "Mon, 23 Nov 2026 12:00:00 GMT"}, 60),
        (SECONDARY, {"retry_after": "Mon, 23 Nov 2026 12:05:00 GMT"}, 300),
        (SECONDARY, {"retry_after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 3600),
        (SECONDARY, {"retry_after": "Fri, 31 Dec 9999 23:59:59 -2359"}, 60),
        (SECONDARY, {"retry_after": "Mon, 01 Jan 0001 00:00:00 +2359"}, 60),
        (SECONDARY, {"retry_after": "a while"}, 60),
        (SECONDARY, {"retry_after": "-5"}, 60),
        (SECONDARY, {}, 60),
        (SECONDARY, {"x_ratelimit_remaining": "0", "x_ratelimit_reset": str(NOON_EPOCH + 600)}, 60),
        (says("You have triggered an abuse detection mechanism."), {}, 60),
        (says("Maximum number of login attempts exceeded. Please try again later."), {}, 60),
        (b"<html>slow down</html>", {"retry_after": "5"}, 5),
        (NO_ADMIN, {"retry_after": "5", "x_accepted_oauth_scopes": "delete_repo", "x_oauth_scopes": "repo"}, 5),
    ],
)
def test_a_limit_is_waited_for_and_never_taken_for_a_missing_right(
    status: int, body: object, headers: dict[str, str], seconds: int
) -> None:
    found = meaning(answer(status, body, **headers), DELETE)
    assert isinstance(found, Retryable)
    assert (found.reason, found.after) == ("RateLimited", timedelta(seconds=seconds))


def test_a_wait_is_shown_with_an_absolute_time_by_the_hosts_clock() -> None:
    found = meaning(answer(403, PRIMARY, x_ratelimit_remaining="0", x_ratelimit_reset=str(NOON_EPOCH + 600)))
    assert "2026-11-23T12:10:00Z" in found.message


def test_a_429_without_a_word_is_a_limit() -> None:
    assert meaning(answer(429, b"")).reason == "RateLimited"


@pytest.mark.parametrize("body", [says("Bad credentials"), b"", b"<html>"])
def test_a_rejected_credential_needs_the_user(body: object) -> None:
    found = meaning(answer(401, body))
    assert isinstance(found, Terminal)
    assert found.reason == "CredentialRejected"


@pytest.mark.parametrize(
    "headers",
    [
        {"x_oauth_scopes": "repo", "x_accepted_oauth_scopes": "admin:org"},
        {"x_accepted_github_permissions": "administration=write"},
        {},
    ],
)
@pytest.mark.parametrize("attempt", [READ, CHANGE, DELETE])
def test_an_ip_allow_list_is_quoted_without_talk_of_permissions(attempt: Attempt, headers: dict[str, str]) -> None:
    words = (
        "Although you appear to have the correct authorization credentials, the `acme` organization has an IP allow list "
        "enabled, and your IP address is not permitted to access this resource."
    )
    found = meaning(answer(403, says(words), **headers), attempt)
    assert isinstance(found, Terminal)
    assert words in found.message
    assert "scope" not in found.message
    assert "permission " not in found.message


def test_single_sign_on_comes_with_the_address_to_open() -> None:
    url = "https://git.example/orgs/acme/sso?authorization_request=AAA"
    found = meaning(answer(403, says("Resource protected by SAML"), x_github_sso=f"required; url={url}"))
    assert isinstance(found, Terminal)
    assert found.reason == "SSORequired"
    assert url in found.message


@pytest.mark.parametrize(
    "given",
    [
        answer(403, says("Resource protected by organization SAML enforcement. You must grant your token access.")),
        answer(404, says("Not Found"), x_github_sso="required; url=https://git.example/sso"),
    ],
)
def test_single_sign_on_is_recognised_in_its_other_forms(given: Answer) -> None:
    assert meaning(given).reason == "SSORequired"
    assert not given.says_not_found


@pytest.mark.parametrize(
    ("headers", "named", "unnamed"),
    [
        (
            {"x_oauth_scopes": "repo, user", "x_accepted_oauth_scopes": "delete_repo"},
            "lacks the scope delete_repo",
            "or ",
        ),
        ({"x_oauth_scopes": "", "x_accepted_oauth_scopes": "delete_repo"}, "it has none", "user"),
        ({"x_accepted_github_permissions": "administration=write"}, "administration=write", "lacks the scope"),
        ({}, "delete_repo", "lacks"),
        ({"x_oauth_scopes": "repo, delete_repo"}, "Must have admin rights", "scope"),
    ],
)
def test_a_refused_delete_names_what_is_missing(headers: dict[str, str], named: str, unnamed: str) -> None:
    found = meaning(answer(403, NO_ADMIN, **headers), DELETE)
    assert isinstance(found, Terminal)
    assert found.reason == "MissingPermission"
    assert named in found.message
    assert unnamed not in found.message.removeprefix("git.example refused to delete acme/web")


@pytest.mark.parametrize(
    ("granted", "accepted", "missing"),
    [
        ("read:org", "public_repo, repo", "public_repo or repo"),
        ("repo", "public_repo", ""),
        ("admin:org", "read:org, write:org", ""),
        ("repo", "", ""),
    ],
)
def test_a_scope_that_contains_another_counts_for_it(granted: str, accepted: str, missing: str) -> None:
    found = meaning(answer(403, says("no"), x_oauth_scopes=granted, x_accepted_oauth_scopes=accepted), CHANGE)
    assert (f"lacks the scope {missing};" in found.message) is bool(missing)
    assert ("lacks" in found.message) is bool(missing)


def test_alternatives_of_permissions_are_told_apart() -> None:
    found = meaning(
        answer(403, says("no"), x_accepted_github_permissions="contents=write,workflows=write; actions=read")
    )
    assert "contents=write,workflows=write or actions=read" in found.message


def test_a_write_to_an_archived_repository_is_named() -> None:
    body = says("Repository was archived so is read-only.")
    assert meaning(answer(403, body), CHANGE).reason == "RepositoryArchived"
    assert meaning(answer(403, body), READ).reason == "MissingPermission"


def test_a_suspended_account_is_a_matter_of_the_credential() -> None:
    assert meaning(answer(403, says("Sorry. Your account was suspended."))).reason == "CredentialRejected"


@pytest.mark.parametrize(
    "words",
    [
        "This installation has been suspended",
        "Sorry. This installation owned by acme suspended your access at 2026-09-21T15:13:20Z.",
    ],
)
@pytest.mark.parametrize("attempt", [READ, CHANGE])
def test_a_suspended_installation_is_a_matter_of_the_credential_and_can_be_unsuspended(
    words: str, attempt: Attempt
) -> None:
    found = meaning(answer(403, says(words)), attempt)
    assert isinstance(found, Terminal)
    assert found.reason == "CredentialRejected"
    assert "unsuspend it in the account's settings" in found.message


def test_a_403_that_is_not_githubs_is_not_a_matter_of_rights() -> None:
    found = meaning(answer(403, b"<html>forbidden by the proxy</html>"), DELETE)
    assert isinstance(found, Retryable)
    assert found.reason == "HostUnavailable"


def test_a_404_on_a_write_leaves_both_explanations_open() -> None:
    found = meaning(answer(404, says("Not Found")), CHANGE)
    assert isinstance(found, Terminal)
    assert found.reason == "NotFoundOrNoAccess"


def test_a_404_on_a_write_by_a_token_without_the_scope_names_the_scope() -> None:
    found = meaning(answer(404, says("Not Found"), x_oauth_scopes="user", x_accepted_oauth_scopes="repo"), CREATE)
    assert found.reason == "MissingPermission"
    assert "lacks the scope repo" in found.message


@pytest.mark.parametrize("body", [b"", b"<html>404</html>", b"[]", b'"Not Found"', b'{"error": 1}', b'{"message": 1}'])
def test_a_404_that_is_not_githubs_is_no_absence(body: bytes) -> None:
    given = answer(404, body)
    assert not given.says_not_found
    assert meaning(given).reason == "HostUnavailable"


def name_error(message: str, field: str = "name") -> dict[str, object]:
    error = {"resource": "Repository", "code": "custom", "field": field, "message": message}
    return says("Repository creation failed.", errors=[error])


def test_a_taken_name_is_recognised() -> None:
    given = answer(422, name_error("name already exists on this account"))
    assert isinstance(classify(given, CREATE, redact), AlreadyExists)


@pytest.mark.parametrize(
    ("body", "attempt"),
    [
        (name_error("name already exists on this account"), CHANGE),
        (name_error("is reserved"), CREATE),
        (name_error("already exists", field="team"), CREATE),
    ],
)
def test_another_422_is_not_taken_for_a_taken_name(body: object, attempt: Attempt) -> None:
    assert meaning(answer(422, body), attempt).reason == "ValidationFailed"


def test_a_validation_error_quotes_the_host_in_full() -> None:
    found = meaning(answer(422, name_error("is reserved")), CREATE)
    assert "Repository creation failed. (name: is reserved)" in found.message


KEY = Attempt("register a key", write=True, refusals=OF_KEYS)
INVITE = Attempt("invite monalisa", write=True, refusals=OF_INVITATIONS)


def key_error(message: str) -> dict[str, object]:
    error = {"resource": "PublicKey", "code": "custom", "field": "key", "message": message}
    return says("Validation Failed", errors=[error])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (key_error("key is already in use"), "KeyInUse"),
        (key_error("key is invalid. You must supply a key in OpenSSH public key format"), "InvalidPublicKey"),
        (says("Deploy keys are disabled for this repository"), "DeployKeysDisabled"),
        (key_error("something else"), "ValidationFailed"),
    ],
)
def test_a_refused_key_is_told_by_the_hosts_words(body: object, reason: str) -> None:
    found = meaning(answer(422, body), KEY)
    assert isinstance(found, Terminal)
    assert found.reason == reason
    assert meaning(answer(422, body), CHANGE).reason == "ValidationFailed"


@pytest.mark.parametrize(
    ("status", "words", "reason"),
    [
        (422, "Cannot assign triage permission of a user", "PermissionUnsupported"),
        (422, "Repository owner cannot be a collaborator", "PermissionUnsupported"),
        (403, "You do not have permission to do this", "MissingPermission"),
        (403, "Outside collaborators cannot be invited", "InvitationRefused"),
        (422, "User could not be added: blocked by the owner", "InvitationRefused"),
        (403, "Must have admin rights to Repository.", "MissingPermission"),
        (403, "Repository was archived so is read-only.", "RepositoryArchived"),
        (422, "something else", "ValidationFailed"),
    ],
)
def test_a_refused_invitation_is_told_by_the_hosts_words(status: int, words: str, reason: str) -> None:
    found = meaning(answer(status, says(words)), INVITE)
    assert isinstance(found, Terminal)
    assert found.reason == reason


@pytest.mark.parametrize("login", ["monalisa", "invited", "blocked"])
def test_less_than_the_organisations_base_permission_is_told_as_such_whatever_the_members_name(login: str) -> None:
    error = {"resource": "Repository", "code": "custom", "field": "permission"}
    error["message"] = f"Cannot assign {login} permission of read"
    found = meaning(answer(422, says("Validation Failed", errors=[error])), INVITE)
    assert isinstance(found, Terminal)
    assert found.reason == "PermissionUnsupported"
    assert "base permission" in found.message
    assert "spec.permission" in found.message


@pytest.mark.parametrize("status", [403, 422])
def test_the_daily_number_of_invitations_passes_by_itself(status: int) -> None:
    body = says("You have exceeded the limit of 50 invitations per repository in 24 hours.")
    found = meaning(answer(status, body), INVITE)
    assert isinstance(found, Retryable)
    assert (found.reason, found.after) == ("InvitationLimit", timedelta(hours=1))


def test_a_limit_of_requests_comes_before_a_refusal_and_so_does_single_sign_on() -> None:
    words = says("You have exceeded a secondary rate limit for invitations.")
    assert meaning(answer(403, words), INVITE).reason == "RateLimited"
    sso = answer(403, says("Outside collaborators are protected"), x_github_sso="required; url=https://git.example/sso")
    assert meaning(sso, INVITE).reason == "SSORequired"


def test_a_refusal_quotes_no_secret() -> None:
    own = "a-token-of-no-known-shape"
    found = classify(answer(422, key_error(f"key is already in use {own}")), KEY, Redactor(own))
    assert isinstance(found, Terminal)
    assert own not in found.message


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"x_oauth_scopes": "user", "x_accepted_oauth_scopes": "repo"}, "lacks the scope repo"),
        ({"x_oauth_scopes": "repo", "x_accepted_oauth_scopes": "repo"}, "administrator"),
        ({"x_accepted_github_permissions": "administration=read"}, "administration=read"),
    ],
)
def test_what_is_withheld_from_a_list_that_is_there_is_named(headers: dict[str, str], named: str) -> None:
    found = withheld(answer(404, says("Not Found"), **headers), READ)
    assert found.reason == "MissingPermission"
    assert named in found.message


@pytest.mark.parametrize(
    ("headers", "lacks"),
    [
        ({"x_oauth_scopes": "user", "x_accepted_oauth_scopes": "repo"}, True),
        ({"x_oauth_scopes": "repo", "x_accepted_oauth_scopes": "repo"}, False),
        ({"x_accepted_github_permissions": "administration=write"}, False),
    ],
)
def test_only_a_classic_token_is_known_to_lack_a_scope(headers: dict[str, str], lacks: bool) -> None:
    assert lacks_scope(answer(404, says("Not Found"), **headers), CHANGE) is lacks


@pytest.mark.parametrize("errors", ["text", ["text"], [None], [{}], {}, None])
def test_errors_of_any_form_are_taken(errors: object) -> None:
    assert meaning(answer(422, says("Invalid request.", errors=errors)), CREATE).reason == "ValidationFailed"


def test_quotes_are_short_and_without_secrets() -> None:
    own = "a-token-of-no-known-shape"
    found = classify(answer(422, says(f"{own} ghp_{'a' * 36} {'x' * 5000}")), CREATE, Redactor(own))
    assert isinstance(found, Terminal)
    assert own not in found.message
    assert "ghp_" not in found.message
    assert len(found.message.encode()) < 1200


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (409, "HostConflict", Retryable),
        (410, "Gone", Terminal),
        (451, "UnavailableForLegalReasons", Terminal),
        (500, "HostUnavailable", Retryable),
        (502, "HostUnavailable", Retryable),
        (503, "HostUnavailable", Retryable),
        (400, "UnexpectedAnswer", Retryable),
        (405, "UnexpectedAnswer", Retryable),
        (418, "UnexpectedAnswer", Retryable),
    ],
)
def test_the_other_answers(status: int, reason: str, kind: type[Interruption]) -> None:
    found = meaning(answer(status, says("words")), CHANGE)
    assert isinstance(found, kind)
    assert found.reason == reason


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_a_redirect_within_the_api_is_told_from_one_that_leads_out_of_it(status: int) -> None:
    within = answer(status, says("Moved Permanently"), location="https://git.example/api/v3/repositories/9")
    assert within.says_moved
    assert meaning(within).reason == "UnexpectedAnswer"
    beside = answer(status, says("Moved Permanently"), location="https://git.example/api/v33/repositories/9")
    assert not beside.says_moved
    assert meaning(beside).reason == "HostUnavailable"


@pytest.mark.parametrize("headers", [{}, {"location": ""}, {"location": "mailto:x"}, {"location": "https://a:b/"}])
def test_a_redirect_that_names_no_address_leads_elsewhere(headers: dict[str, str]) -> None:
    found = meaning(answer(302, b"", **headers))
    assert isinstance(found, Retryable)
    assert found.reason == "HostUnavailable"
    assert "redirects elsewhere," in found.message


def test_a_success_is_no_redirect_wherever_its_location_is() -> None:
    assert not answer(201, {}, location="https://git.example/api/v3/repositories/9").says_moved


@pytest.mark.parametrize("status", [400, 405, 409, 410, 422, 451, 500, 502, 503, 504])
def test_a_page_of_something_else_says_nothing_about_the_host(status: int) -> None:
    found = meaning(answer(status, b"<html>gateway</html>"), CHANGE)
    assert isinstance(found, Retryable)
    assert found.reason == "HostUnavailable"


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectTimeout("t"),
        httpx.ReadTimeout("t"),
        httpx.PoolTimeout("t"),
        httpx.ConnectError("refused http://user:pass@proxy"),
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("cut"),
        httpx.ProxyError("407"),
        httpx.DecodingError("gzip"),
    ],
)
def test_a_request_without_an_answer_is_tried_again(error: httpx.HTTPError) -> None:
    found = unreachable("git.example", error)
    assert found.reason == "HostUnavailable"
    assert "pass" not in found.message


def test_an_untrusted_certificate_is_told_apart() -> None:
    error = httpx.ConnectError("tls")
    error.__cause__ = ssl.SSLCertVerificationError("self-signed")
    assert "spec.caBundle" in unreachable("git.example", error).message


@pytest.mark.parametrize("date", ["Fri, 31 Dec 9999 23:59:59 GMT", "Fri, 31 Dec 9999 23:59:59 -2359", "?" * 8000])
def test_no_date_of_the_host_breaks_the_wait(date: str) -> None:
    given = answer(429, SECONDARY, date=date)
    found = meaning(given)
    assert isinstance(found, Retryable)
    assert found.after == timedelta(seconds=60)


def test_an_answer_that_is_too_long_is_an_outage_of_the_host() -> None:
    found = unreachable("git.example", AnswerTooLong("the answer is longer than 2097152 bytes"))
    assert isinstance(found, HostUnavailable)
    assert found.message == "git.example answered with more than an answer of its API can have"
