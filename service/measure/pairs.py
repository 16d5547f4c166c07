"""Two jobs at the same time, each compared with itself alone a moment before, in the same two processes.

``same_core``: both pinned to one core, wall time; the scheduler slices time, so about 2 is the least that can come out, and
what lies above is cache and switching. ``two_cores``: a core each, CPU-seconds; the last-level cache and the memory are shared.
``same_device``: two processes on one GPU without any partition, wall time.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from models.runtime.records import PairRecord, Sharing
from service.measure.disturbance import MOST_FOREIGN_ELSEWHERE, MOST_FOREIGN_ON_CORE, MOST_STEAL, Disturbance
from service.measure.grid import jobs
from service.measure.process import environment
from service.measure.runner import START_UP_S, Bench, row_fields, settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.runtime.job import JobSpec

WINDOW_S = 1.5  # of each of the three runs: first alone, second alone, both
FEWEST_STEPS = 3
STRIDE = 7  # coprime to the grid's length: partners are of other families


@dataclass
class Paced:
    """A process that runs its job when told to."""

    process: subprocess.Popen[str]

    @classmethod
    def start(cls, job: JobSpec, bench: Bench, core: int | None) -> Self:
        """A fresh process on ``core``; it is not ready yet."""
        command = [sys.executable, "-W", "ignore", "-m", "service.measure.paced"]
        process = subprocess.Popen(  # noqa: S603  (our own interpreter and module)
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment(bench.threads, bench.device),
        )
        paced = cls(process)
        paced.tell({"job": job.model_dump(mode="json"), **settings(bench), "core": core})
        return paced

    def tell(self, order: dict[str, Any]) -> None:
        """One line in; a process that is gone answers by its silence."""
        stream = self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            if stream is not None:
                stream.write(json.dumps(order) + "\n")
                stream.flush()

    def answer(self, longest_s: float) -> dict[str, Any]:
        """One line out, or why none came."""
        stream = self.process.stdout
        if stream is None:
            return {"reason": "crashed", "message": "no output"}
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            if not selector.select(longest_s):
                return {"reason": "timed_out", "message": f"no answer within {longest_s:g} s"}
        line = stream.readline()
        if not line.strip():
            return {"reason": "crashed", "message": f"exit code {self.process.wait()}"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.communicate()


def pairs(count: int, device: str) -> tuple[tuple[Sharing, JobSpec, JobSpec], ...]:
    """``count`` pairs of jobs of the quick grid, in turn over the ways to share; the first of each way pairs other families."""
    ways = (Sharing.same_device,) if device == "cuda" else (Sharing.same_core, Sharing.two_cores)
    return paired(jobs("quick"), count, ways)


def paired(specs: Sequence[JobSpec], count: int, ways: Sequence[Sharing]) -> tuple[tuple[Sharing, JobSpec, JobSpec], ...]:
    """Job i with job i + stride, the stride growing by one after each round of all jobs."""
    size = len(specs)
    found = []
    for number in range(count):
        place, way = divmod(number, len(ways))
        rounds, first = divmod(place * STRIDE, size)
        found.append((ways[way], specs[first], specs[(first + STRIDE + rounds) % size]))
    return tuple(found)


def measured_pair(sharing: Sharing, first: JobSpec, second: JobSpec, bench: Bench) -> PairRecord:
    """The row of one pair; ``two_cores`` takes the core after the bench's as the second."""
    cores = [bench.core, bench.core]
    if sharing is Sharing.two_cores and bench.core is not None:
        cores[1] = _other_core(bench.core)
    started = [Paced.start(job, bench, core) for job, core in zip((first, second), cores, strict=True)]
    try:
        answers = _runs(started)
    finally:
        for paced in started:
            paced.end()
    wrong = next((answer for answer in answers if "reason" in answer), None)
    if wrong is not None:
        return PairRecord(sharing=sharing, first=first, second=second, **row_fields(bench, wrong))
    unit = "cpu_s" if sharing is Sharing.two_cores else "wall_s"
    each = [answer[unit] / answer["steps"] for answer in answers]
    reasons = _disturbances(answers, cores)
    fields = row_fields(bench, {"reason": "unjudged"})
    fields["reasons"], fields["accepted"] = reasons, not reasons
    return PairRecord(
        sharing=sharing,
        first=first,
        second=second,
        first_alone_s=each[0],
        second_alone_s=each[1],
        first_together_s=each[2],
        second_together_s=each[3],
        **fields,
    )


def _other_core(core: int) -> int:
    import os

    usable = sorted(os.sched_getaffinity(0))
    others = [one for one in usable if one != core]
    return next((one for one in others if one > core), others[0] if others else core)


def _runs(started: list[Paced]) -> list[dict[str, Any]]:
    """First alone, second alone, both together: four answers, or the first failure."""
    longest_s = START_UP_S + 10 * WINDOW_S
    answers: list[dict[str, Any]] = []
    for paced in started:
        ready = paced.answer(longest_s)
        if "reason" in ready:
            return [ready]
    for together in ([started[0]], [started[1]], started):
        for paced in together:
            paced.tell({"seconds": WINDOW_S})
        answers += [paced.answer(longest_s) for paced in together]
    return answers


def _disturbances(answers: list[dict[str, Any]], cores: list[int | None]) -> tuple[str, ...]:
    """The rule of disturbance over the three windows: what the pair did not use of the cores' busy time, others did."""
    broken = set()
    windows = ((answers[:1], cores[:1]), (answers[1:2], cores[1:]), (answers[2:], cores))
    for window, used in windows:
        busy, wall_s = window[-1]["busy_s"], window[-1]["wall_s"]
        ours = {core for core in used if core is not None}
        own_s = sum(answer["cpu_s"] for answer in window)
        on_core = sum(busy[core] for core in ours) - own_s
        elsewhere = sum(busy[core] for core in range(len(busy)) if core not in ours)
        if ours and on_core > MOST_FOREIGN_ON_CORE * wall_s * len(ours):
            broken.add(Disturbance.foreign_on_core.value)
        if ours and elsewhere > MOST_FOREIGN_ELSEWHERE * wall_s * max(1, len(busy) - len(ours)):
            broken.add(Disturbance.foreign_elsewhere.value)
        if window[-1]["steal_s"] > MOST_STEAL * wall_s * len(busy):
            broken.add(Disturbance.steal.value)
        if any(answer["steps"] < FEWEST_STEPS for answer in window):
            broken.add(Disturbance.too_few_repeats.value)
    return tuple(sorted(broken))
