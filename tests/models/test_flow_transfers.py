"""Transfers over time: against brute force, by hand, by laws that any right answer obeys, and with broken plans."""

from __future__ import annotations

import random
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.flow.explain import explain, subjects
from models.flow.schema import Direction, Leg, Link, Plan, Problem, Shipment, Transfer
from models.flow.transfers import trees as transfer_trees
from models.flow.transfers.exact import build, extract, size, start
from models.flow.transfers.examples import transfers
from models.flow.transfers.expansion import expansion_of
from models.flow.transfers.first import first_plan, simple_bounds
from models.flow.transfers.trees import ways
from models.flow.transfers.verify import verify_transfers
from optimizer.compile import compile_model
from optimizer.limits import Limits
from optimizer.result import Outcome, Result
from optimizer.solve import solve
from tests.oracles.flow_transfers import brute, changed, drawn, link, loads, made, paths, relaxed

if TYPE_CHECKING:
    from collections.abc import Iterator

EXACT = Limits(time_limit_s=30, gap=1e-7)


def answer(problem: Problem, limits: Limits = EXACT) -> Result:
    return solve(problem, limits, isolate=False)


def goals(problem: Problem) -> tuple[float, ...] | None:
    """The goals' proven values; None when there is no plan, proved."""
    result = answer(problem)
    assert result.failure is None
    if result.outcome is Outcome.infeasible:
        return None
    assert result.outcome is Outcome.optimal
    assert isinstance(result.plan, Plan)
    verdict = verify_transfers(problem, result.plan)
    assert verdict.ok
    return tuple(verdict.objectives.values())


# ---------------------------------------------------------------- brute force


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6))
def test_brute_force_agrees(seed: int) -> None:
    problem = drawn(seed)
    expected, found = brute(problem), goals(problem)
    if expected is None:
        assert found is None
    else:
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_the_program_holds_every_plan_and_bounds_it(seed: int) -> None:
    """For one target each it is the problem itself, and its values are a plan again."""
    problem = drawn(seed)
    plan = answer(problem).plan
    floors: dict[str, float] = {}
    for goal in problem.ordered_goals():
        compiled = compile_model(build(problem, goal, floors))
        program = compiled.program
        found = relaxed(program)
        if plan is None:
            assert found is None or any(len(one.targets) > 1 for one in problem.transfers)
            return
        assert isinstance(plan, Plan)
        assert found is not None
        objective = verify_transfers(problem, plan).objectives[goal]
        values = program_values(compiled, start(problem, plan))
        assert program.relative_violation(values) <= 1e-6
        assert program.objective(values) == pytest.approx(objective, rel=1e-6, abs=1e-9)
        sign = 1.0 if program.maximise else -1.0
        assert sign * found[0] >= sign * objective - 1e-6 * max(1.0, abs(objective))
        floors[goal] = objective
        if all(len(one.targets) == 1 for one in problem.transfers):
            assert found[0] == pytest.approx(objective, rel=1e-6, abs=1e-6)
            again = verify_transfers(problem, extract(problem, compiled.values_by_ids(found[1])))
            assert again.ok
            assert again.objectives[goal] == pytest.approx(objective, rel=1e-6, abs=1e-6)
        # Trees taken out of flows one after another may leave something of a transfer with several targets over; they break nothing else.
        again = verify_transfers(problem, extract(problem, compiled.values_by_ids(values)))
        assert {one.rule for one in again.violations} <= {"transfer_complete"}


def program_values(compiled: Any, values: dict[str, dict[tuple[Any, ...], float]]) -> Any:
    vector = compiled.vector_of(
        {name: {(ids if len(ids) > 1 else ids[0]): one for ids, one in held.items()} for name, held in values.items()}
    )
    return np.nan_to_num(vector)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6))
def test_cheapest_trees_are_cheapest(seed: int) -> None:
    problem, luck = drawn(seed), np.random.default_rng(seed)
    expansion = expansion_of(problem)
    network = expansion.network
    leg = luck.choice([0.0, 1.0, 1.5, 4.0], (expansion.steps, network.arcs)) + expansion.blocked
    wait = luck.choice([0.0, 0.5, 2.0, np.inf], (expansion.steps, network.nodes))
    for way in ways(expansion, range(expansion.count), leg, wait):
        dearest = min(prices(problem, way.transfer, leg, wait), default=np.inf)
        assert way.price == pytest.approx(dearest)
        assert way.least <= way.price
        assert way.least == pytest.approx(way.price, abs=1e-8)


def prices(problem: Problem, number: int, leg: Any, wait: Any) -> Iterator[float]:
    """What every union of paths to the targets of a transfer costs, reckoned the long way."""
    expansion = expansion_of(problem)
    one = problem.transfers[number]
    ends = {name: (problem.nodes[tail].id, problem.nodes[head].id) for name, (tail, head) in arcs_of(expansion).items()}
    last = expansion.deadline[number]
    choices = [list(paths(ends, one.source, target, one.release, int(last))) for target in one.targets]
    for chosen in product(*choices):
        legs = frozenset(each for path in chosen for each in path)
        used = loads(problem, ends, one, legs)
        waited = sum(wait[int(key[2]), expansion.network.node_at[key[1]]] for key in used if key[0] == "node")
        yield sum(leg[step, expansion.arc_at[name, back]] for name, back, step in legs) + waited


def arcs_of(expansion: Any) -> dict[tuple[str, bool], tuple[int, int]]:
    network = expansion.network
    return {ids: (int(network.arc_tail[arc]), int(network.arc_head[arc])) for ids, arc in expansion.arc_at.items()}


# ---------------------------------------------------------------- by hand


def test_the_price_valley_is_used() -> None:
    """Two of four steps are cheap: 2 Gbit go then, a third one pays the high price."""
    for size_gbit, cost in ((2.0, 2.0), (3.0, 7.0)):
        moved = (Transfer(id="x", source="a", targets=("b",), size_gbit=size_gbit),)
        assert goals(made({"a": 0.0, "b": 0.0}, (link("a-b", 1.0, (5.0, 1.0, 1.0, 5.0)),), moved, 4)) == pytest.approx((cost,))


@pytest.mark.parametrize(("storage", "cost"), [(0.0, 55.0), (3.0, 28.0), (5.0, 10.0), (None, 10.0)])
def test_a_relay_keeps_data_until_it_is_cheap(storage: float | None, cost: float) -> None:
    """The first link is cheap in step 0, the second in step 3: 2 USD for a Gbit that waits between, 11 for one that cannot."""
    links = (link("a-b", 9.0, (1.0, 10.0, 10.0, 10.0)), link("b-c", 9.0, (10.0, 10.0, 10.0, 1.0)))
    moved = (Transfer(id="x", source="a", targets=("c",), size_gbit=5.0),)
    assert goals(made({"a": 0.0, "b": storage, "c": 0.0}, links, moved, 4)) == pytest.approx((cost,))


def test_one_copy_serves_several_targets() -> None:
    links = (link("s-a", 10.0, (1.0,)), link("a-t", 10.0), link("a-u", 10.0))
    nodes: dict[str, float | None] = dict.fromkeys("satu", 0.0)
    together = (Transfer(id="x", source="s", targets=("t", "u"), size_gbit=10.0),)
    apart = tuple(Transfer(id=name, source="s", targets=(name,), size_gbit=10.0) for name in "tu")
    assert goals(made(nodes, links, together, 3)) == pytest.approx((10.0,))
    assert goals(made(nodes, links, apart, 3)) == pytest.approx((20.0,))


def butterfly(value: float | None) -> Problem:
    """Each way to a target has four links and there are four steps, so that every link is of use in one of them only."""
    names = ("s-a", "s-b", "a-p", "p-q", "q-t", "b-m", "m-n", "n-u", "a-c", "b-c", "c-d", "d-t", "d-u")
    moved = (Transfer(id="x", source="s", targets=("t", "u"), size_gbit=2.0, value=value),)
    return made(dict.fromkeys("sabpqmncdtu", 0.0), tuple(link(name) for name in names), moved, 4)


def test_copies_are_not_coded_together() -> None:
    """The butterfly of network coding: 2 Gbit reach both targets when the link in the middle may carry a sum, 1.5 as copies."""
    problem = butterfly(2.0)
    coded = relaxed(build(problem, "transfer_value"))
    assert coded is not None
    assert coded[0] == pytest.approx(2.0)
    assert goals(problem) == pytest.approx((1.5, 0.0))
    assert answer(butterfly(None)).outcome is Outcome.infeasible


def test_a_target_passes_data_on_and_keeps_it_for_free() -> None:
    links = (link("s-t", 10.0, (1.0, 9.0, 9.0)), link("t-u", 10.0, (9.0, 9.0, 1.0)), link("s-u", 10.0, (5.0,)))
    moved = (Transfer(id="x", source="s", targets=("t", "u"), size_gbit=4.0),)
    assert goals(made(dict.fromkeys("stu", 0.0), links, moved, 3)) == pytest.approx((8.0,))


def test_value_comes_before_cost_and_may_be_had_in_part() -> None:
    moved = (
        Transfer(id="cheap", source="a", targets=("b",), size_gbit=4.0, value=4.0),
        Transfer(id="dear", source="a", targets=("b",), size_gbit=2.0, value=6.0),
    )
    problem = made({"a": 0.0, "b": 0.0}, (link("a-b", 1.0, (2.0, 1.0, 1.0)),), moved, 3)
    assert goals(problem) == pytest.approx((7.0, 4.0))
    texts = [one.text for one in answer(problem).reasons]
    assert any("3 Gbit of 'cheap' are not delivered" in text for text in texts)


def test_shared_links_share_and_parallel_links_add_up() -> None:
    there, back = Transfer(id="x", source="a", targets=("b",), size_gbit=2.0), Transfer(id="y", source="b", targets=("a",), size_gbit=2.0)
    nodes: dict[str, float | None] = {"a": 0.0, "b": 0.0}
    for direction, possible in ((Direction.each, True), (Direction.shared, False)):
        assert (goals(made(nodes, (link("a-b", 1.0, (), direction),), (there, back), 2)) is not None) == possible
    twice = (link("a-b"), Link(id="again", source="a", target="b", capacity_gbps=1.0))
    assert goals(made(nodes, twice, (there,), 1)) == pytest.approx((0.0,))


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_numbers_may_be_small_or_large(scale: float) -> None:
    links = (link("a-b", 9.0 * scale, (1.0, 10.0, 10.0, 10.0)), link("b-c", 9.0 * scale, (10.0, 10.0, 10.0, 1.0)))
    moved = (Transfer(id="x", source="a", targets=("c",), size_gbit=5.0 * scale),)
    problem = made({"a": 0.0, "b": 3.0 * scale, "c": 0.0}, links, moved, 4)
    assert goals(problem) == pytest.approx((28.0 * scale,), rel=1e-5)


# ---------------------------------------------------------------- no plan


def test_what_cannot_arrive_is_named_with_its_repair() -> None:
    moved = (Transfer(id="x", source="a", targets=("b",), size_gbit=30.0, deadline=2),)
    result = answer(made({"a": 0.0, "b": 0.0}, (link("a-b", 1.0),), moved, 4, step_s=10.0))
    assert result.outcome is Outcome.infeasible
    conflict = result.conflict
    assert conflict is not None
    assert conflict.status == "proved"
    assert {(name, ids[0]) for name, ids in conflict.rules} == {
        ("link_capacity", "a-b"),
        ("transfer_window", "x"),
        ("transfer_complete", "x"),
    }
    assert len(conflict.repairs) == 1


def test_a_node_without_storage_is_named() -> None:
    """Both links are used by others in the steps that would do without waiting."""
    links = (link("a-b"), link("b-c"))
    moved = (
        Transfer(id="x", source="a", targets=("c",), size_gbit=1.0, release=0, deadline=4),
        Transfer(id="y", source="a", targets=("b",), size_gbit=2.0, release=1, deadline=3),
        Transfer(id="z", source="b", targets=("c",), size_gbit=1.0, release=1, deadline=2),
    )
    problem = made({"a": 0.0, "b": 0.0, "c": 0.0}, links, moved, 4)
    result = answer(problem)
    assert result.outcome is Outcome.infeasible
    assert result.conflict is not None
    assert ("node_storage", "b") in {(name, ids[0]) for name, ids in result.conflict.rules}
    assert goals(changed(problem, nodes=[{"id": "a"}, {"id": "b", "storage_gbit": 1.0}, {"id": "c"}])) == pytest.approx((0.0,))


def test_what_is_cut_off_is_impossible_or_worth_nothing() -> None:
    for value, expected in ((None, None), (5.0, (0.0, 0.0))):
        moved = (Transfer(id="x", source="a", targets=("c",), size_gbit=1.0, value=value),)
        problem = made({"a": 0.0, "b": 0.0, "c": 0.0}, (link("a-b"), link("c-b", 0.0)), moved, 3)
        assert goals(problem) == expected
        if value is not None:
            assert {one.status for one in answer(problem).reasons if one.code == "why_not"} == {"proved"}


# ---------------------------------------------------------------- laws


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_more_room_and_time_never_hurt(seed: int) -> None:
    problem = drawn(seed)
    before = goals(problem)
    document = problem.model_dump()
    wider = [one | {"capacity_gbps": None if one["capacity_gbps"] is None else one["capacity_gbps"] + 0.5} for one in document["links"]]
    roomier = [one | {"storage_gbit": None if one["storage_gbit"] is None else one["storage_gbit"] + 0.5} for one in document["nodes"]]
    later = [one | {"deadline": None} for one in document["transfers"]]
    for fields in ({"links": wider}, {"nodes": roomier}, {"transfers": later}):
        after = goals(changed(problem, **fields))
        if before is not None:
            assert after is not None
            if len(before) == 2 and after[0] > before[0] + 1e-6:
                continue
            assert after[0] >= before[0] - 1e-6 if len(before) == 2 else after[0] <= before[0] + 1e-6
            assert after[-1] <= before[-1] + 1e-6


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.01, 3.0, 1e4]))
def test_names_do_not_matter_and_prices_scale(seed: int, factor: float) -> None:
    problem = drawn(seed)
    before, document = goals(problem), problem.model_dump()
    backwards = {name: list(reversed(document[name])) for name in ("nodes", "links", "transfers")}
    dearer = [one | {"usd_per_gbit": [factor * usd for usd in one["usd_per_gbit"]]} for one in document["links"]]
    turned, scaled = goals(changed(problem, **backwards)), goals(changed(problem, links=dearer))
    if before is None:
        assert turned is None
        assert scaled is None
    else:
        assert turned == pytest.approx(before, rel=1e-6, abs=1e-6)
        assert scaled == pytest.approx((*before[:-1], factor * before[-1]), rel=1e-6, abs=1e-6 * max(1.0, factor))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_the_first_plan_is_right_and_within_the_bounds(seed: int) -> None:
    problem = drawn(seed)
    plan, bounds = first_plan(problem, 1.0), simple_bounds(problem)
    if plan is None:
        return
    verdict = verify_transfers(problem, plan)
    assert verdict.ok
    proven = goals(problem)
    assert proven is not None
    named = dict(zip(problem.ordered_goals(), proven, strict=True))
    assert named["transfer_cost"] >= bounds["transfer_cost"] - 1e-6
    if "transfer_value" in named:
        assert verdict.objectives["transfer_value"] <= named["transfer_value"] + 1e-6
        assert named["transfer_value"] <= bounds["transfer_value"] + 1e-6


# ---------------------------------------------------------------- broken plans


def relayed() -> tuple[Problem, Plan]:
    """From s over r to t and u, waiting at r through steps 1 and 2."""
    links = (link("s-r", 5.0), link("r-t", 5.0), link("r-u", 5.0))
    moved = (Transfer(id="x", source="s", targets=("t", "u"), size_gbit=5.0, release=0, deadline=5),)
    problem = made({"s": 0.0, "r": 5.0, "t": 0.0, "u": 0.0}, links, moved, 6)
    return problem, shipping(("s-r", 0), ("r-t", 1), ("r-u", 3))


def shipping(*legs: tuple[str, int], gbit: float = 5.0, transfer: str = "x") -> Plan:
    return Plan(shipments=(Shipment(transfer=transfer, gbit=gbit, legs=tuple(Leg(link=name, step=step) for name, step in legs)),))


def test_a_right_plan_is_right() -> None:
    problem, plan = relayed()
    verdict = verify_transfers(problem, plan)
    assert verdict.ok
    assert verdict.objectives == {"transfer_cost": 0.0}
    assert verdict.metrics["most_gbit_waiting"] == 5.0
    assert verdict.metrics["gbit_sent"] == 15.0
    assert verdict.metrics["full_link_steps"] == 3.0


@pytest.mark.parametrize(
    ("rule", "plan"),
    [
        ("flow_conservation", shipping(("s-r", 1), ("r-t", 1), ("r-u", 3))),  # sent on before it has come
        ("flow_conservation", shipping(("s-r", 2), ("r-t", 1), ("r-u", 3))),
        ("flow_conservation", shipping(("r-t", 1), ("r-u", 3))),  # a copy from nowhere
        ("flow_conservation", shipping(("s-r", 0), ("r-t", 1), ("r-u", 3), ("no-link", 2))),
        ("flow_conservation", shipping(("s-r", 0), ("r-t", 1), ("r-u", 3), ("r-u", 3))),
        ("transfer_window", shipping(("s-r", 0), ("r-t", 1), ("r-u", 5))),  # after the deadline
        ("transfer_complete", shipping(("s-r", 0), ("r-t", 1))),  # a target without its copy
        ("transfer_complete", shipping(("s-r", 0), ("r-t", 1), ("r-u", 3), gbit=4.0)),
        ("transfer_complete", shipping(("s-r", 0), ("r-t", 1), ("r-u", 3), transfer="y")),
        ("link_capacity", shipping(("s-r", 0), ("r-t", 1), ("r-u", 3), gbit=6.0)),
        ("transfer_complete", Plan()),
    ],
)
def test_a_broken_plan_is_refused(rule: str, plan: Plan) -> None:
    problem, _ = relayed()
    verdict = verify_transfers(problem, plan)
    assert not verdict.ok
    assert rule in {one.rule for one in verdict.violations}


def test_waiting_counts_once_and_only_where_data_is_not_at_home() -> None:
    problem, plan = relayed()
    less = changed(problem, nodes=[{"id": "s"}, {"id": "r", "storage_gbit": 4.0}, {"id": "t"}, {"id": "u"}])
    verdict = verify_transfers(less, plan)
    assert [(one.rule, one.ids, one.amount) for one in verdict.violations] == [("node_storage", ("r",), 1.0)] * 2
    # What comes again need not have waited.
    twice = shipping(("s-r", 0), ("r-t", 1), ("s-r", 2), ("r-u", 3))
    assert verify_transfers(changed(problem, nodes=[{"id": name} for name in "srtu"]), twice).ok


def test_more_than_the_release_and_a_backward_leg_over_a_one_way_link_are_refused() -> None:
    problem, plan = relayed()
    late = changed(problem, transfers=[problem.transfers[0].model_dump() | {"release": 1}])
    assert {one.rule for one in verify_transfers(late, plan).violations} == {"transfer_window"}
    legs = (*plan.shipments[0].legs, Leg(link="r-t", back=True, step=2))
    back = Plan(shipments=(Shipment(transfer="x", gbit=5.0, legs=legs),))
    assert "flow_conservation" in {one.rule for one in verify_transfers(problem, back).violations}


# ---------------------------------------------------------------- many targets


def star(targets: int) -> Problem:
    """A source, two relays, and targets that hang on both and on each other."""
    names = [f"t{number}" for number in range(targets)]
    luck = random.Random(5)
    links = [link("s-r", 4.0, (1.0, 2.0, 1.0, 1.0, 2.0)), link("s-q", 4.0, (2.0,))]
    for number, name in enumerate(names):
        links += [link(f"r-{name}", 4.0, (luck.choice([0.5, 1.0]),)), link(f"q-{name}", 4.0, (luck.choice([0.25, 2.0]),))]
        if number:
            links.append(link(f"{names[number - 1]}-{name}", 2.0, (0.1,)))
    moved = (Transfer(id="x", source="s", targets=tuple(names), size_gbit=8.0),)
    return made({"s": 0.0, "r": 4.0, "q": None, **dict.fromkeys(names, 0.0)}, tuple(links), moved, 5)


def test_trees_beyond_the_exact_size_are_bounded_honestly(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = star(7)
    exact = goals(problem)
    assert exact is not None
    monkeypatch.setattr(transfer_trees, "EXACT_WORK", 0)
    again = star(7)  # what is kept belongs to a problem
    result = answer(again)
    assert result.failure is None
    assert isinstance(result.plan, Plan)
    assert result.certificate is not None
    assert verify_transfers(again, result.plan).ok
    proved = result.certificate.goals[-1]
    assert proved.bound <= exact[0] + 1e-6
    assert proved.objective >= exact[0] - 1e-6
    assert proved.bound >= 0.9 * exact[0]


# ---------------------------------------------------------------- the example


def test_the_example_is_explained() -> None:
    problem = transfers()
    result = answer(problem)
    assert result.outcome is Outcome.optimal
    plan = result.plan
    assert isinstance(plan, Plan)
    known = {*subjects(problem, plan)}
    for subject in (None, *subjects(problem, plan)):
        for reason in explain(problem, plan, subject):
            assert set(reason.ids) <= known
            assert reason.subject == (subject or "")
    texts = " ".join(one.text for one in result.reasons)
    assert "3 of 3 transfers are delivered in full" in texts
    assert "The storage of 'ashburn', 40000 Gbit, is full" in texts
    assert size(problem) > 0


def test_the_answer_is_the_same_twice() -> None:
    problem = transfers()
    assert answer(problem).plan == answer(transfers()).plan
