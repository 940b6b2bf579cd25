#!/usr/bin/env bash
# Put the third-party files that the pages need into the package, so that they work with no internet.
# The versions are those of vendor_web/package-lock.json, which pins them by hash; nothing of them is executed here.
# To raise one: change package.json there, `npm install --package-lock-only --ignore-scripts`, and run this again.
set -euo pipefail
cd "$(dirname "$0")/.."

to=service/web/static/swagger
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cp scripts/vendor_web/{package.json,package-lock.json} "$work"
npm ci --prefix "$work" --ignore-scripts --no-audit --no-fund
rm -rf "$to"
mkdir -p "$to"
cd "$work/node_modules/swagger-ui-dist"
cp swagger-ui-bundle.js swagger-ui-bundle.js.LICENSE.txt swagger-ui.css LICENSE NOTICE "$OLDPWD/$to"
