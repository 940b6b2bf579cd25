#!/usr/bin/env bash
# Raise the versions in constraints.txt: resolve pyproject.toml anew in a throw-away environment and write down
# what came out. torch is given by version (an open range takes gigabytes of CUDA): scripts/freeze.sh [2.13.0]
set -euo pipefail
cd "$(dirname "$0")/.."

torch="torch==${1:-$(sed -n 's/^torch==//p' constraints.txt)}"
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT

python3 -m venv "$new/venv"
"$new/venv/bin/pip" install --quiet "$torch"
"$new/venv/bin/pip" install --quiet ".[dev]"
{
  sed -n '/^#/p' constraints.txt
  "$new/venv/bin/pip" freeze --all --exclude pip --exclude ntkengine | sed 's/+.*//'
} >"$new/constraints.txt"
mv "$new/constraints.txt" constraints.txt
