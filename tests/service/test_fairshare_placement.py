"""Leases become problems of the kind placement, and plans of shares become pages and views."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from models.contract import Kind
from models.fairshare import examples
from models.fairshare.leases.book import LeaseBook, Terms
from models.fairshare.leases.placement import placement_document
from models.fairshare.leases.targets import targets_from, targets_of
from models.fairshare.plans.equal_split import equal_division
from models.fairshare.proofs.schema import Price, Round
from models.fairshare.schema import Accelerator, Job, PairSpeed, Plan, Problem, Share, Speed, Tenant, Workload
from models.fairshare.views import VIEWS
from models.placement.schema import Problem as Placement
from optimizer.limits import Limits
from optimizer.result import Outcome
from optimizer.solve import solve
from service.report.drawing import Drawing
from service.report.fairshare import draw, sentence


def cluster() -> Problem:
    """Gangs of 1, 2, 8 and 16 GPUs on nodes of 8."""
    return Problem(
        accelerators=(Accelerator(id="v100", count=16, usd_per_hour=2.0), Accelerator(id="k80", count=4, gpus_per_node=2)),
        workloads=(
            Workload(id="one", speeds=(Speed(accelerator="v100", steps_per_s=4.0), Speed(accelerator="k80", steps_per_s=1.0))),
            Workload(id="two", gpus=2, speeds=(Speed(accelerator="v100", steps_per_s=7.0), Speed(accelerator="k80", steps_per_s=2.0))),
            Workload(id="node", gpus=8, speeds=(Speed(accelerator="v100", steps_per_s=20.0),)),
            Workload(id="both", gpus=16, speeds=(Speed(accelerator="v100", steps_per_s=30.0),)),
        ),
        pairs=(PairSpeed(accelerator="v100", first="one", second="one", first_steps_per_s=3.0, second_steps_per_s=3.0),),
        tenants=(Tenant(id="team"),),
        jobs=(
            Job(id="a", workload="one", count=6, tenant="team"),
            Job(id="b", workload="two", count=2),
            Job(id="c", workload="node"),
            Job(id="d", workload="both"),
        ),
    )


def plan() -> Plan:
    return Plan(
        shares=(
            Share(jobs=("a",), accelerator="v100", gangs=0.9),
            Share(jobs=("a", "a"), accelerator="v100", gangs=1.2),
            Share(jobs=("a",), accelerator="k80", gangs=1.5),
            Share(jobs=("b",), accelerator="v100", gangs=0.8),
            Share(jobs=("c",), accelerator="v100", gangs=0.5),
            Share(jobs=("d",), accelerator="v100", gangs=0.3),
        ),
        prices=(Price(accelerator="v100", price=0.25),),
        rounds=(
            Round(level=0.9, settled=("c", "d")),
            Round(level=1.4, settled=("a", "b")),
        ),
    )


def test_a_round_is_a_sequence_of_placements() -> None:
    problem = cluster()
    book = LeaseBook(targets_of(problem, plan()), Terms())
    seen = set()
    for _ in range(15):
        for slot in book.next_round().slots:
            document = placement_document(problem, slot)
            placement = Placement.model_validate_json(json.dumps(document))
            assert sum(node.gpus for node in placement.nodes) == 20
            assert {job.id for job in placement.jobs} == {"+".join(lease.jobs) for lease in slot.leases}
            for job, lease in zip(placement.jobs, slot.leases, strict=True):
                assert job.workers * job.gpus_per_worker == len(lease.gpus)
                seen.add(len(lease.gpus))
    assert seen == {1, 2, 8, 16}


def test_a_placement_is_solved_with_few_moves() -> None:
    problem = cluster()
    book = LeaseBook(targets_from(problem, equal_division(problem)), Terms())
    for _ in range(4):
        for slot in book.next_round().slots:
            placement = Placement.model_validate(placement_document(problem, slot))
            found = solve(placement, Limits(time_limit_s=10.0), isolate=False)
            assert found.outcome is Outcome.optimal
            assert found.plan is not None
            assert {one.job for one in found.plan.placements} == {job.id for job in placement.jobs}  # type: ignore[attr-defined]
            moved = [lease for lease in slot.leases if lease.starts and lease.had]
            assert len(found.plan.moved) <= len(moved)  # type: ignore[attr-defined]


def test_views_are_plain_documents() -> None:
    problem = cluster()
    leases, shares = (json.loads(json.dumps(VIEWS[name](problem, plan()), allow_nan=False)) for name in ("leases", "shares"))
    assert len(leases["rounds"]) == 20
    assert all(len(one["slots"]) == leases["slots_per_round"] for one in leases["rounds"])
    assert leases["jobs"].keys() == {*(f"a#{k}" for k in range(1, 7)), "b#1", "b#2", "c", "d"}
    assert all(0 <= gpu < 8 for one in leases["rounds"] for slot in one["slots"] for lease in slot["leases"] for _, gpu in lease["gpus"])
    assert shares["accelerators"]["v100"] == {"gpus": 16.0, "used": pytest.approx(12.5), "one_more_is_worth": 0.25}
    assert shares["accelerators"]["k80"]["one_more_is_worth"] is None
    assert shares["tenants"]["team"]["jobs"] == 6
    assert shares["tenants"]["team"]["gpus"] == pytest.approx({"v100": 0.9 + 1.2, "k80": 1.5})
    assert shares["jobs"]["d"]["steps_per_s"] == pytest.approx(9.0)


def test_too_much_for_a_view_is_said() -> None:
    problem = cluster()
    many = problem.model_copy(update={"jobs": (Job(id="a", workload="one", count=10**6),)})
    found = VIEWS["leases"](many, Plan())
    assert found["rounds"] == []
    assert "at most" in found["note"]


def test_the_page_draws_shares_levels_and_leases() -> None:
    found = draw(cluster(), plan(), None)
    assert isinstance(found, Drawing)
    assert [figure.label for figure in found.figures] == ["Jobs", "Poorest job", "Below equal split", "GPUs busy", "Cost"]
    assert [bar["name"] for bar in found.values["accelerators"]] == ["v100", "k80"]
    levels = found.values["levels"]
    assert len(levels["steps"]) == 2
    assert sum(step["width"] for step in levels["steps"]) == pytest.approx(levels["width"] - levels["left"], abs=0.1)
    assert len(found.values["timeline"]["lanes"]) == 20
    assert {len(lane["cells"]) for lane in found.values["timeline"]["lanes"]} == {40}
    assert next(table.title for table in found.values["tables"]) == "Tenants"
    ratios = [float(re.sub(r"[^\d.]", "", bar["ratio"])) for bar in found.values["jobs"]]
    assert ratios == sorted(ratios)


def test_an_empty_plan_is_drawn() -> None:
    found = draw(cluster(), Plan(), None)
    assert found.values["timeline"] is None
    assert found.values["levels"] is None
    assert all(np.isfinite(bar["share"]) for bar in found.values["jobs"])


@pytest.mark.parametrize("name", list(examples.examples()))
def test_examples_have_a_page(name: str) -> None:
    from service.report import render

    problem = examples.examples()[name]
    result = solve(problem, Limits(time_limit_s=10.0), isolate=False)
    assert result.plan is not None
    page = render(problem, result)
    assert "Each job's speed beside equal split" in page.replace("&#39;", "'")
    assert result.certificate is not None
    metrics = result.verdict.metrics if result.verdict is not None else {}
    assert all(sentence(goal, metrics) for goal in result.certificate.goals)


def test_views_are_found_by_the_kind() -> None:
    kind = Kind(name="fairshare", package="models.fairshare", summary="")
    assert set(kind.views) == {"leases", "shares"}
