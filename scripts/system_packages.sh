#!/usr/bin/env bash
# What the tests need beside Python: Chromium, for the pages. Installed where that is possible without asking
# (root on Debian or Ubuntu); elsewhere the browser tests say that they were skipped, and why.
set -euo pipefail

command -v chromium >/dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
else
  echo "Chromium is missing and cannot be installed from here: the browser tests will be skipped." >&2
fi
