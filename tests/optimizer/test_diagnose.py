"""Conflicts and repairs of toy programs; every conflict is held against brute force."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from models.program import Block, LinearProgram
from models.program_builder import ProgramBuilder
from optimizer.diagnose import Repair, diagnose, rounded_up
from optimizer.highs import HighsBackend
from optimizer.limits import Limits
from optimizer.result import Conflict
from tests.optimizer.oracle import random_program, truth

HIGHS = HighsBackend()


def narrow(*, integer: bool = False) -> LinearProgram:
    """With x + y <= 4, x >= 3, y >= 2: these three conflict; the three others are bystanders."""
    builder = ProgramBuilder()
    builder.add_columns("use", [("x",), ("y",), ("z",)], upper=10.0, integer=integer)
    builder.add_rows("room", [("a",), ("b",)], upper=[4.0, 9.0], row_index=[0, 0, 1], column_index=[0, 1, 2])
    builder.add_rows("need", [("x",), ("y",), ("z",)], lower=[3.0, 2.0, 1.0], row_index=[0, 1, 2], column_index=[0, 1, 2])
    builder.add_rows("link", [()], lower=0.0, upper=0.0, row_index=[0, 0], column_index=[1, 2], coefficient=[1.0, -1.0])
    return builder.build()


def parity() -> LinearProgram:
    """2x + 2y = 3 has a solution, but no whole one; the other row is a bystander."""
    builder = ProgramBuilder(maximise=True)
    builder.add_columns("take", [("x",), ("y",)], upper=5.0, integer=True, cost=1.0)
    builder.add_rows("pairs", [("p",)], lower=3.0, upper=3.0, row_index=[0, 0], column_index=[0, 1], coefficient=2.0)
    builder.add_rows("most", [("x",)], upper=4.0, row_index=[0], column_index=[0])
    return builder.build()


def found(program: LinearProgram, **options: object) -> Conflict:
    conflict = diagnose(program, HIGHS, Limits(time_limit_s=20.0), **options)  # type: ignore[arg-type]
    assert conflict is not None
    return conflict


@pytest.mark.parametrize("integer", [False, True])
def test_the_conflict_names_what_conflicts_and_nothing_else(integer: bool) -> None:
    conflict = found(narrow(integer=integer), keep=frozenset({"link"}), units={"room": "GPUs", "need": "jobs"})
    assert set(conflict.rules) == {("room", ("a",)), ("need", ("x",)), ("need", ("y",))}
    assert conflict.status == "proved"
    (repair,) = conflict.repairs
    assert repair in {"room[a]: 1 GPUs short", "need[x]: 1 jobs too few", "need[y]: 1 jobs too few"}


def test_a_firm_block_is_part_of_the_conflict_and_not_of_the_repair() -> None:
    conflict = found(narrow(), firm=frozenset({"need"}), units={"room": "GPUs"})
    assert ("need", ("x",)) in conflict.rules
    assert conflict.repairs == ("room[a]: 1 GPUs short",)


def test_firm_blocks_give_way_when_they_conflict_by_themselves() -> None:
    conflict = found(narrow(), firm=frozenset({"need", "room"}))
    assert len(conflict.repairs) == 1
    assert len(conflict.rules) == 3


def test_an_infeasibility_of_whole_numbers_only() -> None:
    conflict = found(parity())
    assert conflict.rules == (("pairs", ("p",)),)
    assert conflict.status == "proved"
    assert conflict.repairs in {("pairs[p]: 1 short",), ("pairs[p]: 1 too few",)}


def test_a_feasible_program_has_no_conflict() -> None:
    program = narrow()
    loose = replace(program, row_upper=np.where(program.row_upper == 4.0, 5.0, program.row_upper))
    assert diagnose(loose, HIGHS, Limits()) is None
    assert diagnose(loose, HIGHS, Limits(), firm=frozenset({"room", "need", "link"})) is None


def test_without_named_rows_the_bounds_are_to_blame() -> None:
    conflict = found(narrow(), keep=frozenset({"link", "room", "need"}))
    assert (conflict.rules, conflict.repairs, conflict.status) == ((), (), "proved")


def test_rows_outside_all_blocks_always_hold() -> None:
    program = narrow()
    bare = replace(program, row_blocks=program.row_blocks[1:])
    conflict = found(bare)
    assert set(conflict.rules) == {("need", ("x",)), ("need", ("y",))}


def test_rows_of_one_name_and_ids_are_one_group() -> None:
    program = narrow()
    same = replace(program, row_blocks=(program.row_blocks[0], Block("need", 2, [("all",)] * 3), program.row_blocks[2]))
    assert set(found(same).rules) == {("room", ("a",)), ("need", ("all",))}


def test_a_bound_that_repeats_a_row_does_not_stand_in_for_it() -> None:
    builder = ProgramBuilder()
    builder.add_columns("place", [("n1",), ("n2",)], upper=[1.0, 1.0], integer=True)
    builder.add_columns("run", [()], upper=1.0, integer=True)
    builder.add_rows("gpus", [("n1",), ("n2",)], upper=8.0, row_index=[0, 1], column_index=[0, 1], coefficient=8.0)
    builder.add_rows("gang", [()], lower=0.0, upper=0.0, row_index=0, column_index=[0, 1, 2], coefficient=[1.0, 1.0, -3.0])
    builder.add_rows("must", [()], lower=1.0, row_index=0, column_index=2)
    program = builder.build()
    firm = frozenset({"gang", "must"})
    assert {name for name, _ in found(program).rules} == {"gang", "must"}
    conflict = found(program, cut=frozenset({"place"}), firm=firm, units={"gpus": "GPUs"})
    assert {name for name, _ in conflict.rules} == {"gpus", "gang", "must"}
    assert len(conflict.rules) == 4
    assert conflict.repairs in {("gpus[n1]: 8 GPUs short",), ("gpus[n2]: 8 GPUs short",)}
    # A bound that no row implies says something of its own and stays.
    roomy = replace(program, row_upper=np.where(program.row_upper == 8.0, 24.0, program.row_upper))
    assert {name for name, _ in found(roomy, cut=frozenset({"place"})).rules} == {"gang", "must"}


def test_the_scale_of_a_unit_does_not_decide_the_repair() -> None:
    """Half a worker's CPU is missing, or a whole GPU: told in millicores, CPU is still the smaller repair."""
    builder = ProgramBuilder()
    builder.add_columns("place", [()], upper=1.0, integer=True)
    builder.add_rows("cpu", [("n",)], upper=4000.0, row_index=0, column_index=0, coefficient=8000.0)
    builder.add_rows("gpus", [("n",)], upper=0.0, row_index=0, column_index=0, coefficient=1.0)
    builder.add_rows("must", [()], lower=1.0, row_index=0, column_index=0)
    program = builder.build()
    assert found(program, firm=frozenset({"must"})).repairs == ("cpu[n]: 4000 short", "gpus[n]: 1 short")
    only = replace(program, row_upper=np.where(program.row_upper == 0.0, 1.0, program.row_upper))
    assert found(only, units={"cpu": "millicores"}).repairs == ("cpu[n]: 4000 millicores short",)


def test_other_words_for_a_repair() -> None:
    told: list[Repair] = []

    def wording(repair: Repair) -> str:
        told.append(repair)
        return "more room"

    assert found(narrow(), firm=frozenset({"need"}), wording=wording).repairs == ("more room",)
    (one,) = told
    assert (one.name, one.ids, one.too_few) == ("room", ("a",), False)
    assert one.amount == pytest.approx(1.0)


def test_amounts_are_rounded_up() -> None:
    assert [rounded_up(amount) for amount in (0.1 + 0.2, 12.0, 1e-4, 2.00049, 123456.0)] == ["0.3", "12", "0.001", "2.001", "123456"]


def test_a_conflict_cut_short_is_heuristic() -> None:
    cancel = threading.Event()
    cancel.set()
    conflict = diagnose(narrow(), HIGHS, Limits(), cancel=cancel)
    assert conflict is not None
    assert conflict.status == "heuristic"
    assert conflict.repairs == ()


def test_the_deadline_holds() -> None:
    rng = np.random.default_rng(0)
    builder = ProgramBuilder()
    items, rows = 60, 12
    weights = rng.integers(1, 1000, (rows, items)) * 2
    builder.add_columns("take", [(str(item),) for item in range(items)], upper=1.0, integer=True)
    side = weights.sum(axis=1) // 2 | 1  # odd: no sum of even weights meets it
    row, column = np.arange(rows)[:, None], np.arange(items)[None, :]
    names = [(str(row),) for row in range(rows)]
    builder.add_rows("weight", names, lower=side, upper=side, row_index=row, column_index=column, coefficient=weights)
    begun = time.monotonic()
    conflict = diagnose(builder.build(), HIGHS, Limits(time_limit_s=1.0))
    assert time.monotonic() - begun < 4.0
    assert conflict is not None
    assert conflict.status in {"proved", "heuristic"}


# ---------------------------------------------------------------- held against brute force


def named(program: LinearProgram) -> LinearProgram:
    return replace(program, row_blocks=tuple(Block(f"r{row}", row, [()]) for row in range(program.rows)))


def without(program: LinearProgram, rows: set[int]) -> LinearProgram:
    """The program with the given rows without sides."""
    loose = np.array([row in rows for row in range(program.rows)], dtype=np.bool_)
    lower, upper = np.where(loose, -np.inf, program.row_lower), np.where(loose, np.inf, program.row_upper)
    return replace(program, row_lower=lower, row_upper=upper, cost=np.zeros(program.columns))


@pytest.mark.parametrize(("integers", "continuous"), [(3, 0), (2, 1), (0, 3), (1, 2)])
def test_random_conflicts_are_conflicts_and_irreducible(integers: int, continuous: int) -> None:
    rng = np.random.default_rng(10 * integers + continuous)
    infeasible = 0
    while infeasible < 40:
        program = named(random_program(rng, integers=integers, continuous=continuous))
        if truth(without(program, set())).status != "infeasible":
            continue
        infeasible += 1
        repairs: list[Repair] = []
        conflict = diagnose(program, HIGHS, Limits(), wording=lambda one, told=repairs: told.append(one) or "")  # type: ignore[misc]
        assert conflict is not None
        assert conflict.status == "proved"
        everyone = set(range(program.rows))
        members = {int(name[1:]) for name, _ in conflict.rules}
        assert truth(without(program, everyone - members)).status == "infeasible"
        for member in members:
            assert truth(without(program, everyone - members | {member})).status != "infeasible"
        if members:
            assert truth(repaired(program, repairs)).status != "infeasible"


def repaired(program: LinearProgram, repairs: list[Repair]) -> LinearProgram:
    lower, upper = program.row_lower.copy(), program.row_upper.copy()
    for repair in repairs:
        row = int(repair.name[1:])
        if repair.too_few:
            lower[row] -= repair.amount
        else:
            upper[row] += repair.amount
    assert repairs
    return replace(program, row_lower=lower - 1e-6, row_upper=upper + 1e-6, cost=np.zeros(program.columns))
