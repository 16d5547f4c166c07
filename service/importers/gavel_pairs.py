"""Predicts the pairs that a throughputs file does not tell from those that it does, by the interference model.

A plan chooses among the predictions those that flatter, so that medians promise more than the chosen pairs keep. The median is for finding
out which pairs to measure next, those that the plan uses; the tenth percentile is for a plan that must do without (README.md of
``models/runtime`` has what either is really worth).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from models.runtime.speeds.interference import JobType as SharingType
from models.runtime.speeds.interference import PairSpeed, filled_pairs, fit
from service.importers.failures import ImportFileError

if TYPE_CHECKING:
    from models.runtime.speeds.interference import FilledPair
    from service.importers.gavel_files import JobType, Speeds

Percentile: TypeAlias = Literal["p10", "p50"]
BATCH = re.compile(r"^(?P<family>.+?) \(batch size (?P<batch>\d+)\)$")


class Filled(NamedTuple):
    """Steps/s of two job types on one GPU, predicted."""

    first: JobType
    second: JobType
    first_steps_per_s: float
    second_steps_per_s: float


def filled(speeds: Speeds, gpu: str, wanted: frozenset[JobType], percentile: Percentile) -> list[Filled]:
    """The pairs of ``wanted`` job types of one GPU each on this type of GPU that the file does not tell.

    A pair that does not fit into memory is not predicted, nor is one of the same models with batches at least as large; pairs in which
    both do less than in turns are left out, since no plan uses them. Raises ImportFileError when the file tells no pair on this GPU.
    """
    alone = {one: speed for one, speed in speeds.alone[gpu].items() if one[1] == 1}
    asked = {model: alone[model, size] for model, size in alone if (model, size) in wanted}
    if not asked:
        return []
    known = [
        PairSpeed(first[0], second[0], min(1.0, one / alone[first]), min(1.0, other / alone[second]))
        for (first, second), (one, other) in speeds.pairs[gpu].items()
        if first in alone and second in alone
    ]
    if not known:
        raise ImportFileError(f"{speeds.path}: '{gpu}': tells no pair on one GPU to predict others from; leave --fill-pairs out")
    model = fit([_sharing_type(name) for name, _ in alone], known)
    refused = [(_sharing_type(first[0]), _sharing_type(second[0])) for first, second in speeds.refused[gpu] if first[1] == 1]

    def fits(first: str, second: str) -> bool:
        one, other = _sharing_type(first), _sharing_type(second)
        return not any(_at_least(one, less) and _at_least(other, lesser) for less, lesser in refused)

    def told(pair: FilledPair) -> Filled:
        slow = percentile == "p10"
        first = pair.first_slow_steps_per_s if slow else pair.first_steps_per_s
        second = pair.second_slow_steps_per_s if slow else pair.second_steps_per_s
        return Filled((pair.first, 1), (pair.second, 1), first, second)

    found = [told(pair) for pair in filled_pairs(model, asked, known, fits=fits) if pair.predicted]
    return [one for one in found if one.first_steps_per_s / alone[one.first] + one.second_steps_per_s / alone[one.second] >= 1.0]


def _at_least(one: SharingType, other: SharingType) -> bool:
    """Whether a job needs at least the memory of another: the same model with a batch as large."""
    return one.family == other.family and one.batch >= other.batch


def _sharing_type(model: str) -> SharingType:
    """``ResNet-18 (batch size 64)`` as a model with its batch; a name of another form is a model of its own."""
    found = BATCH.match(model)
    return SharingType(model, found["family"], max(1.0, float(found["batch"]))) if found else SharingType(model, model)
