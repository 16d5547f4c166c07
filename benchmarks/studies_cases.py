"""The linear programs of the benchmark of studies: 10,000 jobs or objects, 6 places to put them, and other capacities in each scenario.

A case says the same scenario in three ways: as a study over a base problem, as the model one writes in Pyomo, and as bare arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import objects
from benchmarks.fairshare import unlike
from models.contract import Sense
from models.fairshare import formulation as fairshare_formulation
from models.fairshare.schema import Problem as Fairshare
from models.linear.schema import Columns, Entries, Rows
from models.linear.schema import Problem as Program
from models.program import LinearProgram
from models.tiering import formulation as tiering_formulation
from models.tiering.blocks import program as tiering_program
from models.tiering.schema import GoalName
from models.tiering.schema import Problem as Tiering
from models.vocabulary import Document
from optimizer.compile import compile_model
from optimizer.study.schema import Study

if TYPE_CHECKING:
    from pyomo.environ import ConcreteModel

SEED = 0
PLACES = 6
# Of the tiers, the most that all of them can hold at once: in every scenario there is a plan.
TIERS = (*objects.KINDS[5], objects.KINDS[8][7])

Numbers = Mapping[str, float]  # of a scenario: which capacity is how large


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of scenarios. Every function takes ``size``, the number of jobs or objects; ``numbers`` are capacities by their names.

    ``options`` are ways of HiGHS that a user might choose; a run tries them all once and measures the fastest,
    the first where none ends in the time of a trial. ``first`` is the method
    of the one bare solve that is not hot.
    """

    base: Callable[[int], Document]
    study: Callable[[int, int], Study]
    model: Callable[[int, Numbers], ConcreteModel]
    arrays: Callable[[int, Numbers], LinearProgram]
    options: tuple[dict[str, Any], ...]
    first: str


def study_of(name: str, kind: str, scenarios: int, ranges: Mapping[str, dict[str, Any]], limits: dict[str, float]) -> Study:
    """A baseline and a Latin hypercube of the ranges: ``scenarios`` questions in all."""
    axes = [{"name": place, "range": told["range"], "edits": [{"at": told["at"], "to": "$value"}]} for place, told in ranges.items()]
    return Study.model_validate(
        {
            "name": name,
            "kind": kind,
            "base": {"file": "base.json"},
            "axes": axes,
            "combine": {"how": "latin_hypercube", "samples": scenarios - 1},
            "limits": limits,
            "seed": SEED,
        }
    )


# ---------------------------------------------------------------- fairness


@cache
def fairness_base(jobs: int) -> Fairshare:
    """Jobs with speeds of their own on 6 types of GPU: nothing to gain from symmetry."""
    return unlike(jobs, PLACES)


def _fairness(jobs: int, numbers: Numbers) -> Fairshare:
    base = fairness_base(jobs)
    changed = (one.model_copy(update={"count": int(numbers.get(one.id, one.count))}) for one in base.accelerators)
    return base.model_copy(update={"accelerators": tuple(changed)})


def fairness_study(jobs: int, scenarios: int) -> Study:
    """From 70% to 130% of the GPUs of each type."""
    ranges = {
        one.id: {
            "range": {"least": float(round(0.7 * one.count)), "most": float(round(1.3 * one.count)), "whole": True, "steps": 1000},
            "at": f"/accelerators/[id={one.id}]/count",
        }
        for one in fairness_base(jobs).accelerators
    }
    return study_of("fairness", "fairshare", scenarios, ranges, {"time_limit_s": 60.0, "gap": 1e-6})


def _fairness_model(jobs: int, numbers: Numbers) -> ConcreteModel:
    return fairshare_formulation.build(_fairness(jobs, numbers))


def _fairness_arrays(jobs: int, numbers: Numbers) -> LinearProgram:
    return compile_model(_fairness_model(jobs, numbers)).program


# ---------------------------------------------------------------- tiering


@cache
def tiering_base(count: int) -> Tiering:
    """Objects in one copy each, on 6 tiers of which 4 are finite."""
    objects.KINDS[PLACES] = TIERS
    made = objects.objects(count, PLACES, SEED)
    table = made.object_table
    return made if table is None else made.model_copy(update={"object_table": table.model_copy(update={"replicas": None})})


def _tiering(count: int, numbers: Numbers) -> Tiering:
    base = tiering_base(count)
    changed = (one.model_copy(update={"capacity_gib": numbers.get(one.id, one.capacity_gib)}) for one in base.tiers)
    return base.model_copy(update={"tiers": tuple(changed)})


def _tiering_arrays(count: int, numbers: Numbers) -> LinearProgram:
    return tiering_program(_tiering(count, numbers), GoalName.cost, {}).relaxed()


def _tiering_model(count: int, numbers: Numbers) -> ConcreteModel:
    return tiering_formulation.build(_tiering(count, numbers), GoalName.cost, {})


@cache
def tiering_lp_base(count: int) -> Program:
    """The relaxation as a raw program."""
    return as_problem(_tiering_arrays(count, {}))


def tiering_lp_study(count: int, scenarios: int) -> Study:
    """Every finite capacity up to 15% larger or smaller, as sides of rows of the raw program."""
    (capacities,) = (one for one in _tiering_arrays(count, {}).row_blocks if one.name == "tier_capacity")
    places = {one[0]: capacities.rows.start + place for place, one in enumerate(capacities.ids)}
    ranges = {name: {"range": told, "at": f"/rows/upper/{places[name]}"} for name, told in _around(tiering_base(count)).items()}
    return study_of("tiering", "program", scenarios, ranges, {"time_limit_s": 60.0, "gap": 1e-6})


def tiering_study(count: int, scenarios: int) -> Study:
    """The same of the problem with whole objects."""
    told = _around(tiering_base(count))
    ranges = {name: {"range": one, "at": f"/tiers/[id={name}]/capacity_gib"} for name, one in told.items()}
    return study_of("tiering, whole objects", "tiering", scenarios, ranges, {"time_limit_s": 20.0, "gap": 1e-3})


def _around(base: Tiering) -> dict[str, dict[str, Any]]:
    finite = {one.id: one.capacity_gib for one in base.tiers if one.capacity_gib is not None}
    return {name: {"least": 0.85 * held, "most": 1.15 * held} for name, held in finite.items()}


def as_problem(program: LinearProgram) -> Program:
    """Arrays as a problem of the kind ``program``."""

    def limits(values: Any) -> tuple[float | None, ...]:  # noqa: ANN401  (an array)
        return tuple(None if np.isinf(one) else one for one in values.tolist())

    return Program(
        sense=Sense.maximise if program.maximise else Sense.minimise,
        offset=program.offset,
        columns=Columns(
            cost=tuple(program.cost.tolist()),
            lower=limits(program.column_lower),
            upper=limits(program.column_upper),
        ),
        rows=Rows(lower=limits(program.row_lower), upper=limits(program.row_upper)),
        entries=Entries(
            rows=tuple(program.entry_rows.tolist()), columns=tuple(program.indices.tolist()), values=tuple(program.coefficients.tolist())
        ),
    )


CASES = {
    "fairness": Case(
        fairness_base,
        fairness_study,
        _fairness_model,
        _fairness_arrays,
        options=({"solver": "ipm"}, {"solver": "choose"}),
        first="ipm",
    ),
    "tiering": Case(
        tiering_lp_base,
        tiering_lp_study,
        _tiering_model,
        _tiering_arrays,
        options=({"solver": "choose", "solve_relaxation": True}, {"solver": "ipm", "solve_relaxation": True}),
        first="choose",
    ),
}
