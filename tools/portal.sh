#!/usr/bin/env bash
# Builds the portal's bundle into the gateway (`build`), or checks, builds and tests it (`test`). Where there is no npm, `test` says
# what is left out and succeeds, because all else can be tested without.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../portal"

say() { echo "portal: $*" >&2; }

usable() { command -v npm >/dev/null && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null; }

if ! usable; then
  say "left out: building and testing the portal needs npm of Node.js 20 or later (Debian and Ubuntu: apt install npm; macOS:" \
    "brew install node)"
  [[ ${1:-} == test ]] && exit 0
  exit 1
fi

install() { # what package-lock.json names, unless that is there
  local stamp=node_modules/.package-lock.stamp
  cmp -s package-lock.json "$stamp" && return
  npm ci --no-audit --no-fund --loglevel=error >&2
  cp package-lock.json "$stamp"
}

install
case ${1:-} in
  build) npm run --silent build ;;
  test)
    npm run --silent check
    npm run --silent build
    npm run --silent size
    npm run --silent test
    ;;
  *) say "usage: tools/portal.sh build|test"; exit 2 ;;
esac
