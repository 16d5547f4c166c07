#!/usr/bin/env bash
# Measures a CUDA GPU in under 9 minutes and writes rows as they come; run again, it goes on where it stopped.
#   benchmarks/measured/gpu.sh FOLDER                              ceilings, jobs, pairs
#   benchmarks/measured/gpu.sh FOLDER --holdout                    the jobs that calibration never sees
#   benchmarks/measured/gpu.sh FOLDER --device cpu --tiny --most 2 the same course on a CPU, as a test
set -euo pipefail
if [ $# -lt 1 ] || [ "${1#-}" != "$1" ]; then
    echo "usage: benchmarks/measured/gpu.sh FOLDER [--holdout] [--device cpu --tiny] [--minutes M] [--most N]" >&2
    exit 2
fi
folder=$(realpath -m "$1")
shift
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
exec "$python" -m service.measure.gpu --out "$folder" "$@"
