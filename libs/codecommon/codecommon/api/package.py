"""Package: what a repository has published, as its git host lists it. The crawler alone makes and writes these objects."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from codecommon.api.group import GROUP
from codecommon.api.meta import BaseStatus, Resource, Wire

REPOSITORY_LABEL: Final = f"{GROUP}/repository"
"""On every child of a Repository: which one, for readers that select by label."""

_LONGEST_LABEL: Final = 63
_LONGEST_BASE: Final = 242
_OTHER_CHARACTERS: Final = re.compile(r"[^a-z0-9]+")


# Signatures, attestations and SBOMs of cosign, and the index of what refers to an image: the image's digest, with or without a
# suffix. https://github.com/opencontainers/distribution-spec/blob/main/spec.md#referrers-tag-schema
_DIGEST_PREFIXES: Final = ("sha256-", "sha512-")
_REFERRERS_TAG: Final = re.compile(r"sha(?:256|512)-[0-9a-f]+(?:[._-].*)?", re.S)


class PackageSpec(Wire):
    """``repository_ref`` names the Repository object."""

    repository_ref: str


class Package(Resource[PackageSpec, BaseStatus]):
    """The model holds the conditions alone: versions are many, and are read where they are needed."""


def package_object_name(repository: str, package_type: str, package: str) -> str:
    """The name of the object for a package of the Repository object ``repository``.

    It is the name that the Go provider gives it, so that an upgrade renames nothing.
    """
    parts = (repository, package_type, package)
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:10]
    base = _OTHER_CHARACTERS.sub("-", "-".join(parts).lower()).strip("-")
    return f"{base[:_LONGEST_BASE]}-{digest}"


def is_referrers_tag(tag: str) -> bool:
    """Whether a tag is of something that refers to an image, such as its signature, and not of an image."""
    # A host may send hundreds of thousands of tags.
    return tag.startswith(_DIGEST_PREFIXES) and _REFERRERS_TAG.fullmatch(tag) is not None


def repository_label(name: str) -> dict[str, str]:
    """The label that a child of the Repository carries. Longer names than labels may have: the first 54 characters and a hash."""
    if len(name) > _LONGEST_LABEL:
        name = f"{name[:54]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return {REPOSITORY_LABEL: name}
