#!/usr/bin/env bash
# What the tests need beside Python: Chromium for the pages, PostgreSQL for several processes on one database,
# a C compiler for a clock that jumps.
# Installed where that is possible without asking (root on Debian); elsewhere those tests are skipped, which
# fails in CI.
set -euo pipefail

install() {
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

missing=()
command -v chromium >/dev/null || missing+=(chromium)
command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
command -v cc >/dev/null || missing+=(gcc libc6-dev)
[ ${#missing[@]} = 0 ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq; then
  # The tests start PostgreSQL themselves, with data of their own: none is to be set up and started.
  mkdir -p /etc/postgresql-common
  [ -e /etc/postgresql-common/createcluster.conf ] ||
    echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
  install "${missing[@]}" && exit 0
fi
echo "Missing, and could not be installed: ${missing[*]}. The tests that need it will be skipped." >&2
