"""The mean loss of the worst scenarios: the number, the least of it, and what the verifier makes of it."""

from __future__ import annotations

import gzip
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.catalogue import kind
from models.flow.failures.losses import tail_mean
from models.flow.schema import (
    Demand,
    FailureMode,
    Failures,
    Granted,
    Link,
    ListedPath,
    Node,
    PathChoice,
    Paths,
    Plan,
    Problem,
    Route,
    Scenario,
)
from tests.models.failure_talk import anything, links_of, nodes_of, talked
from tests.oracles import flow_failures as oracle

FLOW = kind("flow")
TEAVAR = Path(__file__).parents[3] / "shared" / "data" / "teavar" / "B4"


# ---------------------------------------------------------------- the number


def test_a_tail_by_hand() -> None:
    losses, chances = np.array([0.0, 1.0, 0.5]), np.array([0.9, 0.04, 0.06])
    assert tail_mean(losses, chances, 0.0) == pytest.approx((0.07, 0.0))
    assert tail_mean(losses, chances, 0.9) == pytest.approx((0.7, 0.5))
    assert tail_mean(losses, chances, 0.95) == pytest.approx(((0.04 + 0.01 * 0.5) / 0.05, 0.5))  # the atom of 0.06 is split
    assert tail_mean(losses, chances, 0.96) == pytest.approx((1.0, 1.0))
    assert tail_mean(losses, chances, 0.999) == pytest.approx((1.0, 1.0))


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 20)), min_size=1, max_size=8), st.floats(0, 0.99))
@settings(max_examples=100, deadline=None)
def test_the_tail_is_the_least_over_all_thresholds(outcomes: list[tuple[float, int]], beta: float) -> None:
    """Rockafellar and Uryasev: the least over a of a + E[max(0, loss - a)] / (1 - beta), attained at one of the losses."""
    total = sum(weight for _, weight in outcomes)
    if not total:
        return
    losses, chances = np.array([loss for loss, _ in outcomes]), np.array([weight / total for _, weight in outcomes])
    least = min(at + chances @ np.maximum(0.0, losses - at) / (1.0 - beta) for at in losses)
    assert tail_mean(losses, chances, beta)[0] == pytest.approx(least, abs=1e-9)


# ---------------------------------------------------------------- the least


def risky(beta: float, size: float = 10.0) -> Problem:
    """Two parallel links of 10 and 5, which fail with 4% and 1%; the demand is ``size``."""
    links = (
        links_of("ab")[0].model_copy(update={"id": "wide"}),
        links_of("ab")[0].model_copy(update={"id": "narrow", "capacity_gbps": 5.0}),
    )
    failures = Failures(
        mode=FailureMode.cvar,
        beta=beta,
        scenarios=(Scenario(id="w", links=("wide",), probability=0.04), Scenario(id="n", links=("narrow",), probability=0.01)),
    )
    return Problem(nodes=nodes_of("ab"), links=links, demands=(Demand(id="d", source="a", target="b", size_gbps=size),), failures=failures)


@pytest.mark.parametrize(
    ("beta", "size", "loss"),
    [
        (0.9, 10.0, 0.04 * 0.5 / 0.1),  # both reserved in full: half is lost when the wide one fails, nothing when the narrow one does
        (0.98, 10.0, 0.5),
        (0.9, 15.0, (0.04 * 2 / 3 + 0.01 / 3) / 0.1),
        (0.0, 20.0, 0.95 * 0.25 + 0.04 * 0.75 + 0.01 * 0.5),
        (0.9, 5.0, 0.0),
    ],
)
def test_two_links_by_hand(beta: float, size: float, loss: float) -> None:
    ended = talked(risky(beta, size))
    assert ended.objectives == pytest.approx((loss,), abs=1e-9)
    assert ended.bounds["loss_cvar"] == pytest.approx(loss, abs=1e-7)
    assert ended.rejected == 0


def test_what_has_room_is_carried_though_the_worst_cases_lose_all() -> None:
    """The goal looks at the worst 5% alone, and there the only link is down: it is used all the same while it is up."""
    failures = Failures(mode=FailureMode.cvar, beta=0.95, scenarios=(Scenario(id="w", links=("ab",), probability=0.1),))
    demands = tuple(Demand(id=f"d{size}", source="a", target="b", size_gbps=size) for size in (4, 8))
    problem = Problem(nodes=nodes_of("ab"), links=links_of("ab"), demands=demands, failures=failures)
    ended = talked(problem)
    assert ended.objectives == pytest.approx((1.0,))
    assert ended.plan is not None
    assert sum(route.gbps for route in ended.plan.routes) == pytest.approx(10.0)


def test_a_network_without_links_loses_all() -> None:
    failures = Failures(mode=FailureMode.cvar, scenarios=(Scenario(id="w", probability=0.1),))
    demands = (Demand(id="d", source="a", target="b", size_gbps=1.0),)
    ended = talked(Problem(nodes=nodes_of("ab"), demands=demands, failures=failures))
    assert ended.objectives == pytest.approx((1.0,))
    assert ended.bounds["loss_cvar"] == pytest.approx(1.0)


@given(st.integers(0, 100_000))
@settings(max_examples=40, deadline=None)
def test_the_least_loss_is_that_of_the_long_way(seed: int) -> None:
    problem = anything(seed, FailureMode.cvar)
    ended = talked(problem)
    assert ended.rejected == 0, ended.complaint
    assert ended.objectives == pytest.approx((oracle.tail_loss(problem),), abs=1e-6)
    assert ended.bounds["loss_cvar"] == pytest.approx(oracle.tail_loss(problem), abs=1e-6)


@given(st.integers(0, 100_000))
@settings(max_examples=10, deadline=None)
def test_laws_of_loss(seed: int) -> None:
    """More capacity never loses more, a larger beta never less; a bound never crosses a plan."""
    problem = anything(seed, FailureMode.cvar)
    assert problem.failures is not None
    ended = talked(problem)
    assert ended.objectives is not None
    wider = tuple(
        one if not one.capacity_gbps else one.model_copy(update={"capacity_gbps": one.capacity_gbps * 2}) for one in problem.links
    )
    more = talked(problem.model_copy(update={"links": wider})).objectives
    worse = talked(problem.model_copy(update={"failures": problem.failures.model_copy(update={"beta": 0.999})})).objectives
    assert more is not None
    assert worse is not None
    assert more[0] <= ended.objectives[0] + 1e-6
    assert worse[0] >= ended.objectives[0] - 1e-6
    assert ended.bounds["loss_cvar"] <= ended.objectives[0] + 1e-7


# ---------------------------------------------------------------- the verifier


def test_losses_of_a_plan_are_reckoned() -> None:
    problem = risky(0.9)
    nothing = FLOW.verify(problem, Plan())
    assert nothing.ok
    assert nothing.objectives == {"loss_cvar": pytest.approx(1.0)}
    one = Plan(routes=(Route(demand="d", gbps=10.0, hops=("wide",)),))
    assert FLOW.verify(problem, one).objectives == {"loss_cvar": pytest.approx(0.4)}
    assert FLOW.verify(problem, one).metrics["loss_at_risk"] == 0.0
    full = Plan(routes=(Route(demand="d", gbps=11.0, hops=("wide",)),))
    assert {violation.rule for violation in FLOW.verify(problem, full).violations} == {"link_capacity"}
    granted = one.model_copy(update={"granted": (Granted(demand="d", gbps=1.0),)})
    assert {violation.rule for violation in FLOW.verify(problem, granted).violations} == {"protection"}


# ---------------------------------------------------------------- TEAVAR's B4


def teavar(scale: float, most: int, *, doubles: bool) -> Problem:
    """B4 with its tunnels, the ``most`` largest demands of the first matrix, and scenarios of one link or two, links failing alone."""
    rows = [line.split() for line in (TEAVAR / "topology.txt").read_text().splitlines()[1:] if line.strip()]
    links = tuple(
        Link(id=f"s{start}-s{end}", source=f"s{start}", target=f"s{end}", capacity_gbps=float(size) / 1e3) for end, start, size, _ in rows
    )
    chance = {link.id: float(row[3]) for link, row in zip(links, rows, strict=True)}
    nodes = tuple(Node(id=f"s{number}") for number in range(1, 13))
    with gzip.open(TEAVAR / "demand.txt.gz", "rt") as file:
        matrix = np.array(file.readline().split(), dtype=float).reshape(12, 12)
    np.fill_diagonal(matrix, 0.0)
    pairs = [divmod(int(at), 12) for at in np.argsort(-matrix, axis=None)[:most]]
    demands = tuple(
        Demand(id=f"h{one + 1}-h{two + 1}", source=f"s{one + 1}", target=f"s{two + 1}", size_gbps=scale * matrix[one, two] / 1e3)
        for one, two in pairs
    )
    intact = float(np.prod([1.0 - one for one in chance.values()]))
    scenarios = tuple(
        Scenario(id="+".join(some), links=some, probability=intact * float(np.prod([chance[one] / (1.0 - chance[one]) for one in some])))
        for size in range(1, 2 + doubles)
        for some in combinations(chance, size)
    )
    return Problem(
        nodes=nodes,
        links=links,
        demands=demands,
        paths=Paths(choice=PathChoice.listed, listed=tunnels({one.id for one in demands})),
        failures=Failures(mode=FailureMode.cvar, beta=0.99, scenarios=scenarios),
    )


def tunnels(demands: set[str]) -> tuple[ListedPath, ...]:
    found, demand = [], ""
    for line in (TEAVAR / "paths" / "SMORE").read_text().splitlines():
        head = re.match(r"h(\d+) -> h(\d+)", line)
        if head:
            demand = f"h{head[1]}-h{head[2]}"
        elif line.startswith("[") and demand in demands:
            hops = tuple(f"{one}-{two}" for one, two in re.findall(r"\((s\d+),(s\d+)\)", line))
            found.append(ListedPath(demand=demand, links=hops))
    return tuple(found)


@pytest.mark.skipif(not TEAVAR.exists(), reason="TEAVAR's data has no licence to be copied: it is read from shared/data where that exists")
def test_b4_agrees_with_the_long_way() -> None:
    problem = teavar(3.0, 12, doubles=False)
    ended = talked(problem)
    expected = oracle.tail_loss(problem)
    assert 0.0 < expected < 1.0
    assert ended.objectives == pytest.approx((expected,), abs=1e-6)
    assert ended.bounds["loss_cvar"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.skipif(not TEAVAR.exists(), reason="TEAVAR's data has no licence to be copied: it is read from shared/data where that exists")
def test_b4_with_pairs_of_links_is_proved() -> None:
    """All 132 demands and 741 scenarios."""
    ended = talked(teavar(1.0, 132, doubles=True))
    assert ended.objectives is not None
    assert 0.0 < ended.objectives[0] < 1.0
    assert ended.bounds["loss_cvar"] == pytest.approx(ended.objectives[0], abs=1e-7)


@pytest.mark.skipif(not TEAVAR.exists(), reason="TEAVAR's data has no licence to be copied: it is read from shared/data where that exists")
def test_b4_loses_no_more_on_all_paths() -> None:
    problem = teavar(3.0, 132, doubles=False)
    on_tunnels, anyhow = talked(problem), talked(problem.model_copy(update={"paths": Paths()}))
    assert on_tunnels.objectives is not None
    assert anyhow.objectives is not None
    assert anyhow.objectives[0] <= on_tunnels.objectives[0] + 1e-6
    assert anyhow.bounds["loss_cvar"] == pytest.approx(anyhow.objectives[0], abs=1e-6)
