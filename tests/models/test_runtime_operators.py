"""Operators and work: sizes are refused when wrong, sums are right, shapes are merged, documents keep them."""

import json

import pytest
from pydantic import TypeAdapter

from models.runtime.operators import (
    CLASSES,
    MATRIX_CLASSES,
    ComputeUnit,
    Operator,
    OperatorClass,
    Phase,
    Precision,
    Work,
    merged,
    unit_of,
)


def product(calls: float = 1.0, flops: float = 10.0, phase: Phase = Phase.forward) -> Operator:
    return Operator(OperatorClass.matmul, Precision.fp32, flops, 3.0, 4.0, calls, "2x5x1", 1.0, phase)


@pytest.mark.parametrize(("flops", "calls"), [(-1.0, 1.0), (1.0, -1.0), (float("nan"), 1.0), (float("inf"), 1.0)])
def test_sizes_that_make_no_sense_are_refused(flops: float, calls: float) -> None:
    with pytest.raises(ValueError, match="matmul '2x5x1' has a negative or infinite size"):
        product(calls, flops)


def test_work_adds_up_its_calls() -> None:
    copy = Operator(OperatorClass.copy, Precision.bf16, 0.0, 6.0, 6.0, 2.0)
    work = Work((product(3.0), copy), 0.0, 5.0, 20.0)
    assert (work.flops, work.bytes, work.calls) == (30.0, 45.0, 5.0)
    assert work.flops_by_class() == {OperatorClass.matmul: 30.0, OperatorClass.copy: 0.0}
    assert work.bytes_by_class() == {OperatorClass.matmul: 21.0, OperatorClass.copy: 24.0}
    assert work.calls_by_class() == {OperatorClass.matmul: 3.0, OperatorClass.copy: 2.0}
    assert [CLASSES[place] for place in work.arrays.cls] == [OperatorClass.matmul, OperatorClass.copy]


def test_work_without_operators_takes_nothing() -> None:
    empty = Work((), 0.0, 0.0, 0.0)
    assert (empty.flops, empty.bytes, empty.calls) == (0.0, 0.0, 0.0)


def test_the_same_shape_is_one_operator() -> None:
    rows = merged([product(1.0), product(2.0), product(1.0, phase=Phase.backward), product(0.0, flops=7.0)])
    assert rows == (product(3.0), product(1.0, phase=Phase.backward))


def test_work_survives_as_a_document() -> None:
    work = Work((product(3.0),), 1.0, 5.0, 20.0, gradient_bytes=20.0)
    adapter = TypeAdapter(Work)
    text = adapter.dump_json(work)
    assert json.loads(text)["operators"][0]["cls"] == "matmul"
    assert adapter.validate_json(text) == work


def test_precisions_know_their_bytes() -> None:
    assert [precision.bytes for precision in Precision] == [4, 4, 2, 2]


def test_every_class_has_a_unit() -> None:
    assert {cls for cls in CLASSES if unit_of(cls) is ComputeUnit.matrix} == MATRIX_CLASSES
    assert OperatorClass.depthwise_convolution not in MATRIX_CLASSES
