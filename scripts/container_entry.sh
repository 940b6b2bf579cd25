#!/bin/sh
# The image's entry point: `ntk`, with the password of the database read from a file, where one is named, and put
# in the place of the word PASSWORD in the URL. So no password stands in the description of a container.
set -eu
if [ -n "${NTK_DATABASE_PASSWORD_FILE:-}" ]; then
  password=$(python -c 'import sys, urllib.parse as u; print(u.quote(open(sys.argv[1]).read().strip(), safe=""))' \
    "$NTK_DATABASE_PASSWORD_FILE")
  export NTK_DATABASE_URL="${NTK_DATABASE_URL%%PASSWORD*}$password${NTK_DATABASE_URL#*PASSWORD}"
fi
exec ntk "$@"
