"""What sharing a GPU costs the jobs of a plan: told in a view and in the metrics, and no part of the decision."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from models.catalogue import kind
from models.placement.schema import Interference, JobPlacement, Plan, Problem, WorkerPlace
from models.placement.sharing import pair_speed, shared_gpus
from models.placement.verify import verify
from models.placement.views import sharing
from models.runtime.speeds.interference import fit
from models.runtime.speeds.sharing import sharing_section
from optimizer.limits import Limits
from optimizer.solve import solve
from tests.models.placement_problems import job, node
from tests.models.test_runtime_interference import JOBS, all_pairs

MODEL: dict[str, Any] = {
    "level": 0.2,
    "classes": [
        {"id": "x", "jobs": ["a", "b"], "sensitivity": 0.5, "pressure": -0.3},
        {"id": "y", "jobs": ["c"], "sensitivity": -0.6, "pressure": 0.4},
    ],
}


def problem(**fields: Any) -> Problem:
    jobs = [job(name, 0.25) for name in "abcd"] + [job("whole", 1)]
    return Problem.model_validate({"nodes": [node("n")], "jobs": jobs} | fields)


def plan(**gpu_of: int) -> Plan:
    return Plan(placements=tuple(JobPlacement(job=name, workers=(WorkerPlace(node="n", gpus=(gpu,)),)) for name, gpu in gpu_of.items()))


def test_speeds_of_two_are_those_of_the_model() -> None:
    given = problem(interference=MODEL)
    model = given.interference
    assert model is not None
    x, y = model.classes
    assert pair_speed(model, x, y) > pair_speed(model, y, x)
    told = sharing(given, plan(a=0, c=0, b=1))
    assert told["gpus"] == [
        {
            "node": "n",
            "gpu": 0,
            "workers": [{"job": "a", "speed": pair_speed(model, x, y)}, {"job": "c", "speed": pair_speed(model, y, x)}],
            "extrapolated": False,
        }
    ]
    metrics = verify(given, plan(a=0, c=0, b=1)).metrics
    assert metrics["sharing_workers"] == 2.0
    assert metrics["worst_slow_down"] == pytest.approx(1 / pair_speed(model, y, x))
    assert metrics["mean_slow_down"] == pytest.approx((1 / pair_speed(model, y, x) + 1 / pair_speed(model, x, y)) / 2)


def test_three_add_up_in_time_and_are_flagged() -> None:
    given = problem(interference=MODEL)
    model = given.interference
    assert model is not None
    x, y = model.classes
    (one,) = shared_gpus(given, {name: [WorkerPlace(node="n", gpus=(0,))] for name in "abc"})
    assert one.extrapolated
    assert one.speeds[2] == pytest.approx(1 / (1 + 2 * (1 / pair_speed(model, y, x) - 1)))
    turns = Interference(classes=model.classes[:1]).model_copy(update={"level": 0.0})
    half = turns.classes[0].model_copy(update={"sensitivity": 0.0, "pressure": 0.0})
    assert pair_speed(turns, half, half) == pytest.approx(0.5)


def test_a_job_without_a_class_has_no_speed_and_takes_that_of_its_company() -> None:
    given = problem(interference=MODEL)
    assert [one["workers"] for one in sharing(given, plan(a=0, d=0, whole=1))["gpus"]] == [
        [{"job": "a", "speed": None}, {"job": "d", "speed": None}]
    ]
    assert verify(given, plan(a=0, d=0)).metrics["worst_slow_down"] == 1.0


def test_without_a_model_nothing_changes() -> None:
    told = sharing(problem(), plan(a=0, c=0))
    assert told["metrics"] == {}
    assert "no interference model" in told["note"]
    assert not [name for name in verify(problem(), plan(a=0, c=0)).metrics if "slow" in name or "sharing" in name]
    assert "sharing" in kind("placement").views


def test_any_plan_can_be_looked_at() -> None:
    strange = Plan(
        placements=(
            JobPlacement(job="nobody", workers=(WorkerPlace(node="n", gpus=(0,)),)),
            JobPlacement(job="a", workers=(WorkerPlace(node="nowhere", gpus=(0,)), WorkerPlace(node="n", gpus=(7, 7)))),
        )
    )
    assert sharing(problem(interference=MODEL), strange)["gpus"][0]["gpu"] == 7


def test_the_plan_is_the_same_with_a_model() -> None:
    plain, told = (solve(problem(**more), Limits(time_limit_s=10), isolate=False) for more in ({}, {"interference": MODEL}))
    assert plain.plan == told.plan
    assert told.verdict is not None
    assert told.verdict.metrics["sharing_workers"] >= 2


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ([{"id": "x", "jobs": ["a", "e"]}], "no job 'e'"),
        ([{"id": "x", "jobs": ["a"]}, {"id": "y", "jobs": ["a"]}], "class 'x' already"),
        ([{"id": "x", "jobs": ["a"]}, {"id": "x", "jobs": ["b"]}], "own id"),
        ([{"id": "x", "jobs": []}], "at least 1 item"),
    ],
)
def test_wrong_classes(classes: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        problem(interference={"classes": classes})


def test_the_section_of_a_fitted_model_says_what_the_model_says() -> None:
    model = fit(JOBS, all_pairs()[::3], habits=False)
    names = {one.name: [f"job {place}"] for place, one in enumerate(JOBS)}
    section = Interference.model_validate(sharing_section(model, names))
    pairs = [(one, other) for one in section.classes for other in section.classes]
    said = [pair_speed(section, one, other) for one, other in pairs]
    assert said == pytest.approx(model.predict([one.id for one, _ in pairs], [other.id for _, other in pairs]).p50, abs=1e-9)
    with pytest.raises(ValueError, match="name at least one"):
        sharing_section(model, {})
    with pytest.raises(ValueError, match="'nobody'"):
        sharing_section(model, {"nobody": ["a"]})
