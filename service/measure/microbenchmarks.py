"""Micro-benchmarks: single operators over sizes, the second rung of the calibration ladder (after the datasheet, before whole jobs).

Each operator's FLOPs, bytes and shape key are those of the closed forms, so that what is measured here is what predictions count: going
forward, going backward, and the updates. Which sizes is in ``microbenchmarks_kinds``. A few fresh processes share the operators; rows
are written as each ends. A row's timing is that of all ``calls`` of its operator.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from models.runtime.operators import Operator, Precision, unit_of
from models.runtime.records import OperatorRecord, Timing
from service.measure.microbenchmarks_kinds import CEILINGS, KINDS, Kind, tensors_of
from service.measure.runner import LONGEST_OVERRUN, START_UP_S, Bench, answered, row_fields, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 0.08  # of each operator
REPEAT_S = 0.012
ROUND, ROUNDS = 7, 2  # sizes of a kind in the first round, all others in the second: a run that is cut off has a coarser design
MOST_IN_PROCESS = 150  # about 15 s of rows, then they are written


@dataclass(frozen=True)
class Micro:
    """One operator to run: its kind and part, how it is counted, the sizes from which a process makes its arrays, and its round."""

    kind: str
    part: str
    sizes: tuple[int, ...]
    operator: Operator
    round: int = 0
    prefix: str = ""

    @property
    def name(self) -> str:
        """What it is called: its own among all."""
        words = [self.prefix, self.kind, self.part, "x".join(map(str, self.sizes)), self.operator.precision.value]
        return "-".join(word for word in words if word)

    @property
    def working_set_bytes(self) -> float:
        """Bytes of all its arrays."""
        return self.operator.bytes * self.operator.calls if self.kind == "lstm" else self.operator.bytes


def micros(
    precisions: tuple[Precision, ...] = (Precision.fp32, Precision.bf16), *, tiny: bool = False, rounds: int = ROUNDS
) -> tuple[Micro, ...]:
    """All operators of the first ``rounds`` at each precision; ``tiny``: one size of each kind only."""
    found: list[Micro] = []
    for precision in precisions:
        for name, kind in KINDS.items():
            every = kind.measured_sizes(precision)
            for place, sizes in enumerate(every[:1] if tiny else every):
                found += _parts(name, kind, precision, sizes, min(place // ROUND, ROUNDS - 1))
    return tuple(micro for micro in found if micro.round < rounds)


def _parts(name: str, kind: Kind, precision: Precision, sizes: tuple[int, ...], place: int) -> list[Micro]:
    counted = kind.operators(precision, sizes)
    run = (*sizes, tensors_of(sizes[0])) if name.endswith("_update") and len(sizes) == 1 else sizes
    return [Micro(name, part, run, operator, place) for part, operator in counted.items()]


def ceilings(device: str, *, tiny: bool = False) -> tuple[Micro, ...]:
    """What the device reaches at most: a large product at each precision, a copy within its memory, a copy from the host's."""
    edge, numbers = (64, 2**12) if tiny else (8192, 2**28)
    precisions = (Precision.fp32, Precision.tf32, Precision.bf16, Precision.fp16) if device == "cuda" else (Precision.fp32, Precision.bf16)
    asked: list[tuple[str, Precision, tuple[int, ...]]] = [("matmul", precision, (edge, edge, edge)) for precision in precisions]
    asked += [("copy", Precision.fp32, (numbers,)), ("host_to_device", Precision.fp32, (numbers // 4,))]
    return tuple(
        Micro(kind, "", sizes, CEILINGS[kind].operators(precision, sizes)[""], prefix="ceiling") for kind, precision, sizes in asked
    )


def microbenchmarks(todo: tuple[Micro, ...], bench: Bench) -> Iterator[OperatorRecord]:
    """The rows, as each process ends; a process that fails gives a row with its reason for each of its operators."""
    for _, group in groupby(sorted(todo, key=_process), _process):
        micro = list(group)
        for first in range(0, len(micro), MOST_IN_PROCESS):
            yield from _rows(micro[first : first + MOST_IN_PROCESS], bench)


def _process(micro: Micro) -> tuple[int, str, str]:
    """What shares a process; earlier rounds run first."""
    operator = micro.operator
    return micro.round, operator.precision.value, unit_of(operator.cls).value


def _rows(group: list[Micro], bench: Bench) -> Iterator[OperatorRecord]:
    order = {
        **settings(bench),
        "precision": group[0].operator.precision.value,
        "operators": [{"kind": micro.kind, "part": micro.part, "sizes": micro.sizes} for micro in group],
        "seconds": SECONDS,
        "repeat_s": REPEAT_S,
    }
    longest_s = START_UP_S + LONGEST_OVERRUN * SECONDS * len(group)
    answer = answered("service.measure.one_operator", json.loads(json.dumps(order)), bench, longest_s)
    answers = answer.get("operators") or [answer] * len(group)
    for micro, one in zip(group, answers, strict=True):
        timing = Timing.model_validate(one["timing"]) if "timing" in one else None
        yield OperatorRecord(
            name=micro.name,
            operator=micro.operator,
            working_set_bytes=micro.working_set_bytes,
            timing=timing,
            **row_fields(bench, one),
        )
