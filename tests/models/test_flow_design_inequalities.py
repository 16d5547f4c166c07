"""Inequalities and dominance rules of designs: each holds for every design that carries everything, found by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.flow.design.cutsets import as_rows, cuts_of, sides, violated
from models.flow.design.dominance import sensible_of, tidied
from models.flow.design.partitions import violated_partitions
from models.flow.design.survival import metric_inequality
from models.flow.design.tripartitions import three_parts, violated_tripartitions
from models.flow.design.works import works_of
from tests.models.test_flow_design import least, problem, random_design
from tests.oracles.flow_design import designs


@given(st.integers(0, 400))
@settings(max_examples=10, deadline=None)
def test_inequalities_hold_for_every_design_that_carries_everything(seed: int) -> None:
    """Cut-set, partition, three-part and metric inequalities found at random fractional points, against every design of brute force."""
    asked = random_design(seed, survive=seed % 2 == 0)
    works = works_of(asked)
    rng = np.random.default_rng(seed)
    counts = rng.uniform(0, 0.8, works.modules) * (rng.random(works.modules) < 0.7)
    found = violated_partitions(works, counts, rng, 20)
    found += violated_tripartitions(works, counts, rng.uniform(0, 1, works.network.links), rng, 20)
    for dead in (None, *(one.dead for one in works.failures)):
        found += violated(works, cuts_of(works, sides(works.network.nodes), dead), counts, 50)
    for failure in works.failures:
        found.append(metric_inequality(works, rng.uniform(0, 1, len(works.network.channel_link)), failure.dead, counts))
    for chosen, _ in designs(asked):
        built = np.zeros(works.modules)
        for ids, count in chosen.items():
            built[works.module_at[ids]] = count
        assert all(one.coefficient @ built >= one.least - 1e-7 for one in found)


@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=4), st.lists(st.integers(0, 6), min_size=4, max_size=4)
)
@settings(max_examples=60, deadline=None)
def test_tidied_counts_hold_as_much_at_no_higher_cost(kinds: list[tuple[int, int]], wanted: list[int]) -> None:
    modules = {f"m{number}": (float(capacity), float(cost)) for number, (capacity, cost) in enumerate(kinds)}
    works = works_of(problem([{"ends": "ab", "modules": modules}], [("a", "b", 60.0)]))
    counts = np.array(wanted[: works.modules], dtype=np.float64)
    tidy, rules = tidied(works, counts), sensible_of(works)
    assert works.link_capacity(tidy)[0] >= works.link_capacity(counts)[0] - 1e-9
    assert works.building_cost(tidy) <= works.building_cost(counts) + 1e-9
    assert (tidy[rules.instead >= 0] <= rules.most[rules.instead >= 0]).all()
    assert tidy[list(rules.alone[0])].sum() <= 1
    found = works.cheapest(0, min(60.0, float(counts @ works.module_capacity)))  # no link needs more than all there is
    if found is not None:
        assert found[0] <= works.building_cost(counts) + 1e-9


def test_sensible_counts_by_hand() -> None:
    """155 for 156 and 622 for 468, as in polska: three small ones cost as much as a large one and hold less."""
    works = works_of(problem([{"ends": "ab", "modules": {"small": (155.0, 156.0), "large": (622.0, 468.0)}}], [("a", "b", 2000.0)]))
    assert sensible_of(works).most.tolist() == [2.0, 4.0]
    assert tidied(works, np.array([7.0, 0.0])).tolist() == [1.0, 2.0]
    step = {"one": (1.0, 100.0), "two": (2.0, 101.0), "four": (4.0, 103.0)}
    assert sensible_of(works_of(problem([{"ends": "ab", "modules": step}], [("a", "b", 9.0)]))).alone == ((0, 1),)


def test_three_corners_need_two_links() -> None:
    """Three nodes with 2 Gbit/s between any two, modules of 5: each node needs one around it, so that one and a half become two."""
    links = [{"ends": pair, "direction": "shared", "modules": {"five": (5.0, 1.0)}} for pair in ("ab", "bc", "ca")]
    asked = problem(links, [("a", "b", 2.0), ("b", "c", 2.0), ("c", "a", 2.0)])
    half = np.full(3, 0.5)
    (one,) = violated_tripartitions(works_of(asked), half, np.ones(3), np.random.default_rng(0), 5)
    assert one.coefficient / one.least == pytest.approx([0.5, 0.5, 0.5])  # two of the three
    assert least(asked) == pytest.approx(2.0)
    assert three_parts(2).shape == (0, 3)
    assert len(three_parts(4)) == 6  # Stirling's number of the second kind
    assert [sum(parts) for parts in three_parts(4).tolist()] == [15] * 6


def test_rounding_by_hand() -> None:
    """11 Gbit/s across a cut, modules of 4 and 10: with the divisor 10 a rest of 1 is left, for which one module of 4 is enough."""
    asked = problem([{"ends": "ab", "direction": "directed", "modules": {"four": (4.0, 1.0), "ten": (10.0, 2.0)}}], [("a", "b", 11.0)])
    works = works_of(asked)
    (one,) = violated(works, cuts_of(works, sides(2)), np.array([0.0, 1.1]), 5)
    assert one.coefficient / one.coefficient[0] == pytest.approx([1.0, 1.0])
    assert one.least / one.coefficient[0] == pytest.approx(2.0)
    rows = as_rows([one], first=3)
    assert rows.indices.tolist() == [3, 4]
    assert rows.lower.tolist() == [one.least]
