"""Executes what was frozen: each device starts the jobs of its list in fresh pinned processes, one after the other, all devices at once.

A job's CPU-seconds are those the kernel accounts to its process from its start to its end (user and system); its wall seconds are
seen from outside. Each row is on disk before the next job begins. A run counts by the rule of ``service.measure.disturbance``, applied to
the time the whole run took; a run that does not count is made again, at most so often as was frozen, and its rows stay.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, TypeAdapter

from models.runtime.records import ForeignLoad
from models.vocabulary import Count, Document, Quantity
from service.measure.disturbance import FEWEST_REPEATS, accounts, judged, load_between
from service.measure.process import environment
from service.measure.runner import read_answer
from service.measure.store import stored
from service.measure.validate_devices import Device
from service.measure.validate_frozen import FrozenError, Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from models.runtime.job import JobSpec
    from service.measure.disturbance import Accounts, Load
    from service.measure.validate_frozen import Frozen, PlannedRun, Schedule

RAN = "ran.jsonl"
LONGEST_S = 600.0  # after which a job counts as hanging


class JobRow(Document):
    """One job as it ran. ``parts`` are CPU-seconds and wall seconds of loading, building, first step and other steps, as it told."""

    row: Literal["job"] = "job"
    sha256: str
    batch: Count
    policy: Policy
    repeat: Count
    attempt: Count
    job: Count
    device: Count
    cpu_s: Quantity
    wall_s: Quantity
    began_s: Quantity
    cpu_parts_s: dict[str, float] = Field(default_factory=dict)
    wall_parts_s: dict[str, float] = Field(default_factory=dict)
    failed: str = ""


class RunRow(Document):
    """One run of a batch, after its jobs."""

    row: Literal["run"] = "run"
    sha256: str
    batch: Count
    policy: Policy
    repeat: Count
    attempt: Count
    wall_s: Quantity
    foreign: ForeignLoad
    accepted: bool
    reasons: tuple[str, ...] = ()


AnyRan = JobRow | RunRow
_ANY: TypeAdapter[AnyRan] = TypeAdapter(AnyRan)


@dataclass(frozen=True, slots=True)
class Ran:
    """What one process took."""

    cpu_s: float
    wall_s: float
    answer: dict[str, Any]

    @property
    def failed(self) -> str:
        """Why it did not run to its end; empty: it did."""
        return f"{self.answer['reason']}: {self.answer.get('message', '')}" if "reason" in self.answer else ""


@dataclass(frozen=True, slots=True)
class Finished:
    """One job of a run: its position, its device, when it began after the run's begin, and what it took."""

    job: int
    device: int
    began_s: float
    ran: Ran


def run_job(job: JobSpec, device: Device, longest_s: float = LONGEST_S) -> Ran:
    """One job in a fresh process on its device; a crash or a hang is told in the answer."""
    order = {"job": job.model_dump(mode="json"), "device": device.torch_device, "cores": list(device.cores), "threads": device.threads}
    begun = time.monotonic()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        with _born_on(device):
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "service.measure.validate_job"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment(device.threads, device.torch_device),
            )
        alarm = threading.Timer(longest_s, process.kill)
        alarm.start()
        try:
            output, cpu_s = _waited(process, json.dumps(order))
        finally:
            alarm.cancel()
        wall_s = time.monotonic() - begun
        errors.seek(0)
        if wall_s >= longest_s:
            return Ran(cpu_s, wall_s, {"reason": "timed_out", "message": f"no answer within {longest_s:g} s"})
        return Ran(cpu_s, wall_s, read_answer(output, errors.read(), process.returncode))


@contextlib.contextmanager
def _born_on(device: Device) -> Iterator[None]:
    """Processes that this thread starts meanwhile begin on the device's cores; the thread itself is put back."""
    if not device.cores or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)  # 0: of this thread
    os.sched_setaffinity(0, device.cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _waited(process: subprocess.Popen[str], order: str) -> tuple[str, float]:
    """What a process wrote, and the CPU-seconds the kernel accounts to it and to children it waited for."""
    with contextlib.suppress(BrokenPipeError):
        if process.stdin is not None:
            process.stdin.write(order)
            process.stdin.close()
    output = process.stdout.read() if process.stdout is not None else ""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.stdout is not None:
        process.stdout.close()
    return output, usage.ru_utime + usage.ru_stime


def run_jobs(
    jobs: Sequence[JobSpec], devices: Sequence[Device], schedule: Schedule, heard: Callable[[Finished], None], *, at_once: bool = True
) -> list[Finished]:
    """All jobs by their schedule; ``heard`` is told of each as it ends, one at a time. With ``at_once`` false, device after device.

    A queue with ``at_once`` false goes to the device whose jobs so far took least.
    """
    todo = deque(schedule.queue or ())
    lists = [deque(job for job, at in enumerate(schedule.devices or ()) if at == place) for place in range(len(devices))]
    lock, done = threading.Lock(), list[Finished]()
    begun = time.monotonic()

    def one(place: int, job: int) -> Finished:
        began_s = time.monotonic() - begun
        finished = Finished(job, place, began_s, run_job(jobs[job], devices[place]))
        with lock:
            done.append(finished)
            heard(finished)
        return finished

    def work(place: int) -> None:
        queue = todo if schedule.queue is not None else lists[place]
        while True:
            try:
                job = queue.popleft()
            except IndexError:
                return
            one(place, job)

    if at_once:
        _together([threading.Thread(target=work, args=(place,), daemon=True) for place in range(len(devices))])
    elif schedule.queue is None:
        for place in range(len(devices)):
            work(place)
    else:
        _replayed_queue(todo, devices, one)
    return done


def _together(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _replayed_queue(todo: deque[int], devices: Sequence[Device], one: Callable[[int, int], Finished]) -> None:
    free = [0.0] * len(devices)
    for job in todo:
        place = free.index(min(free))
        free[place] += getattr(one(place, job).ran, devices[place].metric)


def execute(folder: Path, frozen: Frozen, digest: str, devices: Sequence[Device], tell: Callable[[str], None]) -> None:
    """Makes every frozen run that has no accepted row yet, at most ``attempts`` times each.

    Raises FrozenError where the rows there are of other predictions.
    """
    path = folder / RAN
    rows = list(read_ran(path)) if path.exists() else []
    if any(row.sha256 != digest for row in rows):
        raise FrozenError(f"{path}: has rows of other frozen predictions; move it away")
    for number, run in enumerate(frozen.runs, start=1):
        made = [row for row in rows if isinstance(row, RunRow) and _same(row, run)]
        for attempt in range(len(made), 0 if any(row.accepted for row in made) else frozen.attempts):
            found = _executed(path, frozen, digest, devices, run, attempt)
            tell(f"run {number}/{len(frozen.runs)}: batch {run.batch + 1} {run.policy.value}: {found.wall_s:.1f} s {_why(found)}")
            if found.accepted:
                break


def _executed(path: Path, frozen: Frozen, digest: str, devices: Sequence[Device], run: PlannedRun, attempt: int) -> RunRow:
    said: dict[str, Any] = {"sha256": digest, "batch": run.batch, "policy": run.policy, "repeat": run.repeat, "attempt": attempt}

    def heard(finished: Finished) -> None:
        ran = finished.ran
        _add(
            path,
            JobRow(
                **said,
                job=finished.job,
                device=finished.device,
                cpu_s=ran.cpu_s,
                wall_s=ran.wall_s,
                began_s=finished.began_s,
                cpu_parts_s=ran.answer.get("cpu_s", {}),
                wall_parts_s=ran.answer.get("wall_s", {}),
                failed=ran.failed,
            ),
        )

    schedule = frozen.plan(run.batch).schedules[run.policy]
    before = accounts()
    done = run_jobs([one.job for one in frozen.of(run.batch)], devices, schedule, heard, at_once=frozen.at_once)
    after = accounts()
    load, reasons = disturbances(before, after, done, devices)
    row = RunRow(
        **said,
        wall_s=after.at_s - before.at_s,
        foreign=ForeignLoad(**asdict(load)),
        accepted=not reasons,
        reasons=reasons,
    )
    _add(path, row)
    return row


def disturbances(before: Accounts, after: Accounts, done: Sequence[Finished], devices: Sequence[Device]) -> tuple[Load, tuple[str, ...]]:
    """What others did while these jobs ran, and the rules that are broken; ``failed`` among them when a job did not end well."""
    children_s = sum(finished.ran.cpu_s for finished in done)
    cores = sorted({core for device in devices for core in device.cores})
    load = load_between(before, replace(after, own_s=after.own_s + children_s), cores)
    failed = any(finished.ran.failed for finished in done)
    return load, (*(rule.value for rule in judged(load, 0.0, FEWEST_REPEATS)), *(["failed"] if failed else []))


def read_ran(path: Path) -> Iterator[AnyRan]:
    """The rows of what ran; a last line that was cut off is left out. Raises StoredRowsError for any other bad line."""
    return stored(path, _ANY)


def _add(path: Path, row: AnyRan) -> None:
    with path.open("a", encoding="utf-8") as stream:
        stream.write(row.model_dump_json() + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def _same(row: RunRow, run: PlannedRun) -> bool:
    return (row.batch, row.policy, row.repeat) == (run.batch, run.policy, run.repeat)


def _why(row: RunRow) -> str:
    return "accepted" if row.accepted else f"does not count: {', '.join(row.reasons)}"
