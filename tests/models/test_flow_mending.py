"""Flow moved off links over their level: what comes out keeps every level, carries the same, and costs no more."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from models.flow.columns import generation as columns
from models.flow.columns import mending
from models.flow.columns.master import EXACT, Master, Stage
from models.flow.columns.mending import mended
from models.flow.columns.pricing import table_of
from models.flow.columns.store import PathStore
from models.flow.network.arrays import network_of
from models.flow.network.fabric import commodities_of, plain_fabric
from models.flow.schema import Demand, Link, Node, Objective, Problem
from models.flow.verify import verify
from tests.models.flow_random import plan_of, problem, solved
from tests.oracles.flow_edges import Oracle


def ladder(ways: int, demands: int) -> Problem:
    """Some ways from a to z over one link each, and demands of size 1."""
    nodes = ("a", "z", *(f"n{way}" for way in range(ways)))
    links = [
        Link(id=f"{one}{other}", source=one, target=other, capacity_gbps=4.0)
        for way in range(ways)
        for one, other in (("a", f"n{way}"), (f"n{way}", "z"))
    ]
    asked = tuple(Demand(id=f"d{one}", source="a", target="z", size_gbps=1.0, value=1.0 + one) for one in range(demands))
    return Problem(objective=Objective.max_throughput, nodes=tuple(Node(id=name) for name in nodes), links=tuple(links), demands=asked)


def master_of(given: Problem, *, cost: bool = False) -> Master:
    """All ways for every demand; each demand is a commodity of its own."""
    fabric = plain_fabric(network_of(given))
    commodities = commodities_of(given, fabric, apart=True)
    ways = fabric.arcs // 2
    store = PathStore()
    paths = [[2 * way, 2 * way + 1] for _ in range(commodities.count) for way in range(ways)]
    store.add(table_of(np.repeat(np.arange(commodities.count), ways), paths))
    stage = Stage(
        form=np.full(commodities.count, EXACT),
        size=commodities.size,
        layer_counts=np.ones((1, 1), dtype=np.bool_),
        layer_level=np.ones(1),
        unit_arc=np.arange(fabric.arcs, dtype=np.float64) if cost else np.zeros(fabric.arcs),
        unit_gain=np.zeros(commodities.count),
        rank=0,
    )
    return Master(fabric, commodities, stage, store)


def on_one_way(master: Master, way: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    ways = master.fabric.arcs // 2
    flow = np.zeros(master.store.count)
    flow[way::ways] = 1.0
    return flow


def test_what_is_too_much_goes_elsewhere() -> None:
    master = master_of(ladder(3, 10))
    found = mended(master, on_one_way(master, 0), 0.0, 1e-9)
    assert found is not None
    assert not len(master.overloaded(found, 0.0, 1e-9))
    carried = np.bincount(master.store.table.commodity, weights=found)
    assert carried == pytest.approx(np.ones(10))
    assert (found >= 0.0).all()


def test_a_flow_within_its_levels_stays_as_it_is() -> None:
    master = master_of(ladder(3, 4))
    flow = on_one_way(master, 1)
    found = mended(master, flow, 0.0, 1e-9)
    assert found is not None
    assert np.array_equal(found, flow)
    assert found is not flow


def test_nothing_is_told_where_there_is_no_room() -> None:
    master = master_of(ladder(3, 13))
    assert mended(master, on_one_way(master, 0), 0.0, 1e-9) is None


def test_no_flow_goes_to_a_path_that_costs_more() -> None:
    master = master_of(ladder(3, 8), cost=True)
    assert mended(master, on_one_way(master, 0), 0.0, 1e-9) is None
    found = mended(master, on_one_way(master, 2), 0.0, 1e-9)
    assert found is not None
    assert master.value(found, 0.0) < master.value(on_one_way(master, 2), 0.0)


def test_a_layer_counts_the_classes_that_it_is_of() -> None:
    given = ladder(2, 6)
    demands = tuple(one.model_copy(update={"priority": int(place < 2)}) for place, one in enumerate(given.demands))
    master = master_of(given.model_copy(update={"demands": demands}))
    # The first class may fill a quarter of a link, both together all of it.
    layers = np.array([[True, False], [True, True]])
    master.stage = replace(master.stage, layer_counts=layers, layer_level=np.array([0.25, 1.0]))
    master.layers = 2
    found = mended(master, on_one_way(master, 0), 0.0, 1e-9)
    assert found is not None
    assert master.loads(found)[0].max() <= 1.0 + 1e-9
    assert master.loads(found)[1].max() <= 4.0 + 1e-9


def test_it_gives_up_where_much_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    master = master_of(ladder(3, 10))
    monkeypatch.setattr(mending, "MOST_CHANNELS", 1)
    assert mended(master, on_one_way(master, 0), 0.0, 1e-9) is None
    monkeypatch.undo()
    monkeypatch.setattr(mending, "MOST_MOVES", 2)
    assert mended(master, on_one_way(master, 0), 0.0, 1e-9) is None


@pytest.mark.parametrize("objective", ["min_cost", "max_throughput", "max_concurrent", "min_max_utilisation"])
@pytest.mark.parametrize("seed", range(10))
def test_the_search_is_as_good_with_it_and_without(objective: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given = problem(random.Random(seed).randrange(10**6), objective, classes=2)
    best = Oracle(given).optima()
    for use in (mended, lambda *_: None):
        monkeypatch.setattr(columns, "mended", use)
        found = solved(given)
        assert not found.failure, found.failure
        if best is None or best[-1] == np.inf or found.certificate is None:
            continue
        assert verify(given, plan_of(found)).ok
        for goal, optimum in zip(found.certificate.goals, best, strict=True):
            assert goal.objective == pytest.approx(optimum, rel=2e-6, abs=2e-6), goal.name
            assert goal.bound == pytest.approx(optimum, rel=2e-6, abs=2e-6), goal.name
