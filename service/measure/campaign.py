"""Measures a list of jobs into a folder: skips what is there, waits for quiet, repeats what was disturbed, tells how far it is."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from models.runtime.operators import Precision
from service.measure.disturbance import wait_for_quiet
from service.measure.microbenchmarks import microbenchmarks, micros
from service.measure.pairs import measured_pair, pairs
from service.measure.runner import KINDS, measured
from service.measure.store import is_settled, job_key, key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from models.runtime.job import JobSpec
    from models.runtime.records import AnyRow, Record, Sharing
    from service.measure.microbenchmarks import Micro
    from service.measure.runner import Bench
    from service.measure.store import Store

    Tell = Callable[[str, int, int], None]

ATTEMPTS = 2  # a disturbed job is measured once more; both rows are kept


def campaign(specs: Iterable[JobSpec], bench: Bench, store: Store, patience_s: float, tell: Tell) -> Counter[str]:
    """Measures every job that has no settled row yet; returns how many rows were accepted, disturbed or failed, and jobs skipped."""
    counts: Counter[str] = Counter()
    done = store.settled()
    todo = list(specs)
    for number, spec in enumerate(todo, start=1):
        tell(spec.id, number, len(todo))
        rows = 0
        for row in attempts(spec, bench, patience_s, done):
            store.add(row)
            counts[outcome(row)] += 1
            rows += 1
        counts["skipped"] += not rows
    return counts


def operators(bench: Bench, store: Store, tell: Tell) -> Counter[str]:
    """Measures the micro-benchmarks that have no settled row yet."""
    on_gpu = (Precision.tf32, Precision.fp16) if bench.device == "cuda" else ()
    every = micros((Precision.fp32, Precision.bf16, *on_gpu))
    done = store.settled()
    todo = tuple(micro for micro in every if operator_row_key(micro, bench) not in done)
    counts: Counter[str] = Counter(skipped=len(every) - len(todo))
    for number, row in enumerate(microbenchmarks(todo, bench), start=1):
        store.add(row)
        counts[outcome(row)] += 1
        tell(row.name, number, len(todo))
    return counts


def shared(count: int, bench: Bench, store: Store, tell: Tell) -> Counter[str]:
    """Measures ``count`` pairs of jobs, spread over the ways to share, that have no settled row yet."""
    counts: Counter[str] = Counter()
    done = store.settled()
    todo = pairs(count, bench.device)
    for number, (sharing, first, second) in enumerate(todo, start=1):
        tell(f"{sharing.value}: {first.id} with {second.id}", number, len(todo))
        if pair_row_key(sharing, first, second, bench) in done:
            counts["skipped"] += 1
            continue
        row = measured_pair(sharing, first, second, bench)
        store.add(row)
        counts[outcome(row)] += 1
    return counts


def attempts(spec: JobSpec, bench: Bench, patience_s: float, done: set[str]) -> Iterator[Record]:
    """The rows of one job: none when it is settled, a second one when the first was disturbed."""
    for _ in range(ATTEMPTS):
        if patience_s > 0 and bench.device == "cpu" and bench.core is not None:
            wait_for_quiet(bench.core, patience_s)
        row = measured_unless(spec, bench, done)
        if row is None:
            return
        yield row
        if is_settled(row):
            done.add(key(row))
            return


def measured_unless(spec: JobSpec, bench: Bench, done: set[str]) -> Record | None:
    """The job's row, or None where a settled one is there."""
    return None if job_row_key(spec, bench) in done else measured(spec, bench)


def job_row_key(spec: JobSpec, bench: Bench) -> str:
    """The key that the job's row will have."""
    return f"job {KINDS[bench.device].value} {job_key(spec.model_dump(mode='json'))}"


def operator_row_key(micro: Micro, bench: Bench) -> str:
    """The key that the operator's row will have."""
    return f"operator {KINDS[bench.device].value} {micro.name}"


def pair_row_key(sharing: Sharing, first: JobSpec, second: JobSpec, bench: Bench) -> str:
    """The key that the pair's row will have."""
    both = " ".join(job_key(spec.model_dump(mode="json")) for spec in (first, second))
    return f"pair {KINDS[bench.device].value} {sharing.value} {both}"


def outcome(row: AnyRow) -> str:
    """``accepted``, ``disturbed`` or ``failed``."""
    if row.accepted:
        return "accepted"
    return "failed" if is_settled(row) else "disturbed"
