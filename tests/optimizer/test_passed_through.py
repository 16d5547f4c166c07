"""A formulation that builds a LinearProgram: it goes through ``compile_model`` as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.program import Block, LinearProgram
from models.program_builder import ProductIds, ProgramBuilder
from optimizer.compile import compile_model


def program() -> LinearProgram:
    builder = ProgramBuilder()
    builder.add_columns("ship", ProductIds(("a", "b"), ("x",)), cost=[1.0, 2.0])
    builder.add_columns("open", ProductIds(("a", "b")), integer=True)
    builder.add_columns("total", ProductIds(), cost=3.0)
    return builder.build()


def test_columns_are_known_by_block_and_id() -> None:
    one = program()
    compiled = compile_model(one)
    assert compiled.program is one
    assert compiled.fallbacks == 0
    assert compiled.columns == {"ship": {("a", "x"): 0, ("b", "x"): 1}, "open": {"a": 2, "b": 3}, "total": {None: 4}}
    values = np.arange(5.0)
    assert compiled.values_of("open", values) == {"a": 2.0, "b": 3.0}
    assert compiled.values_by_ids(values) == {
        "ship": {("a", "x"): 0.0, ("b", "x"): 1.0},
        "open": {("a",): 2.0, ("b",): 3.0},
        "total": {(): 4.0},
    }
    np.testing.assert_array_equal(compiled.vector_of({"open": {"b": 1.0}, "total": {None: 7.0}}), [np.nan, np.nan, np.nan, 1.0, 7.0])


def test_columns_outside_all_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="3 columns of the program belong to no block"):
        compile_model(replace(program(), column_blocks=(Block("ship", 0, (("a",), ("b",))),)))
