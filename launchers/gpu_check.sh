#!/bin/bash
# Check on this machine's GPUs what CPUs can't show, and write gpu_check.json and gpu_check.md into the present folder:
#   launchers/gpu_check.sh [--cpu] [--folder DIR]
# With --cpu the same checks run in small on CPUs. VLLM_PYTHON names a Python that has vllm; without it that check is
# skipped. Needs no network; on a GPU about 40 GB of disk below TMPDIR. Exit code 1 if a check failed.
set -eu

repository="$(cd "$(dirname "$0")/.." && pwd)"
: "${PYTHON:=$([ -x "$repository/.venv/bin/python" ] && echo "$repository/.venv/bin/python" || echo python)}"
export PYTHONPATH="$repository${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1
exec "$PYTHON" "$repository/launchers/gpu_check.py" "$@"
