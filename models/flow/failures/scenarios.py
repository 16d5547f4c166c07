"""What may fail, as arrays: families of events, and the scenarios that they make.

An **event** is a set of links that fail together: a listed scenario, one link, or one risk group. A **family** holds events of one
sort, of which up to ``most`` happen at once. A **scenario** is one set of links that are down: protection never writes the scenarios
of a family down, a sweep and the loss of given probabilities do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import chain, combinations, count
from math import comb
from typing import TYPE_CHECKING

import numpy as np

from models.contract import Warned
from models.flow.network.arrays import network_of
from models.kept import Kept

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from models.flow.schema import Failures, Problem
    from models.program import Bools, Floats, Ints

MOST_SCENARIOS = 100_000  # beyond this many they are not written down
LONGEST_NAME = 250  # of an id there may be 253 characters
ROOM_FOR_SORT = 30  # characters for what tells two names apart
SCENARIO = "scenario"


@dataclass(frozen=True, eq=False)
class Family:
    """Events of one sort, of which up to ``most`` happen at once; event k fails ``links[starts[k]:starts[k + 1]]``.

    ``sort`` is ``scenario``, ``link`` or ``risk group``, and ``ids`` are the user's.
    """

    sort: str
    ids: tuple[str, ...]
    starts: Ints
    links: Ints
    most: int

    @property
    def count(self) -> int:
        """How many events."""
        return len(self.ids)

    def of(self, event: int) -> Ints:
        """The links that fail with one event, ascending."""
        return self.links[self.starts[event] : self.starts[event + 1]]

    def together(self, events: Iterable[int]) -> tuple[int, ...]:
        """The links that fail with any of the events, ascending, each once."""
        return tuple(sorted(set(chain.from_iterable(self.of(event).tolist() for event in events))))

    @cached_property
    def of_link(self) -> tuple[Ints, Ints]:
        """CSR by link: the events that fail each; ``starts`` is as long as the largest link at risk needs."""
        event = np.repeat(np.arange(self.count), np.diff(self.starts))
        order = np.argsort(self.links, kind="stable")
        counts = np.bincount(self.links)
        return np.concatenate(([0], np.cumsum(counts))).astype(np.int64), event[order]


@dataclass(frozen=True, eq=False)
class Scenarios:
    """Different sets of links that may be down, each not empty; scenario k is ``links[starts[k]:starts[k + 1]]``, ascending.

    ``probability``, shape (count,), is 0 where the problem gives none; ``intact`` is the probability that nothing fails.
    """

    ids: tuple[str, ...]
    starts: Ints
    links: Ints
    probability: Floats
    intact: float

    @property
    def count(self) -> int:
        """How many scenarios, besides that nothing fails."""
        return len(self.ids)

    def of(self, scenario: int) -> tuple[int, ...]:
        """The links that are down."""
        return tuple(self.links[self.starts[scenario] : self.starts[scenario + 1]].tolist())

    def down(self, links: int) -> Bools:
        """Which links are down in which scenario, shape (count, links)."""
        found = np.zeros((self.count, links), dtype=np.bool_)
        found[np.repeat(np.arange(self.count), np.diff(self.starts)), self.links] = True
        return found


def families(problem: Problem) -> tuple[Family, ...]:
    """The families of a problem with failures, those without any event left out."""
    return _families.of(problem)


def scenarios_of(problem: Problem) -> Scenarios:
    """Every scenario of a problem with failures, listed ones first; those that fail the same links are one, named by ``named_scenarios``.

    Raises ValueError for more than ``MOST_SCENARIOS``.
    """
    return _scenarios.of(problem)


def scenario_count(problem: Problem) -> int:
    """How many scenarios the families make, those that fail the same links counted apart. Writes none down."""
    return sum(comb(family.count, taken) for family in families(problem) for taken in range(1, min(family.most, family.count) + 1))


def risk_groups(problem: Problem) -> dict[str, tuple[int, ...]]:
    """The positions of the links of each risk group, in the order in which the links name the groups."""
    found: dict[str, list[int]] = {}
    for place, link in enumerate(problem.links):
        for name in dict.fromkeys(link.risk_groups):
            found.setdefault(name, []).append(place)
    return {name: tuple(links) for name, links in found.items()}


def mistakes(problem: Problem) -> Iterator[Warned]:
    """What a mode of failures cannot do, for a problem whose links, demands and scenarios are right."""
    failures = problem.failures
    if failures is None:
        return
    if failures.mode.value == "protect" and problem.objective.value == "max_min_fair":
        detail = "traffic cannot be protected and shared max_min_fair at once; choose another objective, max_concurrent for example"
        yield Warned("/objective", "objective_not_protected", detail)
    if failures.mode.value == "protect":
        return
    number = scenario_count(problem)
    if number > MOST_SCENARIOS:
        detail = f"mode {failures.mode.value} looks at each scenario by itself, and these are {number:,}; give at most {MOST_SCENARIOS:,}"
        yield Warned("/failures", "too_many_scenarios", detail)


def _made_families(problem: Problem) -> tuple[Family, ...]:
    return families_from(problem, problem.failures) if problem.failures is not None else ()


def families_from(problem: Problem, failures: Failures) -> tuple[Family, ...]:
    """The families that ``failures`` make on the links of a problem."""
    network, groups = network_of(problem), risk_groups(problem)
    listed = {
        one.id: {*(network.link_at[name] for name in one.links), *chain.from_iterable(groups[name] for name in one.risk_groups)}
        for one in failures.scenarios
    }
    singles = {name: {place} for place, name in enumerate(network.link_ids)} if failures.any_links else {}
    found = (
        _family(SCENARIO, listed, 1),
        _family("link", singles, failures.any_links),
        _family("risk group", {name: set(links) for name, links in groups.items()}, failures.any_risk_groups),
    )
    return tuple(family for family in found if family.count and family.most)


def _family(sort: str, events: dict[str, set[int]], most: int) -> Family:
    """The events that fail any link at all."""
    kept = {name: sorted(links) for name, links in events.items() if links}
    starts, links = _rows(list(kept.values()))
    return Family(sort, tuple(kept), starts, links, most)


def _rows(rows: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
    starts = np.concatenate(([0], np.cumsum([len(row) for row in rows], dtype=np.int64))).astype(np.int64)
    return starts, np.fromiter(chain.from_iterable(rows), np.int64, int(starts[-1]))


def _made_scenarios(problem: Problem) -> Scenarios:
    failures = problem.failures
    if (number := scenario_count(problem)) > MOST_SCENARIOS:
        raise ValueError(f"{number:,} scenarios are too many to write down")
    told = {one.id: one.probability or 0.0 for one in failures.scenarios} if failures is not None else {}
    named, probability = named_scenarios(families(problem)), dict[tuple[int, ...], float]()
    for family in families(problem):
        for event in range(family.count) if family.sort == SCENARIO else ():
            links = family.together((event,))
            probability[links] = probability.get(links, 0.0) + told[family.ids[event]]
    starts, rows = _rows(list(named))
    chances = np.array([probability.get(one, 0.0) for one in named], dtype=np.float64)
    return Scenarios(tuple(named.values()), starts, rows, chances, max(0.0, 1.0 - float(chances.sum())))


def named_scenarios(found: Iterable[Family]) -> dict[tuple[int, ...], str]:
    """The name of every set of links that may fail together; no two have the same.

    A listed scenario keeps its id, others are called after their events, joined by +. Ids of different sorts may be alike, and long
    names are cut short: one that is taken already says what sort it is of, and if need be gets a number.
    """
    named: dict[tuple[int, ...], str] = {}
    taken: set[str] = set()
    for family in found:
        for several in range(1, min(family.most, family.count) + 1):
            for events in combinations(range(family.count), several):
                links = family.together(events)
                if links not in named:
                    named[links] = _free_name(family.sort, [family.ids[event] for event in events], taken)
                    taken.add(named[links])
    return named


def _free_name(sort: str, ids: Sequence[str], taken: set[str]) -> str:
    joined = "+".join(ids)
    if sort == SCENARIO:
        return joined
    name = joined if len(joined) <= LONGEST_NAME else f"{joined[: LONGEST_NAME - ROOM_FOR_SORT]}..."
    if name not in taken:
        return name
    sorted_name = f"{sort} {name[: LONGEST_NAME - ROOM_FOR_SORT]}"
    numbered = (f"{sorted_name} ({number})" for number in count(2))
    return sorted_name if sorted_name not in taken else next(one for one in numbered if one not in taken)


_families: Kept[Problem, tuple[Family, ...]] = Kept(_made_families)
_scenarios: Kept[Problem, Scenarios] = Kept(_made_scenarios)
