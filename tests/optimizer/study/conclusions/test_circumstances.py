"""Choices judged by their worst circumstance, and circumstances that nobody chooses."""

from __future__ import annotations

from typing import Any

import pytest

from optimizer.study.conclusions.circumstances import advised, choices
from optimizer.study.conclusions.gates import judged
from optimizer.study.conclusions.paired import combinations
from optimizer.study.rows import Answered, Row
from optimizer.study.schema import Axis, Gate
from tests.optimizer.study.tables import answered, certificate, infeasible, no_plan, row

EDIT = {"op": "set", "at": "/x", "to": "$value"}
PICKED = {"op": "remove", "at": "/nodes/*", "pick": {"count": "$value"}}


def axis(name: str, **fields: Any) -> Axis:
    return Axis.model_validate({"name": name, "values": [0, 1], "edits": [EDIT], **fields})


BUY, LOST = axis("buy"), axis("lost", chosen=False)


def gpus(objective: float, bound: float | None = None, sense: str = "maximise") -> Row:
    return row(certificate(objective, objective if bound is None else bound, "placed", sense, "GPUs"))


def table(rows: dict[tuple[int, int], Row]) -> list[Answered]:
    """By what is bought and what is lost; the base problem comes first."""
    lines = [answered(gpus(100), "base", values={}, baseline=True)]
    return lines + [
        answered(one, f"{buy}-{lost}", values={"buy": buy, "lost": lost}, spend_usd=100.0 * buy) for (buy, lost), one in rows.items()
    ]


@pytest.mark.parametrize(
    ("fields", "chosen"),
    [
        ({}, True),
        ({"chosen": False}, False),
        ({"edits": [PICKED]}, False),
        ({"edits": [PICKED], "chosen": True}, True),
        ({"values": None, "draw": {"distribution": "uniform", "least": 0, "most": 1}}, False),
    ],
)
def test_what_is_chosen_when_nothing_is_said(fields: dict[str, Any], chosen: bool) -> None:
    assert axis("x", **fields).is_chosen is chosen


def test_a_choice_is_judged_by_its_worst_circumstance() -> None:
    lines = table({(0, 0): gpus(200), (0, 1): gpus(50), (1, 0): gpus(150), (1, 1): gpus(90, 95)})
    advice = advised(lines, axes=(BUY, LOST))
    assert (advice.best, advice.certain) == ("buy=1", True)
    assert advice.paragraph == (
        "Take buy=1, for 100 USD: over 2 circumstances its placed is at worst 90 GPUs, at lost=1."
        " No other choice is as good at its worst (certain)."
    )


def test_a_worst_case_that_gaps_leave_open_is_not_certain() -> None:
    lines = table({(0, 0): gpus(200), (0, 1): gpus(85, 99), (1, 0): gpus(150), (1, 1): gpus(90, 95)})
    advice = advised(lines, axes=(BUY, LOST))
    assert (advice.best, advice.certain) == ("buy=1", False)
    assert "buy=0 may be as good at its worst: not distinguishable at these limits." in advice.paragraph


def test_to_minimise_the_worst_is_the_largest() -> None:
    rows = {(0, 0): 10.0, (0, 1): 30.0, (1, 0): 20.0, (1, 1): 22.0}
    advice = advised(table({at: gpus(value, sense="minimise") for at, value in rows.items()}), axes=(BUY, LOST))
    assert (advice.best, advice.certain) == ("buy=1", True)


def test_a_choice_without_a_plan_somewhere_is_not_recommended() -> None:
    lines = table({(0, 0): gpus(200), (0, 1): infeasible(), (1, 0): gpus(50), (1, 1): gpus(40)})
    advice = advised(lines, axes=(BUY, LOST))
    assert advice.best == "buy=1"
    assert "buy=0 has no plan (proved) at lost=1." in advice.paragraph


def test_what_is_not_known_is_not_recommended_and_nothing_is_certain() -> None:
    lines = table({(0, 0): gpus(200), (0, 1): no_plan(), (1, 0): gpus(50), (1, 1): gpus(40)})
    advice = advised(lines, axes=(BUY, LOST))
    assert (advice.best, advice.certain) == ("buy=1", False)
    assert "Nothing is known yet of buy=0 at lost=1." in advice.paragraph


def test_a_gate_that_one_circumstance_breaks_rules_a_choice_out() -> None:
    lines = table({(0, 0): gpus(200), (0, 1): gpus(95), (1, 0): gpus(150), (1, 1): gpus(80)})
    advice = advised(lines, [Gate(metric="placed", at_least=90)], axes=(BUY, LOST))
    assert advice.best == "buy=0"
    assert "It fails no gate in any circumstance." in advice.paragraph
    assert "buy=1 fails placed is at least 90." in advice.paragraph


def test_no_choice_is_good_enough() -> None:
    lines = table({(0, 0): gpus(20), (0, 1): gpus(9), (1, 0): gpus(15), (1, 1): gpus(8)})
    advice = advised(lines, [Gate(metric="placed", at_least=50)], axes=(BUY, LOST))
    assert advice.best is None
    assert advice.paragraph.startswith("No choice can be recommended for every circumstance.")


def test_circumstances_alone_are_told_and_nothing_is_recommended() -> None:
    lines = table({(0, 0): gpus(200), (0, 1): gpus(50, 51), (1, 0): gpus(150), (1, 1): gpus(90)})
    both = (axis("buy", chosen=False), LOST)
    advice = advised(lines, [Gate(metric="placed", at_least=60)], axes=both)
    assert advice.best is None
    assert advice.paragraph == (
        "Nothing is chosen here: over 5 circumstances placed goes from 50 GPUs (buy=0, lost=1) to 200 GPUs (buy=0, lost=0)."
        " The worst optimum is 50 to 51 GPUs (certain). On average lost moves it most, by 105 GPUs of the plans found."
        " Gates fail in 1 of 5 scenarios."
    )


def test_without_circumstances_it_is_the_plain_advice() -> None:
    lines = table({(0, 0): gpus(200), (1, 0): gpus(150)})
    assert advised(lines, axes=(BUY, axis("lost"))).paragraph.startswith("Take buy=0, lost=0")


def test_the_worst_case_holds_every_optimum_that_the_rows_leave_possible() -> None:
    lines = table({(0, 0): gpus(10, 30), (0, 1): gpus(20, 25)})
    gates: tuple[Gate, ...] = ()
    (found,) = choices(combinations(lines), certificate(1, 1, "placed"), judged(gates, lines), ["buy"])
    assert found.worst is not None
    for first in (10, 20, 30):
        for second in (20, 25):
            assert min(first, second) in found.worst


def test_a_circumstance_of_one_value_is_part_of_the_problem() -> None:
    lines = table({(0, 1): gpus(200), (1, 1): gpus(150)})
    assert advised(lines, axes=(BUY, LOST)).paragraph.startswith("Take buy=0, lost=1")


def test_choices_that_meet_different_circumstances_are_not_ranked() -> None:
    lines = table({(0, 1): gpus(200), (1, 0): gpus(150)})
    advice = advised(lines, axes=(BUY, LOST))
    assert advice.best is None
    assert advice.paragraph.startswith("Choices and circumstances are sampled together, so that none can be ranked: over 3 circumstances")
