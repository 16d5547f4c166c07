"""The micro-benchmarks: names of their own, every pattern that jobs have, none of the jobs' shapes, and arrays of the counted sizes."""

from collections import Counter
from itertools import islice

import pytest

from models.runtime.calibration.curves import shape_of
from models.runtime.families.work import work
from models.runtime.operators import Operator, OperatorClass, Precision, unit_of
from service.measure import microbenchmarks as module
from service.measure.grid import jobs
from service.measure.microbenchmarks import Micro, ceilings, microbenchmarks, micros
from service.measure.microbenchmarks_design import Range, points, rounded_count, rounded_width
from service.measure.microbenchmarks_kinds import KINDS
from service.measure.runner import Bench

EVERY = micros()


def pattern(operator: Operator) -> tuple[str, ...]:
    shape = shape_of(operator, 0.0)
    return shape.cls, shape.phase, shape.precision, shape.kind


def quick() -> list[Operator]:
    return [operator for job in jobs("quick") for operator in work(job).operators]


def test_names_are_their_own() -> None:
    every = (*EVERY, *ceilings("cuda"))
    assert len({micro.name for micro in every}) == len(every)
    assert set(OperatorClass) - {micro.operator.cls for micro in every} == {OperatorClass.depthwise_convolution}
    assert all(micro.working_set_bytes > 0 for micro in every)


def test_every_pattern_of_the_quick_grid_is_measured() -> None:
    counts = Counter(pattern(micro.operator) for micro in EVERY)
    missing = {pattern(operator) for operator in quick()} - set(counts)
    assert not missing
    few = {key for key, count in counts.items() if count < 4}
    assert {kind for _, _, _, kind in few} == {"elementwise batches seen"}  # which has one size


def test_no_shape_of_a_job_is_measured() -> None:
    seen = {(*pattern(operator), shape_of(operator, 0.0).numbers) for operator in quick()}
    both = [micro.name for micro in EVERY if (*pattern(micro.operator), shape_of(micro.operator, 0.0).numbers) in seen]
    assert both == ["batches_seen-1-fp32", "batches_seen-1-bf16"]


def test_causal_attention_has_a_key_of_its_own() -> None:
    kinds = {micro.kind: pattern(micro.operator)[3] for micro in EVERY if micro.part == "" and "attention" in micro.kind}
    assert kinds["causal_attention"] == f"{kinds['attention']} causal"
    assert kinds["cached_attention"] == kinds["attention"]


def test_a_product_is_counted_as_its_sizes_say() -> None:
    for micro in (micro for micro in EVERY if micro.kind == "matmul"):
        rows, inner, columns = micro.sizes
        assert micro.operator.flops == 2 * rows * inner * columns
        assert micro.operator.bytes == (rows * inner + inner * columns + rows * columns) * micro.operator.precision.bytes


def test_a_first_part_of_the_design_fills_its_box() -> None:
    drawn = list(islice(points((Range(1, 1024), Range(1, 1024))), 16))
    for low in (0, 1):
        for other in (0, 1):
            assert sum((a > 32) == low and (b > 32) == other for a, b in drawn) in range(2, 7)
    assert all(1 <= size <= 1024 for pair in drawn for size in pair)


@pytest.mark.parametrize(
    ("size", "width", "number"), [(1.2, 1, 1), (9.1, 10, 9), (100, 96, 100), (1234, 1280, 1200), (6.4e6, 6291456, 6400000)]
)
def test_sizes_are_round(size: float, width: int, number: int) -> None:
    assert (rounded_width(size), rounded_count(size)) == (width, number)


def test_processes_are_few_and_the_first_round_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[dict[str, object]]] = []

    def answer(_: str, order: dict[str, list[dict[str, object]]], *__: object) -> dict[str, str]:
        asked.append(order["operators"])
        return {"reason": "crashed", "message": "no torch"}

    monkeypatch.setattr(module, "answered", answer)
    bench = Bench("cpu", "test", "2.13.0", "test")
    rows = list(microbenchmarks(EVERY, bench))
    assert [row.reasons for row in rows] == [("crashed",)] * len(EVERY)
    assert len(asked) <= 16
    rounds = {micro.name: micro.round for micro in EVERY}
    order = [rounds[row.name] for row in rows]
    assert order == sorted(order)
    shared = {(row.operator.precision, unit_of(row.operator.cls)) for row in rows[: len(asked[0])]}
    assert len(shared) == 1


def test_each_part_runs_on_arrays_of_its_sizes() -> None:
    torch = pytest.importorskip("torch")
    from service.measure.one_operator_makers import made

    tiny = micros((Precision.bf16,), tiny=True)
    assert {micro.kind for micro in tiny} == {micro.kind for micro in EVERY}
    for micro in tiny:
        made(micro.kind, micro.part, torch.bfloat16, micro.sizes)()


def test_forward_bytes_are_those_of_the_arrays() -> None:
    """Inputs and result of what runs, against what is counted."""
    pytest.importorskip("torch")
    import torch

    from service.measure.one_operator_makers import FORWARD

    for kind in ("matmul", "batched_matmul", "convolution", "attention", "causal_attention", "relu", "sum", "gelu", "mean"):
        micro = smallest(kind)
        run, wanted = FORWARD[kind](torch.float32, *micro.sizes)
        arrays = (*wanted, run())
        assert micro.operator.bytes == sum(array.numel() * array.element_size() for array in arrays), kind


def test_backward_keeps_what_the_result_says() -> None:
    torch = pytest.importorskip("torch")
    from service.measure.one_operator_makers import made

    micro = smallest("layer_norm")
    gradients = made("layer_norm", "backward", torch.float32, micro.sizes)()
    assert isinstance(gradients, tuple)
    rows, width = micro.sizes
    assert [tuple(one.shape) for one in gradients] == [(rows, width), (width,), (width,)]


def smallest(kind: str) -> Micro:
    every = micros((Precision.fp32,))
    return min((micro for micro in every if micro.kind == kind and not micro.part), key=lambda micro: micro.operator.bytes)


def test_every_kind_can_be_made() -> None:
    pytest.importorskip("torch")
    from service.measure.one_operator_makers import APART, FORWARD

    assert set(KINDS) <= {*FORWARD, *(kind for kind, _ in APART)}
