#!/usr/bin/env bash
# Put the third-party files that the pages need into the package, so that they work with no internet.
#   scripts/vendor_web.sh [directory]     the package's own directory of files, unless another is named;
# what tests of the pages need comes to tests/web/vendor, or to tests in the directory named.
# The versions are those of vendor_web/package-lock.json, which pins them by hash; nothing of them is executed here.
# To raise one: change package.json there, `npm install --package-lock-only --ignore-scripts`, and run this again.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
to=$(mkdir -p "${1:-$root/service/web/static}" && cd "${1:-$root/service/web/static}" && pwd)
tests=${1:+$to/tests}
tests=${tests:-$root/tests/web/vendor}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cp "$root"/scripts/vendor_web/{package.json,package-lock.json} "$work"
npm ci --prefix "$work" --ignore-scripts --no-audit --no-fund
cd "$work/node_modules"
rm -rf "$to/swagger" "$to/vendor"
mkdir -p "$to/swagger" "$to/vendor"

(cd swagger-ui-dist && cp swagger-ui-bundle.js swagger-ui-bundle.js.LICENSE.txt swagger-ui.css LICENSE NOTICE "$to/swagger")

# The policy forbids inline import maps, so modules name each other by relative paths; no source maps are shipped.
module() {
  sed -E -e 's#(from ?")preact/hooks"#\1./hooks.js"#g' -e 's#(from ?")preact"#\1./preact.js"#g' \
    -e 's#(from ?")@preact/signals-core"#\1./signals-core.js"#g' -e 's#//\# sourceMappingURL=.*##' "$1" >"$to/vendor/$2"
}
module preact/dist/preact.mjs preact.js
module preact/hooks/dist/hooks.mjs hooks.js
module @preact/signals-core/dist/signals-core.mjs signals-core.js
module @preact/signals/dist/signals.mjs signals.js
module htm/dist/htm.mjs htm.js
module uplot/dist/uPlot.esm.js uplot.js
cp uplot/dist/uPlot.min.css "$to/vendor/uplot.css"
for package in preact @preact/signals @preact/signals-core htm uplot; do
  cp "$package/LICENSE" "$to/vendor/LICENSE.$(basename "$package")"
done

rm -rf "$tests"
mkdir -p "$tests"
cp axe-core/axe.min.js axe-core/LICENSE "$tests"
