"""The sentences about a right plan: what is full, what that is worth, and why each job has the share it has."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from models.contract import TOLERANCE, Reason
from models.fairshare.explain_words import duration
from models.fairshare.goals import goal_names
from models.fairshare.market import groups_of, market_of
from models.fairshare.plans.division import division_of
from models.fairshare.plans.measures import JUST
from models.fairshare.proofs.verify import highest_speed
from models.fairshare.proofs.worth import gpu_worth, stands
from models.fairshare.schema import Policy, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.contract import Verdict
    from models.fairshare.schema import Plan, Problem
    from models.program import Bools, Floats

MOST_REASONS = 50  # of each sort told with the whole plan, the worst first
MOST_NAMES = 5
NEAR = 1e-5  # relative: as near a limit as this is at it
SHARE = 0.5  # of the time


class Told:
    """What can be told about one plan that obeys every rule."""

    def __init__(self, problem: Problem, plan: Plan, verdict: Verdict, seconds: float) -> None:
        self._problem, self._plan, self._verdict = problem, plan, verdict
        self._market, self._division = market_of(problem), division_of(problem, plan)
        self._goal = goal_names(problem)[0]
        self._deadline = time.monotonic() + SHARE * seconds

    def everything(self) -> Iterator[Reason]:
        """The summary, the accelerators that bind, and the jobs below their equal split or late."""
        yield self._summary()
        for place in range(self._market.accelerators.count):
            if self._full[place]:
                yield self._accelerator(place, "")
        jobs = self._market.jobs
        short = np.flatnonzero(self._speed < JUST * jobs.equal)
        order = short[np.argsort((self._speed / jobs.equal)[short], kind="stable")]
        for number, job in enumerate(order[:MOST_REASONS].tolist()):
            if number and time.monotonic() > self._deadline:
                break
            yield self._below(job, jobs.ids[job])
            yield from self._limit(job)
        if len(order) > MOST_REASONS:
            text = f"{len(order) - MOST_REASONS:,} more jobs get less than under equal split; ask for one by its id."
            yield Reason("", "summary", self._goal, (), text, "proved")
        late = np.flatnonzero(self._late > 0)
        for job in late[np.argsort(-self._late[late], kind="stable")][:MOST_REASONS].tolist():
            yield self._due(job)

    def about(self, subject: str) -> Iterator[Reason]:
        """Everything about an accelerator, a job or a tenant; of each that has this id."""
        market = self._market
        if subject in market.accelerators.at:
            yield self._accelerator(market.accelerators.at[subject], subject)
        if subject in market.jobs.at:
            yield from self._job(market.jobs.at[subject])
        for place, tenant in enumerate(self._problem.tenants):
            if tenant.id == subject:
                yield self._tenant(place, subject)

    # ------------------------------------------------------------ what is known

    @cached_property
    def _speed(self) -> Floats:
        """Steps/s of one copy that count, shape (jobs,)."""
        return self._division.judged

    @cached_property
    def _full(self) -> Bools:
        """Which accelerators have no GPU left, or none that stands in a whole block."""
        accelerators, division = self._market.accelerators, self._division
        full = division.gpus_used >= accelerators.count_gpus * (1.0 - NEAR)
        packed = accelerators.limits_packing & (division.packed_used >= accelerators.packed_gpus * (1.0 - NEAR))
        found: Bools = (full | packed) & (accelerators.count_gpus > 0)
        return found

    @cached_property
    def _top(self) -> Floats:
        """Steps/s that a copy of each job could have with a cluster of its own, shape (jobs,)."""
        return highest_speed(self._market)

    @cached_property
    def _worth(self) -> Floats | None:
        return gpu_worth(self._problem, self._plan)

    @cached_property
    def _stands(self) -> Bools:
        return stands(self._problem, self._plan, self._speed)

    @cached_property
    def _late(self) -> Floats:
        """By how many seconds each job would miss its deadline at the speed it has, inf where it never ends, 0 where it is in time."""
        jobs, now = self._market.jobs, self._problem.now_s
        due = np.isfinite(jobs.deadline_s)
        runs = due & (self._speed > 0)
        late = np.where(due, np.inf, 0.0)
        late[runs] = now + jobs.remaining[runs] / self._speed[runs] - jobs.deadline_s[runs]
        return np.where(late > NEAR * np.where(due, jobs.deadline_s - now, 1.0), late, 0.0)

    # ------------------------------------------------------------ the whole

    def _summary(self) -> Reason:
        facts, market = self._verdict.metrics, self._market
        values = ", ".join(f"{goal} {value:.9g}" for goal, value in self._verdict.objectives.items())
        split = next((f" (equal split: {value:.6g})" for name, value in facts.items() if name.startswith("equal_split_")), "")
        text = f"The plan attains {values}{split}. {facts['gpus_busy']:.6g} of {market.accelerators.count_gpus.sum():g} GPUs are in use"
        below, envious = int(facts["below_equal_split"]), int(facts["envious"])
        text += (
            f"; of {market.copies:,.0f} jobs {below:,} get less than under equal split and {envious:,} would rather have another's share."
        )
        return Reason("", "summary", self._goal, (), text, "proved")

    def _accelerator(self, place: int, subject: str) -> Reason:
        """How full it is, and what one more GPU would be worth."""
        accelerators, division = self._market.accelerators, self._division
        name, count, used = accelerators.ids[place], accelerators.count_gpus[place], division.gpus_used[place]
        rule, status = Rule.accelerator_capacity, "proved"
        if used >= count * (1.0 - NEAR):
            text = f"All {count:g} GPUs of '{name}' are in use."
        elif self._full[place]:
            rule = Rule.packed_capacity
            text = (
                f"All {accelerators.packed_gpus[place]:g} GPUs of '{name}' in whole blocks are in use, and {used:.6g} of {count:g} in all."
            )
        else:
            text = f"{used:.6g} of {count:g} GPUs of '{name}' are in use."
        price = next((one.price + one.packed_price for one in self._plan.prices if one.accelerator == name), 0.0)
        if self._worth is not None:
            worth = self._worth[place]
            gain = f"improves {self._goal} by at most {worth:.4g}" if worth > 0 else f"does not improve {self._goal}"
            kept = ", with equal splits as they are" if worth > 0 and self._problem.policy is not Policy.makespan else ""
            text += f" One more {gain}{kept}."
        elif price > 0:
            status, text = "heuristic", f"{text} The search gave one more of them the price {price:.4g} in {self._goal}."
        users = self._users(place)
        return Reason(
            subject, "binding", rule, (name, *users), text + self._said("It runs", users), "proved" if status == "proved" else "heuristic"
        )

    def _users(self, place: int) -> tuple[str, ...]:
        """The jobs that hold most of it."""
        held = self._division.gpu_time[:, place] * self._market.jobs.copies
        order = np.argsort(-held, kind="stable")[:MOST_NAMES]
        return tuple(self._market.jobs.ids[job] for job in order.tolist() if held[job] > TOLERANCE)

    @staticmethod
    def _said(begin: str, names: tuple[str, ...]) -> str:
        return f" {begin}, most of all, {', '.join(repr(name) for name in names)}." if names else ""

    # ------------------------------------------------------------ one job

    def _job(self, job: int) -> Iterator[Reason]:
        yield self._below(job, self._market.jobs.ids[job])
        yield from self._limit(job)
        yield from self._losers(job)
        if np.isfinite(self._market.jobs.deadline_s[job]):
            yield self._due(job)

    def _below(self, job: int, subject: str) -> Reason:
        """What it gets, where, and how that compares with equal split."""
        jobs = self._market.jobs
        speed, equal = float(self._speed[job]), float(jobs.equal[job])
        part = speed / equal
        compared = f"{100 * (1 - part):.3g}% less than" if part < JUST else "as much as" if part <= 2 - JUST else f"{part:.4g} times"
        each = "Each of its copies gets" if jobs.copies[job] > 1 else "It gets"
        text = f"{each} {speed:.6g} steps/s, {compared} under equal split ({equal:.6g}){self._where(job)}."
        return Reason(subject, "why_not" if part < JUST else "summary", self._goal, (jobs.ids[job],), text, "proved")

    def _where(self, job: int) -> str:
        market, division = self._market, self._division
        parts = []
        for place in np.flatnonzero(division.work[job] > 0).tolist():
            beside = self._beside(job, place)
            parts.append(f"{division.gpu_time[job, place]:.4g} GPUs of '{market.accelerators.ids[place]}'{beside}")
        return f", on {', '.join(parts)}" if parts else ""

    def _beside(self, job: int, place: int) -> str:
        """Whose company it has on an accelerator."""
        division, market = self._division, self._market
        there = (market.ways.accelerator[division.way] == place) & (division.second >= 0) & (division.gangs > TOLERANCE)
        mine = there & ((division.first == job) | (division.second == job))
        others = np.unique(np.where(division.first[mine] == job, division.second[mine], division.first[mine]))
        names = [repr(market.jobs.ids[other]) for other in others[:MOST_NAMES].tolist()]
        return f" (in part shared with {', '.join(names)})" if names else ""

    def _limit(self, job: int) -> Iterator[Reason]:
        """What keeps it where it is."""
        jobs, division, name = self._market.jobs, self._division, self._market.jobs.ids[job]
        if self._speed[job] >= self._top[job] * (1.0 - NEAR):
            text = "It runs all the time, where it is fastest: nothing could give it more."
            yield Reason(name, "binding", Rule.job_time, (name,), text, "proved")
            return
        if division.spending[job] >= jobs.budget[job] * (1.0 - NEAR):
            text = f"It spends all of its budget, {jobs.budget[job]:.6g} USD per hour."
            yield Reason(name, "binding", Rule.job_budget, (name,), text, "proved")
        if division.time[job] >= jobs.copies[job] * (1.0 - NEAR):
            text = "It runs all the time: it could only be faster on other GPUs, or with them to itself."
            yield Reason(name, "binding", Rule.job_time, (name,), text, "proved")
        places = [place for place in np.flatnonzero(self._full).tolist() if self._market.workloads.usual[jobs.workload[job], place] > 0]
        names = tuple(self._market.accelerators.ids[place] for place in places)
        if names:
            text = f"No GPU is left of {', '.join(repr(one) for one in names[:MOST_NAMES])}, where it can run."
            yield Reason(name, "binding", Rule.accelerator_capacity, (name, *names[:MOST_NAMES]), text, "proved")

    def _losers(self, job: int) -> Iterator[Reason]:
        """Who would have to give way if it got more: those that its round settles with it, and values in its proof."""
        jobs = self._market.jobs
        name = jobs.ids[job]
        one = next((each for each in self._plan.rounds if name in each.settled), None)
        if one is None or self._speed[job] >= self._top[job] * (1.0 - NEAR):
            return
        named = {worth.job for worth in one.worths if worth.job is not None} | set(one.slopes.job if one.slopes is not None else ())
        classes = {self._market.workloads.at[worth.workload] for worth in one.worths if worth.workload is not None}
        others = [
            other
            for place, other in enumerate(jobs.ids)
            if other != name and jobs.priority[place] >= one.priority and (other in named or int(jobs.workload[place]) in classes)
        ]
        if not others:
            return
        more = f" and {len(others) - MOST_NAMES:,} more" if len(others) > MOST_NAMES else ""
        listed = ", ".join(repr(other) for other in others[:MOST_NAMES])
        firm = bool(self._stands[job])
        text = f"It is settled at the level {one.level:.6g}: more for it would push one of {listed}{more} below that, or below what it has."
        yield Reason(name, "displaces", self._goal, (name, *others[:MOST_NAMES]), text, "proved" if firm else "heuristic")

    def _due(self, job: int) -> Reason:
        """Whether it is done by its deadline at the speed it has."""
        jobs, name = self._market.jobs, self._market.jobs.ids[job]
        left, late = float(jobs.deadline_s[job]) - self._problem.now_s, float(self._late[job])
        if late <= 0:
            early = left - float(jobs.remaining[job] / self._speed[job])
            spare = f", {duration(early)} before" if early > NEAR * left else ", just in time for"
            text = f"At this speed it is done in {duration(left - early)}{spare} its deadline."
            return Reason(name, "summary", Rule.deadline, (name,), text, "proved")
        kept = "" if self._problem.policy is Policy.least_cost else f" The policy {self._problem.policy.value} keeps no deadlines."
        how = f"{duration(late)} too late" if np.isfinite(late) else "never"
        text = f"At this speed it is done {how}: its deadline is in {duration(left)} and needs {jobs.due_speed[job]:.6g} steps/s.{kept}"
        return Reason(name, "why_not", Rule.deadline, (name,), text, "proved")

    # ------------------------------------------------------------ tenants

    def _tenant(self, place: int, subject: str) -> Reason:
        jobs, groups = self._market.jobs, groups_of(self._problem)
        own = np.flatnonzero(jobs.tenant == place)
        if not len(own):
            return Reason(subject, "summary", self._goal, (subject,), "It has no jobs here.", "proved")
        held = float((self._division.gpu_time[own].sum(axis=1) * jobs.copies[own]).sum())
        shares = (self._speed / jobs.equal)[own]
        low, high = own[int(np.argmin(shares))], own[int(np.argmax(shares))]
        text = f"Its {jobs.copies[own].sum():,.0f} jobs hold {held:.6g} GPUs on average."
        text += f" By equal splits '{jobs.ids[low]}' has least, {shares.min():.4g}"
        text += f", and '{jobs.ids[high]}' most, {shares.max():.4g}." if low != high else "."
        if self._problem.policy is Policy.hierarchical and groups.fifo[place]:
            text += " They are served one after another."
        return Reason(subject, "summary", self._goal, tuple(dict.fromkeys((subject, jobs.ids[low], jobs.ids[high]))), text, "proved")
