"""Every condition type and every reason. docs/conditions.md is generated from the docstrings below.

Code compares members, never their text. A reason that only one place can raise is listed too, because people look it up.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from enum import StrEnum
from itertools import pairwise
from typing import Final


class ConditionType(StrEnum):
    """The type of a condition. Each docstring: which kinds have it; its polarity; what it means."""

    READY = "Ready"
    """all; normal (True is good): True: the host is as declared, at this generation. Unknown: the spec changed and the
    host could not be asked yet.
    """
    RECONCILING = "Reconciling"
    """all; present only while it holds: Being worked on, or waiting for another object or for the host."""
    STALLED = "Stalled"
    """all; present only while it holds: Somebody has to act; the message says what to do."""
    VALIDATED = "Validated"
    """Connection; normal: The credential was accepted by the host."""
    SETTINGS_DIFFER = "SettingsDiffer"
    """Repository, DeployKey, Collaborator; present only while it holds: Settings on the host that differ from spec and
    are left as found.
    """
    DEFAULT_BRANCH_PENDING = "DefaultBranchPending"
    """Repository; present only while it holds: `spec.defaultBranch` names a branch that does not exist yet; Ready is
    not affected.
    """
    ARCHIVED = "Archived"
    """Repository; present only while it holds: Read-only on the host; settings are not sent."""
    KEY_REPLACING = "KeyReplacing"
    """DeployKey; present only while it holds: The key was removed to be registered again with its new title or access,
    and is not there yet.
    """
    INVITATION_PENDING = "InvitationPending"
    """Collaborator; False once an invitation came to nothing, else present only while it holds: The user has to accept
    the invitation.
    """
    WIDER_ACCESS = "WiderAccess"
    """Collaborator; present only while it holds: The user has more than spec says, through a team, the organisation or
    its base permission; or another role than spec says, one of the two being a custom one, whose width is not known.
    """
    ACCESS_ENDED = "AccessEnded"
    """Collaborator; False while the host still shows the access, else present only while it holds: `spec.expiresAt` has
    passed and the object gives no access any more.
    """
    PACKAGES_AVAILABLE = "PackagesAvailable"
    """Repository; normal: What the repository has published is mirrored into Packages, all of it. Ready is not affected.
    """
    STALE = "Stale"
    """Package; present only while it holds: The host could not be asked for all of it; the message says since when the
    object shows an earlier state.
    """


class Reason(StrEnum):
    """The reason of a condition. Each docstring: what reconciling ends in with it (see docs/conditions.md); what it means."""

    RECONCILED = "Reconciled"
    """ready: The host is as declared."""
    VALIDATED = "Validated"
    """ready: On `Validated`: the host accepted the credential."""
    PROGRESSING = "Progressing"
    """running: The object has been worked on for longer than two seconds, and had no other reason yet."""
    CREDENTIAL_UNAVAILABLE = "CredentialUnavailable"
    """waiting, retried: The Secret, or its key, is missing or being deleted; the namespace for the Secret of a
    generated key is missing (retried). On a deleted object: clean-up waits for it; restore it, or set `deletionPolicy:
    Orphan`.
    """
    SECRETS_CLAIM_NOT_ACCEPTED = "SecretsClaimNotAccepted"
    """stalled: The workspace has not accepted the provider's claim on Secrets."""
    CREDENTIAL_INVALID = "CredentialInvalid"
    """stalled: The Secret holds no token, no usable key of an App (RSA, 2,048 to 4,096 bits), or a token of an
    installation (`ghs_…`), which ends after an hour; or `githubAppBaseURL` names another host than the Connection;
    nothing was sent.
    """
    CREDENTIAL_REJECTED = "CredentialRejected"
    """stalled: The host answered 401, or suspended the account or the App's installation."""
    PROVIDER_NOT_FOUND = "ProviderNotFound"
    """stalled: `spec.provider` is not known here."""
    HOST_NOT_ALLOWED = "HostNotAllowed"
    """stalled: `spec.baseURL` is not one of GitHub's hosts and the operator has not named it. Or the host sends us for an
    archive or a log to one that is neither public nor named by the operator.
    """
    CA_BUNDLE_INVALID = "CABundleInvalid"
    """stalled: `spec.caBundle` holds no certificate, holds one that cannot be read, or is longer than 64 KiB."""
    OWNER_NOT_FOUND = "OwnerNotFound"
    """stalled: The host shows no such user or organisation to this credential."""
    OWNER_MISMATCH = "OwnerMismatch"
    """stalled: The owner is another user's account, in which the credential cannot create, or not the account of the
    App's installation; `githubAppInstallationOwner` is not `spec.owner`; `githubAppInstallationID` is that of another
    owner than the Repository's.
    """
    APP_NOT_INSTALLED = "AppNotInstalled"
    """stalled: The GitHub App is not installed on the owner's account, or has no installation of the id in the Secret.
    """
    APP_CANNOT_CREATE = "AppCannotCreate"
    """stalled: GitHub lets no App create a repository in a user's account; refused before the call."""
    SSO_REQUIRED = "SSORequired"
    """stalled: The organisation wants single sign-on; the message has the address to authorise the token at."""
    MISSING_PERMISSION = "MissingPermission"
    """stalled, retried: The credential lacks a scope or permission, which the message names, or an IP allow list refuses
    our address (retried: the host answers a removal with 404 and still shows the thing).
    """
    CONNECTION_NOT_FOUND = "ConnectionNotFound"
    """waiting: `spec.connectionRef` names no Connection."""
    CONNECTION_NOT_READY = "ConnectionNotReady"
    """waiting: The Connection is not validated, or is being deleted."""
    DELETION_BLOCKED = "DeletionBlocked"
    """waiting, retried: Kept until the objects that refer to it are gone; the message lists them (retried: the
    workspace gives up the API, and those say Delete). Or its `deletionPolicy` was lost and is to be set again.
    """
    INVALID_NAME = "InvalidName"
    """stalled: A name that the host would refuse or alter, or a username that is no login, or an App's."""
    NAME_ALTERED = "NameAltered"
    """stalled: The host made the repository under another name."""
    NAME_TAKEN = "NameTaken"
    """stalled, retried: The repository exists: not made by this object and `adoptionPolicy: CreateOnly` (stalled); not
    shown to this credential (retried).
    """
    NAME_REDIRECTED = "NameRedirected"
    """stalled: The name was given up by a rename on the host."""
    DUPLICATE_REPOSITORY = "DuplicateRepository"
    """stalled, retried: Another object of the workspace stands for the same repository (retried: it may be making it
    now).
    """
    IDENTITY_CONFLICT = "IdentityConflict"
    """stalled: The object is bound to another host than its Connection now says, or to another owner, under which the
    host does not show the same repository.
    """
    HOST_OBJECT_MISSING = "HostObjectMissing"
    """stalled: The host has not shown the repository for ten minutes, and `missingPolicy` does not say Recreate; or there
    is nothing to adopt. On a deleted DeployKey or Collaborator: the host does not show the repository, so what was made
    in it may still be there; restore the credential's access, set `deletionPolicy: Orphan`, or delete the Repository
    too.
    """
    HOST_NOT_YET_VISIBLE = "HostNotYetVisible"
    """retried: The host does not show yet what was just made or changed, or for less than ten minutes it has not shown
    the repository; or it may not know yet the token that it has just made for an App, or makes none yet.
    """
    REPOSITORY_ARCHIVED = "RepositoryArchived"
    """stalled: The host refused a write because the repository is archived."""
    BRANCH_PROTECTED = "BranchProtected"
    """stalled: The host takes no commit on this branch from this credential: it is protected, or a rule of the repository
    or the organisation forbids it.
    """
    BUNDLE_NOT_FOUND = "BundleNotFound"
    """stalled, retried: The files of the commit are not in the bundle store or not any more after six hours
    (retried: they are stored a moment after the object, which is given up after 30 s; or the store does not answer).
    """
    BUNDLE_INVALID = "BundleInvalid"
    """stalled: What is stored under the name is not the bundle of that digest."""
    BUNDLES_FULL = "BundlesFull"
    """retried: The workspace has as many unread bundles as it may, or the store is full."""
    REF_NOT_FOUND = "RefNotFound"
    """stalled: The repository has no such branch, tag or commit."""
    BUILDS_UNSUPPORTED = "BuildsUnsupported"
    """stalled: The host runs no builds for this repository, or does not offer them to this credential."""
    WORKFLOW_NOT_FOUND = "WorkflowNotFound"
    """stalled: The repository has no such workflow file, or not on its default branch."""
    WORKFLOW_NOT_DISPATCHABLE = "WorkflowNotDispatchable"
    """stalled: The workflow file does not say that it may be started by hand (`on: workflow_dispatch`), or is disabled."""
    NOT_FOUND_OR_NO_ACCESS = "NotFoundOrNoAccess"
    """stalled: 404 on a write."""
    VALIDATION_FAILED = "ValidationFailed"
    """stalled: The host refused the request, its words are in the message; or it would: `rotateEvery` below a minute,
    `visibility: internal` in a user's account.
    """
    GONE = "Gone"
    """stalled: The host no longer offers this (410)."""
    UNAVAILABLE_FOR_LEGAL_REASONS = "UnavailableForLegalReasons"
    """stalled: 451."""
    REPOSITORY_NOT_FOUND = "RepositoryNotFound"
    """waiting: `spec.repositoryRef` names no Repository."""
    REPOSITORY_NOT_READY = "RepositoryNotReady"
    """waiting: The Repository is not on the host yet, or is being deleted."""
    SECRET_NOT_WRITABLE = "SecretNotWritable"  # noqa: S105
    """stalled: The workspace refuses to store the key pair: its namespace is being deleted, a quota, an immutable
    Secret.
    """
    SECRET_NAME_TAKEN = "SecretNameTaken"  # noqa: S105
    """stalled, retried: The Secret `deploykey-<name>` is not this DeployKey's (stalled), or is still being deleted
    (retried).
    """
    INVALID_PUBLIC_KEY = "InvalidPublicKey"
    """stalled: `spec.publicKey` is no public key that the host takes."""
    KEY_IN_USE = "KeyInUse"
    """stalled, waiting: The deploy key is registered elsewhere on the host (waiting: it was registered here a moment ago,
    and is not shown by its id any more; looked at again after a minute).
    """
    DEPLOY_KEYS_DISABLED = "DeployKeysDisabled"
    """stalled: The organisation does not allow deploy keys."""
    DUPLICATE_DEPLOY_KEY = "DuplicateDeployKey"
    """stalled: An older object of the workspace is for the same public key."""
    DUPLICATE_COLLABORATOR = "DuplicateCollaborator"
    """stalled: An older object of the workspace is for the same user."""
    INVITATION_PENDING = "InvitationPending"
    """waiting: The user has not accepted yet; the resync notices when they do."""
    INVITATION_EXPIRED = "InvitationExpired"
    """stalled: Three invitations have expired; a new `reconcile-requested-at` invites again."""
    INVITATION_DECLINED = "InvitationDeclined"
    """stalled: The user declined, or the invitation was withdrawn on the host; only a new `reconcile-requested-at`, or
    an edit, invites again.
    """
    INVITATION_REFUSED = "InvitationRefused"
    """stalled: The organisation or the user does not admit the invitation."""
    INVITATION_LIMIT = "InvitationLimit"
    """retried: The invitations that the host allows a repository in a day are used up."""
    USER_NOT_FOUND = "UserNotFound"
    """stalled: The host knows no user `spec.username`, or none any more."""
    USER_CHANGED = "UserChanged"
    """stalled: The user whose access it was renamed or deleted their account, has no access any more, and somebody else
    has the login `spec.username` now, who is not invited. Delete the object, which takes away what access of that user
    there still is, and create one with the username of whom you mean.
    """
    PERMISSION_UNSUPPORTED = "PermissionUnsupported"
    """stalled: The host does not have this permission for this kind of owner, it is less than the base permission of
    the organisation that the user is a member of, the user owns the repository, there is no such custom role, or the
    host takes it and goes on showing less.
    """
    OWNERSHIP_UNKNOWN = "OwnershipUnknown"
    """retried: NATS does not answer who made the thing on the host."""
    OWNERSHIP_DISPUTED = "OwnershipDisputed"
    """stalled: On a deleted object: the record of who made the thing on the host was lost, and several objects say that
    they did; nothing is deleted until `deletionPolicy` says Delete or Orphan.
    """
    RATE_LIMITED = "RateLimited"
    """retried: The host's limits for the account or the App are used up, it asked for a pause, or NATS does not answer
    whether so; waiting until the time in the message.
    """
    HOST_CONFLICT = "HostConflict"
    """retried: 409 of the host, or an invitation was accepted, declined or withdrawn while its role was changed."""
    HOST_UNAVAILABLE = "HostUnavailable"
    """retried: 5xx, timeout, TLS, proxy, a redirect out of the API, or an answer that is not the API's or is longer
    than 2 MiB; in an outage the host is asked by a probe now and then, and the log says since when. Or the host is slow and
    other objects have its turns now.
    """
    UNEXPECTED_ANSWER = "UnexpectedAnswer"
    """retried: Any other answer."""
    BINDING_NOT_VISIBLE = "BindingNotVisible"
    """retried: Kcp shows no APIBinding while one must be there."""
    CONFLICT = "Conflict"
    """retried: Others keep writing the object."""
    INTERNAL_ERROR = "InternalError"
    """retried: A defect of ours; the log has the trace."""
    LEFT_AS_FOUND = "LeftAsFound"
    """condition: On `SettingsDiffer`."""
    BRANCH_MISSING = "BranchMissing"
    """condition: On `DefaultBranchPending`."""
    ARCHIVED_ON_HOST = "ArchivedOnHost"
    """condition: On `Archived`."""
    RECREATING = "Recreating"
    """condition: On `KeyReplacing`."""
    AWAITING_ACCEPTANCE = "AwaitingAcceptance"
    """condition: On `InvitationPending`, which is True."""
    NOT_ACCEPTED = "NotAccepted"
    """condition: On `InvitationPending`, which is False."""
    DECLINED = "Declined"
    """condition: On `InvitationPending`, which is False: declined, or withdrawn on the host."""
    NOT_OURS = "NotOurs"
    """condition: On `WiderAccess`."""
    EXPIRED = "Expired"
    """condition: On `AccessEnded`."""
    PACKAGES_MIRRORED = "PackagesMirrored"
    """condition: On `PackagesAvailable`, which is True."""
    PACKAGES_UNSUPPORTED_BY_TOKEN = "PackagesUnsupportedByToken"  # noqa: S105
    """condition: On `PackagesAvailable`, which is False: GitHub serves packages to classic and OAuth tokens with
    `read:packages` only. Nothing is asked until the credential is another one.
    """
    PACKAGE_LIMIT = "PackageLimit"
    """condition: On `PackagesAvailable`, which is False: the repository or the workspace has more packages than are
    mirrored; the message says how many.
    """
    LISTING_INCOMPLETE = "ListingIncomplete"
    """condition: On `Stale`, and on `Ready`, which is Unknown: a page of the host's list could not be read, or none for want
    of budget.
    """
    VERSIONS_INCOMPLETE = "VersionsIncomplete"
    """condition: On `Stale`, and on `Ready`, which is Unknown: the versions of the package could not be read."""
    STILL_SHOWN = "StillShown"
    """condition: On `AccessEnded`, which is False: the host shows that the user has access, though its list of
    collaborators leaves them out.
    """


def documented(enumeration: type[StrEnum]) -> Iterator[tuple[str, str, str]]:
    """Each member's value, and its docstring before and after the first colon, as the source of this module has it.

    Raises ``ValueError`` for a member without one.
    """
    (definition,) = ast.parse(inspect.getsource(enumeration)).body
    assert isinstance(definition, ast.ClassDef)
    docstrings = {
        member.targets[0].id: text.value.value
        for member, text in pairwise(definition.body)
        if isinstance(member, ast.Assign)
        and isinstance(member.targets[0], ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
    for member in enumeration:
        head, colon, meaning = " ".join(docstrings.get(member.name, "").split()).partition(": ")
        if not colon:
            raise ValueError(f"{enumeration.__name__}.{member.name} has no docstring of the form 'what: meaning'")
        yield member.value, head, meaning


_ENDS: Final = re.compile(r" \((?:stalled|retried|waiting)\)|(?<=\()(?:stalled|retried|waiting): ")


def plain(meaning: str) -> str:
    """A meaning of ``documented`` for people, who are not told which end of reconciling a case leads to."""
    return _ENDS.sub("", meaning)
