"""Rows as a measurement would have written them."""

from typing import Any

from models.runtime.device import DeviceKind
from models.runtime.job import Family, JobSpec
from models.runtime.records import Record, Timing

TINY = JobSpec(id="tiny", family=Family.mlp, layers=2, width=16, batch=4, inputs=8)


def row(job: JobSpec = TINY, *, accepted: bool = True, reasons: tuple[str, ...] = (), **more: Any) -> Record:
    timing = Timing(repeats=5, steps=5, cpu_s=0.01, cpu_spread=0.01, wall_s=0.011, wall_spread=0.02)
    fields: dict[str, Any] = {"timing": timing, "machine": "m", "date": "2026-11-21T00:00:00+00:00", "command": "c", "torch": "2"} | more
    return Record(job=job, device=DeviceKind.cpu, accepted=accepted, reasons=reasons, **fields)
