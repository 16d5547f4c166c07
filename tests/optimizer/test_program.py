import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.program import Block, LinearProgram
from models.program_builder import ProductIds, ProgramBuilder
from optimizer.highs import whole_bounds
from optimizer.limits import Deadline, Limits
from optimizer.model_file import names, read_mps, write_mps
from optimizer.scaling import whole_scale, whole_scales
from tests.optimizer.oracle import dense, random_program


def small() -> LinearProgram:
    """Two columns, three rows, the middle one without entries."""
    builder = ProgramBuilder(maximise=True, offset=2.0)
    x = builder.add_columns("run", [("a",), ("b",)], cost=[3.0, 5.0], upper=[4.0, np.inf], integer=[True, False])
    builder.add_rows("total", [()], upper=9.0, row_index=0, column_index=[x.start, x.start + 1], coefficient=[1.0, 2.0])
    builder.add_rows("idle", [()], lower=-1.0, upper=1.0, row_index=[], column_index=[], coefficient=[])
    builder.add_rows("floor", [("b",)], lower=0.5, row_index=[0], column_index=[1])
    return builder.build()


def test_activity_sums_each_row_alone() -> None:
    program = small()
    assert program.activity(np.array([1.0, 2.0])).tolist() == [5.0, 0.0, 2.0]
    rng = np.random.default_rng(0)
    for _ in range(50):
        program = random_program(rng, integers=2, continuous=3)
        values = rng.normal(size=5)
        np.testing.assert_allclose(program.activity(values), dense(program) @ values, atol=1e-12)
        duals = rng.normal(size=program.rows)
        np.testing.assert_allclose(program.pulled_back(duals), dense(program).T @ duals, atol=1e-12)


def test_activity_does_not_lose_small_rows_next_to_large_ones() -> None:
    program = replace(small(), cost=np.zeros(2), coefficients=np.array([1e17, 1.0, 1.0]))
    assert program.activity(np.array([1.0, 1.0])).tolist() == [1e17 + 1.0, 0.0, 1.0]


def test_objective_and_violations() -> None:
    program = small()
    assert program.objective(np.array([1.0, 2.0])) == 15.0
    assert program.largest_violation(np.array([1.0, 2.0])) == 0.0
    assert program.largest_violation(np.array([1.0, 4.25])) == 0.5
    assert program.relative_violation(np.array([1.0, 4.25])) == 0.5 / 9
    assert program.largest_violation(np.array([1.25, 2.0])) == 0.25
    assert program.largest_violation(np.array([-2.0, 2.0])) == 2.0
    assert program.largest_violation(np.array([5.0, 0.5])) == 1.0
    assert program.largest_violation(np.array([np.nan, 0.5])) == np.inf
    with pytest.raises(ValueError, match="expected 2 column values"):
        program.largest_violation(np.array([1.0]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cost": [1.0]}, "shape"),
        ({"cost": [np.nan, 0.0]}, "cost holds NaN"),
        ({"coefficients": [1.0, np.inf, 1.0]}, "coefficients holds NaN"),
        ({"offset": np.inf}, "offset"),
        ({"column_lower": [0.0, np.nan]}, r"run\[b\]"),
        ({"column_lower": [5.0, 0.0]}, r"run\[a\]: no number lies between its bounds 5.0 and 4.0"),
        ({"row_lower": [np.inf, 0.0, 0.0], "row_upper": [np.inf, 0.0, 0.0]}, "total"),
        ({"row_upper": [-np.inf, 0.0, 0.0]}, "total"),
        ({"starts": [0, 2, 1, 3]}, "decrease"),
        ({"starts": [0, 2, 2, 2]}, "starts must run"),
        ({"indices": [0, 2, 1]}, "out of range"),
        ({"indices": [0, -1, 1]}, "out of range"),
        ({"indices": [1, 1, 1]}, r"total names run\[b\] twice"),
        ({"row_blocks": (Block("a", 0, [()]), Block("b", 0, [()]))}, "overlaps"),
        ({"row_blocks": (Block("a", 0, [()] * 4),)}, "past the last row"),
        ({"row_blocks": (Block("a", 0, [()]), Block("a", 1, [()]))}, "share a name"),
    ],
)
def test_wrong_programs_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(small(), **changes)  # type: ignore[arg-type]


def test_arrays_are_read_only_and_not_the_callers() -> None:
    cost = np.array([1.0, 2.0])
    program = replace(small(), cost=cost)
    cost[0] = 9.0
    assert program.cost.tolist() == [1.0, 2.0]
    copied = pickle.loads(pickle.dumps(program))  # noqa: S301 - our own bytes
    for one in (program, copied):
        with pytest.raises(ValueError, match="read-only"):
            one.cost[0] = 1.0
    assert copied.row_blocks == program.row_blocks


def test_blocks_and_names() -> None:
    program = small()
    assert program.row_block("floor").rows == slice(2, 3)
    assert program.column_block("run").ids[1] == ("b",)
    assert [program.row_name(row) for row in range(3)] == ["total", "idle", "floor[b]"]
    assert replace(program, column_blocks=()).column_name(1) == "column 1"
    with pytest.raises(KeyError):
        program.row_block("none")


def test_relaxed_with_rows_with_columns() -> None:
    program = small()
    assert program.is_mip
    assert not program.relaxed().is_mip
    longer = program.with_rows(np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([0, 0, 2]), np.array([1, 0]), np.array([7.0, 8.0]))
    expected = np.vstack((dense(program), [[0.0, 0.0], [8.0, 7.0]]))
    np.testing.assert_array_equal(dense(longer), expected)
    wider = longer.with_columns(
        np.ones(2), np.zeros(2), np.ones(2), np.array([True, False]), np.array([0, 2, 2]), np.array([4, 0]), np.array([5.0, 6.0])
    )
    np.testing.assert_array_equal(dense(wider), np.column_stack((expected, [6.0, 0, 0, 0, 5.0], np.zeros(5))))
    assert wider.integer.tolist() == [True, False, True, False]


def test_builder_adds_repeats_drops_zeros_and_broadcasts() -> None:
    builder = ProgramBuilder()
    x = builder.add_columns("x", ProductIds("ab", range(3)), cost=1.5)
    rows = np.arange(2)[:, None]
    builder.add_rows("sum", ProductIds("ab"), upper=1.0, row_index=rows, column_index=x.start + rows * 3 + np.arange(3))
    builder.add_rows("twice", [()], lower=1.0, row_index=0, column_index=[5, 0, 5, 1, 1], coefficient=[1.0, 2.0, 3.0, 1.0, -1.0])
    program = builder.build()
    np.testing.assert_array_equal(dense(program), [[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1], [2, 0, 0, 0, 0, 4]])
    assert len(program.indices) == 8
    assert program.column_name(5) == "x[b,2]"
    assert program.cost.tolist() == [1.5] * 6


def test_builder_refuses_what_does_not_fit() -> None:
    builder = ProgramBuilder()
    with pytest.raises(ValueError, match="shape"):
        builder.add_columns("x", [("a",)], cost=[1.0, 2.0])
    with pytest.raises(ValueError, match="row_index"):
        builder.add_rows("r", [()], row_index=1, column_index=0)
    builder.add_columns("x", [("a",)])
    builder.add_rows("r", [()], row_index=0, column_index=1)
    with pytest.raises(ValueError, match="column_index"):
        builder.build()


def test_empty_builder() -> None:
    program = ProgramBuilder(offset=4.0).build()
    assert (program.rows, program.columns, program.objective(np.zeros(0))) == (0, 0, 4.0)


def test_product_ids_behave_as_the_list_they_stand_for() -> None:
    ids = ProductIds("ab", (1, 2, 3))
    assert list(ids) == [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2), ("b", 3)]
    assert ids[-1] == ("b", 3)
    assert list(ids[1:3]) == [("a", 2), ("a", 3)]
    assert list(ProductIds()) == [()]
    assert list(ProductIds("ab", ())) == []
    with pytest.raises(IndexError):
        ids[6]


@pytest.mark.parametrize("seed", range(20))
def test_mps_round_trip(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    program = random_program(rng, integers=2, continuous=3)
    lower, upper = whole_bounds(program.integer, program.column_lower, program.column_upper)
    program = replace(program, column_lower=lower, column_upper=upper)
    bounded = np.isfinite(program.row_lower) | np.isfinite(program.row_upper)
    write_mps(program, tmp_path / "p.mps")
    back = read_mps(tmp_path / "p.mps")
    assert (back.maximise, back.offset) == (program.maximise, program.offset)
    np.testing.assert_array_equal(dense(back), dense(program)[bounded])
    for name in ("cost", "column_lower", "column_upper"):
        np.testing.assert_allclose(getattr(back, name), getattr(program, name), rtol=1e-15)
    for name in ("row_lower", "row_upper"):
        np.testing.assert_array_equal(getattr(back, name), getattr(program, name)[bounded])
    matters = (program.cost != 0) | (dense(program)[bounded] != 0).any(axis=0)
    np.testing.assert_array_equal(back.integer[matters], program.integer[matters])


def test_mps_keeps_blocks(tmp_path: Path) -> None:
    program = small()
    write_mps(program, tmp_path / "p.mps")
    back = read_mps(tmp_path / "p.mps")
    assert [(block.name, list(block.ids)) for block in back.column_blocks] == [("run", [("a",), ("b",)])]
    assert [block.name for block in back.row_blocks] == ["total", "idle", "floor"]


def test_names_are_safe_and_unique() -> None:
    blocks = (Block("put on", 0, [("a b",), ("a_b",), ("a-b", 1)]), Block("Obj", 3, [()]))
    assert names("c", blocks, 5) == ["put_on[a_b]", "put_on[a_b~2]", "put_on[a-b,1]", "Obj~2", "c_4"]


def test_model_files_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.mps"):
        write_mps(small(), tmp_path / "p.lp")
    with pytest.raises(FileNotFoundError):
        read_mps(tmp_path / "none.mps")


def test_lp_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "p.lp"
    path.write_text("max\n obj: 3 x + 5 y + 2\nst\n total: x + 2 y <= 9\nbounds\n x <= 4\ngeneral\n x\nend\n")
    program = read_mps(path)
    assert (program.maximise, program.offset, program.cost.tolist()) == (True, 2.0, [3.0, 5.0])
    assert program.integer.tolist() == [True, False]
    assert program.row_upper.tolist() == [9.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"time_limit_s": 0.0}, "time_limit_s"),
        ({"time_limit_s": float("nan")}, "time_limit_s"),
        ({"gap": -0.1}, "gap"),
        ({"gap": 1.0}, "gap"),
        ({"gap": float("nan")}, "gap"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**31}, "seed"),
        ({"threads": 0}, "threads"),
        ({"memory_gib": 0.0}, "memory_gib"),
    ],
)
def test_limits_that_make_no_sense(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Limits(**arguments)  # type: ignore[arg-type]


def test_deadline() -> None:
    assert not Deadline.after(60.0).passed
    assert 59.0 < Deadline.after(60.0).remaining_s() <= 60.0
    assert Deadline.after(-1.0).passed
    assert Deadline.after(-1.0).remaining_s() == 0.0


def test_whole_scales() -> None:
    values = np.array([0.5, 0.25, 3.0, 0.1 + 0.2, 1 / 3])
    assert whole_scales(values, np.array([0, 2, 2, 3, 5])).tolist() == [4, 1, 1, 30]  # type: ignore[union-attr]
    assert whole_scale(np.array([np.pi])) is None
    assert whole_scale(1 / np.array([999983.0, 999979.0])) is None
    assert whole_scale(np.zeros(0)) == 1
