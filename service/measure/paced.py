"""A job that runs when it is told to, for pairs: ``python -m service.measure.paced``. Lines of JSON go in and out.

First line in: the order (as for ``service.measure.one``). Out: ``{"ready": true}`` after warm-up. Then each line ``{"seconds": s}`` runs
steps for that long and is answered by how many there were and what they took; the end of input ends the process.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from service.measure.disturbance import accounts
from service.measure.process import clock_of, failure, settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.measure.timing import DeviceClock

WARM_UP_S = 0.3


def main() -> None:
    """Prepares the job, then answers each line."""
    order = json.loads(sys.stdin.readline())
    settle(order["core"], order["memory_gib"])
    try:
        step, clock = _prepared(order)
        _say({"ready": True})
        for line in sys.stdin:
            _say(_run(step, clock, json.loads(line)["seconds"]))
    except Exception as error:  # noqa: BLE001  (whatever goes wrong is a row with its reason)
        _say(failure(error))


def _prepared(order: dict[str, Any]) -> tuple[Callable[[], None], DeviceClock]:
    from models.runtime.job import JobSpec
    from service.measure.timing import warmed_up
    from service.measure.torch_jobs import built, configure

    spec, device = JobSpec.model_validate(order["job"]), str(order["device"])
    configure(spec.precision, order["threads"])
    clock = clock_of(device)
    job = built(spec, device)
    warmed_up(job.step, clock, WARM_UP_S)
    return job.step, clock


def _run(step: Callable[[], None], clock: DeviceClock, seconds: float) -> dict[str, Any]:
    """Steps until ``seconds`` have passed, each to the end of what the device does for it."""
    before, steps = accounts(), 0
    cpu, wall = time.process_time(), time.monotonic()
    while (taken := time.monotonic() - wall) < seconds:
        step()
        clock.synchronise()
        steps += 1
    used = time.process_time() - cpu
    after = accounts()
    busy = [later - earlier for later, earlier in zip(after.busy_s, before.busy_s, strict=True)]
    return {"steps": steps, "wall_s": taken, "cpu_s": used, "busy_s": busy, "steal_s": after.steal_s - before.steal_s}


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
