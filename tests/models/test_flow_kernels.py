"""The array kernels of the search for routes: all pairs at once, traced paths, codes of paths, amounts dealt to many groups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.flow.columns import pricing
from models.flow.columns.codes import run_sums
from models.flow.columns.patterns import dealt, matched, spans
from models.flow.columns.pricing import GraphPricer, PathTable, run_totals, traced
from models.flow.network.arrays import network_of
from models.flow.network.fabric import commodities_of, plain_fabric
from models.flow.paths.allpairs import cheapest_trees, worth_it
from models.program import Floats, Ints
from tests.models.flow_random import problem

PRICES = ("hops", "whole", "free", "wide", "none", "closed")


def prices(kind: str, arcs: int, rng: np.random.Generator) -> Floats:
    """Prices of arcs, of all sorts that a search meets."""
    made = {
        "hops": np.ones(arcs),
        "whole": rng.integers(0, 4, arcs).astype(np.float64),
        "free": rng.random(arcs) * (rng.random(arcs) < 0.2),
        "wide": 10.0 ** rng.uniform(-12, 12, arcs),
        "none": np.zeros(arcs),
        "closed": np.where(rng.random(arcs) < 0.3, np.inf, rng.random(arcs)),
    }
    return made[kind]


def slow(nodes: int, tail: Ints, head: Ints, price: Floats, source: int) -> list[tuple[float, int]]:
    """Price and hops of the cheapest path to each node, of those with the fewest hops: relaxed until nothing changes."""
    best = [(np.inf, 0)] * nodes
    best[source] = (0.0, 0)
    for _ in range(nodes):
        for one, other, cost in zip(tail.tolist(), head.tolist(), price.tolist(), strict=True):
            best[other] = min(best[other], (best[one][0] + cost, best[one][1] + 1))
    return best


@pytest.mark.parametrize("kind", PRICES)
@pytest.mark.parametrize("seed", range(12))
def test_trees_are_cheapest_and_of_the_fewest_hops(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    nodes, arcs = int(rng.integers(2, 9)), int(rng.integers(1, 25))
    tail = rng.integers(0, nodes, arcs)
    head = (tail + rng.integers(1, nodes, arcs)) % nodes
    price, sources = prices(kind, arcs, rng), rng.permutation(nodes)[: max(1, nodes // 2)]
    distance, arc_in = cheapest_trees(nodes, tail, head, price, sources)
    for column, source in enumerate(sources.tolist()):
        known = slow(nodes, tail, head, price, source)
        assert distance[:, column] == pytest.approx([one for one, _ in known], rel=1e-12)
        assert np.array_equal(arc_in[:, column] >= 0, np.isfinite(distance[:, column]) & (np.arange(nodes) != source))
        there = np.flatnonzero(np.isfinite(distance[:, column]))
        table = traced(tail, arc_in, there, np.full(len(there), column), (np.full(len(there), source), there))
        for row, node in enumerate(there.tolist()):
            path = table.arcs[table.starts[row] : table.starts[row + 1]]
            at = [source, *head[path].tolist()]
            assert at[:-1] == tail[path].tolist()
            assert at[-1] == node
            assert len(set(at)) == len(at)
            assert price[path].sum() == pytest.approx(known[node][0], rel=1e-12)
            if kind != "wide":  # there a price may be lost beside another, and equal sums are chance
                assert len(path) == known[node][1]


@pytest.mark.parametrize("seed", range(20))
def test_both_ways_to_price_agree(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = problem(seed, "max_throughput", classes=2)
    fabric = plain_fabric(network_of(asked))
    commodities = commodities_of(asked, fabric)
    rng = np.random.default_rng(seed)
    tables = []
    for kind in ("hops", "whole", "free"):
        price = np.stack([prices(kind, fabric.arcs, rng) for _ in range(commodities.ranks)])
        pair = []
        for matrices in (True, False):
            monkeypatch.setattr(pricing, "worth_it", lambda *_, answer=matrices: answer)
            priced = GraphPricer(fabric, commodities).cheapest(price)
            pair.append((priced.distance, priced.paths(np.flatnonzero(np.isfinite(priced.distance)))))
        assert pair[0][0] == pytest.approx(pair[1][0], rel=1e-12)
        assert np.array_equal(pair[0][1].commodity, pair[1][1].commodity)
        tables.append(pair)
    assert all(np.array_equal(np.diff(one[1].starts), np.diff(other[1].starts)) for one, other in tables)


def test_matrices_are_for_small_dense_networks_and_prices_that_cannot_circle() -> None:
    assert worth_it(100, 50, np.ones(400))
    assert not worth_it(100, 10, np.ones(400))
    assert not worth_it(1000, 1000, np.ones(4000))
    assert not worth_it(100, 100, -np.ones(400))


def test_runs_may_be_empty() -> None:
    starts = np.array([0, 0, 2, 2, 3, 3])
    assert run_totals(np.array([1.0, 2.0, 4.0]), starts).tolist() == [0.0, 3.0, 0.0, 4.0, 0.0]
    assert run_sums(np.array([1, 2, 4], dtype=np.uint64), starts).tolist() == [0, 3, 0, 4, 0]
    assert run_totals(np.zeros(0), np.zeros(1, dtype=np.int64)).tolist() == []
    nothing = np.zeros(0, dtype=np.int64)
    assert traced(nothing, np.zeros((0, 0), dtype=np.int64), nothing, nothing, (nothing, nothing)).count == 0
    assert PathTable(np.array([0]), np.array([0, 0]), nothing).totals(np.zeros(0)).tolist() == [0.0]
    numbers, owners = spans(np.array([0, 2, 2, 5]), np.array([2, 1, 0]))
    assert numbers.tolist() == [2, 3, 4, 0, 1]
    assert owners.tolist() == [0, 0, 0, 2, 2]


amounts = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6)
groups = st.lists(st.tuples(amounts, amounts, st.sampled_from([1.0, 1.0 - 1e-13, 1.0 + 1e-13, 0.6])), min_size=1, max_size=5)


@settings(deadline=None)
@given(groups)
def test_many_groups_are_dealt_like_each_by_itself(rows: list[tuple[list[float], list[float], float]]) -> None:
    firsts = [np.array(first) for first, _, _ in rows]
    # The second row as long as the first, up to rounding, or shorter.
    seconds = [np.array(second) / sum(second) * sum(first) * length for first, second, length in rows]
    of_first = np.repeat(np.arange(len(rows)), [len(one) for one in firsts])
    of_second = np.repeat(np.arange(len(rows)), [len(one) for one in seconds])
    totals = np.array([one.sum() for one in firsts])
    part, one, other = dealt(np.concatenate(firsts), of_first, np.concatenate(seconds), of_second, totals)
    assert (part > 0.0).all()
    assert len(set(zip(one.tolist(), other.tolist(), strict=True))) == len(part)
    got = np.zeros((len(of_first), len(of_second)))
    got[one, other] = part
    for group, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
        there, where = np.flatnonzero(of_first == group), np.flatnonzero(of_second == group)
        amount, left, right = matched(first.tolist(), second.tolist())
        expected = np.zeros((len(first), len(second)))
        expected[left, right] = amount
        assert got[np.ix_(there, where)] == pytest.approx(expected, rel=1e-9, abs=1e-9 * totals[group])
        if second.sum() > 0.9 * first.sum():
            assert got[there].sum(axis=1) == pytest.approx(first, rel=1e-14)
    assert got.sum() == pytest.approx(part.sum())


def test_an_item_too_small_to_show_beside_its_group_gets_all_it_wants() -> None:
    first, second = np.array([1.0, 1e-25, 1.0]), np.array([1.0, 1.0])
    part, one, other = dealt(first, np.zeros(3, dtype=np.int64), second, np.zeros(2, dtype=np.int64), np.array([2.0]))
    assert dict(zip(one.tolist(), part.tolist(), strict=True)) == {0: 1.0, 1: 1e-25, 2: 1.0}
    assert len(other) == 3
