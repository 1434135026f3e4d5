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
    """all; present only while it holds: The object is worked on, or waits for another object or for the host."""
    STALLED = "Stalled"
    """all; present only while it holds: Somebody has to act. The message says what to do."""
    VALIDATED = "Validated"
    """Connection; normal: The host accepted the credential."""
    SETTINGS_DIFFER = "SettingsDiffer"
    """Repository, DeployKey, Collaborator; present only while it holds: Some settings on the host differ from spec.
    They are left as found.
    """
    DEFAULT_BRANCH_PENDING = "DefaultBranchPending"
    """Repository; present only while it holds: `spec.defaultBranch` names a branch that does not exist yet. Ready is
    not affected.
    """
    ARCHIVED = "Archived"
    """Repository; present only while it holds: The repository is archived, which makes it read-only on the host.
    Settings are not sent.
    """
    KEY_REPLACING = "KeyReplacing"
    """DeployKey; present only while it holds: The key was removed from the host, to be registered again with its new
    title or access. It is not there again yet.
    """
    INVITATION_PENDING = "InvitationPending"
    """Collaborator; False once an invitation came to nothing, else present only while it holds: The user has to accept
    the invitation.
    """
    WIDER_ACCESS = "WiderAccess"
    """Collaborator; present only while it holds: The user has more access than spec says, through a team, the
    organisation or its base permission. Or the user has another role than spec says, and one of the two is a custom
    role, whose width is not known.
    """
    ACCESS_ENDED = "AccessEnded"
    """Collaborator; False while the host still shows the access, else present only while it holds: `spec.expiresAt` has
    passed, and the object gives no access any more.
    """
    PACKAGES_AVAILABLE = "PackagesAvailable"
    """Repository; normal: All that the repository has published is mirrored into Packages. Ready is not affected."""
    STALE = "Stale"
    """Package; present only while it holds: The host could not be asked for all of the package. The message says since
    when the object shows an earlier state.
    """


class Reason(StrEnum):
    """The reason of a condition. Each docstring: what reconciling ends in with it (see docs/conditions.md); what it means."""

    RECONCILED = "Reconciled"
    """ready: The host is as declared."""
    VALIDATED = "Validated"
    """ready: On `Validated`: the host accepted the credential."""
    PROGRESSING = "Progressing"
    """running: The work on the object has taken more than two seconds, and the object had no other reason yet."""
    CREDENTIAL_UNAVAILABLE = "CredentialUnavailable"
    """waiting, retried: The Secret or its key is missing or is being deleted (waiting). Or the namespace for the Secret
    of a generated key is missing (retried). The clean-up of a deleted object waits for the credential: restore it, or
    set `deletionPolicy: Orphan`.
    """
    SECRETS_CLAIM_NOT_ACCEPTED = "SecretsClaimNotAccepted"
    """stalled: The workspace has not accepted that the provider uses its Secrets. Accept the claim in the APIBinding.
    """
    CREDENTIAL_INVALID = "CredentialInvalid"
    """stalled: Nothing was sent to the host, because the Secret is of no use. It does not hold what `spec.type` asks
    for: a token, or the id and a usable key of an App (RSA, 2,048 to 4,096 bits). Or it holds the token of an
    installation (`ghs_…`), which ends after an hour. Or its `githubAppBaseURL` names another host than the Connection.
    """
    CREDENTIAL_REJECTED = "CredentialRejected"
    """stalled: The host does not accept the credential (401), or has suspended the account or the installation of the
    App.
    """
    PROVIDER_NOT_FOUND = "ProviderNotFound"
    """stalled: No git provider of the name in `spec.provider` is known here."""
    HOST_NOT_ALLOWED = "HostNotAllowed"
    """stalled: `spec.baseURL` is neither one of GitHub's hosts nor one that the operator allows. Or the host keeps an
    archive or a log at an address that is neither public nor allowed by the operator.
    """
    CA_BUNDLE_INVALID = "CABundleInvalid"
    """stalled: `spec.caBundle` holds no certificate, or one that cannot be read. Or it is longer than 64 KiB."""
    OWNER_NOT_FOUND = "OwnerNotFound"
    """stalled: The host shows no such user or organisation to this credential."""
    OWNER_MISMATCH = "OwnerMismatch"
    """stalled: The credential cannot create under this owner, which is another user's account or not the account that
    the App is installed on. Or `githubAppInstallationOwner` is not `spec.owner`. Or the installation of
    `githubAppInstallationID` is on another account than `spec.owner` or the owner of the Repository.
    """
    APP_NOT_INSTALLED = "AppNotInstalled"
    """stalled: The GitHub App is not installed on the owner's account, or has no installation of the id in the Secret.
    """
    APP_CANNOT_CREATE = "AppCannotCreate"
    """stalled: GitHub lets no App create a repository in a user's account, so it was not asked to."""
    SSO_REQUIRED = "SSORequired"
    """stalled: The organisation wants single sign-on. The message says where to authorise the token."""
    MISSING_PERMISSION = "MissingPermission"
    """stalled, retried: The credential lacks a scope or permission, which the message names, or an IP allow list
    refuses our address (stalled). Or the host answered a removal with 404, and still shows the thing (retried).
    """
    CONNECTION_NOT_FOUND = "ConnectionNotFound"
    """waiting: The workspace has no Connection of the name in `spec.connectionRef`."""
    CONNECTION_NOT_READY = "ConnectionNotReady"
    """waiting: The Connection is not validated, or is being deleted."""
    DELETION_BLOCKED = "DeletionBlocked"
    """waiting, retried: The object is kept until the objects that refer to it are gone, which the message lists
    (waiting). Or the workspace gives up the API, and objects that refer to this one and say `deletionPolicy: Delete`
    are cleaned up first (retried). Or the `deletionPolicy` of the object was lost, and has to be set again (waiting).
    """
    INVALID_NAME = "InvalidName"
    """stalled: The host would refuse or alter the name of the repository. Or the owner or the username is no login. Or
    the username is an App's.
    """
    NAME_ALTERED = "NameAltered"
    """stalled: The host made the repository under another name."""
    NAME_TAKEN = "NameTaken"
    """stalled, retried: A repository of that name exists. This object did not make it, and `adoptionPolicy: CreateOnly`
    takes over none (stalled). Or the credential may not see it (retried).
    """
    NAME_REDIRECTED = "NameRedirected"
    """stalled: The name leads to a repository that was renamed on the host."""
    DUPLICATE_REPOSITORY = "DuplicateRepository"
    """stalled, retried: Another object of the workspace stands for the same repository (stalled), or may be making it
    now (retried).
    """
    IDENTITY_CONFLICT = "IdentityConflict"
    """stalled: The object belongs to a repository on another host than its Connection names now. Or it names another
    owner now, and the host does not show the same repository there.
    """
    HOST_OBJECT_MISSING = "HostObjectMissing"
    """stalled: The host has not shown the repository for ten minutes. `missingPolicy` does not say Recreate, or the
    repository cannot be made again. Or there is no repository to adopt. On a deleted DeployKey or Collaborator: the
    host does not show the repository, so the key or the access may still be there. Restore the credential's access, set
    `deletionPolicy: Orphan`, or delete the Repository too.
    """
    HOST_NOT_YET_VISIBLE = "HostNotYetVisible"
    """retried: The host does not show yet what was just made or changed. Or the repository has been out of sight for
    less than ten minutes. Or the host does not accept yet the token that it has just made for an App, or makes none
    yet.
    """
    REPOSITORY_ARCHIVED = "RepositoryArchived"
    """stalled: The repository is archived on the host, which takes no change of it."""
    BRANCH_PROTECTED = "BranchProtected"
    """stalled: The host takes no commit on this branch from this credential. The branch is protected, or a rule of the
    repository or the organisation forbids it.
    """
    BUNDLE_NOT_FOUND = "BundleNotFound"
    """stalled, retried: The files of the commit are not in the bundle store. They were never stored, or the six hours
    for which they are kept are over (stalled). Or they are still on their way, for 30 s at most (retried). Or the
    bundle store does not answer a commit or a checkout (retried).
    """
    BUNDLE_INVALID = "BundleInvalid"
    """stalled: The stored files are not those that the object names by their digest."""
    BUNDLES_FULL = "BundlesFull"
    """retried: Too many files of the workspace wait in the bundle store, or the store is full."""
    REF_NOT_FOUND = "RefNotFound"
    """stalled: The repository has no such branch, tag or commit."""
    BUILDS_UNSUPPORTED = "BuildsUnsupported"
    """stalled: The host runs no builds for this repository, or does not offer them to this credential."""
    WORKFLOW_NOT_FOUND = "WorkflowNotFound"
    """stalled: The default branch of the repository has no such workflow file, or the credential may not start it."""
    WORKFLOW_NOT_DISPATCHABLE = "WorkflowNotDispatchable"
    """stalled: The workflow file does not say that it may be started by hand (`on: workflow_dispatch`), or it is
    disabled.
    """
    NOT_FOUND_OR_NO_ACCESS = "NotFoundOrNoAccess"
    """stalled: The host answered 404. The thing is not there, or the credential may not see or change it."""
    VALIDATION_FAILED = "ValidationFailed"
    """stalled: The host refused the request, and the message has its words. Or the host was not asked, because a value
    cannot be right, such as `rotateEvery` below a minute or `visibility: internal` in a user's account. On `Validated`:
    the reason of `Ready` says more.
    """
    GONE = "Gone"
    """stalled: The host no longer offers this (410)."""
    UNAVAILABLE_FOR_LEGAL_REASONS = "UnavailableForLegalReasons"
    """stalled: The host gives no access to this for legal reasons (451)."""
    REPOSITORY_NOT_FOUND = "RepositoryNotFound"
    """waiting, stalled: The workspace has no Repository of the name in `spec.repositoryRef` (waiting). Or the
    Repository of a request is gone, and another one has its name now (stalled).
    """
    REPOSITORY_NOT_READY = "RepositoryNotReady"
    """waiting: The Repository is not on the host yet, is not shown by the host, or is being deleted."""
    SECRET_NOT_WRITABLE = "SecretNotWritable"  # noqa: S105
    """stalled: The workspace refuses to store the key pair. Its namespace is being deleted, a quota is used up, or the
    Secret is immutable.
    """
    SECRET_NAME_TAKEN = "SecretNameTaken"  # noqa: S105
    """stalled, retried: The Secret `deploykey-<name>` belongs to something else (stalled), or is still being deleted
    (retried).
    """
    INVALID_PUBLIC_KEY = "InvalidPublicKey"
    """stalled: `spec.publicKey` is no public key that the host takes."""
    KEY_IN_USE = "KeyInUse"
    """stalled, waiting: The deploy key is registered elsewhere on the host (stalled). Or it was registered here a
    moment ago and is not shown any more, so it is looked at again after a minute (waiting).
    """
    DEPLOY_KEYS_DISABLED = "DeployKeysDisabled"
    """stalled: The organisation does not allow deploy keys."""
    DUPLICATE_DEPLOY_KEY = "DuplicateDeployKey"
    """stalled: An older object of the workspace is for the same public key."""
    DUPLICATE_COLLABORATOR = "DuplicateCollaborator"
    """stalled: An older object of the workspace is for the same user."""
    INVITATION_PENDING = "InvitationPending"
    """waiting: The user has not accepted the invitation yet. Once they have, the object becomes ready when it is next
    compared with the host.
    """
    INVITATION_EXPIRED = "InvitationExpired"
    """stalled: Three invitations have expired. Another one is sent only after an edit of the object, or for a new value
    of the annotation `code.kedge.faros.sh/reconcile-requested-at`.
    """
    INVITATION_DECLINED = "InvitationDeclined"
    """stalled: The user declined, or the invitation was withdrawn on the host. Another one is sent only after an edit
    of the object, or for a new value of the annotation `code.kedge.faros.sh/reconcile-requested-at`.
    """
    INVITATION_REFUSED = "InvitationRefused"
    """stalled: The organisation or the user does not admit the invitation."""
    INVITATION_LIMIT = "InvitationLimit"
    """retried: The invitations that the host allows a repository in a day are used up."""
    USER_NOT_FOUND = "UserNotFound"
    """stalled: The host knows no user of the name in `spec.username`, or none any more."""
    USER_CHANGED = "UserChanged"
    """stalled: The user whom the object is for was renamed or deleted their account, and the host shows no access of
    theirs. Somebody else has the login `spec.username` now, and is not invited. Delete the object, which takes away
    what access the first user may still have. Then create one with the right username.
    """
    PERMISSION_UNSUPPORTED = "PermissionUnsupported"
    """stalled: The user cannot have this permission here. The host does not have it for this kind of owner, or the
    custom role does not exist. Or the user owns the repository, or has more as a member of the organisation. Or the
    host accepts it and goes on showing less access.
    """
    OWNERSHIP_UNKNOWN = "OwnershipUnknown"
    """retried: It is not known yet who made the thing on the host: NATS does not answer, or the records are being
    written or rebuilt.
    """
    OWNERSHIP_DISPUTED = "OwnershipDisputed"
    """stalled: On a deleted object: the record of who made the thing on the host was lost, and several objects say that
    they did. Nothing is deleted until `deletionPolicy` says Delete or Orphan.
    """
    RATE_LIMITED = "RateLimited"
    """retried: The limits of the host for the account or the App are used up, or the host asked for a pause. Or NATS
    does not answer how much is left of them. The message says when the object is tried again.
    """
    HOST_CONFLICT = "HostConflict"
    """retried: The host reported a conflict (409), or an invitation was accepted, declined or withdrawn while its role
    was changed. Or others changed the branch each time before the commit, or the host lost what was uploaded for it.
    """
    HOST_UNAVAILABLE = "HostUnavailable"
    """retried: The host cannot be reached, or gives no usable answer: a 5xx, a timeout, a problem with TLS or a proxy,
    a redirect out of the API, or an answer that is not the API's or is longer than 2 MiB. In an outage one request now
    and then asks whether the host is back. Or the host is slow, and it is the turn of other objects.
    """
    UNEXPECTED_ANSWER = "UnexpectedAnswer"
    """retried: The host gave an answer that no other reason is for."""
    BINDING_NOT_VISIBLE = "BindingNotVisible"
    """retried: The APIBinding of the workspace must be there, and kcp does not show it."""
    CONFLICT = "Conflict"
    """retried: Others keep writing the object."""
    INTERNAL_ERROR = "InternalError"
    """retried: The provider has a defect. Its log has the details."""
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
    """condition: On `PackagesAvailable`, which is False: GitHub serves packages only to classic and OAuth tokens with
    `read:packages`. It is not asked again until the credential is another one.
    """
    PACKAGE_LIMIT = "PackageLimit"
    """condition: On `PackagesAvailable`, which is False: the repository or the workspace has more packages than are
    mirrored. The message says how many.
    """
    LISTING_INCOMPLETE = "ListingIncomplete"
    """condition: On `Stale`, and on `Ready`, which is Unknown: a page of the host's list could not be read, or the
    requests that the host allows did not suffice.
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


_ENDS: Final = re.compile(r" \((?:stalled|retried|waiting)\)")


def plain(meaning: str) -> str:
    """A meaning of ``documented`` for people, who are not told which end of reconciling a case leads to."""
    return _ENDS.sub("", meaning)
