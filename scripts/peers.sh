#!/usr/bin/env bash
# Make .venv-peers, where the benchmark finds neural-tangents and nngeometry. The first is archived and works with an
# old JAX alone, which wants an old numpy, so that it cannot share our environment. Done once; delete the folder to do
# it again.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv-peers
nngeometry() { # for our own interpreter, which it finds torch in; it asks for torchvision and never imports it
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$venv/nngeometry" nngeometry==0.4
}
[ -e "$venv/ready" ] && { [ -e "$venv/nngeometry" ] || nngeometry; exit 0; }

supported='import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))'
for python in "${PYTHON:-python3}" python3.12 python3.11 python3.10; do
  if command -v "$python" >/dev/null && "$python" -c "$supported" 2>/dev/null; then found=$python; break; fi
done
[ -n "${found:-}" ] || { echo "no Python from 3.10 to 3.12 was found, which the peers need" >&2; exit 1; }

rm -rf "$venv"
"$found" -m venv "$venv"
echo '*' >"$venv/.gitignore"
install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
install jax==0.4.23 jaxlib==0.4.23 ml_dtypes==0.5.4 opt_einsum==3.4.0 numpy==1.26.4 scipy==1.12.0 \
  frozendict==2.5.1 absl-py==2.5.1
install --no-deps neural-tangents==0.6.5 # it asks for TensorFlow, which it does not need here
nngeometry
touch "$venv/ready"
