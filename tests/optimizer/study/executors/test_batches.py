"""The engine of batches: the same rows as one by one, and broken scenarios are rows with their reason."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip("torch")

from models.linear.schema import Problem
from optimizer.limits import Limits
from optimizer.study.executors import batches
from optimizer.study.executors.batches import BatchEngine
from optimizer.study.executors.engine import Asked, Done, EngineError, Held, Step
from optimizer.study.executors.in_process import InProcess
from optimizer.study.rows import Change
from tests.optimizer.study import small

BROKEN = Asked("broken", (Change("set", "/nowhere", 1),))


def answers(engine: BatchEngine | InProcess, work: list[Asked]) -> tuple[dict[str, Done], list[Step]]:
    found: list[Done] = []
    steps: list[Step] = []
    with engine.open(small.held()) as workers:
        workers.run(work, on_done=found.append, on_step=steps.append, cancel=threading.Event())
    return {one.row.key: one for one in found}, steps


def test_rows_are_those_of_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "CHUNK", 3)
    work = [small.asked(float(size)) for size in range(1, 8)]
    together, steps = answers(BatchEngine("cpu"), work)
    alone, _ = answers(InProcess(), work)
    assert together.keys() == alone.keys()
    assert len(steps) == len(work)
    for key, one in together.items():
        assert one.row.verified
        assert one.plan is not None
        assert one.row.goals[0].objective == pytest.approx(alone[key].row.goals[0].objective, rel=1e-4)


def test_a_broken_scenario_is_a_row_with_its_reason() -> None:
    rows, _ = answers(BatchEngine("cpu"), [small.asked(1.0), BROKEN])
    assert rows["broken"].row.failure is not None
    assert "nowhere" in rows["broken"].row.failure
    assert rows[small.asked(1.0).key].row.answered


def test_a_cancel_answers_nothing_more() -> None:
    cancel = threading.Event()
    cancel.set()
    found: list[Done] = []
    with BatchEngine("cpu").open(small.held()) as workers:
        workers.run([small.asked(1.0)], on_done=found.append, on_step=lambda _step: None, cancel=cancel)
    assert found == []


def test_closed_workers_say_so() -> None:
    workers = BatchEngine("cpu").open(small.held())
    workers.close()
    with pytest.raises(RuntimeError, match="closed"):
        workers.run([small.asked(1.0)], on_done=lambda _done: None, on_step=lambda _step: None, cancel=threading.Event())


def test_a_device_that_is_not_there_is_told() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(EngineError), BatchEngine("cuda").open(small.held()) as workers:
        workers.run([small.asked(1.0)], on_done=lambda _done: None, on_step=lambda _step: None, cancel=threading.Event())


def test_seeds_are_those_asked_for() -> None:
    held = Held.of(Problem.model_validate_json(small.held().base), Limits(time_limit_s=5))
    found: list[Done] = []
    with BatchEngine("cpu").open(held) as workers:
        work = [Asked("one", small.asked(1.0).changes, seed=1), Asked("two", small.asked(2.0).changes, seed=2)]
        workers.run(work, on_done=found.append, on_step=lambda _step: None, cancel=threading.Event())
    assert {one.row.key for one in found} == {"one", "two"}
