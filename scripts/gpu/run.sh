#!/usr/bin/env bash
# Train the ladder on a rented GPU machine without network, in calls of under ten minutes each.
#
#     scripts/gpu/run.sh prepare --data FOLDER [--resume RESULTS]   here, with network
#     scripts/gpu/run.sh [--seconds 560]                            there, from a copy of this tree
#     scripts/gpu/run.sh --device cpu --tiny                        here, to see that all of it runs
#
# docs/gpu.md says what is carried, what is trained in which order and what comes back in $OUT.
# There: Python 3.12, x86-64 Linux, PyTorch with CUDA, numpy, click, rich, psutil and safetensors.
set -euo pipefail
cd "$(dirname "$0")/../.."
export KIT="${KIT:-$PWD/gpu_kit}" OUT="${OUT:-$PWD/gpu_out}" PYTHONUNBUFFERED=1
PYTHON="${PYTHON:-python3}"
if [ "${1:-}" != prepare ] && ! "$PYTHON" -c "import pyvips, platformdirs, safetensors" 2>/dev/null; then
  if ! ls "$KIT"/wheels/*.whl >/dev/null 2>&1; then
    echo "There are no wheels in '$KIT': run '$0 prepare --data FOLDER' first, with network." >&2
    exit 2
  fi
  if ! "$PYTHON" -c "import sys; sys.exit(sys.version_info[:2] != (3, 12))"; then
    echo "The wheels are for Python 3.12, and $("$PYTHON" -V) has no pyvips: set PYTHON." >&2
    exit 2
  fi
  site="${TMPDIR:-/tmp}/edgekeeper-site"
  "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade \
    --target "$site" "$KIT"/wheels/*.whl
  export PYTHONPATH="$site"
fi
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}"
exec "$PYTHON" scripts/gpu/kit.py "$@"
