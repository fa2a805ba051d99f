#!/usr/bin/env bash
# Gradescope runs this once, when the autograder's image is built: an environment of its own, with what grading needs.
# Submissions run inside bubblewrap where the container allows namespaces, else as another user (run_autograder).
set -euo pipefail
ROOT="${AUTOGRADER_ROOT:-/autograder}"
if command -v apt-get >/dev/null; then
    apt-get update
    apt-get install -y bubblewrap libseccomp2 util-linux python3 python3-venv python3-pip
fi
python3 -m venv "$ROOT/environment"
"$ROOT/environment/bin/python" -m pip install --no-cache-dir -r "$ROOT/source/requirements.txt"
