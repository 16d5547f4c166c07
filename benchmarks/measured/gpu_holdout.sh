#!/usr/bin/env bash
# On a machine with a CUDA GPU, after gpu.sh: predicts jobs that calibration never saw, measures them, and runs schedules of whole jobs over
# slots of the GPU and groups of CPU cores. Everything is written down with its SHA-256 before it is measured.
#   benchmarks/measured/gpu_holdout.sh GPU_ROWS CPU_ROWS OUT                      GPU_ROWS: from gpu.sh; CPU_ROWS: from runtime measure, one core
#   benchmarks/measured/gpu_holdout.sh GPU_ROWS CPU_ROWS OUT --tiny               the same course on a CPU, as a test: virtual devices, not a GPU
# More options go to `quartermaster validate`, such as --devices cuda:0,cuda:0,cores:0-7,core:8 --jobs 40. The jobs of the schedules are as small
# as those of the CPU's grid, so that a core can run them; the GPU's rows should hold that grid, too:
#   quartermaster runtime measure --device cuda --grid quick --seconds 0.5 --out GPU_ROWS
# Run again with the same OUT, it goes on where it stopped.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: benchmarks/measured/gpu_holdout.sh GPU_ROWS CPU_ROWS OUT [--tiny] [options of quartermaster validate]" >&2
    exit 2
fi
gpu=$(realpath -m "$1") cpu=$(realpath -m "$2") out=$(realpath -m "$3")
shift 3
tiny=()
if [ "${1:-}" = --tiny ]; then
    tiny=(--tiny)
    shift
fi
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
quartermaster=("$python" -m service.cli)
mkdir -p "$out"

"${quartermaster[@]}" runtime calibrate "$gpu" --out "$out/device.json"
"$python" -m service.measure.validate_holdout "${tiny[@]}" >"$out/jobs.json"
"${quartermaster[@]}" runtime predict "$out/jobs.json" --device "$out/device.json" --out "$out/predictions.json"
if [ ${#tiny[@]} -gt 0 ]; then
    "$python" -m service.measure.gpu --out "$out/holdout" --holdout --device cpu --tiny --seconds 0.1
    devices=(--devices core:0,core:0,core:0 --serial-replay --records "$cpu" --grid gpu-tiny --job-seconds 0.01:0.1)
else
    "$python" -m service.measure.gpu --out "$out/holdout" --holdout
    devices=(--devices cuda:0,cuda:0,core:0,core:1 --records "cuda=$gpu" --records "core=$cpu" --job-seconds 1:8)
fi
"$python" -m service.measure.validate_holdout --compare "$out/predictions.json" "$out/holdout" || echo "the hold-out jobs say nothing yet" >&2
if [ -e "$out/schedules/frozen.json" ]; then
    exec "${quartermaster[@]}" validate --out "$out/schedules" --resume
fi
exec "${quartermaster[@]}" validate --out "$out/schedules" --jobs 24 --batches 2 --executed-rivals 1 --policies optimal,fifo,lpt "${devices[@]}" "$@"
