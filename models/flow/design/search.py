"""The search for a design: the relaxation tightened by cut-set inequalities, then branch and bound, then prices for what was found.

Designs that must survive failures have a search of their own, ``models.flow.design.survival``, built on the same steps.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from models.conversation import Again, Impossible, Offered, Proved, Solve
from models.flow.design.cutsets import Inequality, as_rows, candidate_sides, cuts_of, violated
from models.flow.design.dominance import alone_rows, sensible_of, tidied
from models.flow.design.exact import ADD, SEND, program, start_values
from models.flow.design.first import shaken_plans
from models.flow.design.partitions import violated_partitions
from models.flow.design.prices import distances, priced
from models.flow.design.routes import settled
from models.flow.design.tripartitions import violated_tripartitions
from models.flow.design.verify import verify_design
from models.flow.design.works import works_of
from models.flow.schema import Rule

if TYPE_CHECKING:
    from collections.abc import Generator

    from models.conversation import Conversation, Solved
    from models.flow.design.works import Works
    from models.flow.schema import Plan, Problem
    from models.program import Bools, Floats, LinearProgram

CUTTING = "linear relaxation of the flow formulation with cut-set inequalities, bound recomputed from its duals"
BRANCHING = "branch and bound of HiGHS on the flow formulation with cut-set inequalities; the bound is HiGHS's"
GOAL = "design_cost"
NO_DEPENDENT_EQUATIONS = 1024  # HiGHS's presolve rule that depends on the clock on flow programs
MOST_ROUNDS = 60
MOST_NEW = 60  # inequalities in a round
LEAST_GAIN = 1e-4  # relative, over STALE rounds: less is not worth another
STALE = 6
BRANCHED = "branch and bound"
FIRST_BRANCHING, BRANCHING_SHARE = 0.12, 0.93  # of the time that is left: the last rest is for bound and prices
FIRST_PART, PART_SHARE = 0.4, 0.04  # of the links, of the time
SHAKING_SHARE, SINGLE_SHARE = 0.08, 0.1
IMPROVING_SHARE = 0.4  # of the time, with what went before
BY_RELAXATION = 0.3
FAILURES_A_ROUND = 6
NEAR = 1e-6  # relative slack of a row that is still full


def converse(problem: Problem, plan: Plan | None, seed: int, seconds: float, gap: float) -> Conversation:
    """See ``models.conversation``; ``plan`` is where the search starts."""
    search = Search(problem, plan, seed)
    if works_of(problem).failures:
        from models.flow.design.survival import survive

        yield from survive(search, seconds, gap)
    else:
        yield from search.run(seconds)


def _sensible_program(works: Works) -> LinearProgram:
    """The program without the flows of failures, and without what some cheapest design does without."""
    whole = program(works, failures=False)
    block = whole.column_block(ADD)
    upper = whole.column_upper.copy()
    upper[block.rows] = np.minimum(upper[block.rows], sensible_of(works).most)
    rows = alone_rows(works, block.start)
    return replace(whole, column_upper=upper).with_rows(rows.lower, rows.upper, rows.starts, rows.indices, rows.values)


class Search:
    """What is known of one design: the best plan, the cut-set inequalities found so far."""

    def __init__(self, problem: Problem, plan: Plan | None, seed: int) -> None:
        self.problem, self.works = problem, works_of(problem)
        self.rng = np.random.default_rng(seed)
        self.plan: Plan | None = None
        self.cost = np.inf
        self.inequalities: list[Inequality] = []
        self.program: LinearProgram = _sensible_program(self.works)
        if plan is not None:
            self.heard_plan(plan)

    def heard_plan(self, plan: Plan) -> Plan:
        """Remember a plan if it is right and the best, with its modules tidied; the plan to be offered."""
        counts = self.works.counts(plan.upgrades)
        better = tidied(self.works, counts)
        if (better != counts).any():
            plan = plan.model_copy(update={"upgrades": self.works.upgrades(better)})
        verdict = verify_design(self.problem, plan)
        if verdict.ok and verdict.objectives[GOAL] < self.cost:
            self.plan, self.cost = plan, verdict.objectives[GOAL]
        return plan

    def run(self, seconds: float) -> Conversation:
        """Cut, branch, price: a design without failures. Where branching does not end soon, plans are improved part by part first."""
        began = time.monotonic()
        root: Solved | None = yield from self.tightened()
        done: bool = root is None or root.values is None or (yield from self.branched(FIRST_BRANCHING))
        if not done and root is not None and root.values is not None:
            for plan in shaken_plans(self.problem, self.rng, SHAKING_SHARE * seconds):
                yield Offered(self.heard_plan(plan), "moving demands")
            if not self.works.one_each:
                yield from self.single()
            yield from self.improved(root.values, began + IMPROVING_SHARE * seconds)
            yield from self.branched(BRANCHING_SHARE)
        yield from self.settle()

    # ------------------------------------------------------------ steps

    def tightened(self) -> Generator[Any, Any, Solved | None]:
        """The relaxation with inequalities, round after round; None when no plan exists or the goal is closed."""
        solved: Solved = yield Solve(self.program.relaxed(), keep="relaxed", presolve_rule_off=NO_DEPENDENT_EQUATIONS, share=0.5)
        history: list[float] = []
        for _ in range(MOST_ROUNDS):
            if solved.status == "infeasible":
                yield Impossible()
                return None
            if solved.values is None or solved.objective is None or solved.bound is None:
                return None
            history.append(solved.objective)
            if len(history) > STALE and history[-1] - history[-1 - STALE] <= LEAST_GAIN * max(1.0, abs(history[-1])):
                break
            new = self.separated(solved.values)
            if not new:
                break
            self.inequalities += new
            solved = yield Again("relaxed", new_rows=as_rows(new, self.program.column_block(ADD).start), share=0.5)
        if solved.status == "infeasible":
            yield Impossible()
        if solved.values is None or solved.bound is None:
            return None
        closed: bool = yield Proved(GOAL, solved.bound, CUTTING)
        self.inequalities = [one for one in self.inequalities if self._full(one, solved.values)]
        return None if closed else solved

    def _full(self, one: Inequality, values: Floats) -> bool:
        return float(one.coefficient @ values[self.program.column_block(ADD).rows]) <= one.least * (1 + NEAR)

    def separated(self, values: Floats) -> list[Inequality]:
        """The most violated inequalities at fractional values."""
        counts = values[self.program.column_block(ADD).rows]
        load = np.zeros(self.works.network.links)
        np.add.at(load, self.works.network.arc_link, self.sent(values).sum(axis=0))
        slack = self.works.link_capacity(counts) - load
        found: list[Inequality] = []
        slack = np.where(np.isinf(slack), 1e12, slack)
        for masks in candidate_sides(self.works, slack, self.rng):
            for dead in self._some_failures():
                found += violated(self.works, cuts_of(self.works, masks, dead), counts, MOST_NEW)
        found += violated_partitions(self.works, counts, self.rng, MOST_NEW // 2)
        found += violated_tripartitions(self.works, counts, slack, self.rng, MOST_NEW // 2)
        return sorted(found, key=lambda one: -one.violation)[:MOST_NEW]

    def _some_failures(self) -> list[Bools | None]:
        """What a round looks at: the whole network, and some of the failures."""
        failures = self.works.failures
        chosen = self.rng.permutation(len(failures))[:FAILURES_A_ROUND].tolist()
        return [None, *(failures[place].dead for place in chosen)]

    def branched(self, share: float) -> Generator[Any, Any, bool]:
        """Branch and bound with what was found so far, from the best plan; whether it came to an end. Its bound is proved."""
        solved: Solved = yield self.asked(self.whole(), share)
        if solved.status == "infeasible":
            yield Impossible()
            return True
        if solved.values is not None:
            yield Offered(self.heard(solved.values), BRANCHED)
        closed = solved.status == "optimal"
        if solved.bound is not None:
            closed = (yield Proved(GOAL, solved.bound, BRANCHING)) or closed
        return closed

    def improved(self, relaxed: Floats, until: float) -> Conversation:
        """Part after part of the best plan is decided anew, the rest held (Danna, Rothberg, Le Pape 2005; Shaw 1998)."""
        size, whole = FIRST_PART, self.whole()
        while self.plan is not None and time.monotonic() < until:
            known, held = self.works.counts(self.plan.upgrades), self._held(size, relaxed)
            lower, upper = whole.column_lower.copy(), whole.column_upper.copy()
            block = whole.column_block(ADD).rows
            lower[block] = np.where(held, known, lower[block])
            upper[block] = np.where(held, known, np.maximum(upper[block], known))
            before = self.cost
            solved: Solved = yield self.asked(replace(whole, column_lower=lower, column_upper=upper), PART_SHARE)
            if solved.values is not None:
                yield Offered(self.heard(solved.values), "parts")
            if solved.status != "optimal":
                size *= 0.85
            elif self.cost >= before:
                size = min(1.0, size * 1.1)

    def single(self) -> Conversation:
        """The best with one module on a link at most: fewer choices, and often nearly as good."""
        links, row = np.unique(self.works.module_link, return_inverse=True)
        order = np.argsort(row, kind="stable") + self.program.column_block(ADD).start
        starts = np.concatenate(([0], np.cumsum(np.bincount(row, minlength=len(links))))).astype(np.int64)
        fewer = self.whole().with_rows(np.full(len(links), -np.inf), np.ones(len(links)), starts, order, np.ones(len(order)))
        solved: Solved = yield self.asked(fewer, SINGLE_SHARE)
        if solved.values is not None:
            yield Offered(self.heard(solved.values), "one module on a link")

    def _held(self, size: float, relaxed: Floats) -> Bools:
        """Modules to hold: those of links far from some node, or those on which plan and relaxation agree most, (modules,)."""
        network = self.works.network
        if self.plan is not None and self.rng.random() < BY_RELAXATION:
            apart = np.abs(self.works.counts(self.plan.upgrades) - relaxed[self.program.column_block(ADD).rows])
            of_link = np.bincount(self.works.module_link, weights=apart, minlength=network.links)
            rank = np.argsort(-of_link * self.rng.uniform(0.5, 1.0, network.links), kind="stable")
        else:
            length = np.where(np.isfinite(network.link_capacity), self.rng.uniform(0.5, 1.5, network.links), 1.0)
            near = distances(self.works, length[network.arc_link])[self.rng.integers(network.nodes)]
            rank = np.argsort(near[network.link_tail] + near[network.link_head], kind="stable")
        held = np.ones(network.links, dtype=np.bool_)
        held[rank[: max(2, round(size * network.links))]] = False
        return held[self.works.module_link]

    def whole(self) -> LinearProgram:
        """The program with the inequalities found so far."""
        rows = as_rows(self.inequalities, self.program.column_block(ADD).start)
        return self.program.with_rows(rows.lower, rows.upper, rows.starts, rows.indices, rows.values)

    def asked(self, program: LinearProgram, share: float) -> Solve:
        """To solve an integer program from the best plan."""
        return Solve(
            program,
            share=share,
            presolve_rule_off=NO_DEPENDENT_EQUATIONS,
            start=None if self.plan is None else start_values(self.problem, self.plan, failures=False),
            heard=None if self.works.failures else self.heard,
            phase=BRANCHED,
        )

    def settle(self) -> Conversation:
        """Route the best plan anew on what it builds, at least cost, and tell what one more Gbit/s is worth on each link."""
        if self.plan is None:
            return
        counts = self.works.counts(self.plan.upgrades)
        solved: Solved = yield Solve(self.fixed(counts), presolve_rule_off=NO_DEPENDENT_EQUATIONS)
        if solved.values is None or solved.row_duals is None or not self.works.network.link_cost.any():
            return
        plan = settled(self.works, counts, self.sent(solved.values)).model_copy(update={"scenario_routes": self.plan.scenario_routes})
        duals = solved.row_duals[self.program.row_block(Rule.link_capacity.value).rows]
        if self.plan.scenario_routes:
            plan = self.plan
        yield Offered(priced(self.problem, plan, -duals), "prices", says_more=True)

    # ------------------------------------------------------------ reading

    def sent(self, values: Floats) -> Floats:
        """Flows by root and arc, (commodities, arcs)."""
        return values[self.program.column_block(SEND).rows].reshape(self.works.commodities.count, self.works.network.arcs)

    def heard(self, values: Floats) -> Plan:
        """The plan of an incumbent."""
        return self.heard_plan(settled(self.works, np.round(values[self.program.column_block(ADD).rows]), self.sent(values)))

    def fixed(self, counts: Floats) -> LinearProgram:
        """The linear program that routes on what is built."""
        lower, upper = self.program.column_lower.copy(), self.program.column_upper.copy()
        block = self.program.column_block(ADD).rows
        lower[block] = upper[block] = counts
        return replace(self.program.relaxed(), column_lower=lower, column_upper=upper)
