#!/usr/bin/env bash
# Prepares this checkout: .venv with the locked dependencies and every workspace member, editable.
# Needs Python 3.11 or newer with its venv module, and a package index that pip can reach; nothing else.
# A second run finds the stamp of the first and does nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { echo "setup: $*" >&2; }
die() { say "$*"; exit 1; }

hash_of() { # one hash for the contents of all files named
  if command -v sha256sum >/dev/null; then cat "$@" | sha256sum; else cat "$@" | shasum -a 256; fi | cut -d' ' -f1
}

members=(libs/*/pyproject.toml services/*/pyproject.toml tools/devstack/pyproject.toml)
stamp=.venv/.setup-stamp
key=$(hash_of requirements.lock build-constraints.txt tools/uv-requirements.txt tools/setup.sh pyproject.toml "${members[@]}")
if [[ -f $stamp && $(<"$stamp") == "$key" ]] && .venv/bin/python -c '' 2>/dev/null; then
  exit 0
fi

supported='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'
python=""
for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do
  if command -v "$candidate" >/dev/null && "$candidate" -c "$supported" 2>/dev/null; then
    python=$candidate
    break
  fi
done
[[ -n $python ]] || die "no Python 3.11 or newer with its venv module on PATH; install one" \
  "(Debian and Ubuntu: apt install python3 python3-venv; macOS: brew install python) and run make again"

# uv of exactly the pinned version, private to this checkout: an older one on PATH may not read the files.
uv=.tools/uv-venv/bin/uv
wanted=$(sed -n 's/^uv==\([^ ]*\).*/\1/p' tools/uv-requirements.txt)
if [[ $("$uv" --version 2>/dev/null || true) != "uv $wanted"* ]]; then
  say "installing uv $wanted into .tools"
  rm -rf .tools/uv-venv
  "$python" -m venv .tools/uv-venv
  .tools/uv-venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
    -r tools/uv-requirements.txt || die "uv could not be installed; is the package index reachable?"
fi

export UV_SYSTEM_CERTS=1 UV_PYTHON_DOWNLOADS=never
# uv does not read pip's configuration; on a machine behind a mirror that is where the mirror is named.
mirror=${PIP_INDEX_URL:-$(.tools/uv-venv/bin/python -m pip config get global.index-url 2>/dev/null || true)}
if [[ -n $mirror && -z ${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-} ]]; then
  export UV_DEFAULT_INDEX=$mirror
fi

if ! .venv/bin/python -c "$supported" 2>/dev/null; then
  say "creating .venv with $("$python" --version)"
  "$uv" venv --quiet --clear --python "$python" .venv
fi
rm -f "$stamp"
say "installing the locked dependencies into .venv"
# Without the list of every package: what is being downloaded is enough to see that it goes on.
{ "$uv" pip sync --python .venv/bin/python --require-hashes requirements.lock 2>&1 || die "uv failed (see above)"; } |
  sed '/^ [+-] /d' >&2
editable=()
for member in "${members[@]}"; do
  editable+=(--editable "$(dirname "$member")")
done
"$uv" pip install --quiet --python .venv/bin/python --no-deps --build-constraints build-constraints.txt "${editable[@]}"
echo "$key" >"$stamp"
say "done"
