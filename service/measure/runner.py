"""Runs jobs, each in a fresh process, and makes their rows; a job that crashes, hangs or does not fit is a row with its reason."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypedDict

from models.runtime.device import DeviceKind
from models.runtime.records import ForeignLoad, Memory, Record, StartUpSeconds, Timing
from service.measure.disturbance import Load, judged
from service.measure.process import environment

if TYPE_CHECKING:
    from models.runtime.job import JobSpec

START_UP_S = 120.0  # what imports, building and the first step may take before a process counts as hanging
LONGEST_OVERRUN = 8.0  # of the seconds a job is given: warm-up, a few long repeats
KINDS = {"cpu": DeviceKind.cpu, "cuda": DeviceKind.gpu}


@dataclass(frozen=True)
class Bench:
    """Where and how jobs are measured: the device, the core a process is pinned to, and the seconds of steps per job."""

    device: str
    machine: str
    torch: str
    command: str
    core: int | None = 0
    threads: int = 1
    seconds: float = 2.5
    memory_gib: float | None = None


class RowFields(TypedDict):
    """What every row says of its run."""

    device: DeviceKind
    machine: str
    date: str
    command: str
    torch: str
    threads: int
    core: int | None
    accepted: bool
    reasons: tuple[str, ...]
    message: str
    foreign: ForeignLoad


def measured(job: JobSpec, bench: Bench) -> Record:
    """The row of one job, run alone in a fresh process."""
    order = {"job": job.model_dump(mode="json"), **settings(bench)}
    answer = answered("service.measure.one", order, bench, START_UP_S + LONGEST_OVERRUN * bench.seconds)
    fields = row_fields(bench, answer)
    if "reason" in answer:
        return Record(job=job, **fields)
    return Record(
        job=job,
        timing=Timing.model_validate(answer["timing"]),
        start_up=StartUpSeconds.model_validate(answer["start_up"]),
        memory=Memory.model_validate(answer["memory"]),
        **fields,
    )


def settings(bench: Bench) -> dict[str, object]:
    """The part of an order that says where and how."""
    return {
        "device": bench.device,
        "core": bench.core,
        "threads": bench.threads,
        "seconds": bench.seconds,
        "memory_gib": bench.memory_gib if bench.device == "cpu" else None,
    }


def answered(module: str, order: dict[str, Any], bench: Bench, longest_s: float) -> dict[str, Any]:
    """What a fresh process of ``module`` answers to ``order``; where it does not, ``reason`` and ``message``."""
    command = [sys.executable, "-W", "ignore", "-m", module]
    text = json.dumps(order)
    try:
        done = subprocess.run(  # noqa: S603  (our own interpreter and module)
            command,
            input=text,
            capture_output=True,
            text=True,
            timeout=longest_s,
            env=environment(bench.threads, bench.device),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"reason": "timed_out", "message": f"no answer within {longest_s:g} s"}
    return read_answer(done.stdout, done.stderr, done.returncode)


def read_answer(output: str, errors: str, code: int) -> dict[str, Any]:
    """The JSON of the last line; a process that ended without it was killed or crashed."""
    lines = output.strip().splitlines()
    if code == 0 and lines:
        answer: dict[str, Any] = json.loads(lines[-1])
        return answer
    last = (errors.strip().splitlines() or [f"exit code {code}"])[-1][:300]
    if code == -9:  # noqa: PLR2004  (SIGKILL: as a rule the kernel's answer to too much memory)
        return {"reason": "does_not_fit", "message": f"killed by the system, as a rule for want of memory: {last}"}
    return {"reason": "crashed", "message": last}


def row_fields(bench: Bench, answer: dict[str, Any]) -> RowFields:
    """The fields common to all rows; ``accepted`` by the rule of disturbance."""
    foreign = ForeignLoad.model_validate(answer.get("foreign", {}))
    reasons: tuple[str, ...] = (answer["reason"],) if "reason" in answer else ()
    if not reasons:
        reasons = tuple(rule.value for rule in broken(answer, foreign))
    return {
        "device": KINDS[bench.device],
        "machine": bench.machine,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": bench.command,
        "torch": bench.torch,
        "threads": bench.threads,
        "core": bench.core,
        "accepted": not reasons,
        "reasons": reasons,
        "message": answer.get("message", ""),
        "foreign": foreign,
    }


def broken(answer: dict[str, Any], foreign: ForeignLoad) -> tuple[Any, ...]:
    """The rules of disturbance that a run breaks."""
    timing = Timing.model_validate(answer["timing"])
    load = Load(foreign.on_core, foreign.elsewhere, foreign.steal)
    return judged(load, timing.spread, timing.repeats, foreign_on_device_gib=foreign.on_device_gib)
