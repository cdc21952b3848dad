#!/bin/bash
# A training run on this machine: launchers/local.sh HARDWARE [OVERRIDE...], with HARDWARE one of conf/hardware/.
# Ctrl-C leaves a checkpoint; the same line goes on from there.
set -eu

if [ $# -lt 1 ] || [[ $1 == *=* ]]; then
    echo "usage: $0 HARDWARE [OVERRIDE...], for example: $0 cpu model=nano beta=0.05" >&2
    exit 2
fi
hardware=$1
shift
cd "$(dirname "$0")/.."
: "${PYTHON:=$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python)}"
exec "$PYTHON" -m sacpo_exp.train "hardware=$hardware" "$@"
