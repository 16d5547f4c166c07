"""The simulation: hand-worked queues, a brute-force simulator beside it, and what must hold after every event."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.replay.engine import Costs
from service.replay.jobs import ReplayError, TraceJob
from service.replay.measures import integral
from service.replay.outages import Outage, checked
from service.replay.queues import DISCIPLINES
from tests.service.replay.cases import Replayed, job, nodes, small_jobs

ABCD = [job("a", 0, 10, 2), job("b", 1, 10, 4), job("c", 2, 9, 2), job("d", 2, 8, 2)]


@pytest.mark.parametrize(
    ("discipline", "starts"),
    [
        ("fifo", {"a": 0, "b": 10, "c": 20, "d": 20}),
        ("greedy", {"a": 0, "c": 2, "d": 10, "b": 18}),  # d takes what a leaves, and b waits for both
        ("easy", {"a": 0, "d": 2, "b": 10, "c": 20}),  # c would end at 11, one second too late for b
        ("smallest", {"a": 0, "d": 2, "b": 10, "c": 20}),  # the head is always tried first
        ("easy_smallest", {"a": 0, "d": 2, "b": 10, "c": 20}),
        ("patient_smallest", {"a": 0, "d": 2, "b": 10, "c": 20}),
    ],
)
def test_hand_worked_queues_on_one_node(discipline: str, starts: dict[str, float]) -> None:
    assert Replayed(nodes(4), ABCD, discipline).starts == starts


def test_backfill_lets_a_long_job_stay_beside_the_head() -> None:
    jobs = [job("a", 0, 10, 4), job("head", 1, 10, 4), job("long", 2, 100, 1)]
    found = Replayed(nodes(4, 1), jobs, "easy")
    assert found.starts == {"a": 0, "head": 10, "long": 2}
    assert found.queue.given == [(1.0, 1, 10.0)]


def test_patience_gives_the_head_a_reservation_only_after_it_has_waited() -> None:
    small = [job(f"s{number}", 1 + number, 8.5, 2) for number in range(30)]
    jobs = sorted([job("a", 0, 10, 2), job("head", 0.5, 20, 4), *small], key=lambda one: one.arrival_s)
    assert Replayed(nodes(4), jobs, "smallest").starts["head"] > 100  # behind a stream of small jobs for ever
    patient = Replayed(nodes(4), jobs, "patient_smallest")
    assert patient.queue.given[0][0] >= 20.5
    assert patient.starts["head"] <= patient.queue.given[0][2] <= 40


def test_a_gang_starts_whole_or_not_at_all() -> None:
    jobs = [job("a", 0, 10, 1), job("gang", 1, 5, 2, workers=3)]
    found = Replayed(nodes(4, 2), jobs, "greedy")
    assert found.starts == {"a": 0, "gang": 10}  # on 4 + 2 GPUs, which one GPU of a kept apart


# ---------------------------------------------------------------- beside a simulator that is obviously right


class Naive:
    """One worker a job, whole GPUs, one model: every queue worked out anew, with lists and loops."""

    def __init__(self, sizes: list[int], jobs: list[TraceJob], discipline: str) -> None:
        self.free, self.jobs, self.facts = list(sizes), jobs, DISCIPLINES[discipline]
        self.running: dict[int, tuple[float, int]] = {}
        self.start: dict[int, float] = {}
        self.kept: tuple[int, float, int] | None = None  # job, time, node
        self.beside: list[int] = []

    def fits(self, free: list[int], number: int) -> int | None:
        gpus = self.jobs[number].request.gpus
        able = [(left, node) for node, left in enumerate(free) if left >= gpus]
        return min(able)[1] if able else None

    def begin(self, number: int, node: int, now: float) -> None:
        self.start[number] = now
        self.free[node] -= self.jobs[number].request.gpus
        self.running[number] = (now + self.jobs[number].duration_s, node)

    def run(self) -> dict[int, float]:
        waiting: list[int] = []
        coming = list(range(len(self.jobs)))
        while coming or waiting or self.running:
            times = [self.jobs[coming[0]].arrival_s] if coming else []
            now = min(times + [end for end, _ in self.running.values()])
            for number in [one for one, (end, _) in self.running.items() if end == now]:
                self.free[self.running.pop(number)[1]] += self.jobs[number].request.gpus
            while coming and self.jobs[coming[0]].arrival_s == now:
                waiting.append(coming.pop(0))
            self.schedule(waiting, now)
        return self.start

    def schedule(self, waiting: list[int], now: float) -> None:
        while waiting and (node := self.fits(self.free, waiting[0])) is not None:
            self.begin(waiting.pop(0), node, now)
        if not waiting or not self.facts.passes_head:
            return
        head = waiting[0]
        if now - self.jobs[head].arrival_s < self.facts.patience * self.jobs[head].duration_s:
            self.kept = None
        elif self.facts.protects_head and (self.kept is None or self.kept[0] != head):
            free = list(self.free)
            for end, group in itertools.groupby(sorted(self.running.items(), key=lambda item: item[1][0]), key=lambda item: item[1][0]):
                for number, (_, node) in group:
                    free[node] += self.jobs[number].request.gpus
                place = self.fits(free, head)
                if place is not None:
                    free[place] -= self.jobs[head].request.gpus
                    self.kept, self.beside = (head, end, place), free
                    break
        for number in sorted(waiting[1:], key=self.rank):
            job = self.jobs[number]
            stays = self.facts.protects_head and self.kept is not None and now + job.duration_s > self.kept[1]
            room = (
                [min(pair) if pair[1] >= job.request.gpus else 0 for pair in zip(self.free, self.beside, strict=True)]
                if stays
                else self.free
            )
            able = [(self.free[node], node) for node, left in enumerate(room) if left >= job.request.gpus]
            if able:
                node = min(able)[1]
                if stays:
                    self.beside[node] -= job.request.gpus
                self.begin(number, node, now)
                waiting.remove(number)

    def rank(self, number: int) -> tuple[float, int]:
        job = self.jobs[number]
        return (job.duration_s * job.request.gpus if self.facts.order == "area" else 0.0), number


@settings(max_examples=60, deadline=None)
@given(jobs=small_jobs(most=14, gangs=False, shares=False), discipline=st.sampled_from(sorted(DISCIPLINES)))
def test_queues_agree_with_the_naive_simulator(jobs: list[TraceJob], discipline: str) -> None:
    found = Replayed(nodes(4, 4, 2), jobs, discipline, checked=False)
    expected = Naive([4, 4, 2], jobs, discipline).run()
    assert {number: float(start) for number, start in enumerate(found.history.start_s)} == expected


# ---------------------------------------------------------------- laws


@settings(max_examples=40, deadline=None)
@given(
    jobs=small_jobs(), discipline=st.sampled_from(sorted(DISCIPLINES)), rule=st.sampled_from(["first_fit", "best_fit", "fgd", "packing"])
)
def test_nothing_is_lost_or_used_twice(jobs: list[TraceJob], discipline: str, rule: str) -> None:
    found = Replayed(nodes(4, 4, 2), jobs, discipline, rule)
    for one, start, end in zip(jobs, found.history.start_s, found.history.end_s, strict=True):
        assert start >= one.arrival_s
        assert end == start + one.duration_s
    # Little's law: the mean number in the system over the whole time is the sum of the times in it.
    times = found.history.state("time_s")
    there = found.history.state("waiting_jobs") + found.history.state("running_jobs")
    in_system = sum(found.history.end_s[number] - one.arrival_s for number, one in enumerate(jobs))
    assert integral(times, there, times[-1]) == pytest.approx(in_system, abs=1e-6)
    held = integral(times, found.history.state("allocated_gpus"), times[-1])
    assert held == pytest.approx(sum(one.gpus * one.duration_s for one in jobs))


@settings(max_examples=80, deadline=None)
@given(
    jobs=small_jobs(most=16),
    discipline=st.sampled_from(["easy", "easy_smallest", "patient_smallest"]),
    rule=st.sampled_from(["best_fit", "fgd"]),
)
def test_no_job_delays_the_head_beyond_its_reservation(jobs: list[TraceJob], discipline: str, rule: str) -> None:
    found = Replayed(nodes(4, 4, 2), jobs, discipline, rule, checked=False)
    for given_s, number, promised_s in found.queue.given:
        assert given_s <= promised_s
        assert found.history.start_s[number] <= promised_s


@settings(max_examples=25, deadline=None)
@given(jobs=small_jobs(), factors=st.lists(st.sampled_from([0.1, 0.5, 1.0, 2.0, 7.0]), min_size=12, max_size=12))
def test_wrong_estimates_break_nothing(jobs: list[TraceJob], factors: list[float]) -> None:
    estimates = [one.duration_s * factor for one, factor in zip(jobs, factors, strict=False)]
    found = Replayed(nodes(4, 4, 2), jobs, "easy_smallest", "fgd", estimates=estimates)
    assert not np.isnan(found.history.end_s).any()


@settings(max_examples=25, deadline=None)
@given(jobs=small_jobs())
def test_first_in_first_out_starts_in_order_of_arrival(jobs: list[TraceJob]) -> None:
    starts = Replayed(nodes(4, 4, 2), jobs, "fifo", checked=False).history.start_s
    assert (np.diff(starts) >= 0).all()


# ---------------------------------------------------------------- failures


def test_an_evicted_job_starts_again_from_its_last_checkpoint() -> None:
    found = Replayed(nodes(1), [job("a", 0, 10)], outages=[Outage(0, 7.0, 9.0)], costs=Costs(checkpoint_s=3.0, restart_s=2.0))
    assert found.ends == {"a": 15.0}  # 6 s are safe; back at 9, at work from 11, 4 s to do
    assert found.history.evicted.tolist() == [1]
    held = [(stay.start_s, stay.useful_from_s, stay.useful_to_s, stay.end_s) for stay in found.history.stays]
    assert held == [(0.0, 0.0, 6.0, 7.0), (9.0, 11.0, 15.0, 15.0)]


def test_an_eviction_in_the_pause_loses_no_work() -> None:
    found = Replayed(
        nodes(1), [job("a", 0, 10)], outages=[Outage(0, 7.0, 9.0), Outage(0, 10.0, 12.0)], costs=Costs(checkpoint_s=0.0, restart_s=2.0)
    )
    assert found.ends == {"a": 17.0}  # 7 s done; from 12 on 2 s of pause and 3 s of work


@settings(max_examples=30, deadline=None)
@given(
    jobs=small_jobs(),
    times=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 60), st.integers(1, 20)), max_size=5),
    checkpoint=st.sampled_from([0.0, 2.0, math.inf]),
    discipline=st.sampled_from(["fifo", "greedy", "easy_smallest", "patient_smallest"]),
)
def test_work_is_conserved_through_failures(
    jobs: list[TraceJob], times: list[tuple[int, int, int]], checkpoint: float, discipline: str
) -> None:
    outages: list[Outage] = []
    for node in range(3):
        until = 0
        for down, length in sorted((down, length) for at, down, length in times if at == node):
            start = max(down, until)
            until = start + length
            outages.append(Outage(node, float(start), float(until)))
    found = Replayed(nodes(4, 4, 2), jobs, discipline, outages=checked("test", outages), costs=Costs(checkpoint, 1.0))
    for number, one in enumerate(jobs):
        useful = sum(stay.useful_to_s - stay.useful_from_s for stay in found.history.stays if stay.job == number)
        assert useful == pytest.approx(one.duration_s)
        assert sum(stay.job == number for stay in found.history.stays) == 1 + found.history.evicted[number]


def test_a_node_that_never_comes_back_is_told() -> None:
    with pytest.raises(ReplayError, match="never come back"):
        Replayed(nodes(1), [job("a", 0, 10)], outages=[Outage(0, 7.0, math.inf)])


def test_nodes_that_fail_faster_than_jobs_end_are_told() -> None:
    with pytest.raises(ReplayError, match="fail faster"):
        Replayed(nodes(1), [job("a", 0, 10)], outages=[Outage(0, 2.0 * n + 1, 2.0 * n + 2) for n in range(1000)])
