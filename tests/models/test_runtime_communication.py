"""Rings, hierarchies, overlap and stragglers: against their formulas, a simulation of the ring, and their limits."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.runtime.prediction.communication import (
    Ring,
    all_reduce_s,
    bubble_share,
    expected_largest_normal,
    hierarchical_all_reduce_s,
    overlapped_s,
    rings,
    straggler_factor,
)
from tests.models.runtime_devices import links


def simulated_ring_s(size: float, ring: Ring) -> float:
    """Each of the n devices sends one nth at a time to its neighbour, until every sum has every device in it."""
    rounds = 0
    sums = [[{device} for _ in range(ring.peers)] for device in range(ring.peers)]
    for turn in itertools.count():
        if all(part == set(range(ring.peers)) for mine in sums for part in mine):
            break
        sent = [set(sums[device][(device - turn) % ring.peers]) for device in range(ring.peers)]
        for device in range(ring.peers):
            before = (device - 1) % ring.peers
            sums[device][(before - turn) % ring.peers] |= sent[before]
        rounds += 1
    return rounds * (ring.alpha_s + size / ring.peers / ring.bytes_per_s)


@pytest.mark.parametrize("peers", [1, 2, 3, 5, 8])
def test_a_ring_takes_what_playing_it_takes(peers: int) -> None:
    ring = Ring(peers, 1e-5, 1e9)
    assert all_reduce_s(3e6, ring) == pytest.approx(simulated_ring_s(3e6, ring), rel=1e-12)


def test_one_device_says_nothing() -> None:
    assert all_reduce_s(1e9, Ring(1, 1.0, 1.0)) == 0.0
    assert hierarchical_all_reduce_s(1e9, ()) == 0.0
    assert rings(1, 1, ()) == ()


def test_levels_are_used_from_the_inside() -> None:
    assert [ring.peers for ring in rings(8, 1, links())] == [4, 2]
    assert [ring.peers for ring in rings(3, 1, links())] == [3]
    assert [ring.peers for ring in rings(4, 2, links())] == [2, 2]  # two devices apart: two of them fit into a node
    assert [ring.peers for ring in rings(4, 4, links())] == [4]  # one in each of four nodes
    assert rings(4, 4, links())[0].alpha_s == 1e-5
    with pytest.raises(ValueError, match="33 devices talk to each other, but the device's links join 32"):
        rings(33, 1, links())
    with pytest.raises(ValueError, match="links join 1"):
        rings(2, 1, ())


def test_an_outer_ring_carries_a_part_of_the_bytes() -> None:
    inner, outer = Ring(4, 0.0, 1e11), Ring(8, 0.0, 1e10)
    expected = 2 * 3 / 4 * 1e9 / 1e11 + 2 * 7 / 8 * (1e9 / 4) / 1e10
    assert hierarchical_all_reduce_s(1e9, (inner, outer)) == pytest.approx(expected)
    flat = all_reduce_s(1e9, Ring(32, 0.0, 1e10))
    assert hierarchical_all_reduce_s(1e9, (inner, outer)) < flat


@given(
    compute=st.floats(0, 1e6),
    sync=st.floats(0, 1e6),
    gamma=st.floats(1, 50),
)
def test_overlap_lies_between_the_sum_and_the_longer(compute: float, sync: float, gamma: float) -> None:
    time = overlapped_s(compute, sync, gamma)
    assert max(compute, sync) * (1 - 1e-12) <= time <= (compute + sync) * (1 + 1e-12)


def test_overlap_at_its_ends() -> None:
    assert overlapped_s(3.0, 4.0, 1.0) == pytest.approx(7.0)
    assert overlapped_s(3.0, 4.0, 2.0) == pytest.approx(5.0)
    assert overlapped_s(1e-200, 1e-200, 10.0) == pytest.approx(1e-200 * 2**0.1)
    assert overlapped_s(0.0, 0.0, 3.0) == 0.0
    with pytest.raises(ValueError, match="at least 1"):
        overlapped_s(1.0, 1.0, 0.5)


def test_the_largest_of_normal_numbers() -> None:
    exact = {1: 0.0, 2: 1 / np.sqrt(np.pi), 3: 1.5 / np.sqrt(np.pi), 5: 1.16296447, 10: 1.53875273, 100: 2.50759364}
    for count, value in exact.items():
        assert expected_largest_normal(count) == pytest.approx(value, abs=2e-6)
    drawn = np.random.default_rng(1).normal(size=(20_000, 16)).max(axis=1).mean()
    assert expected_largest_normal(16) == pytest.approx(drawn, abs=0.02)
    assert straggler_factor(1, 0.3) == pytest.approx(1.0, abs=1e-9)
    assert straggler_factor(2, 0.1) == pytest.approx(1.0564, abs=1e-4)


def test_the_bubble() -> None:
    assert bubble_share(1, 4) == 0.0
    assert bubble_share(4, 1) == 0.75
    assert bubble_share(4, 13) == pytest.approx(3 / 16)
