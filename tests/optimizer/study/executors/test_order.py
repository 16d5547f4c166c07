"""Scenarios are solved near the one before, all of them, and the same way each time."""

from __future__ import annotations

import itertools
import random

import pytest

from optimizer.study.executors import order
from optimizer.study.executors.engine import Asked
from optimizer.study.executors.order import neighbourly
from optimizer.study.rows import Change


def asked(key: object, *changes: tuple[str, object]) -> Asked:
    return Asked(str(key), tuple(Change("set", pointer, value) for pointer, value in changes))


def shuffled_grid(side: int) -> list[Asked]:
    cells = [asked(f"{x},{y}", ("/x", float(x)), ("/y", y)) for x, y in itertools.product(range(side), repeat=2)]
    random.Random(7).shuffle(cells)
    return cells


def length(work: list[Asked]) -> float:
    def place(one: Asked) -> tuple[float, float]:
        return one.changes[0].value, one.changes[1].value

    return sum(abs(a - c) + abs(b - d) for (a, b), (c, d) in itertools.pairwise(map(place, work)))


def test_all_questions_are_asked_once_from_the_first_on() -> None:
    cells = shuffled_grid(9)
    walk = neighbourly(cells)
    assert sorted(one.key for one in walk) == sorted(one.key for one in cells)
    assert walk[0] == cells[0]
    assert neighbourly(cells) == walk


def test_a_shuffled_grid_is_walked_with_few_jumps() -> None:
    cells = shuffled_grid(9)
    assert length(cells) > 400
    assert length(neighbourly(cells)) < 130  # 80 steps are the least


def test_values_that_are_no_numbers_stay_together() -> None:
    tiers = ["hdd", "ssd", "nvme"] * 4
    walk = neighbourly([asked(number, ("/tier", {"name": tier})) for number, tier in enumerate(tiers)])
    changes = sum(one.changes != other.changes for one, other in itertools.pairwise(walk))
    assert changes == 2


def test_what_is_left_out_is_in_the_middle() -> None:
    walk = neighbourly([asked("low", ("/x", 0.0)), asked("high", ("/x", 10.0)), asked("base")])
    assert [one.key for one in walk] == ["low", "base", "high"]


@pytest.mark.parametrize("values", [[1e308, -1e308, 0.0], [3.0, 3.0, 3.0], [True, 1, "1"]])
def test_odd_values_lose_nothing(values: list[object]) -> None:
    walk = neighbourly([asked(number, ("/x", value)) for number, value in enumerate(values)])
    assert sorted(one.key for one in walk) == ["0", "1", "2"]


def test_too_many_questions_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "MOST_STEPS", 100)
    cells = shuffled_grid(4)
    assert neighbourly(cells) == cells
    assert neighbourly([]) == []
