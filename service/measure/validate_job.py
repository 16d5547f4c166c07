"""Runs one whole job in this process and tells what each part took: ``python -m service.measure.validate_job`` < order.

The order: ``job`` (a JobSpec with its steps), ``device`` (cpu or cuda), ``cores``, ``threads``. It is the same work as in
``service.measure.one`` up to the first step, so that start-up can be learnt there; what the end of the process takes, its parent sees.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from service.measure.process import answer_order, clock_of, since_start
from service.measure.timing import once

if TYPE_CHECKING:
    from service.measure.torch_jobs import TorchJob


def main() -> None:
    """Reads the order, runs the job, answers; a job that fails is an answer too."""
    answer_order(_pin, ran)


def _pin(order: dict[str, Any]) -> None:
    if order["cores"] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, order["cores"])


def ran(order: dict[str, Any]) -> dict[str, Any]:
    """CPU and wall seconds of loading, building, the first step and the other steps."""
    from models.runtime.job import JobSpec
    from service.measure.torch_jobs import built, configure

    spec, device = JobSpec.model_validate(order["job"]), str(order["device"])
    configure(spec.precision, order["threads"])
    clock = clock_of(device)
    clock.synchronise()
    imported = since_start()
    made: list[TorchJob] = []
    build = once(lambda: made.append(built(spec, device)), clock)
    job = made[0]

    def all_others() -> None:
        for _ in range(spec.steps - 1):
            job.step()

    parts = {"import": imported, "build": build, "first_step": once(job.step, clock), "steps": once(all_others, clock)}
    return {"cpu_s": {name: cpu for name, (cpu, _) in parts.items()}, "wall_s": {name: wall for name, (_, wall) in parts.items()}}


if __name__ == "__main__":
    main()
