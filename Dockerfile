# The service and its workers: `docker build -t ntkengine .`, with a source of torch (see TORCH below).
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# Wheels that need not be fetched, from a folder that may be missing: `pip download -d wheels ...` fills it.
FROM scratch AS wheels
COPY constraints.txt wheel[s] /wheels/

# What pyproject.toml asks for, apart, so that only a change of that fetches it anew.
FROM ${PYTHON_IMAGE} AS requirements
COPY pyproject.toml /
RUN python -c 'import tomllib; print(*tomllib.load(open("/pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
    >/requirements.txt

FROM ${PYTHON_IMAGE} AS build
# Which build of torch: cpu, or one for a version of CUDA, such as cu130; empty takes what pip's index has. Builds
# with a name are not on pip's usual index: they come from the folder `wheels`, or from the index TORCH_INDEX_URL.
ARG TORCH=cpu
ARG TORCH_INDEX_URL=
# pip's own settings, for everything else: another index, or none but the folder.
ARG PIP_INDEX_URL=
ARG PIP_NO_INDEX=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_FIND_LINKS=/wheels PIP_ROOT_USER_ACTION=ignore
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /src
COPY constraints.txt ./
COPY --from=requirements /requirements.txt ./
# Both secrets are optional: a pip.conf and a CA bundle for networks that need their own; neither reaches a layer.
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    --mount=type=secret,id=pip_conf,target=/run/secrets/pip.conf \
    --mount=type=secret,id=ca_bundle,target=/run/secrets/ca.crt \
    if [ -s /run/secrets/pip.conf ]; then export PIP_CONFIG_FILE=/run/secrets/pip.conf; fi; \
    if [ -s /run/secrets/ca.crt ]; then export PIP_CERT=/run/secrets/ca.crt; fi; \
    torch="$(grep '^torch==' constraints.txt)${TORCH:+"+$TORCH"}"; \
    python -m venv --without-pip /opt/venv; \
    install() { pip --python /opt/venv/bin/python install --quiet --constraint constraints.txt "$@"; }; \
    install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "$torch" || { \
      echo "No $torch was found: put its wheel into the folder wheels, or say --build-arg TORCH_INDEX_URL=" \
        "with the index that torch's installation page names for it." >&2; exit 1; }; \
    install --requirement requirements.txt; \
    rm -rf /opt/venv/lib/python3*/site-packages/torch/{include,test,share,bin/test_*,bin/protoc*}; \
    find /opt/venv -type d -name tests -prune -exec rm -rf {} +
COPY pyproject.toml README.md LICENSE ./
COPY ntkengine ntkengine
COPY service service
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    --mount=type=secret,id=pip_conf,target=/run/secrets/pip.conf \
    --mount=type=secret,id=ca_bundle,target=/run/secrets/ca.crt \
    if [ -s /run/secrets/pip.conf ]; then export PIP_CONFIG_FILE=/run/secrets/pip.conf; fi; \
    if [ -s /run/secrets/ca.crt ]; then export PIP_CERT=/run/secrets/ca.crt; fi; \
    pip wheel --quiet --no-deps --wheel-dir /built . \
    && pip --python /opt/venv/bin/python install --quiet --no-deps --no-index /built/*.whl

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="ntkengine" org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 ntk \
    && useradd --uid 10001 --gid ntk --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin ntk \
    && install -d -o ntk -g ntk -m 0750 /data
COPY --from=build /opt/venv /opt/venv
COPY --chmod=0755 scripts/container_entry.sh /usr/local/bin/container_entry.sh
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp \
    NTK_HOST=0.0.0.0 NTK_PORT=8000 NTK_DATA_DIR=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=4s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ['NTK_PORT']}/healthz\", timeout=3)"]
ENTRYPOINT ["container_entry.sh"]
CMD ["serve"]
