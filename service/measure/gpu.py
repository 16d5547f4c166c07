"""The GPU's measurements in one command, in the order of their worth: ``python -m service.measure.gpu --out FOLDER``.

Ceilings (single operators by precision, launch, copies to the device), jobs, pairs that share the GPU. Rows are flushed as they
come: a run that is cut off keeps what it has, and a second one goes on there. ``--holdout`` measures jobs that calibration never sees.
``--device cpu --tiny`` runs the same course on a CPU with networks a thousand times smaller: a test of the course, not of a GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from models.runtime.operators import Precision
from models.runtime.records import PairRecord, Record, Sharing
from service.measure.campaign import job_row_key, operator_row_key, outcome, pair_row_key
from service.measure.gpu_jobs import holdout_jobs, measured_jobs, pair_jobs
from service.measure.machine import cuda_is_there, machine
from service.measure.microbenchmarks import ceilings, microbenchmarks, micros
from service.measure.pairs import measured_pair, paired
from service.measure.runner import Bench, measured
from service.measure.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.runtime.job import JobSpec
    from models.runtime.records import AnyRow

SHARE_OF_CEILINGS, SHARE_OF_JOBS = 0.2, 0.75  # of the time; pairs take what is left
PAIRS = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures until all is done or the time is up; 2 where there is no GPU."""
    parser = argparse.ArgumentParser(prog="python -m service.measure.gpu", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", help="folder for rows.jsonl and machine.json")
    parser.add_argument("--list-holdout", action="store_true", help="print the hold-out jobs, to predict them, and end")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="networks a CPU runs in milliseconds")
    parser.add_argument("--holdout", action="store_true", help="the jobs that calibration never sees, and nothing else")
    parser.add_argument("--minutes", type=float, default=8.5, help="the time after which nothing new is begun")
    parser.add_argument("--seconds", type=float, default=1.0, help="steps of each job")
    parser.add_argument("--most", type=int, default=None, help="at most so many jobs, operators and pairs each")
    asked = parser.parse_args(arguments)
    if asked.list_holdout:
        specs = [spec.model_dump(mode="json", exclude_defaults=True) for spec in holdout_jobs(tiny=asked.tiny)]
        sys.stdout.write(json.dumps({"jobs": specs}, indent=1) + "\n")
        return 0
    if asked.out is None:
        parser.error("--out FOLDER is missing: where the rows are written")
    if asked.device == "cuda" and not cuda_is_there():
        sys.stderr.write("torch sees no CUDA GPU here; --device cpu --tiny runs the course on a CPU\n")
        return 2
    about = machine(asked.device)
    store = Store(Path(asked.out))
    store.open(about)
    command = f"python -m service.measure.gpu {' '.join(arguments if arguments is not None else sys.argv[1:])}"
    bench = Bench(asked.device, about.name, about.versions["torch"], command, 0 if asked.device == "cpu" else None, 1, asked.seconds)
    _course(bench, store, asked)
    return 0


def _course(bench: Bench, store: Store, asked: argparse.Namespace) -> None:
    begun, whole_s = time.monotonic(), 60 * asked.minutes
    done = store.settled()

    def written(rows: Iterator[AnyRow], share: float) -> None:
        """Adds rows until their share of the time is up."""
        for row in rows:
            store.add(row)
            taken = time.monotonic() - begun
            sys.stderr.write(f"{taken:6.1f} s  {outcome(row):<9} {_called(row)}\n")
            if taken > share * whole_s:
                return

    if asked.holdout:
        written(_jobs(bench, done, holdout_jobs(tiny=asked.tiny)[: asked.most]), 1.0)
        return
    written(_operators(bench, done, asked), SHARE_OF_CEILINGS)
    written(_jobs(bench, done, measured_jobs(tiny=asked.tiny)[: asked.most]), SHARE_OF_JOBS)
    written(_pairs(bench, done, asked), 1.0)


def _operators(bench: Bench, done: set[str], asked: argparse.Namespace) -> Iterator[AnyRow]:
    """Ceilings first, then single operators at the two precisions that most jobs run in."""
    first = ceilings(bench.device, tiny=asked.tiny)
    then = micros((Precision.fp32, Precision.bf16), tiny=asked.tiny, rounds=1)
    for group in (first, then):
        todo = tuple(micro for micro in group if operator_row_key(micro, bench) not in done)
        yield from microbenchmarks(todo[: asked.most], bench)


def _jobs(bench: Bench, done: set[str], specs: Sequence[JobSpec]) -> Iterator[AnyRow]:
    return (measured(spec, bench) for spec in specs if job_row_key(spec, bench) not in done)


def _pairs(bench: Bench, done: set[str], asked: argparse.Namespace) -> Iterator[AnyRow]:
    sharing = Sharing.same_device if bench.device == "cuda" else Sharing.same_core
    for _, first, second in paired(pair_jobs(tiny=asked.tiny), PAIRS, (sharing,))[: asked.most]:
        if pair_row_key(sharing, first, second, bench) not in done:
            yield measured_pair(sharing, first, second, bench)


def _called(row: AnyRow) -> str:
    if isinstance(row, Record):
        return row.job.id
    return f"{row.first.id} with {row.second.id}" if isinstance(row, PairRecord) else row.name


if __name__ == "__main__":
    sys.exit(main())
