#!/usr/bin/env bash
# Make what docker-compose.yml needs to be told in files: a password for the database, and an entry for one key,
# which is printed, once. What is there already stays.   container_secrets.sh [directory] [name of the key's holder]
set -euo pipefail
docker=${DOCKER:-docker}
to=${1:-$(dirname "$0")/../secrets}
mkdir -p -m 0700 "$to" # containers read the files as other users; on the machine the directory keeps others out

[ -s "$to/db_password" ] || head -c 24 /dev/urandom | base64 | tr -d '\n' >"$to/db_password"
if [ ! -s "$to/api_keys" ]; then
  made=$($docker run --rm --network none "${NTK_IMAGE:-ntkengine}" keys new "${2:-operator}" --scope admin 2>/dev/null)
  tail -n 1 <<<"$made" >"$to/api_keys"
  head -n 1 <<<"$made"
fi
chmod 0444 "$to/db_password" "$to/api_keys"
