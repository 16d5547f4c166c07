"""The inverse question against a scan of all values, with rows that prove little or nothing, and what its sentence claims."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.study.questions.asking import UnknownMetricError
from optimizer.study.questions.target import Ladder, Standing, Wanted, reach
from tests.optimizer.study.told_rows import told_row

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from optimizer.study.rows import Row


TAKEN = "smaller values were taken to be no better, which no row contradicts"


@dataclass
class Told:
    """Rows from a function of the value; counts the questions and refuses to be asked one twice."""

    row_at: Callable[[float], Row]
    asked: list[float] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def ask(self, values: Mapping[str, Any]) -> Row:
        """One row."""
        return self.ask_all([values])[0]

    def ask_all(self, asked: Sequence[Mapping[str, Any]]) -> list[Row]:
        """Several."""
        self.batches.append(len(asked))
        values = [float(one["nodes"]) for one in asked]
        assert not set(values) & set(self.asked)
        self.asked += values
        return [self.row_at(value) for value in values]


def placed(most: float = 42.0) -> Callable[[float], Row]:
    """Four jobs fit on a node, as many as there are."""
    return lambda nodes: told_row({"placed": (min(4.0 * nodes, most), min(4.0 * nodes, most))})


def wanted(**parts: Any) -> Wanted:
    given: dict[str, Any] = {"axis": "nodes", "metric": "placed", "target": 42.0}
    return Wanted(**(given | parts))


def test_the_least_number_of_nodes() -> None:
    asker = Told(placed())
    found = reach(asker, wanted(unit="nodes"), Ladder.whole(0, 1_000_000))
    assert (found.value, found.proved, found.impossible, found.monotone) == (11.0, True, 10.0, True)
    assert found.sentence == f"11 nodes (proved least: at 10 nodes no plan can reach it, placed is bounded by 40 of 42); {TAKEN}"
    assert len(asker.asked) < 16
    assert max(asker.asked) <= 64
    assert max(asker.batches) == 2


def test_one_worker_is_enough() -> None:
    asker = Told(placed())
    assert reach(asker, wanted(), Ladder.whole(0, 1_000_000), workers=1).value == 11.0
    assert max(asker.batches) == 1


def test_it_says_where_it_is_undecided() -> None:
    def row_at(nodes: float) -> Row:
        loose = nodes in (9.0, 10.0)
        return told_row({"placed": (min(4.0 * nodes, 42.0), 42.0 if loose else min(4.0 * nodes, 42.0))})

    found = reach(Told(row_at), wanted(), Ladder.whole(0, 100))
    assert (found.value, found.proved, found.impossible) == (11.0, False, 8.0)
    assert found.sentence == f"between 9 and 11: reached at 11, proved impossible at 8, undecided within the limits at 9, 10; {TAKEN}"


def test_met_at_once_and_never_met() -> None:
    assert (
        reach(Told(placed()), wanted(target=0.0), Ladder.whole(0, 9)).sentence
        == "0: placed at least 0 is reached at the least value already"
    )
    asker = Told(placed())
    never = reach(asker, wanted(target=43.0), Ladder.whole(0, 900))
    assert (never.value, never.proved, never.impossible) == (None, True, 900.0)
    assert (
        never.sentence
        == f"placed at least 43 is never reached up to 900: there no plan can reach it, placed is bounded by 42 of 43; {TAKEN}"
    )
    open_end = reach(Told(lambda _: told_row({"placed": (3.0, 50.0)})), wanted(), Ladder.whole(0, 9))
    assert (open_end.value, open_end.proved) == (None, False)
    assert open_end.sentence == "placed at least 42 was not reached up to 9; it is undecided within the limits"


def test_no_plan_at_all_proves_that_it_is_not_reached() -> None:
    found = reach(
        Told(lambda t: told_row({}, outcome="infeasible") if t < 5 else told_row({"placed": (50.0, 60.0)})), wanted(), Ladder.whole(0, 9)
    )
    assert found.sentence == f"5 (proved least: at 4 there is no plan at all); {TAKEN}"


def test_failures_are_told() -> None:
    found = reach(Told(lambda t: told_row({}, failure="out of memory") if t == 10 else placed()(t)), wanted(), Ladder.whole(0, 99))
    assert (found.value, found.proved, found.impossible) == (11.0, False, 9.0)
    assert found.sentence.endswith("nothing is known at 10: out of memory")


def test_a_metric_has_no_bound() -> None:
    asker = Told(lambda t: told_row({"placed": (1.0, 1.0)}, metrics={"full": float(t >= 7)}))
    found = reach(asker, wanted(metric="full", target=1.0), Ladder.whole(0, 99))
    assert (found.value, found.proved) == (7.0, False)
    assert found.sentence == "7 (the least that was tried, not proved: at 6 the plan has 0, and no bound of full holds for all plans)"
    with pytest.raises(UnknownMetricError, match="there are: placed, full"):
        reach(asker, wanted(metric="fill"), Ladder.whole(200, 201))


def test_a_later_goal_is_only_what_the_plan_has() -> None:
    found = reach(Told(lambda t: told_row({"first": (1.0, 1.0), "placed": (t, t)})), wanted(target=3.0), Ladder.whole(0, 9))
    assert (found.value, found.proved) == (3.0, False)


def test_the_most_that_may_be_lost() -> None:
    asker = Told(lambda lost: told_row({"placed": (50.0 - lost, 50.0 - lost)}))
    found = reach(asker, wanted(seek="most"), Ladder.whole(0, 30))
    assert (found.value, found.proved, found.impossible) == (8.0, True, 9.0)
    assert found.sentence.startswith("8 (proved most: at 9 no plan")


def test_a_cost_at_most() -> None:
    asker = Told(lambda t: told_row({"cost": (100.0 / (1.0 + t), 100.0 / (1.0 + t))}, maximise=False))
    found = reach(asker, wanted(metric="cost", target=30.0, at_least=False), Ladder.ranged(0.0, 10.0, 0.01))
    assert found.proved
    assert found.value == pytest.approx(2.34, abs=0.01)
    assert found.impossible == pytest.approx((found.value or 0.0) - 0.01)


def test_values_that_are_out_of_order_are_scanned() -> None:
    values = {0: 1.0, 1: 5.0, 2: 3.0, 3: 9.0, 4: 2.0, 5: 50.0, 6: 1.0, 7: 60.0}
    asker = Told(lambda t: told_row({"placed": (values[int(t)], values[int(t)])}))
    found = reach(asker, wanted(target=9.0), Ladder.whole(0, 7))
    assert not found.monotone
    assert (found.value, found.proved, found.impossible) == (3.0, True, 2.0)
    assert "the values of nodes are not in order" in found.sentence
    other = reach(Told(asker.row_at), wanted(target=9.0), Ladder.whole(0, 7), monotone=False)
    assert (other.value, other.proved) == (3.0, True)


def test_ladders() -> None:
    assert [Ladder.whole(0.5, 3.2).value(step) for step in range(3)] == [1.0, 2.0, 3.0]
    assert [Ladder.listed([3.0, 1.0, 3.0]).value(step) for step in range(2)] == [1.0, 3.0]
    ranged = Ladder.ranged(0.0, 1.0, 0.3)
    assert [ranged.value(step) for step in range(ranged.count)] == [0.0, 0.25, 0.5, 0.75, 1.0]
    empty: list[Callable[[], Ladder]] = [
        lambda: Ladder.whole(0.2, 0.8),
        lambda: Ladder.ranged(1.0, 1.0, 0.1),
        lambda: Ladder.ranged(0.0, 1e12, 1e-9),
        lambda: Ladder.ranged(0.0, 1e12, 1e-320),
        lambda: Ladder.listed([]),
    ]
    for make in empty:
        with pytest.raises(ValueError, match=r"whole number|least|steps|at least one"):
            make()


@given(st.data(), st.booleans(), st.booleans(), st.integers(1, 4))
@settings(max_examples=300, deadline=None)
def test_it_never_claims_what_is_false(data: st.DataObject, maximise: bool, ordered: bool, workers: int) -> None:
    """Optima that rise (or do not), seen through plans and bounds that may be loose, or lost."""
    count = data.draw(st.integers(1, 24))
    numbers = data.draw(st.lists(st.integers(0 if ordered else -3, 3), min_size=count, max_size=count))
    truth = [float(sum(numbers[: place + 1])) for place in range(count)]
    loose = data.draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 9)), min_size=count, max_size=count))
    exact = data.draw(st.booleans())
    target = float(data.draw(st.integers(-3, 12)))

    def row_at(value: float) -> Row:
        low, high, lost = (0, 0, 1) if exact else loose[int(value)]
        if lost == 0:
            return told_row({}, failure="lost")
        ends = truth[int(value)] - low, truth[int(value)] + high
        # A cost at most, turned: the same question.
        return told_row({"placed": ends if maximise else (-ends[0], -ends[1])}, maximise=maximise)

    question = wanted(target=target if maximise else -target, at_least=maximise)
    found = reach(Told(row_at), question, Ladder.whole(0, count - 1), monotone=ordered, workers=workers)
    least = next((place for place in range(count) if truth[place] >= target), None)
    if found.value is not None:
        assert truth[int(found.value)] >= target
        assert least is not None
        assert least <= found.value
    if found.impossible is not None:
        assert all(one < target for one in truth[: int(found.impossible) + 1])
    if found.proved:
        assert found.value == least
    if ordered:
        assert found.monotone
    if exact:
        assert found.proved
        assert found.value == least
    assert all(one.standing is not Standing.reached or truth[int(one.value)] >= target for one in found.asked)
