"""What is told about a plan of the kind ``program``, and that its page tells the truth."""

from __future__ import annotations

import pytest

from models.catalogue import kind
from models.contract import Sense
from models.linear.examples import examples
from models.linear.explain import explain, repair_in, repair_text
from models.linear.schema import Columns, Plan, Problem, Rows, example
from tests.models.test_program import BEST, shop, solved


def test_reasons_tell_limits_and_prices() -> None:
    reasons = explain(shop(), BEST)
    assert [(reason.code, reason.rule, reason.ids) for reason in reasons] == [
        ("summary", "objective", ()),
        ("binding", "row", ("need",)),
        ("binding", "bound", ("x",)),
    ]
    assert "no plan has a better objective than 9" in reasons[0].text
    assert reasons[1].text == "Row 'need' is at its lower limit 4. Its price is 3: a unit by which it is moved is worth that at most."
    without = explain(shop(), Plan(values=BEST.values))
    assert [reason.ids for reason in without] == [(), ("need",)]
    assert "price" not in without[1].text


def test_repairs_are_told_in_the_problems_numbers() -> None:
    problem = shop(rows=Rows(names=("need", "most"), lower=(4.0, 5.0), upper=(None, 5.0)))
    assert repair_in(problem, "row", ("need",), 2.0, too_few=True) == "row 'need': lower the lower limit from 4 by 2"
    assert repair_in(problem, "row", ("most",), 1 / 3, too_few=False) == "row 'most': raise the fixed value from 5 by 0.333334"
    assert repair_in(problem, "bound", ("x",), 1e7, too_few=False) == "column 'x': raise the upper limit from 3 by 1e+07"
    assert repair_in(problem, "row", ("nobody",), 2.0, too_few=False) == repair_text("row", ("nobody",), 2.0)
    assert repair_text("bound", ("x",), 2.0) == "column 'x': its limit is 2 too tight"


def test_rows_and_columns_can_be_asked_about() -> None:
    assert [reason.text for reason in explain(shop(), BEST, "most")] == ["Its sum is 2, between no limit and 20."]
    assert [reason.code for reason in explain(shop(), BEST, "x")] == ["summary", "binding"]
    both = shop(rows=Rows(names=("x", "most"), lower=(4.0, None), upper=(None, 20.0)))
    assert {reason.rule for reason in explain(both, BEST, "x")} == {"row", "bound"}


def test_a_wrong_plan_is_not_explained() -> None:
    (reason,) = explain(shop(), Plan(values=(0.0, 0.0)))
    assert "breaks rules" in reason.text
    (reason,) = explain(shop(), Plan(values=(0.0,)), "x")
    assert "1 values" in reason.text


def test_the_dearest_limits_are_told_first_and_the_rest_counted() -> None:
    width = 300
    problem = Problem(sense=Sense.maximise, columns=Columns(cost=tuple(float(place + 1) for place in range(width)), upper=(1.0,) * width))
    result = solved(problem)
    binding = [reason.ids[0] for reason in result.reasons if reason.code == "binding"]
    assert (len(binding), binding[0]) == (200, "x299")
    assert result.reasons[-1].text.startswith("100 further limits bind")


def test_the_page_tells_the_truth_about_its_run() -> None:
    problem = Problem.model_validate(
        {
            "sense": "maximise",
            "columns": {"names": ["train_hours", "tune_hours"], "cost": [40, 22], "upper": [None, 60]},
            "rows": {"names": ["gpu_hours", "energy_kwh"], "upper": [1200, 900]},
            "entries": {"rows": [0, 0, 1, 1], "columns": [0, 1, 0, 1], "values": [16, 8, 14, 5]},
        }
    )
    result = solved(problem)
    assert isinstance(result.plan, Plan)
    assert result.plan.values == pytest.approx((42.857, 60.0), abs=1e-3)
    assert result.plan.row_duals == pytest.approx((0.0, 2.857), abs=1e-3)
    assert result.plan.reduced_costs == pytest.approx((0.0, 7.714), abs=1e-3)
    assert result.certificate is not None
    assert result.certificate.objective == pytest.approx(3034.29, abs=1e-2)


def test_the_kind_is_found_by_its_name() -> None:
    assert kind("program").problem is Problem
    assert kind("program").rules[:3] == ("row", "bound", "integrality")
    assert example() == examples()["lp"]
