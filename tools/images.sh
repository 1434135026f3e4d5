#!/usr/bin/env bash
# `make images`: builds one image for each target of the Dockerfile, tagged `<name>:dev` as docker-compose.yaml names it.
# BUILD_OPTIONS are further options of `docker build`, such as "--build-arg PIP_INDEX_URL=https://mirror.example/simple".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

name=kedge-code-provider
version=$(sed -n 's/^version = "\(.*\)"/\1/p' libs/cli/pyproject.toml)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
read -ra options <<<"${BUILD_OPTIONS:-}"

build() { # build <target> <tag>
  docker build --quiet "${options[@]}" --build-arg "VERSION=$version" --build-arg "REVISION=$revision" \
    --target "$1" --tag "$2:dev" . >/dev/null
  echo "$2:dev"
}

build code-provider "$name"
# The layers of these are there by now.
for target in watcher connection-svc repository-svc access-svc package-crawler gateway; do
  build "$target" "$name-$target"
done
