#!/usr/bin/env bash
# Is there a version of everything, as a wheel, for each Python that is promised? The exact versions of
# constraints.txt with all extras; then the newest that the ranges of pyproject.toml let in, for each extra alone.
# Only descriptions of packages are fetched, and nothing is installed. Ends well, but says so, where no index answers.
set -euo pipefail
cd "$(dirname "$0")/.."

export UV=${UV:-.venv/bin/uv}
index=${PIP_INDEX_URL:-$("$(dirname "$UV")/python" -m pip config get global.index-url 2>/dev/null || true)}
[ -z "$index" ] || export UV_DEFAULT_INDEX=$index

resolve() { # the Python, and how to resolve for it; says what came of it
  local code=0 problem
  problem=$("$UV" pip compile --quiet --no-header --only-binary :all: --python-version "$@" -o /dev/null pyproject.toml 2>&1) ||
    code=$?
  case $code in
    0) echo "resolves for Python $*" ;;
    2) echo "SKIPPED, no index of packages answers, for Python $*" >&2 ;;
    *) printf 'DOES NOT RESOLVE for Python %s\n%s\n' "$*" "$problem" >&2; return 1 ;;
  esac
}
export -f resolve

extras=$(sed -n '/^\[project.optional-dependencies\]/,/^\[project.scripts\]/s/^\([a-z]*\) = \[.*/\1/p' pyproject.toml)
for python in 3.11 3.12 3.13; do # of each its first release
  echo "$python --all-extras --constraint constraints.txt"
  echo "$python"
  for extra in $extras; do echo "$python --extra $extra"; done
done | xargs -P 8 -I{} bash -c 'resolve {}' # most of the time it waits for the index
echo "resolve: done in $SECONDS s"
