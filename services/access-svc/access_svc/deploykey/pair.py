"""The Secret of a generated key pair.

A new pair waits under ``next-…`` until its public half is registered on the host. Only then it moves to the entry that
consumers mount. So what they mount opens the repository; before the first registration it is a bare line end.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from access_svc.deploykey import material
from codecommon.api.access import DeployKey
from codecommon.api.group import API_VERSION
from codecommon.api.kinds import DEPLOY_KEYS
from codecommon.api.reasons import Reason
from codecommon.api.results import Interruption, Retryable, Terminal
from codecommon.kcp.client import Conflict, Forbidden, Invalid, JsonObject, NotFound, Objects

PRIVATE: Final = "ssh-privatekey"
PUBLIC: Final = "ssh-publickey"
_TYPE: Final = "kubernetes.io/ssh-auth"
NEXT: Final = "next-"
_LONGEST_NAME: Final = 253
# Of an entry, in base64. Keys are shorter, and a Secret may hold a megabyte of something else.
_LONGEST_ENTRY: Final = 16384


@dataclass(frozen=True, slots=True)
class StoredPair:
    """``public``: the half to be registered; empty: the Secret holds no whole pair. ``raw``: the Secret.

    ``pending``: the private half is not where consumers look yet.
    """

    public: str
    pending: bool
    raw: JsonObject


class SecretNameTaken(Terminal):
    """The Secret of that name is not this object's."""


class SecretBeingDeleted(Retryable):
    """The Secret of that name is still being deleted."""


def secret_name(key: DeployKey) -> str:
    """``deploykey-<name>``. A name that would be too long is cut and ends in a hash of the whole name."""
    name = f"deploykey-{key.name}"
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(key.name.encode()).hexdigest()[:10]
    return f"{name[: _LONGEST_NAME - len(digest) - 1].rstrip('-.')}-{digest}"


class Pairs:
    """``namespace``: where the Secrets of tenants are."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def reference(self, key: DeployKey) -> JsonObject:
        return {"name": secret_name(key), "namespace": self._namespace, "key": PRIVATE}

    async def read(self, objects: Objects, key: DeployKey) -> StoredPair | None:
        """The pair in the object's Secret. None: there is no Secret.

        Raises ``SecretNameTaken`` for a Secret that is not this object's, ``SecretBeingDeleted``, and ``Terminal``
        (``SecretsClaimNotAccepted``).
        """
        raw = await self._own(objects, key)
        if raw is None:
            return None
        for prefix in (NEXT, ""):
            # The private half opens the repository, so it decides: somebody may have changed one of the two.
            public = material.public_half(_decoded(raw, prefix + PRIVATE))
            if public is not None:
                return StoredPair(public, bool(prefix), raw)
        return StoredPair("", True, raw)

    async def public(self, objects: Objects, key: DeployKey) -> str | None:
        """The public half of the stored pair. None: there is no such pair, or the Secret of that name is another's.

        Raises ``Terminal`` (``SecretsClaimNotAccepted``).
        """
        if key.spec.public_key and key.status.secret_ref is None:
            return None
        try:
            stored = await self.read(objects, key)
        except (SecretNameTaken, SecretBeingDeleted):
            return None
        return stored.public if stored is not None else None

    async def store_next(self, objects: Objects, key: DeployKey, stored: StoredPair | None) -> StoredPair:
        """Make a pair and store it as the next one. That comes before the host is told anything."""
        made = material.generate()
        data = _encoded({NEXT + PRIVATE: made.private.reveal(), NEXT + PUBLIC: _public_line(made.public, key)})
        if stored is None:
            body = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": secret_name(key), "ownerReferences": [_owner(key)]},
                "type": _TYPE,
                # The type demands an entry that is not empty. Nobody takes a bare line end for a key that opens something.
                "data": {**_encoded({PRIVATE: "\n"}), **data},
            }
            raw = await self._create(objects, body)
        else:
            raw = await self._patch(objects, stored, {"data": data, "metadata": _ownership(key, stored)})
        return StoredPair(made.public, True, raw)

    async def promote(self, objects: Objects, key: DeployKey, stored: StoredPair) -> None:
        """Put the next pair where consumers look. Its public half is on the host by now."""
        data: JsonObject = stored.raw["data"]
        moved = {PRIVATE: data[NEXT + PRIVATE], **_encoded({PUBLIC: _public_line(stored.public, key)})}
        await self._patch(objects, stored, {"data": {**moved, NEXT + PRIVATE: None, NEXT + PUBLIC: None}})

    async def mend(self, objects: Objects, key: DeployKey, stored: StoredPair) -> None:
        """Repair what others changed about the pair in force. Name the object as owner where the Secret has none."""
        change: JsonObject = {}
        if ownership := _ownership(key, stored):
            change["metadata"] = ownership
        if material.given_by(_decoded(stored.raw, PUBLIC)) != stored.public:
            change["data"] = _encoded({PUBLIC: _public_line(stored.public, key)})
        if change:
            await self._patch(objects, stored, change)

    async def disown(self, objects: Objects, key: DeployKey) -> None:
        """Take our owner reference off, so that the pair outlives the object as its key on the host does."""
        raw = await self._own_or_none(objects, key)
        if raw is None:
            return
        rest = [owner for owner in raw["metadata"].get("ownerReferences", ()) if owner["uid"] != key.metadata.uid]
        await self._patch(objects, StoredPair("", False, raw), {"metadata": {"ownerReferences": rest}})

    async def delete(self, objects: Objects, key: DeployKey) -> None:
        """Remove the Secret if it is this object's. A Secret that is another's is left alone."""
        raw = await self._own_or_none(objects, key)
        if raw is None:
            return
        try:
            metadata = raw["metadata"]
            with self._written(metadata["name"]):
                await objects.delete("secrets", metadata["name"], uid=metadata["uid"], namespace=self._namespace)
        except (NotFound, Conflict):
            return

    async def _own_or_none(self, objects: Objects, key: DeployKey) -> JsonObject | None:
        try:
            return await self._own(objects, key)
        except Interruption:
            return None

    async def _own(self, objects: Objects, key: DeployKey) -> JsonObject | None:
        name = secret_name(key)
        try:
            raw = await objects.get("secrets", name, namespace=self._namespace)
        except NotFound:
            return None
        except Forbidden:
            raise Terminal(
                Reason.SECRETS_CLAIM_NOT_ACCEPTED,
                "this workspace has not accepted the provider's claim on secrets, which a generated key needs; accept it in "
                "the APIBinding, or set spec.publicKey",
            ) from None
        if raw["metadata"].get("deletionTimestamp"):
            raise SecretBeingDeleted(
                Reason.SECRET_NAME_TAKEN, f"Secret {self._namespace}/{name} is still being deleted"
            )
        owners: list[JsonObject] = raw["metadata"].get("ownerReferences") or []
        ours = any(owner.get("uid") == key.metadata.uid for owner in owners)
        if not ours and not (not owners and _is_named_by_status(key, name) and raw.get("type") == _TYPE):
            raise SecretNameTaken(
                Reason.SECRET_NAME_TAKEN,
                f"Secret {self._namespace}/{name} is not this DeployKey's and is left alone; delete or rename it, "
                "or give the DeployKey another name",
            )
        return raw

    async def _create(self, objects: Objects, body: JsonObject) -> JsonObject:
        try:
            with self._written(body["metadata"]["name"]):
                return await objects.create("secrets", body, namespace=self._namespace)
        except Conflict:
            raise Retryable(Reason.CONFLICT, "the Secret of the key pair was made by others a moment ago") from None
        except NotFound:
            raise Retryable(
                Reason.CREDENTIAL_UNAVAILABLE,
                f"the namespace {self._namespace} for credentials does not exist; create it",
            ) from None

    async def _patch(self, objects: Objects, stored: StoredPair, change: JsonObject) -> JsonObject:
        metadata = stored.raw["metadata"]
        guard = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        body = {**change, "metadata": {**change.get("metadata", {}), **guard}}
        try:
            with self._written(metadata["name"]):
                return await objects.merge_patch("secrets", metadata["name"], body, namespace=self._namespace)
        except (Conflict, NotFound):
            raise Retryable(
                Reason.CONFLICT, "the Secret of the key pair was changed by others; reading it again"
            ) from None

    @contextmanager
    def _written(self, name: str) -> Iterator[None]:
        """Around a write of the Secret. Raises ``Terminal`` (``SecretNotWritable``) where the workspace refuses it."""
        secret = f"Secret {self._namespace}/{name}"
        try:
            yield
        except Forbidden as refused:
            raise Terminal(
                Reason.SECRET_NOT_WRITABLE, f"the workspace refuses to write {secret}: {refused.message}"
            ) from None
        except Invalid:
            # What kcp says of it may repeat what is in the Secret.
            raise Terminal(
                Reason.SECRET_NOT_WRITABLE,
                f"the workspace takes no change of {secret}; if it is immutable, delete it, and a new pair is made",
            ) from None


def _is_named_by_status(key: DeployKey, name: str) -> bool:
    """Whether a Secret without owner is this object's, because status names it."""
    ref = key.status.secret_ref
    return key.status.secret_without_owner and ref is not None and ref.name == name


def _ownership(key: DeployKey, stored: StoredPair) -> JsonObject:
    """The change of metadata that gives a Secret without owner to the object."""
    return {} if stored.raw["metadata"].get("ownerReferences") else {"ownerReferences": [_owner(key)]}


def _owner(key: DeployKey) -> JsonObject:
    return {
        "apiVersion": API_VERSION,
        "kind": DEPLOY_KEYS.kind,
        "name": key.name,
        "uid": key.metadata.uid,
        "controller": True,
    }


def _public_line(public: str, key: DeployKey) -> str:
    return f"{public} {key.name}\n"


def _encoded(data: dict[str, str]) -> dict[str, Any]:
    return {name: base64.b64encode(value.encode()).decode() for name, value in data.items()}


def _decoded(raw: JsonObject, name: str) -> str:
    """The entry's text; empty where there is none, or where it is no text of a key's length."""
    data: JsonObject = raw.get("data") or {}
    encoded: str = data.get(name) or ""
    if len(encoded) > _LONGEST_ENTRY:
        return ""
    try:
        return base64.b64decode(encoded).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
