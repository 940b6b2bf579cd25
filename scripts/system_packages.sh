#!/usr/bin/env bash
# What the tests need beside Python: Chromium, for the pages. Installed where that is possible without asking
# (root on Debian); elsewhere the tests of the pages are skipped, which fails in CI.
set -euo pipefail

install() {
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
}

command -v chromium >/dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && install; then exit 0; fi
echo "Chromium is missing and could not be installed: the tests of the pages will be skipped." >&2
