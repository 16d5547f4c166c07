"""Every policy of ``fairshare`` on tiny problems, written a second time and plainly: one copy of a job, one row at a time.

Nothing of the kind is used but the fields of its Problem. Every copy of a job is a job of its own here, so that what the kind says about
identical jobs is checked too (see ``fairshare_setting``). Levels are raised by ``scipy.optimize.linprog``; whether a copy can still rise is
asked of a program of its own, copy by copy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import brentq, linprog

from tests.oracles.fairshare_setting import Setting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.fairshare.schema import Problem
    from tests.oracles.fairshare_setting import Vector

ROOM = 1e-7  # relative: a copy that can rise by less is settled
STARVED = 1e-6  # of an equal split: less is what programs leave of nothing
TINY = 1e-9  # of an equal split: less is nothing
NOTHING = 1e12  # the makespan, or ratio of finish times, of who gets nothing
ACCURATE = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
TANGENTS = 60


class Infeasible(Exception):  # noqa: N818  (an answer, not a mistake)
    """No allocation keeps all that must hold."""


@dataclass
class Answer:
    """The goals in order, and what one copy of each job of the file gets, steps per second; ``unique``: whether no other is right."""

    goals: dict[str, float]
    speeds: list[float]
    unique: bool


class Oracle(Setting):
    """The answers."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.floors: list[tuple[Vector, float]] = []  # what classes before keep: sum >= value

    # ------------------------------------------------------------ programs

    def best(
        self,
        cost: Vector,
        rising: Sequence[tuple[int, float, float]] = (),
        least: dict[int, float] | None = None,
        above: Sequence[Vector] = (),
    ) -> tuple[float, Vector]:
        """The largest ``cost`` of columns (and, last, of a level) with T >= base + level * rise, and T >= least for others.

        ``rising``: (copy, base, rise). ``above`` are sums of columns that are at least the level.
        """
        width = len(self.columns) + 1
        rows: list[Vector] = []
        right: list[float] = []
        for sums, value in self.limits:
            rows.append(np.append(sums, 0.0))
            right.append(value)
        for sums, value in self.floors:
            rows.append(np.append(-sums, 0.0))
            right.append(-value)
        for sums in above:
            rows.append(np.append(-sums, 1.0))
            right.append(0.0)
        for number, start, rise in rising:
            for row in self.copies[number].rows:
                scale = max(start, rise)
                rows.append(np.append(-row, rise) / scale)
                right.append(-start / scale)
        for number, value in (least or {}).items():
            for row in self.copies[number].rows:
                if value > 0.0:
                    rows.append(np.append(-row, 0.0) / value)
                    right.append(-1.0)
        found = linprog(-cost, np.array(rows).reshape(-1, width), np.array(right), bounds=(0, None), method="highs", options=ACCURATE)
        if found.status == 2:
            raise Infeasible
        assert found.status == 0, found.message
        return -float(found.fun), found.x

    @cached_property
    def _level(self) -> Vector:
        return np.append(np.zeros(len(self.columns)), 1.0)

    def most(self, number: int, least: dict[int, float]) -> float:
        """The largest T of one copy when the others keep ``least``."""
        return self.best(self._level, [(number, 0.0, self.copies[number].equal)], least)[0] * self.copies[number].equal

    def speeds_of(self, values: Vector) -> list[float]:
        """T of each copy."""
        return [min(float(row @ values[: len(self.columns)]) for row in copy.rows) for copy in self.copies]

    # ------------------------------------------------------------ policies

    def answer(self) -> Answer:
        """The optimum of the problem's policy; raises Infeasible."""
        policy = str(self.problem.policy)
        if policy in {"max_min_fair", "makespan", "finish_time_fair", "hierarchical"}:
            return self._levels(policy)
        return {"throughput": self._throughput, "least_cost": self._least_cost, "proportional_fair": self._nash}[policy]()

    def _classes(self) -> list[tuple[str, list[int]]]:
        """Suffix of goals and the copies of each class, the most important first."""
        classes = sorted({copy.priority for copy in self.copies}, reverse=True)
        return [
            (f"[{one}]" if len(classes) > 1 else "", [number for number, copy in enumerate(self.copies) if copy.priority == one])
            for one in classes
        ]

    def _levels(self, policy: str) -> Answer:
        kept: dict[int, float] = {}
        goals: dict[str, float] = {}
        name = {"makespan": "makespan", "finish_time_fair": "finish_time_ratio"}.get(policy, "fair_share")
        fill = self._hierarchical if policy == "hierarchical" else lambda members, before: self._filled(policy, members, before)
        for suffix, members in self._classes():
            goals[f"{name}{suffix}"] = fill(members, kept)
            goals[f"fair_slack{suffix}"] = 0.0
        return Answer(goals, self._by_entry([kept[number] for number in range(len(self.copies))]), unique=True)

    def _filled(self, policy: str, members: list[int], kept: dict[int, float]) -> float:
        """Raise ``members`` together until each can rise no further; returns the first level. ``kept`` gets their T."""
        starved = [one for one in members if self.most(one, kept) <= TINY * self.copies[one].equal]
        kept.update(dict.fromkeys(starved, 0.0))
        first: float | None = (0.0 if policy == "max_min_fair" else NOTHING) if starved else None
        open_ = [one for one in members if one not in starved]
        while open_:
            level, need = self._finish(open_, kept) if policy == "finish_time_fair" else self._common(policy, open_, kept)
            first = level if first is None else first
            done = [one for one in open_ if self._settled(one, kept | need)]
            assert done, "a level that settles nobody"
            kept.update({one: need[one] for one in done})
            open_ = [one for one in open_ if one not in done]
        assert first is not None
        return first

    def _settled(self, number: int, least: dict[int, float]) -> bool:
        """Whether a copy cannot rise when all others keep ``least``."""
        most = self.most(number, {other: value for other, value in least.items() if other != number})
        return most <= least[number] * (1 + ROOM) + TINY * self.copies[number].equal

    def _common(self, policy: str, open_: list[int], kept: dict[int, float]) -> tuple[float, dict[int, float]]:
        rise = {one: self._rise(policy, one) for one in open_}
        level, _ = self.best(self._level, [(one, 0.0, rise[one]) for one in open_], kept)
        need = {one: level * rise[one] for one in open_}
        return (1.0 / level if policy == "makespan" else level), need

    def _rise(self, policy: str, number: int) -> float:
        copy = self.copies[number]
        remaining = self.jobs[copy.entry].remaining_steps
        if policy == "makespan":
            assert remaining is not None
            return float(remaining)
        return copy.weight * copy.par

    def _finish(self, open_: list[int], kept: dict[int, float]) -> tuple[float, dict[int, float]]:
        """The least ratio of finish times that all of ``open_`` can have, by bisection over programs with the ratio fixed."""
        need_of = {one: self._need(one) for one in open_}
        low = max(need_of[one][0] for one in open_)

        def margin(ratio: float) -> float:
            rising = [(one, 0.0, need_of[one][1](ratio)) for one in open_]
            return self.best(self._level, rising, kept)[0] - 1.0

        high = 2.0 * low + 1.0
        while margin(high) < 0.0:
            high *= 4.0
        lowest = low + 1e-9 * (high - low)
        ratio = float(brentq(margin, lowest, high, xtol=1e-13 * high, rtol=1e-13))
        return ratio, {one: need_of[one][1](ratio) for one in open_}

    def _need(self, number: int) -> tuple[float, Callable[[float], float]]:
        """The ratio that a copy cannot get below at any speed, and the steps/s that a ratio needs."""
        copy, job = self.copies[number], self.jobs[self.copies[number].entry]
        remaining = job.remaining_steps
        assert remaining is not None
        alone_s = (remaining if job.total_steps is None else job.total_steps) / copy.equal
        elapsed = max(0.0, self.problem.now_s - job.arrival_s)
        return elapsed / alone_s, lambda ratio: remaining / (ratio * alone_s - elapsed)

    def _hierarchical(self, members: list[int], kept: dict[int, float]) -> float:
        open_ = list(members)
        at = dict.fromkeys(members, 0.0)
        first: float | None = None
        while open_:
            rise = self._weights(members, open_)
            rising = [(one, at[one], rise[one] * self.copies[one].par) for one in open_ if rise[one] > 0.0]
            others = kept | {one: at[one] for one in members if rise.get(one, 0.0) == 0.0}
            step, _ = self.best(self._level, rising, others)
            first = step if first is None else first
            for one, start, speed in rising:
                at[one] = start + step * speed
            done = [one for one, _, _ in rising if self._settled(one, kept | at)]
            assert done, "a round that settles nobody"
            open_ = [one for one in open_ if one not in done]
        kept.update(at)
        assert first is not None
        return first

    def _weights(self, members: list[int], open_: list[int]) -> dict[int, float]:
        """How fast each copy that is not settled rises: its tenant's weight, split."""
        tenants = {one.id: one for one in self.problem.tenants}
        rise = dict.fromkeys(open_, 0.0)
        groups: dict[Any, list[int]] = {}
        for one in members:
            job = self.jobs[self.copies[one].entry]
            groups.setdefault(("tenant", job.tenant) if job.tenant is not None else ("job", self.copies[one].entry), []).append(one)
        for (kind, name), group in groups.items():
            left = [one for one in group if one in rise]
            if not left:
                continue
            if kind == "job":
                for one in left:
                    rise[one] = self.copies[one].weight
                continue
            tenant = tenants[name]
            if str(tenant.within) == "fifo":
                earliest = min((self.jobs[self.copies[one].entry].arrival_s, self.copies[one].entry) for one in left)[1]
                left = [one for one in left if self.copies[one].entry == earliest]
            total = sum(self.copies[one].weight for one in left)
            for one in left:
                rise[one] = tenant.weight * self.copies[one].weight / total
        return rise

    def _throughput(self) -> Answer:
        """The worst scenario's sum, class after class."""
        goals: dict[str, float] = {}
        values = np.zeros(len(self.columns) + 1)
        for suffix, members in self._classes():
            worth = [
                sum(
                    (self.copies[one].weight / self.copies[one].best * self.copies[one].rows[scenario] for one in members),
                    0.0 * values[:-1],
                )
                for scenario in range(len(self.copies[0].rows))
            ]
            value, values = self.best(self._level, above=worth)
            goals[f"throughput{suffix}"] = value
            self.floors += [(one, value * (1 - 1e-10)) for one in worth]
        return Answer(goals, self._by_entry(self.speeds_of(values)), unique=False)

    def _least_cost(self) -> Answer:
        """What each class's GPUs cost, half of those that it shares with another."""
        goals: dict[str, float] = {}
        values = np.zeros(len(self.columns) + 1)
        least = {one: needed for one in range(len(self.copies)) if (needed := self._entitled(one)) > 0.0}
        for suffix, members in self._classes():
            part = [len(column.speeds.keys() & set(members)) / len(column.speeds) for column in self.columns]
            price = self._prices * np.array(part)
            value, values = self.best(np.append(-price, 0.0), (), least)
            goals[f"cost{suffix}"] = -value
            self.floors.append((-price, value - 1e-10 * abs(value)))
        return Answer(goals, self._by_entry(self.speeds_of(values)), unique=False)

    def _entitled(self, number: int) -> float:
        copy, job = self.copies[number], self.jobs[self.copies[number].entry]
        if job.deadline_s is not None:
            assert job.remaining_steps is not None
            return float(job.remaining_steps / (job.deadline_s - self.problem.now_s))
        return float(self.problem.least_share * copy.equal)

    def _nash(self) -> Answer:
        """Cutting planes under the logarithms until plan and bound meet (J. E. Kelley, 1960)."""
        goals: dict[str, float] = {}
        values = np.zeros(len(self.columns))
        for suffix, members in self._classes():
            served = [one for one in members if self.most(one, {}) > STARVED * self.copies[one].equal]
            value, values = self._product(served) if served else (0.0, values)
            goals[f"geometric_mean{suffix}"] = value if len(served) == len(members) else 0.0
            speeds = self.speeds_of(values)
            for one in members:
                self.floors += [(row, speeds[one] * (1 - 1e-9)) for row in self.copies[one].rows]
        return Answer(goals, self._by_entry(self.speeds_of(values)), unique=True)

    def _product(self, members: list[int]) -> tuple[float, Vector]:
        width = len(self.columns)
        weight = np.array([self.copies[one].weight for one in members])
        weight = weight / weight.sum()
        share = np.array([self.copies[one].rows[0] / self.copies[one].par for one in members])
        top = float(share.max()) * 1.01
        points = [np.geomspace(1e-4, top, TANGENTS) for _ in members]
        best, found = -math.inf, np.zeros(width)
        fixed = [(np.append(sums, np.zeros(len(members))), value) for sums, value in self.limits]
        fixed += [(np.append(-sums, np.zeros(len(members))), -value) for sums, value in self.floors]
        for _ in range(60):
            rows, right = [one[0] for one in fixed], [one[1] for one in fixed]
            for place in range(len(members)):
                for point in points[place]:  # t <= ln(point) + (share - point) / point
                    row = np.zeros(width + len(members))
                    row[width + place], row[:width] = 1.0, -share[place] / point
                    rows.append(row)
                    right.append(math.log(point) - 1.0)
            cost = np.append(np.zeros(width), -weight)
            bounds = [(0, None)] * width + [(None, None)] * len(members)
            answer = linprog(cost, np.array(rows), np.array(right), bounds=bounds, method="highs", options=ACCURATE)
            assert answer.status == 0, answer.message
            at = share @ answer.x[:width]
            mean = float(weight @ np.log(np.maximum(at, 1e-12)))
            if mean > best:
                best, found = mean, answer.x[:width]
            if -answer.fun - best <= 1e-10:
                break
            points = [np.append(old, max(new, 1e-9)) for old, new in zip(points, at, strict=True)]
        return math.exp(best), found

    def _by_entry(self, speeds: Sequence[float]) -> list[float]:
        """The mean of each job's copies."""
        return [
            float(np.mean([speed for speed, copy in zip(speeds, self.copies, strict=True) if copy.entry == entry]))
            for entry in range(len(self.jobs))
        ]
