# The provider's images: one target for each service, and `code-provider`, which runs any of them and is what is built by default.
# All of them have the same layers, so a node that runs six services loads them once.
#
#   docker build --tag kedge-code-provider .
#   docker build --target watcher --tag kedge-code-provider-watcher .
#
# It builds with BuildKit and with the builder before it, so there is no `RUN --mount` and no here-document.

# ---- The images to build from. Python has to be at the same path in the last two; RUNTIME_IMAGE needs no pip.
ARG NODE_IMAGE=docker.io/library/node:20-bookworm-slim
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm
ARG RUNTIME_IMAGE=docker.io/library/python:3.11-slim-bookworm

# ---- The portal's bundle
FROM ${NODE_IMAGE} AS portal
# What the builder's network wants: a mirror, and who vouches for it.
ARG NPM_CONFIG_REGISTRY
ARG NODE_EXTRA_CA_CERTS
WORKDIR /src/portal
COPY portal/package.json portal/package-lock.json ./
RUN npm ci --no-audit --no-fund --no-update-notifier --loglevel=error
COPY portal ./
RUN npm run --silent build

# ---- The provider and its dependencies, in a virtual environment
FROM ${PYTHON_IMAGE} AS build
ARG PIP_INDEX_URL
ARG PIP_CERT
ARG UV_DEFAULT_INDEX
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 UV_SYSTEM_CERTS=1 UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_NO_PROGRESS=1
WORKDIR /src
COPY tools/uv-requirements.txt tools/
RUN python3 -m venv /opt/uv \
 && /opt/uv/bin/pip install --quiet --no-cache-dir --no-deps --require-hashes --requirement tools/uv-requirements.txt \
 && /opt/uv/bin/uv venv --quiet --python "$(command -v python3)" --no-python-downloads /opt/code-provider
COPY requirements.lock build-constraints.txt ./
COPY libs libs
COPY services services
COPY --from=portal /src/services/gateway/gateway/portal services/gateway/gateway/portal
# As constraints the lock fixes version and hash of what the provider needs, and leaves out what only development needs.
RUN /opt/uv/bin/uv pip install --quiet --no-cache --compile-bytecode --python /opt/code-provider/bin/python --no-sources \
      --constraint requirements.lock --build-constraints build-constraints.txt ./libs/* ./services/*

# ---- What every image has
FROM ${RUNTIME_IMAGE} AS runtime
# uid 65532 is that of the Go provider's image, whose volumes this one reads.
RUN if python3 -m pip --version >/dev/null 2>&1; then python3 -m pip uninstall --quiet --yes --root-user-action ignore setuptools wheel pip; fi \
 && printf 'nonroot:x:65532:\n' >>/etc/group \
 && printf 'nonroot:x:65532:65532:nonroot:/var/lib/kedge-code:/usr/sbin/nologin\n' >>/etc/passwd \
 && install -d -o 65532 -g 65532 -m 0750 /var/lib/kedge-code \
 && ln -s /opt/code-provider/bin/code-provider /code-provider
COPY LICENSE /usr/share/doc/kedge-code-provider/LICENSE
COPY crds/kcp /etc/kedge/schemas
COPY deploy/images/healthcheck.py /opt/healthcheck.py
COPY --from=build /opt/code-provider /opt/code-provider
# Nothing is written below the root file system, so that it can be read-only. CODE_DATA_DIR is where `serve` keeps its NATS store.
ENV PATH=/opt/code-provider/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/var/lib/kedge-code \
    PYTHONDONTWRITEBYTECODE=1 \
    CODE_DATA_DIR=/var/lib/kedge-code/data \
    CODE_HEALTH_PORT=8081
VOLUME /var/lib/kedge-code
WORKDIR /var/lib/kedge-code
USER 65532:65532
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["/opt/code-provider/bin/python", "/opt/healthcheck.py"]
ARG VERSION=0.2.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.vendor="kedge" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"

# ---- One image for each service. Each answers /livez, /readyz and /metrics at 8081.
FROM runtime AS watcher
LABEL org.opencontainers.image.title="kedge-code-provider-watcher" \
      org.opencontainers.image.description="Follows kcp and publishes object events"
EXPOSE 8081
ENTRYPOINT ["/opt/code-provider/bin/watcher"]

FROM runtime AS connection-svc
LABEL org.opencontainers.image.title="kedge-code-provider-connection-svc" \
      org.opencontainers.image.description="Reconciles Connections"
EXPOSE 8081
ENTRYPOINT ["/opt/code-provider/bin/connection-svc"]

FROM runtime AS repository-svc
LABEL org.opencontainers.image.title="kedge-code-provider-repository-svc" \
      org.opencontainers.image.description="Reconciles Repositories"
EXPOSE 8081
ENTRYPOINT ["/opt/code-provider/bin/repository-svc"]

FROM runtime AS access-svc
LABEL org.opencontainers.image.title="kedge-code-provider-access-svc" \
      org.opencontainers.image.description="Reconciles DeployKeys and Collaborators"
EXPOSE 8081
ENTRYPOINT ["/opt/code-provider/bin/access-svc"]

FROM runtime AS package-crawler
LABEL org.opencontainers.image.title="kedge-code-provider-package-crawler" \
      org.opencontainers.image.description="Mirrors packages"
EXPOSE 8081
ENTRYPOINT ["/opt/code-provider/bin/package-crawler"]

FROM runtime AS gateway
LABEL org.opencontainers.image.title="kedge-code-provider-gateway" \
      org.opencontainers.image.description="MCP, Connect with GitHub, and the portal"
EXPOSE 8083 8081
ENTRYPOINT ["/opt/code-provider/bin/gateway"]

# ---- All in one: `serve` (the default), `init`, or any service by its name
FROM runtime AS code-provider
LABEL org.opencontainers.image.title="kedge-code-provider" \
      org.opencontainers.image.description="Makes repositories, keys and access on git hosts what kcp workspaces declare"
EXPOSE 8083
ENTRYPOINT ["/code-provider"]
CMD ["serve"]
