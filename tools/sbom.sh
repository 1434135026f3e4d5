#!/usr/bin/env bash
# `make sbom`: what the images contain besides their base image, as CycloneDX, and under which licences. It fails for a licence that
# tools/sbom.py does not allow. The base image brings a bill of its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() { echo "sbom: $*" >&2; exit 1; }
command -v npm >/dev/null || die "npm of Node.js 20 or later is missing; it tells what is in the portal's bundle"

uv=$PWD/.tools/uv-venv/bin/uv
export UV_SYSTEM_CERTS=1 UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1
# As in tools/setup.sh: uv does not read pip's configuration.
mirror=${PIP_INDEX_URL:-$(.tools/uv-venv/bin/python -m pip config get global.index-url 2>/dev/null || true)}
if [[ -n $mirror && -z ${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-} ]]; then
  export UV_DEFAULT_INDEX=$mirror
fi

out=.dev/sbom
rm -rf "$out"
mkdir -p "$out"
"$uv" venv --quiet --python .venv/bin/python "$out/shipped"
# The command of the Dockerfile.
"$uv" pip install --quiet --python "$out/shipped/bin/python" --no-sources \
  --constraint requirements.lock --build-constraints build-constraints.txt ./libs/* ./services/*
"$uv" venv --quiet --python .venv/bin/python "$out/tools"
"$uv" pip sync --quiet --python "$out/tools/bin/python" --require-hashes tools/sbom-requirements.txt

"$out/tools/bin/cyclonedx-py" environment --output-reproducible --output-format JSON --output-file "$out/python.cdx.json" \
  "$out/shipped" 2>"$out/cyclonedx.log" || { cat "$out/cyclonedx.log" >&2; die "cyclonedx-py failed"; }
(cd portal && npm sbom --sbom-format=cyclonedx --package-lock-only) >"$out/npm.cdx.json"
"$out/tools/bin/python" tools/sbom.py "$out"
