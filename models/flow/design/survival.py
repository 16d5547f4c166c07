"""The search for a design that survives failures: without their flows at first, and with a row for each that it does not survive.

What a failure lacks is shown by prices ``y`` on channels: whatever is built, ``sum y * capacity`` over what is left comes to at least what
all demands pay on their cheapest ways (metric inequality: Onaga and Kakusho 1971, Iri 1971; for designs Bienstock, Chopra, Günlük,
Tsai, "Minimum Cost Capacity Installation for Multicommodity Network Flows", 1998). Such rows are rounded like cut-set inequalities. They
are added until what branch and bound finds survives everything; until then it is mended, which gives plans on the way.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from models.contract import TOLERANCE, RowEdits
from models.conversation import Again, ColumnEdits, Impossible, Offered, Proved, Solve
from models.flow.design.cutsets import Inequality, as_rows, rounded
from models.flow.design.exact import ADD, OVERFLOW, SEND, overflow_program
from models.flow.design.prices import distances
from models.flow.design.routes import settled
from models.flow.schema import Rule

if TYPE_CHECKING:
    from collections.abc import Generator

    from models.conversation import Conversation, Solved
    from models.flow.design.search import Search
    from models.flow.design.works import Works
    from models.flow.schema import Plan
    from models.program import Bools, Floats

METHOD = "branch and bound of HiGHS over what is built, with cut-set and metric inequalities of failures; the bound is HiGHS's"
GOAL = "design_cost"
MOST_FRACTIONAL = 25  # rounds of metric inequalities before branching
MOST_ROUNDS = 200
ROUND_SHARE = 0.4
RESERVE = 0.9  # of the time: the rest is for the last plan
BEYOND = 100.0  # times the dearest: the price of a lack that no module mends
NEAR = 1e-6
MOST_DIVISORS = 8
MOST_MENDING = 4  # rounds for one failure
NOTHING = 1e-12
NO_DEPENDENT_EQUATIONS = 1024


def survive(search: Search, seconds: float, gap: float) -> Conversation:
    """Rows for failures and branch and bound in turn."""
    yield from _Survival(search, time.monotonic() + RESERVE * seconds, gap).run()


class _Survival:
    """One search, with the linear program that tells what a failure lacks."""

    def __init__(self, search: Search, until: float, gap: float) -> None:
        self.search, self.works, self.until, self.gap = search, search.works, until, gap
        works = self.works
        rate = np.full(works.network.links, np.inf)
        np.minimum.at(rate, works.module_link[works.useful], (works.module_cost / works.module_capacity)[works.useful])
        dearest = float(rate[np.isfinite(rate)].max(initial=1.0)) or 1.0
        self.price = np.where(np.isfinite(rate), np.maximum(rate, NEAR * dearest), BEYOND * dearest)[works.network.channel_link]
        self.program = overflow_program(works, self.price)
        self.rows = np.arange(self.program.rows)[self.program.row_block(Rule.link_capacity.value).rows]
        self.columns = np.arange(self.program.columns)[self.program.column_block(OVERFLOW).rows]

    def run(self) -> Conversation:
        """Tighten, then branch, look, add rows and mend, until the plan is good enough or time is up."""
        yield Solve(self.program, keep="overflow", presolve_rule_off=NO_DEPENDENT_EQUATIONS)
        root: Solved | None = yield from self.search.tightened()
        if root is None or root.values is None or not (yield from self.tightened(root)):
            return
        for _ in range(MOST_ROUNDS):
            if time.monotonic() > self.until or (yield from self.round()):
                return

    def round(self) -> Generator[Any, Any, bool]:
        """Branch, look at every failure, mend; whether there is nothing left to do."""
        solved: Solved = yield self.search.asked(self.search.whole(), ROUND_SHARE)
        if solved.status == "infeasible":
            yield Impossible()
            return True
        if solved.values is None or (solved.bound is not None and (yield Proved(GOAL, solved.bound, METHOD))):
            return True
        counts = np.round(solved.values[self.search.program.column_block(ADD).rows])
        new = yield from self.missing(counts)
        if new is None:
            return True
        if not new:
            yield from self.offered(counts)
            return solved.status == "optimal"
        self.search.inequalities += new
        mended: Floats | None = yield from self.mended(counts)
        if mended is not None:
            yield from self.offered(mended)
            yield from self.offered((yield from self.lighter(mended)))
        return False

    def tightened(self, root: Solved) -> Generator[Any, Any, bool]:
        """Metric inequalities of the relaxation; whether to go on."""
        block, solved = self.search.program.column_block(ADD), root
        for _ in range(MOST_FRACTIONAL):
            if solved.status == "infeasible":
                yield Impossible()
            if solved.values is None or time.monotonic() > self.until:
                return False
            new = yield from self.missing(solved.values[block.rows])
            if new is None:
                return False
            new += self.search.separated(solved.values)
            if not new:
                break
            self.search.inequalities += new
            solved = yield Again("relaxed", new_rows=as_rows(new, block.start), share=0.5)
        if solved.status == "infeasible":
            yield Impossible()
        return not (solved.bound is not None and (yield Proved(GOAL, solved.bound, METHOD)))

    def missing(self, counts: Floats) -> Generator[Any, Any, list[Inequality] | None]:
        """An inequality for each failure that ``counts`` do not survive; None when one of them cuts demands off, or time is up."""
        found: list[Inequality] = []
        for failure in self.works.failures:
            solved: Solved = yield self.asked(counts, failure.dead)
            if solved.status == "infeasible":
                yield Impossible()
                return None
            if solved.values is None or solved.row_duals is None:
                return None
            if self.lacks(solved.values).any():
                found.append(metric_inequality(self.works, np.maximum(-solved.row_duals[self.rows], 0.0), failure.dead, counts))
        return [one for one in found if one.violation > NEAR]

    def asked(self, counts: Floats, dead: Bools | None) -> Again:
        """To find what a failure lacks."""
        channel_link = self.works.network.channel_link
        down = np.zeros(len(channel_link), dtype=np.bool_) if dead is None else dead[channel_link]
        capacity = np.where(down, 0.0, self.works.link_capacity(counts)[channel_link])
        rows = RowEdits(self.rows, np.full(len(self.rows), -np.inf), capacity)
        # On a link that is down nothing flows, not even for money.
        columns = ColumnEdits(self.columns, np.zeros(len(self.columns)), np.where(down, 0.0, np.inf))
        return Again("overflow", row_edits=rows, column_edits=columns)

    def lacks(self, values: Floats) -> Floats:
        """Gbit/s that do not fit on each link, (links,), beyond the tolerance."""
        lacking = np.zeros(self.works.network.links)
        np.maximum.at(lacking, self.works.network.channel_link, values[self.columns])
        return np.where(lacking > TOLERANCE / 10, lacking, 0.0)

    def mended(self, counts: Floats) -> Generator[Any, Any, Floats | None]:
        """Counts that survive everything: where a failure lacks room, the link gets the cheapest modules that hold it."""
        counts = counts.copy()
        for failure in self.works.failures:
            for _ in range(MOST_MENDING):
                solved: Solved = yield self.asked(counts, failure.dead)
                if solved.values is None:
                    return None
                lacking = self.lacks(solved.values)
                if not lacking.any():
                    break
                capacity = self.works.link_capacity(counts)
                for link in np.flatnonzero(lacking).tolist():
                    found = self.works.cheapest(link, float(capacity[link] + lacking[link]))
                    if found is None:
                        return None
                    counts[self.works.of_link[link]] = 0.0
                    for place, count in found[1].items():
                        counts[place] = count
        return counts

    def lighter(self, counts: Floats) -> Generator[Any, Any, Floats]:
        """Counts without modules that nothing needs: the dearest first, as long as there is time."""
        for place in np.argsort(-self.works.module_cost, kind="stable").tolist():
            while counts[place] > 0 and time.monotonic() < self.until:
                fewer = counts.copy()
                fewer[place] -= 1
                if not (yield from self.survives(fewer)):
                    break
                counts = fewer
        return counts

    def survives(self, counts: Floats) -> Generator[Any, Any, bool]:
        """Whether everything fits, now and after every failure."""
        for dead in (None, *(failure.dead for failure in self.works.failures)):
            solved: Solved = yield self.asked(counts, dead)
            if solved.values is None or self.lacks(solved.values).any():
                return False
        return True

    def offered(self, counts: Floats) -> Conversation:
        """The plan of counts that survive: routes at least cost, and new ones for every failure that breaks a route."""
        search = self.search
        if self.works.building_cost(counts) + self.works.installed_cost >= search.cost:
            return
        solved: Solved = yield Solve(search.fixed(counts), presolve_rule_off=NO_DEPENDENT_EQUATIONS)
        if solved.values is None:
            return
        sent = search.sent(solved.values)
        used = np.bincount(self.works.network.arc_link, weights=sent.sum(axis=0), minlength=self.works.network.links)
        again: dict[int, Floats] = {}
        for place, failure in enumerate(self.works.failures):
            if used[failure.dead].any():
                after: Solved = yield self.asked(counts, failure.dead)
                if after.values is None:
                    return
                again[place] = after.values[self.program.column_block(SEND).rows].reshape(sent.shape)
        plan: Plan = search.heard_plan(settled(self.works, counts, sent, again))
        yield Offered(plan, "mended")


def metric_inequality(works: Works, price: Floats, dead: Bools, counts: Floats) -> Inequality:
    """What ``price`` (channels,), 0 or more, says about every design that survives: rounded so that ``counts`` break it most.

    Valid for any prices: demands pay at least their cheapest way, and a channel takes in at most its price times its capacity.
    """
    network = works.network
    price = np.where(dead[network.channel_link] | np.isinf(network.channel_capacity), 0.0, price)
    length = np.where(dead[network.arc_link], np.inf, price[network.arc_channel])
    paid = float(works.traffic.size @ distances(works, length)[works.traffic.source, works.traffic.target])
    by_link = np.bincount(network.channel_link, weights=price, minlength=network.links)
    known = np.where(np.isinf(network.link_capacity), 0.0, network.link_capacity)
    coefficient = works.module_capacity * by_link[works.module_link]
    missing = paid - float(by_link @ known)
    none = Inequality(np.zeros(works.modules), 0.0, 0.0)
    if not (np.isfinite(missing) and missing > NEAR * max(1.0, paid)):
        return none
    best = none
    sizes, often = np.unique(np.round(coefficient[coefficient > 0], 9), return_counts=True)
    for divisor in (0.0, *sizes[np.argsort(-often, kind="stable")][:MOST_DIVISORS].tolist()):
        factors, least = rounded(coefficient, np.array([missing]), (divisor,))
        row = factors[0] / least[0]
        violation = (1.0 - float(row @ counts)) / float(np.linalg.norm(row) + NOTHING)
        if violation > best.violation:
            best = Inequality(row, 1.0, violation)
    return best
