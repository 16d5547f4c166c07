"""Measures one job in this process and writes what it found as one line of JSON: ``python -m service.measure.one`` < order.

The order: ``job`` (a JobSpec), ``device`` (cpu or cuda), ``core``, ``threads``, ``seconds``,
``memory_gib``. The process is fresh: allocator state of an earlier job would change this one's step.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from service.measure.disturbance import accounts, load_between
from service.measure.process import answer_order, clock_of, device_memory, peak_gib, resident_gib, settle_order, since_start
from service.measure.timing import once, timed

if TYPE_CHECKING:
    from service.measure.torch_jobs import TorchJob


def main() -> None:
    """Reads the order, does it, answers; a job that fails is an answer too."""
    answer_order(settle_order, measured)


def measured(order: dict[str, Any]) -> dict[str, Any]:
    """Start-up, timing, memory and foreign load of the job."""
    from models.runtime.job import JobSpec
    from service.measure.torch_jobs import built, configure

    spec, device = JobSpec.model_validate(order["job"]), str(order["device"])
    configure(spec.precision, order["threads"])
    clock = clock_of(device)
    clock.synchronise()
    libraries_gib = resident_gib()
    imported = since_start()
    made: list[TorchJob] = []
    build = once(lambda: made.append(built(spec, device)), clock)
    job = made[0]
    first = once(job.step, clock)
    before = accounts()
    samples = timed(job.step, clock, order["seconds"])
    load = load_between(before, accounts(), _cores(order))
    held = device_memory(device)
    return {
        "timing": samples.timing().model_dump(),
        "start_up": {
            name + unit: seconds
            for name, pair in (("import", imported), ("build", build), ("first_step", first))
            for unit, seconds in zip(("_cpu_s", "_wall_s"), pair, strict=True)
        },
        "memory": {"peak_gib": peak_gib(), "libraries_gib": libraries_gib, "device_peak_gib": held["device_peak_gib"]},
        "foreign": {**asdict(load), "on_device_gib": held["on_device_gib"]},
    }


def _cores(order: dict[str, Any]) -> tuple[int, ...]:
    return () if order["core"] is None else (int(order["core"]),)


if __name__ == "__main__":
    main()
